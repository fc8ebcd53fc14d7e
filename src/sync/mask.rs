//! Masks a whole JSON record by the rules of its job. Pure.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::{Map, Number, Value};

use crate::domain::mask::{Mask, MaskRules, is_compact_date, last4, mask_numbers};

/// Minimum digits of an integer that may be an account number.
const MIN_ACCOUNT_DIGITS: usize = 8;
/// Last words of the names of texts that are times, if they are digits.
const TIMES: [&str; 10] =
    ["time", "timestamp", "date", "at", "created", "updated", "modified", "expires", "expiry", "epoch"];
/// Seconds since 1970 from 1990 to 2100.
const EPOCH_SECONDS: std::ops::Range<i64> = 631_152_000..4_102_444_800;
/// Last words of the names of integers that are amounts, times or counts: the only long integers that are kept.
const PLAIN_INTEGERS: [&str; 58] = [
    // Money.
    "amount",
    "balance",
    "total",
    "subtotal",
    "sum",
    "price",
    "value",
    "principal",
    "interest",
    "fee",
    "charge",
    "cost",
    "rate",
    "limit",
    "credit",
    "debit",
    "due",
    "outstanding",
    "available",
    "income",
    "salary",
    "revenue",
    "turnover",
    "cap",
    "minor",
    "cent",
    "kobo",
    "actual",
    "estimated",
    "paid",
    "exposure",
    "haircut",
    // Times.
    "time",
    "timestamp",
    "date",
    "at",
    "on",
    "created",
    "updated",
    "modified",
    "expires",
    "expiry",
    "issued",
    "epoch",
    "since",
    "until",
    "milli",
    "ms",
    "second",
    "nano",
    "start",
    "end",
    // Counts.
    "count",
    "size",
    "volume",
    "quantity",
    "share",
    "version",
];

/// Masks `record`: texts, integers and the names of fields, which can be account numbers where a provider uses a map.
/// Kept are dates, instants, UUIDs, amounts with a fraction, and integers that are amounts, times or counts by name.
pub fn document(rules: &MaskRules, record: &Value) -> Value {
    masked(rules, "", record, None).unwrap_or(Value::Null)
}

/// The masked `value` of `field`, a field of `parent`; `None` if it is dropped.
fn masked(rules: &MaskRules, field: &str, value: &Value, parent: Option<&Map<String, Value>>) -> Option<Value> {
    let rule = rules.fields.get(field);
    if rule == Some(&Mask::Drop) {
        return None;
    }
    Some(match value {
        Value::String(text) if rule.is_none() && (is_not_account_number(text) || is_epoch(field, text)) => {
            value.clone()
        }
        Value::String(text) => Value::String(rules.text(field, text).unwrap_or_default()),
        Value::Array(items) => {
            Value::Array(items.iter().filter_map(|item| masked(rules, field, item, parent)).collect())
        }
        Value::Object(fields) => Value::Object(masked_fields(rules, fields)),
        Value::Number(number) if rule == Some(&Mask::Last4) => Value::String(last4(&number.to_string())),
        Value::Number(number) if rule == Some(&Mask::Token) => {
            rules.token(&number.to_string()).map_or(Value::Null, Value::String)
        }
        Value::Number(number) => match account_digits(number).filter(|digits| !is_plain_integer(field, digits, parent))
        {
            Some(digits) => Value::String(last4(&digits)),
            None => value.clone(),
        },
        plain => plain.clone(),
    })
}

fn masked_fields(rules: &MaskRules, fields: &Map<String, Value>) -> Map<String, Value> {
    // Sorted, so that a different field order is not a change.
    let mut names: Vec<&String> = fields.keys().collect();
    names.sort_unstable();
    let mut result = Map::new();
    // Counted, not searched from the start each time: a provider may send thousands with the same last digits.
    let mut counts: HashMap<String, usize> = HashMap::new();
    for name in names {
        let Some(value) = fields.get(name).and_then(|value| masked(rules, name, value, Some(fields))) else { continue };
        let shown = if is_not_account_number(name) { name.clone() } else { mask_numbers(name) };
        let mut unique = shown.clone();
        // Two numbers with the same last digits, or a name that is written like a masked one.
        while result.contains_key(&unique) || (unique != *name && fields.contains_key(&unique)) {
            let count = counts.entry(shown.clone()).or_insert(1);
            *count += 1;
            unique = format!("{shown} ({count})");
        }
        result.insert(unique, value);
    }
    result
}

