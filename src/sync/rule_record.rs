//! Records as validation rules see them: converted and masked, with money as decimals.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::Value;

use crate::domain::money::parse_amount;
use crate::domain::record::{BookingTime, TransactionRecord};
use crate::domain::records::{CanonicalRecord, CellValue};
use crate::profile::json;
use crate::settings::validation::{RuleValue, field_name};

/// A transaction.
pub(super) fn of_transaction(row: &TransactionRecord) -> RuleValue {
    let optional = |text: &Option<String>| RuleValue::optional(text.as_deref());
    let day = |time: Option<&BookingTime>| RuleValue::optional(time.map(|time| time.on.to_string()).as_deref());
    let instant = |time: Option<&BookingTime>| {
        RuleValue::optional(time.and_then(|time| time.at).map(|at| at.to_string()).as_deref())
    };
    let minor = Decimal::try_from_i128_with_scale(row.amount_minor, 0);
    RuleValue::map([
        ("key", RuleValue::text(&row.key)),
        ("account", RuleValue::text(&row.account)),
        ("booked_on", day(Some(&row.booked))),
        ("booked_at", instant(Some(&row.booked))),
        ("value_on", day(row.valued.as_ref())),
        ("value_at", instant(row.valued.as_ref())),
        ("amount", RuleValue::Decimal(row.amount)),
        ("amount_minor", minor.map_or(RuleValue::Null, RuleValue::Decimal)),
        ("currency", RuleValue::text(&row.currency)),
        ("status", RuleValue::text(row.status.as_str())),
        ("counterparty", optional(&row.counterparty)),
        ("narration", optional(&row.narration)),
        ("category", optional(&row.category)),
        ("supersedes", optional(&row.supersedes)),
    ])
}

/// A record of another kind.
pub(super) fn of_canonical(record: &CanonicalRecord) -> RuleValue {
    let cells = record.table().columns.iter().zip(record.values()).filter(|(column, _)| column.is_content);
    let mut fields: BTreeMap<String, RuleValue> =
        cells.map(|(column, value)| (field_name(column), of_cell(value))).collect();
    fields.insert("key".to_owned(), RuleValue::text(&record.identity().key));
    RuleValue::Map(fields.into())
}

/// A document: its JSON, in which every number is a decimal.
pub(super) fn of_json(body: &str) -> RuleValue {
    json::parse(body.as_bytes()).map_or(RuleValue::Null, |value| of_value(&value))
}

fn of_cell(cell: CellValue) -> RuleValue {
    match cell {
        CellValue::Null => RuleValue::Null,
        CellValue::Text(text) => RuleValue::text(&text),
        CellValue::Decimal(decimal) => RuleValue::Decimal(decimal),
        CellValue::Integer(number) => RuleValue::Int(number),
        CellValue::Day(day) => RuleValue::text(&day.to_string()),
        CellValue::Instant(at) => RuleValue::text(&at.to_string()),
        CellValue::Json(body) => of_json(&body),
    }
}

/// A number with more digits than a decimal holds is its text.
fn of_value(value: &Value) -> RuleValue {
    match value {
        Value::Null => RuleValue::Null,
        Value::Bool(is) => RuleValue::Bool(*is),
        Value::Number(number) => {
            let text = number.to_string();
            parse_amount(&text).map_or_else(|_| RuleValue::text(&text), RuleValue::Decimal)
        }
        Value::String(text) => RuleValue::text(text),
        Value::Array(items) => RuleValue::List(items.iter().map(of_value).collect::<Vec<_>>().into()),
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().map(|(name, value)| (name.clone(), of_value(value))).collect();
            RuleValue::Map(fields.into())
        }
    }
}
