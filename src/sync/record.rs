//! Converts a provider's record to a canonical row, or rejects it with a reason. Pure.
//!
//! Numbers are parsed from their digits, never through a float. Ambiguous values are rejected, not guessed: an amount
//! with a fraction where minor units are declared, an unknown direction, a currency without a known exponent.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use rust_decimal::Decimal;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::key::MAX_KEY;
use super::mask;
use super::page::MAX_RECORD_BYTES;
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::mask::MaskRules;
use crate::domain::money::{Currency, Money, parse_amount, parse_whole};
use crate::domain::record::{BookingTime, DeadLetter, Granularity, KeyQuality, RowStatus, TransactionRecord};
use crate::domain::rejection_reason::RejectionReason;
use crate::profile::{AmountRepr, Amounts, CurrencySource, Sign, Stream, TimeEncoding, TimeField};

/// Plausible booking years; others indicate a wrong unit or a placeholder.
const YEARS: std::ops::RangeInclusive<i16> = 1990..=2100;
/// Maximum number of fields in a dead letter's sample.
const MAX_SAMPLE_FIELDS: usize = 32;

/// The account that a partition's records belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountInfo {
    /// Opaque token.
    pub token: String,
    /// Masked number, for display.
    pub display: String,
    /// Its currency, if the records hold none.
    pub currency: Option<Currency>,
}

/// Parses the records of one stream and account.
#[derive(Copy, Clone, Debug)]
pub struct RecordParser<'a> {
    /// The stream's description.
    pub stream: &'a Stream,
    /// The account.
    pub account: &'a AccountInfo,
    /// Masking rules.
    pub mask: &'a MaskRules,
    /// Granularity of the stream's cursor.
    pub granularity: Granularity,
}

/// Why a record was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The reason.
    pub reason: RejectionReason,
    /// JSON pointer of the field.
    pub path: String,
}

fn reject<T>(reason: RejectionReason, path: &str) -> Result<T, Rejection> {
    Err(Rejection { reason, path: path.to_owned() })
}

