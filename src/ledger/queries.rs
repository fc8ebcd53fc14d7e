//! Queries for the command line: what is stored, newest first. Never used to decide what to write.

use jiff::Timestamp;

use super::document::StoredDocument;
use super::error::LedgerFuture;
use super::money_totals::MoneyTotal;
use super::raw::RawRef;
use super::record::TransactionFilter;
use super::runs::RunRecord;
use crate::domain::key::ObjectKey;
use crate::domain::records::Table;
use crate::domain::row_batch::RowBatch;

/// A rejected record as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Namespace of its stream.
    pub namespace: String,
    /// Connection of its stream.
    pub connection: String,
    /// Its stream.
    pub stream: String,
    /// Partition of its stream.
    pub partition: String,
    /// Why it was rejected; may be a reason that only another version knows.
    pub reason: String,
    /// JSON pointer of the invalid field; empty for the whole record.
    pub path: String,
    /// The record's field names and types.
    pub sample: String,
    /// How often it was read.
    pub seen: u64,
    /// When it was read first.
    pub first: Timestamp,
    /// When it was read last.
    pub last: Timestamp,
    /// The raw payload that it is in, if that was stored.
    pub raw: Option<RawRef>,
}

/// A run with its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    /// The `SyncJob`.
    pub job: ObjectKey,
    /// The run.
    pub run: RunRecord,
}

/// A record of any kind as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Namespace of its stream.
    pub namespace: String,
    /// Connection of its stream.
    pub connection: String,
    /// Its stream.
    pub stream: String,
    /// Partition of its stream.
    pub partition: String,
    /// The record: one row.
    pub record: RowBatch,
    /// 1 at insertion, incremented by each change.
    pub revision: i64,
    /// The raw payload that it was last written from, if that was stored.
    pub raw_ref: Option<String>,
    /// Time of insertion.
    pub created: Timestamp,
    /// Time of the last change.
    pub updated: Timestamp,
    /// When the provider withdrew it.
    pub deleted: Option<Timestamp>,
}

/// Access to what is stored, for people.
pub trait Queries {
    /// Records of a table of the matching streams, last changed first. The filter's days are ignored.
    fn newest_records<'a>(
        &'a self,
        table: &'static Table,
        filter: &'a TransactionFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredRecord>>;

    /// The number of records of a table of the matching streams, without those that the provider withdrew. The filter's
    /// days are ignored.
    fn count_records<'a>(&'a self, table: &'static Table, filter: &'a TransactionFilter) -> LedgerFuture<'a, u64>;

    /// The first `limit` distinct values of a field of the records that `job` reads, in order, without those that the
    /// provider withdrew. A field is a column, `id` or `key` for what identifies a record, or a member of a record that
    /// is kept as JSON.
    fn partition_values<'a>(&'a self, job: &'a ObjectKey, field: &'a str, limit: u32) -> LedgerFuture<'a, Vec<String>>;

    /// Documents of the matching streams, last changed first, without those that the provider withdrew. The filter's days
    /// are ignored.
    fn newest_documents<'a>(
        &'a self,
        filter: &'a TransactionFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredDocument>>;

    /// Unresolved dead letters of the matching streams, last read first. The filter's days are ignored.
    fn newest_dead_letters<'a>(
        &'a self,
        filter: &'a TransactionFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredDeadLetter>>;

    /// Runs of the matching jobs, last started first. `None` matches all.
    fn newest_runs<'a>(
        &'a self,
        namespace: Option<&'a str>,
        job: Option<&'a str>,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredRun>>;

    /// What the stored balances and collaterals are worth, by connection and currency, in the order of measure, namespace,
    /// connection and currency.
    fn money_totals(&self) -> LedgerFuture<'_, Vec<MoneyTotal>>;
}
