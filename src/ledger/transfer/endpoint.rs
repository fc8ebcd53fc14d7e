//! One end of a copy: a ledger whose tables are read or written as they are.
//!
//! An endpoint has a connection of its own and one transaction. It is used by commands only, one at a time, so an engine
//! that blocks may block here.

use super::cell::Row;
use super::table::TableShape;
use crate::ledger::error::LedgerFuture;

/// The last number that a table's generated key has reached. Numbers are never issued twice, also after a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SequenceValue {
    /// The table.
    pub(crate) table: String,
    /// The number.
    pub(crate) last: i64,
}

/// A ledger that is copied from, or to.
pub(crate) trait Endpoint: Send {
    /// Begins a snapshot in which all reads agree.
    fn begin_read(&mut self) -> LedgerFuture<'_, ()>;

    /// Begins the transaction of the copy: other writers wait, references and triggers are not applied.
    fn begin_write(&mut self) -> LedgerFuture<'_, ()>;

    /// The tables, without the record of the migrations.
    fn tables(&mut self) -> LedgerFuture<'_, Vec<TableShape>>;

    /// Opens a table for [`Self::next_rows`]; the one that was open is closed.
    fn open_table<'a>(&'a mut self, table: &'a TableShape) -> LedgerFuture<'a, ()>;

    /// The next rows of the open table, at most `limit`; none at its end.
    fn next_rows(&mut self, limit: u32) -> LedgerFuture<'_, Vec<Row>>;

    /// Inserts rows with the columns of `table`.
    fn insert<'a>(&'a mut self, table: &'a TableShape, rows: Vec<Row>) -> LedgerFuture<'a, ()>;

    /// Inserts rows, or changes those that have the same value in the column `key`, which is unique.
    fn upsert<'a>(&'a mut self, table: &'a TableShape, key: &'a str, rows: Vec<Row>) -> LedgerFuture<'a, ()>;

    /// The numbers that generated keys have reached.
    fn sequences(&mut self) -> LedgerFuture<'_, Vec<SequenceValue>>;

    /// Continues generated keys after the rows of their tables and after `reached`.
    fn continue_sequences<'a>(&'a mut self, reached: &'a [SequenceValue]) -> LedgerFuture<'a, ()>;

    /// Ends the transaction: checks references, applies triggers again, commits.
    fn commit(&mut self) -> LedgerFuture<'_, ()>;

    /// Gives the transaction up, and closes the connection.
    fn close(self: Box<Self>) -> LedgerFuture<'static, ()>;
}
