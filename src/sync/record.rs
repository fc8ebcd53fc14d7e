//! Converts a provider's record to a canonical row, or rejects it with a reason. Pure.
//!
//! Numbers are parsed from their digits, never through a float. Ambiguous values are rejected, not guessed: an amount
//! with a fraction where minor units are declared, an unknown direction, a currency without a known exponent.

use std::borrow::Cow;

use jiff::civil::Date;
use serde_json::Value;

use super::account_scope::AccountScope;
use super::key::{MAX_KEY, Unkeyed, hashed_key};
use super::mask;
use super::page::MAX_RECORD_BYTES;
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::mask::MaskRules;
use crate::domain::money::Currency;
use crate::domain::record::{BookingTime, Granularity, KeyQuality, RowStatus, TransactionRecord};
use crate::domain::rejection_reason::RejectionReason;
use crate::profile::{CurrencySource, RecordTemplate, Stream, Supersedes};

mod kinds;
mod letter;
mod money;
mod rejection;

/// A part of an identifier; `None` if it is missing or blank.
pub(super) fn id_part(record: &Value, path: &str) -> Result<Option<String>, Rejection> {
    match record.pointer(path) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => reject(RejectionReason::KeyInvalid, path),
    }
}

#[cfg(test)]
mod tests;
mod time;

pub use letter::{dead_letter, dead_letter_of_text, fingerprint};
pub use rejection::Rejection;
use rejection::reject;

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
    /// The key and the scope of tokens.
    pub scope: &'a AccountScope,
    /// The first day that the window covers whole; `None` where it does not matter.
    pub first_day: Option<Date>,
}