/// Whether a text is a date, an instant, a UUID or a decimal amount.
fn is_not_account_number(text: &str) -> bool {
    if !text.contains(|c: char| !c.is_ascii_digit()) {
        return is_compact_date(text);
    }
    is_amount(text)
        || (text.contains('-') && uuid::Uuid::parse_str(text).is_ok())
        || text.parse::<Timestamp>().is_ok()
        || text.parse::<DateTime>().is_ok()
}

/// Whether a text is an amount: digits with a fraction. Numbers of accounts may begin with zeros, amounts do not.
fn is_amount(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let has_leading_zero = |whole: &str| whole.len() > 1 && whole.starts_with('0');
    unsigned
        .split_once('.')
        .is_some_and(|(whole, fraction)| is_digits(whole) && is_digits(fraction) && !has_leading_zero(whole))
}

/// Whether a text is seconds or milliseconds since 1970 in a field that is a time by its name. In any other field it could
/// be an account number.
fn is_epoch(field: &str, text: &str) -> bool {
    let is_time = words(field).last().is_some_and(|last| TIMES.contains(&&**last));
    let seconds = match text.len() {
        10 => text,
        13 => text.get(..10).unwrap_or_default(),
        _ => return false,
    };
    is_time
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && seconds.parse().is_ok_and(|seconds| EPOCH_SECONDS.contains(&seconds))
}