impl RecordParser<'_> {
    /// Converts a record to a row. A blank id leaves the key empty, to be derived.
    pub fn row(&self, record: &Value) -> Result<TransactionRecord, Rejection> {
        if !record.is_object() {
            return reject(RejectionReason::NotAnObject, "");
        }
        let key = self.key(record)?;
        let Some(amounts) = &self.stream.money else { return reject(RejectionReason::AmountMissing, "") };
        let (money, amount_minor) = self.money(record, amounts)?;
        let text = |field: &str| {
            let pointer = self.stream.fields.get(field)?;
            self.mask.text(field, record.pointer(pointer)?.as_str()?)
        };
        Ok(TransactionRecord {
            account_token: self.account.token.clone(),
            key_quality: if key.is_empty() { KeyQuality::Derived } else { KeyQuality::Provider },
            key,
            account: self.account.display.clone(),
            booked: self.booking_time(record)?,
            amount: money.amount,
            amount_minor,
            currency: money.currency.to_string(),
            status: RowStatus::Booked,
            counterparty: text("counterparty"),
            narration: text("narration"),
            category: text("category"),
        })
    }

    /// Converts a record to a masked document. A blank id leaves the key empty, to be derived.
    pub fn document(&self, record: &Value, kind: DocumentKind) -> Result<DocumentRecord, Rejection> {
        if !record.is_object() {
            return reject(RejectionReason::NotAnObject, "");
        }
        let key = self.key(record)?;
        let mut body = mask::document(self.mask, record);
        // The id is the row's key, so it is restored unmasked.
        let key_pointers = self.stream.key_of.iter().flat_map(|key| key.template.pointers());
        for pointer in key_pointers.chain([self.stream.key.as_str()]).filter(|pointer| !pointer.is_empty()) {
            if let (Some(masked), Some(id)) = (body.pointer_mut(pointer), record.pointer(pointer)) {
                *masked = id.clone();
            }
        }
        // A time that the profile names is not an account number, whatever its field is called.
        let time = self.stream.time.as_ref().and_then(|time| record.pointer(&time.pointer).zip(Some(&time.pointer)));
        if let Some((time, pointer)) = time.filter(|(time, _)| time.is_number())
            && let Some(masked) = body.pointer_mut(pointer)
        {
            *masked = time.clone();
        }
        let body = body.to_string();
        if body.len() > MAX_RECORD_BYTES {
            return reject(RejectionReason::RecordTooLarge, "");
        }
        let key_quality = if key.is_empty() { KeyQuality::Derived } else { KeyQuality::Provider };
        Ok(DocumentRecord { kind, key, key_quality, body })
    }

    fn key(&self, record: &Value) -> Result<String, Rejection> {
        let part = |path: &str| match record.pointer(path) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => reject(RejectionReason::KeyInvalid, path),
        };
        let key = match &self.stream.key_of {
            Some(key) => key.template.expand(part)?,
            None => part(&self.stream.key)?,
        };
        let key = key.unwrap_or_default();
        if key.len() > MAX_KEY || key.contains('\0') {
            reject(RejectionReason::KeyInvalid, &self.stream.key)
        } else {
            Ok(key)
        }
    }

    fn booking_time(&self, record: &Value) -> Result<BookingTime, Rejection> {
        let Some(field) = &self.stream.time else { return reject(RejectionReason::TimeMissing, "") };
        let path = &field.pointer;
        let text = match record.pointer(path) {
            None | Some(Value::Null) => return reject(RejectionReason::TimeMissing, path),
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) if field.encoding != TimeEncoding::Text => number.to_string(),
            Some(_) => return reject(RejectionReason::TimeInvalid, path),
        };
        let Some((on, at)) = read_time(&text, field) else { return reject(RejectionReason::TimeInvalid, path) };
        if !YEARS.contains(&on.year()) {
            return reject(RejectionReason::TimeOutOfRange, path);
        }
        let at = at.filter(|_| !field.day_only);
        let granularity = if at.is_none() { Granularity::Day } else { self.granularity };
        Ok(BookingTime { on, at, text, granularity })
    }

    fn money(&self, record: &Value, amounts: &Amounts) -> Result<(Money, i128), Rejection> {
        let currency = match &amounts.currency {
            CurrencySource::Join { .. } => match self.account.currency {
                Some(currency) => currency,
                None => return reject(RejectionReason::CurrencyUnknown, ""),
            },
            CurrencySource::Const { code } => match amounts.minor_units.currency(code) {
                Some(currency) => currency,
                None => return reject(RejectionReason::CurrencyUnknown, ""),
            },
            CurrencySource::Field { pointer } => {
                let code = record.pointer(pointer).and_then(Value::as_str);
                match code.and_then(|code| amounts.minor_units.currency(code)) {
                    Some(currency) => currency,
                    None => return reject(RejectionReason::CurrencyUnknown, pointer),
                }
            }
        };
        let Some(places) = amounts.minor_units.places(currency) else {
            return reject(RejectionReason::CurrencyUnknown, "");
        };
        let path = &amounts.amount;
        let value = match record.pointer(path) {
            None | Some(Value::Null) => return reject(RejectionReason::AmountMissing, path),
            Some(value) => value,
        };
        let unsigned = match (amounts.repr, value) {
            (AmountRepr::MinorInteger, Value::Number(number)) => match parse_whole(&number.to_string()) {
                Some(minor) => Money::from_units(minor, currency, places).ok(),
                None => return reject(RejectionReason::AmountNotInteger, path),
            },
            (AmountRepr::MinorInteger, _) => return reject(RejectionReason::AmountNotInteger, path),
            (AmountRepr::DecimalString, Value::String(text)) => {
                parse_amount(text.trim()).ok().map(|amount| Money { amount, currency })
            }
            (AmountRepr::DecimalString, _) => return reject(RejectionReason::AmountNotText, path),
            // `arbitrary_precision` keeps the digits as sent.
            (AmountRepr::JsonNumber, Value::Number(number)) => {
                parse_amount(&number.to_string()).ok().map(|amount| Money { amount, currency })
            }
            (AmountRepr::JsonNumber, _) => return reject(RejectionReason::AmountNotNumber, path),
        };
        let Some(unsigned) = unsigned else { return reject(RejectionReason::AmountInvalid, path) };
        let signed = Money { amount: sign(record, amounts, unsigned.amount)?, currency };
        // More digits than the provider's smallest unit has are rejected: rounding would change the amount.
        match signed.to_units(places) {
            // With the places of the currency, so that an amount is one text whatever its spelling.
            Ok(minor) => Ok((signed.with_places(places).unwrap_or(signed), minor)),
            Err(_) => reject(RejectionReason::AmountTooFine, path),
        }
    }
}

