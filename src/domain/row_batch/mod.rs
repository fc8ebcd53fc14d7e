//! Rows of any kind of record, as the ledger writes and compares them: one description of each table, and rows packed
//! into few allocations.

mod batch;
mod tables;
#[cfg(test)]
mod tests;

pub use batch::{Cell, RowBatch, RowView};
pub use tables::{DOCUMENTS, TRANSACTIONS, tables};
