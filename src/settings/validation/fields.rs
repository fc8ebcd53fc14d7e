//! The fields that a rule may name, by kind of record.

use crate::domain::records::{
    AccountRecord, ArticleRecord, BalanceRecord, CollateralRecord, Column, ColumnKind, ObservationRecord, QuoteRecord,
    RowShape as _,
};
use crate::profile::RecordKind;

/// The fields of a transaction.
const TRANSACTION: [&str; 14] = [
    "key",
    "account",
    "booked_on",
    "booked_at",
    "value_on",
    "value_at",
    "amount",
    "amount_minor",
    "currency",
    "status",
    "counterparty",
    "narration",
    "category",
    "supersedes",
];

/// The fields of a record of `kind`; `None` for a document, which may have any.
pub fn record_fields(kind: RecordKind) -> Option<Vec<String>> {
    let columns = match kind {
        RecordKind::Transaction => return Some(TRANSACTION.map(str::to_owned).to_vec()),
        RecordKind::Document => return None,
        RecordKind::Account => AccountRecord::COLUMNS,
        RecordKind::Balance => BalanceRecord::COLUMNS,
        RecordKind::Collateral => CollateralRecord::COLUMNS,
        RecordKind::Quote => QuoteRecord::COLUMNS,
        RecordKind::Observation => ObservationRecord::COLUMNS,
        RecordKind::Article => ArticleRecord::COLUMNS,
    };
    let content = columns.iter().filter(|column| column.is_content).map(field_name);
    Some(std::iter::once("key".to_owned()).chain(content).collect())
}

/// The name by which rules call a column: an instant is a text, not a number of milliseconds.
pub fn field_name(column: &Column) -> String {
    match (column.kind, column.name.strip_suffix("_ms")) {
        (ColumnKind::Instant, Some(name)) => format!("{name}_at"),
        _ => column.name.to_owned(),
    }
}