fn sign(record: &Value, amounts: &Amounts, amount: Decimal) -> Result<Decimal, Rejection> {
    match &amounts.sign {
        Sign::Signed => Ok(amount),
        // Negating zero would print as -0.
        Sign::OutflowPositive => Ok(if amount.is_zero() { amount.abs() } else { -amount }),
        Sign::Unsigned if amount.is_sign_negative() && !amount.is_zero() => {
            reject(RejectionReason::AmountSigned, &amounts.amount)
        }
        Sign::Unsigned => Ok(amount.abs()),
        Sign::Field { pointer, credit, debit } => {
            let direction = match record.pointer(pointer) {
                None | Some(Value::Null) => return reject(RejectionReason::DirectionMissing, pointer),
                Some(value) => value.as_str().unwrap_or(""),
            };
            // Both a sign and a direction: the meaning is ambiguous.
            if amount.is_sign_negative() && !amount.is_zero() {
                return reject(RejectionReason::AmountSigned, &amounts.amount);
            }
            if direction.eq_ignore_ascii_case(credit) {
                Ok(amount.abs())
            } else if direction.eq_ignore_ascii_case(debit) {
                // Negating zero would print as -0.
                Ok(if amount.is_zero() { amount.abs() } else { -amount })
            } else {
                reject(RejectionReason::DirectionUnknown, pointer)
            }
        }
    }
}

/// The booking day as written, and the instant if the text holds one.
fn read_time(text: &str, field: &TimeField) -> Option<(Date, Option<Timestamp>)> {
    let zone = field.zone.as_ref().and_then(|zone| TimeZone::get(zone).ok());
    if field.encoding != TimeEncoding::Text {
        let at = field.encoding.instant(text)?;
        return Some((at.to_zoned(zone.unwrap_or(TimeZone::UTC)).date(), Some(at)));
    }
    // A day and time without a zone are an instant only if the profile names the time zone.
    let civil = |at: DateTime, timed: bool| {
        let zoned = zone.filter(|_| timed).and_then(|zone| at.to_zoned(zone).ok());
        Some((at.date(), zoned.map(|zoned| zoned.timestamp())))
    };
    if let Some(format) = &field.format {
        let read = jiff::fmt::strtime::parse(format, text).ok()?;
        let timed = read.hour().is_some();
        if timed && let Ok(at) = read.to_timestamp() {
            return Some((read.to_date().ok()?, Some(at)));
        }
        let at = if timed { read.to_datetime() } else { read.to_date().map(|date| date.at(0, 0, 0, 0)) };
        return civil(at.ok()?, timed);
    }
    // `Z` and offsets first: the booking day is the day as written, in the provider's zone.
    if let Ok(at) = text.parse::<Timestamp>() {
        let on = text.get(..10).and_then(|day| day.parse::<Date>().ok())?;
        return Some((on, Some(at)));
    }
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Some((zoned.date(), Some(zoned.timestamp())));
    }
    // A date without a time is not an instant.
    civil(text.parse::<DateTime>().ok()?, text.contains([':', 'T', 't']))
}

/// The dead letter of a rejected record, without its values.
pub fn dead_letter(record: &Value, rejection: Rejection, index: u32, page_no: u32) -> DeadLetter {
    let digest = Sha256::new().chain_update(record.to_string()).chain_update(rejection.reason.as_str());
    DeadLetter {
        reason: rejection.reason,
        path: rejection.path,
        sample: structure(record),
        fingerprint: hex::encode(&digest.finalize()[..16]),
        index,
        page_no,
    }
}

/// The dead letter of a record that is too large to be parsed, without its values.
pub fn dead_letter_of_text(record: &str, index: u32, page_no: u32) -> DeadLetter {
    let reason = RejectionReason::RecordTooLarge;
    let digest = Sha256::new().chain_update(record).chain_update(reason.as_str());
    let kind = match record.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        _ => "number",
    };
    DeadLetter {
        reason,
        path: String::new(),
        sample: kind.to_owned(),
        fingerprint: hex::encode(&digest.finalize()[..16]),
        index,
        page_no,
    }
}

/// The field names and types of a record.
fn structure(record: &Value) -> String {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let Some(fields) = record.as_object() else { return kind(record).to_owned() };
    // Field names can be data if the provider uses a map: only names that look like identifiers are included.
    let safe_name = |name: &str| {
        let is_identifier = name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphabetic() || b"_-.@".contains(&b));
        if is_identifier { name.to_owned() } else { "?".to_owned() }
    };
    let fields: Vec<String> = fields
        .iter()
        .take(MAX_SAMPLE_FIELDS)
        .map(|(name, value)| format!("{}: {}", safe_name(name), kind(value)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}