impl RecordParser<'_> {
    /// Whether the stream leaves the record out.
    pub fn is_omitted(&self, record: &Value) -> bool {
        let Some(omit) = &self.stream.omit else { return false };
        let value = record.pointer(&omit.pointer).and_then(scalar);
        value.is_some_and(|value| omit.values.contains(&value))
    }

    /// Converts a record to a row; `None` if an earlier window has read it. A blank id leaves the key empty, to be
    /// derived.
    pub fn row(&self, record: &Value) -> Result<Option<Unkeyed<TransactionRecord>>, Rejection> {
        if !record.is_object() {
            return reject(RejectionReason::NotAnObject, "");
        }
        let key = self.key(record)?;
        let Some(amounts) = &self.stream.money else { return reject(RejectionReason::AmountMissing, "") };
        let account = self.account_of(record)?;
        let amount = money::read(record, amounts, account.currency)?;
        let Some(field) = &self.stream.time else { return reject(RejectionReason::TimeMissing, "") };
        let booked = time::required(record, field, self.granularity)?;
        if key.is_empty() && self.first_day.is_some_and(|first| booked.on < first) {
            return Ok(None);
        }
        let valued = self.stream.value_time.as_ref().map(|field| time::optional(record, field, self.granularity));
        let status = self.status(record)?;
        let supersedes = match &self.stream.supersedes {
            Some(Supersedes::Pointer { pointer }) if status == RowStatus::Booked => id_part(record, pointer)?,
            _ => None,
        };
        let base = match &self.stream.key_of {
            Some(keys) if key.is_empty() && !keys.fallback.is_empty() => {
                let fields = keys.fallback.iter().map(|at| record.pointer(at));
                Some(self.scope.fallback_base(&account.token, booked.on, fields))
            }
            _ => None,
        };
        let text = |field: &str| self.masked_text(record, field);
        let row = TransactionRecord {
            account_token: account.token.clone(),
            key_quality: quality(&key),
            key,
            account: account.display.clone(),
            booked,
            valued: valued.transpose()?.flatten(),
            amount: amount.money.amount,
            amount_minor: amount.minor,
            currency: amount.money.currency.to_string(),
            status,
            counterparty: text("counterparty")?,
            narration: text("narration")?,
            category: text("category")?,
            supersedes,
        };
        Ok(Some(Unkeyed { record: row, base }))
    }

    /// The time that moves the cursor, of a record that is no transaction.
    pub fn cursor_time(&self, record: &Value) -> Option<BookingTime> {
        time::optional(record, self.stream.time.as_ref()?, self.granularity).ok().flatten()
    }

    /// Converts a record to a masked document. A blank id leaves the key empty, to be derived.
    pub fn document(&self, record: &Value, kind: DocumentKind) -> Result<DocumentRecord, Rejection> {
        if !record.is_object() {
            return reject(RejectionReason::NotAnObject, "");
        }
        let key = self.key(record)?;
        let body = self.masked_body(record)?;
        Ok(DocumentRecord { kind, key_quality: quality(&key), key, body })
    }

    /// The masked record as JSON.
    fn masked_body(&self, record: &Value) -> Result<String, Rejection> {
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
        Ok(body)
    }

    /// The ID, or an empty text.
    fn key(&self, record: &Value) -> Result<String, Rejection> {
        let template = self.stream.key_of.as_ref().map(|key| &key.template);
        let key = self.id(record, template)?.unwrap_or_default();
        if self.stream.key_of.as_ref().is_some_and(|key| key.hashed) && !key.is_empty() {
            return Ok(hashed_key(&key));
        }
        if key.len() > MAX_KEY || key.contains('\0') {
            return reject(RejectionReason::KeyInvalid, &self.stream.key);
        }
        Ok(key)
    }

    fn id(&self, record: &Value, template: Option<&RecordTemplate>) -> Result<Option<String>, Rejection> {
        match template {
            Some(template) => template.expand(|path| id_part(record, path)),
            None => id_part(record, &self.stream.key),
        }
    }

    /// The account of a record.
    fn account_of(&self, record: &Value) -> Result<Cow<'_, AccountInfo>, Rejection> {
        let Some(source) = &self.stream.account else { return Ok(Cow::Borrowed(self.account)) };
        let Some(pointer) = &source.pointer else {
            // With a joined response, the number is in that.
            let joined =
                self.stream.money.as_ref().is_some_and(|money| matches!(money.currency, CurrencySource::Join { .. }));
            let number = if joined { None } else { self.number(record) };
            return Ok(number.map_or(Cow::Borrowed(self.account), |number| {
                Cow::Owned(AccountInfo { display: self.mask.account(&number), ..self.account.clone() })
            }));
        };
        match id_part(record, pointer)? {
            Some(id) => Ok(Cow::Owned(self.account_named(record, &id))),
            None => reject(RejectionReason::AccountMissing, pointer),
        }
    }

    /// The account whose ID is `id`, with its number in the record.
    fn account_named(&self, record: &Value, id: &str) -> AccountInfo {
        AccountInfo {
            token: self.scope.account(id),
            display: self.mask.account(self.number(record).as_deref().unwrap_or(id)),
            currency: self.account.currency,
        }
    }

    /// The number of the account in the record.
    fn number(&self, record: &Value) -> Option<String> {
        let numbers = self.stream.account.iter().flat_map(|source| &source.number);
        numbers.filter_map(|at| record.pointer(at)).filter_map(scalar).find(|number| !number.is_empty())
    }

    fn status(&self, record: &Value) -> Result<RowStatus, Rejection> {
        let Some(field) = &self.stream.status else { return Ok(RowStatus::Booked) };
        let value = record.pointer(&field.pointer).and_then(scalar);
        let is = |values: &[String]| value.as_ref().is_some_and(|value| values.contains(value));
        if is(&field.pending) {
            Ok(RowStatus::Pending)
        } else if field.booked.is_empty() && value.is_some() || is(&field.booked) {
            Ok(RowStatus::Booked)
        } else {
            reject(RejectionReason::StatusUnknown, &field.pointer)
        }
    }
}

/// The text of a scalar, trimmed.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        _ => None,
    }
}

const fn quality(key: &str) -> KeyQuality {
    if key.is_empty() { KeyQuality::Derived } else { KeyQuality::Provider }
}
