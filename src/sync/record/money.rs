//! The amount of a record: exact, with its currency and its direction.

use rust_decimal::Decimal;
use serde_json::Value;

use super::rejection::{Rejection, reject};
use crate::domain::money::{Currency, Money, parse_amount, parse_whole};
use crate::domain::rejection_reason::RejectionReason;
use crate::profile::{AmountRepr, Amounts, CurrencySource, Sign};

/// An amount of money and the same amount in the provider's smallest unit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) money: Money,
    pub(super) minor: i128,
}

/// Reads the amount of `record`; `joined` is the currency of its account, if the records hold none.
pub(super) fn read(record: &Value, amounts: &Amounts, joined: Option<Currency>) -> Result<Amount, Rejection> {
    let currency = currency(record, amounts, joined)?;
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
        Ok(minor) => match signed.with_places(places) {
            Ok(money) => Ok(Amount { money, minor }),
            Err(_) => reject(RejectionReason::AmountInvalid, path),
        },
        Err(_) => reject(RejectionReason::AmountTooFine, path),
    }
}

fn currency(record: &Value, amounts: &Amounts, joined: Option<Currency>) -> Result<Currency, Rejection> {
    let (found, path) = match &amounts.currency {
        CurrencySource::Join { .. } => (joined, ""),
        CurrencySource::Const { code } => (amounts.minor_units.currency(code), ""),
        CurrencySource::Field { pointer } => {
            let code = record.pointer(pointer).and_then(Value::as_str);
            (code.and_then(|code| amounts.minor_units.currency(code)), pointer.as_str())
        }
    };
    match found {
        Some(currency) => Ok(currency),
        None => reject(RejectionReason::CurrencyUnknown, path),
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
