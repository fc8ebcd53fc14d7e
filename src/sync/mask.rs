//! Masks a whole JSON record by the rules of its job. Pure.

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::Value;

use crate::domain::mask::{Mask, MaskRules, last4};

/// Masks every string of `record` by its field's name; other values are unchanged. Dates, instants, UUIDs and decimal
/// amounts are recognized and kept.
pub fn document(rules: &MaskRules, record: &Value) -> Value {
    masked(rules, "", record).unwrap_or(Value::Null)
}

fn masked(rules: &MaskRules, field: &str, value: &Value) -> Option<Value> {
    if rules.fields.get(field) == Some(&Mask::Drop) {
        return None;
    }
    Some(match value {
        Value::String(text) if is_not_account_number(text) && !rules.fields.contains_key(field) => value.clone(),
        Value::String(text) => Value::String(rules.text(field, text).unwrap_or_default()),
        Value::Array(items) => Value::Array(items.iter().filter_map(|item| masked(rules, field, item)).collect()),
        Value::Object(fields) => {
            // Sorted, so that a different field order is not a change.
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_unstable();
            let field = |name: &String| Some((name.clone(), masked(rules, name, fields.get(name)?)?));
            Value::Object(names.into_iter().filter_map(field).collect())
        }
        Value::Number(number) if rules.fields.get(field) == Some(&Mask::Last4) => {
            Value::String(last4(&number.to_string()))
        }
        plain => plain.clone(),
    })
}

/// Whether a text is a date, an instant, a UUID or a decimal amount.
fn is_not_account_number(text: &str) -> bool {
    let amount = text.contains('.') && text.parse::<rust_decimal::Decimal>().is_ok();
    amount
        || uuid::Uuid::parse_str(text).is_ok()
        || text.parse::<Timestamp>().is_ok()
        || text.parse::<DateTime>().is_ok()
}
