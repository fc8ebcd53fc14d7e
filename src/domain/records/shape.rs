//! The description of a record's row: table, columns and values, whatever the engine.

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use sha2::{Digest, Sha256};

use crate::domain::decimal_digits::with_plain_numbers;
use crate::domain::record::{BookingTime, KeyQuality};

/// Version of [`RowShape::content_hash`]; incremented when its input changes, so that old hashes never match.
const CONTENT_HASH_VERSION: u8 = 1;

/// What identifies a record within its stream and partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordIdentity {
    /// Opaque token of the account; empty for a record without one.
    pub account_token: String,
    /// The provider's id (case-sensitive), or a derived key; empty until it is derived.
    pub key: String,
    /// Origin of the key.
    pub key_quality: KeyQuality,
}

/// A column of a record's table, besides those that every table has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, which is no reserved word of either engine.
    pub name: &'static str,
    /// Its type.
    pub kind: ColumnKind,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether another value is another content: `false` for the provider's spelling of a time.
    pub is_content: bool,
}

/// The type of a column.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Text.
    Text,
    /// An exact decimal: NUMERIC, or TEXT in an engine without one; never a float.
    Decimal,
    /// A whole number of 64 bits.
    Integer,
    /// A calendar day.
    Day,
    /// An instant, in milliseconds.
    Instant,
    /// A JSON text.
    Json,
}

/// The value of a cell; its variant is the column's kind, or `Null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellValue {
    /// No value.
    Null,
    /// Text.
    Text(String),
    /// An exact decimal, with as many places as it is shown with.
    Decimal(Decimal),
    /// A whole number.
    Integer(i64),
    /// A calendar day.
    Day(Date),
    /// An instant.
    Instant(Timestamp),
    /// A JSON text.
    Json(String),
}

/// A record that is one row of a table.
///
/// Every table also has the columns of [`RecordIdentity`] (`account_token`, `record_key`, `key_quality`), which with
/// the stream are the row's identity, and the ledger's own (`content_hash`, `revision`, the run, the times).
pub trait RowShape {
    /// The table's name.
    const TABLE: &'static str;
    /// The columns, in the order of [`values`](Self::values).
    const COLUMNS: &'static [Column];

    /// What identifies the record.
    fn identity(&self) -> &RecordIdentity;

    /// What identifies the record, to derive a key.
    fn identity_mut(&mut self) -> &mut RecordIdentity;

    /// The values, one per column.
    fn values(&self) -> Vec<CellValue>;

    /// Hash of everything except identity; equal hashes mean that no write is needed. Equal for every spelling of a
    /// number and of a time.
    fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([CONTENT_HASH_VERSION]);
        let mut part = |text: Option<&str>| match text {
            None => hash.update([0]),
            Some(text) => {
                hash.update([1]);
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text.as_bytes());
            }
        };
        part(Some(Self::TABLE));
        part(Some(self.identity().key_quality.as_str()));
        for (column, value) in Self::COLUMNS.iter().zip(self.values()) {
            if column.is_content {
                part(value.content().as_deref());
            }
        }
        hash.finalize().into()
    }
}

impl CellValue {
    /// The value as one text whatever its spelling; `None` for no value.
    pub fn content(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.clone()),
            Self::Decimal(decimal) => Some(decimal.normalize().to_string()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Day(day) => Some(day.to_string()),
            Self::Instant(at) => Some(at.as_millisecond().to_string()),
            Self::Json(json) => Some(with_plain_numbers(json).into_owned()),
        }
    }
}

/// A required column.
pub(super) const fn column(name: &'static str, kind: ColumnKind) -> Column {
    Column { name, kind, nullable: false, is_content: true }
}

/// A column that may be NULL.
pub(super) const fn optional(name: &'static str, kind: ColumnKind) -> Column {
    Column { name, kind, nullable: true, is_content: true }
}

/// A column that may be NULL and whose value does not count as content.
pub(super) const fn spelling(name: &'static str) -> Column {
    Column { name, kind: ColumnKind::Text, nullable: true, is_content: false }
}

/// A text, or nothing.
pub(super) fn text(value: Option<&String>) -> CellValue {
    value.map_or(CellValue::Null, |text| CellValue::Text(text.clone()))
}

/// A decimal, or nothing.
pub(super) fn decimal(value: Option<Decimal>) -> CellValue {
    value.map_or(CellValue::Null, CellValue::Decimal)
}

/// A day, or nothing.
pub(super) fn day(value: Option<Date>) -> CellValue {
    value.map_or(CellValue::Null, CellValue::Day)
}

/// The day, the instant, the granularity and the text of a time.
pub(super) fn time(value: Option<&BookingTime>) -> [CellValue; 4] {
    let Some(time) = value else { return [CellValue::Null, CellValue::Null, CellValue::Null, CellValue::Null] };
    [
        CellValue::Day(time.on),
        time.at.map_or(CellValue::Null, CellValue::Instant),
        CellValue::Text(time.granularity.as_str().to_owned()),
        CellValue::Text(time.text.clone()),
    ]
}
