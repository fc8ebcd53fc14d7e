//! What a copy reports: while it goes on, and at its end.

/// A copied table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// Its name.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// The beginning of the hash of its rows, which source and target have in common.
    pub hash: String,
}

/// A copied ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferSummary {
    /// The tables that hold rows, in the order in which they were copied.
    pub tables: Vec<TableSummary>,
    /// The epoch of the copy.
    pub epoch: i64,
}

/// A step of a copy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// So many rows of the table are copied.
    Copied(&'a str, u64),
    /// The table is compared with its source.
    Verified(&'a str, u64),
}