/// The digits of a JSON number that may be an account number: a long integer, also one that went through a float
/// (`131883461.0`, `1.31883461e8`).
fn account_digits(number: &Number) -> Option<String> {
    let text = number.to_string();
    let unsigned = text.strip_prefix('-').unwrap_or(&text);
    let digits = match unsigned.split_once(['e', 'E']) {
        None => unsigned.strip_suffix(".0").unwrap_or(unsigned).to_owned(),
        Some((mantissa, exponent)) => integer(mantissa, exponent.parse().ok()?)?,
    };
    (digits.len() >= MIN_ACCOUNT_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

/// The digits of `mantissa` times ten to the power of `exponent`, if that is an integer of a plausible length.
fn integer(mantissa: &str, exponent: i32) -> Option<String> {
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let zeros = usize::try_from(exponent).ok()?.checked_sub(fraction.len()).filter(|zeros| *zeros <= 40)?;
    Some(format!("{whole}{fraction}{}", "0".repeat(zeros)))
}

/// Whether a long integer is an amount, a time or a count by the name of its field, or a day.
fn is_plain_integer(field: &str, digits: &str, parent: Option<&Map<String, Value>>) -> bool {
    let words = words(field);
    let Some(last) = words.last() else { return is_compact_date(digits) };
    // In pairs of key and value, a value may be anything; beside a currency it is money.
    let is_pair = words.len() == 1 && last == "value";
    let is_money =
        || parent.is_some_and(|parent| parent.keys().any(|name| name.to_ascii_lowercase().contains("currency")));
    let is_plain = |word: &String| {
        PLAIN_INTEGERS.iter().any(|plain| word.strip_suffix('s').unwrap_or(word) == *plain || word == plain)
    };
    is_compact_date(digits) || (is_plain(last) && (!is_pair || is_money()))
}

/// The words of a field's name, in lower case: `createdAt`, `created_at`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut boundary = true;
    for c in name.chars() {
        if !c.is_alphanumeric() {
            boundary = true;
            continue;
        }
        let starts =
            boundary || (c.is_uppercase() && !words.last().is_some_and(|word| word.ends_with(char::is_uppercase)));
        if starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
        boundary = false;
    }
    words.iter().map(|word| word.to_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn masked(record: &str) -> String {
        document(&MaskRules::default(), &serde_json::from_str(record).unwrap()).to_string()
    }

    #[test]
    fn account_numbers_in_json_numbers_are_masked() {
        for (record, want) in [
            (r#"{"accountNumber":131883461}"#, r#"{"accountNumber":"****3461"}"#),
            (r#"{"n":-131883461}"#, r#"{"n":"****3461"}"#),
            (r#"{"iban":[4000000000000002,7]}"#, r#"{"iban":["****0002",7]}"#),
            (
                r#"{"n":131883461.0,"m":1.31883461e8,"k":1.31883461E+8}"#,
                r#"{"k":"****3461","m":"****3461","n":"****3461"}"#,
            ),
            (r#"{"name":"account","value":131883461}"#, r#"{"name":"account","value":"****3461"}"#),
            ("131883461", r#""****3461""#),
        ] {
            assert_eq!(masked(record), want);
        }
    }

    #[test]
    fn amounts_times_and_counts_are_kept_by_name() {
        for kept in [
            r#"{"amountMinor":150000000,"marketCap":3000000000000,"netCollateralAmount":25000000}"#,
            r#"{"booking_date":20260901,"createdAt":1788220800000,"n":20260901,"timestamp":1788220800}"#,
            r#"{"currency":"NGN","value":150000000}"#,
            r#"{"estimatedValue":25000000,"total_amounts":[150000000],"volume":81234567}"#,
            r#"{"n":1234567,"price":12345678.90,"rate":0.123456789}"#,
        ] {
            assert_eq!(masked(kept), kept);
        }
    }

    #[test]
    fn seconds_since_1970_are_kept_as_texts_of_fields_that_are_times() {
        let times = r#"{"createdAt":"1788220800","event_time":"1788220800123","timestamp":"1788220800"}"#;
        assert_eq!(masked(times), times);
        for number in [
            r#"{"account":"1788220800"}"#,
            r#"{"createdAt":"0131883461"}"#,
            r#"{"time":"17882208001"}"#,
            r#"{"cat":"1788220800"}"#,
        ] {
            assert!(masked(number).contains("****"), "{number}");
        }
    }

    #[test]
    fn account_numbers_in_field_names_are_masked_and_stay_distinct() {
        let accounts = r#"{"0131883461":{"balance":1},"2031883461":2,"iban GB29 NWBK 6016 1331 9268 19":3}"#;
        assert_eq!(masked(accounts), r#"{"****3461":{"balance":1},"****3461 (2)":2,"iban GB29 NWBK ****6819":3}"#);
        let dates =
            r#"{"2026-09-01":1,"2026-09-01T10:00:00Z":2,"20260901":3,"6f1c7a52-8a0e-4f4e-9a58-1234567890ab":4}"#;
        assert_eq!(masked(dates), dates);
    }

    #[test]
    fn thousands_of_field_names_with_the_same_last_digits_are_masked_in_one_pass() {
        let names: Map<String, Value> = (0..20_000).map(|n| (format!("{n:08}1234"), Value::from(n))).collect();
        let shown = document(&MaskRules::default(), &Value::Object(names));
        let shown = shown.as_object().unwrap();
        assert_eq!((shown.len(), &shown["****1234"], &shown["****1234 (20000)"]), (20_000, &json!(0), &json!(19_999)));
    }

    #[test]
    fn only_dates_uuids_and_amounts_are_kept_in_texts() {
        let kept =
            json!({"a": "20260901", "b": "12345678.90", "c": "6f1c7a52-8a0e-4f4e-9a58-1234567890ab"}).to_string();
        assert_eq!(masked(&kept), kept);
        for number in ["12340512", "0131883461.0", "0131883461.", "12345678901234567890123456789012", "\u{ff11}2345678"]
        {
            let shown = masked(&json!({ "a": number }).to_string());
            assert!(shown.contains("****"), "{number}: {shown}");
        }
    }
}
