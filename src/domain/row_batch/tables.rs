//! The tables of all kinds of records.

use crate::domain::records::{Column, ColumnKind, TABLES, Table};

/// The table of transactions.
pub static TRANSACTIONS: Table = Table {
    name: "transactions",
    columns: &[
        column("account", ColumnKind::Text),
        column("booked_on", ColumnKind::Day),
        optional("booked_ms", ColumnKind::Instant),
        spelling("booked_text"),
        column("granularity", ColumnKind::Text),
        column("amount", ColumnKind::Decimal),
        column("amount_minor", ColumnKind::Decimal),
        column("currency", ColumnKind::Text),
        column("status", ColumnKind::Text),
        optional("counterparty", ColumnKind::Text),
        optional("narration", ColumnKind::Text),
        optional("category", ColumnKind::Text),
        optional("value_on", ColumnKind::Day),
        optional("value_ms", ColumnKind::Instant),
        spelling("value_text"),
        optional("value_granularity", ColumnKind::Text),
        optional("supersedes", ColumnKind::Text),
    ],
};

/// The table of documents.
pub static DOCUMENTS: Table =
    Table { name: "documents", columns: &[column("kind", ColumnKind::Text), column("body", ColumnKind::Json)] };

/// The tables of all kinds of records.
pub fn tables() -> impl Iterator<Item = &'static Table> {
    [&TRANSACTIONS, &DOCUMENTS].into_iter().chain(&TABLES)
}

const fn column(name: &'static str, kind: ColumnKind) -> Column {
    Column { name, kind, nullable: false, is_content: true }
}

const fn optional(name: &'static str, kind: ColumnKind) -> Column {
    Column { name, kind, nullable: true, is_content: true }
}

const fn spelling(name: &'static str) -> Column {
    Column { name, kind: ColumnKind::Text, nullable: true, is_content: false }
}
