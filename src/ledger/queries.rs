//! Queries for the command line: what is stored, newest first. Never used to decide what to write.

use jiff::Timestamp;

use super::document::StoredDocument;
use super::error::LedgerFuture;
use super::record::TransactionFilter;
use super::runs::RunRecord;
use crate::domain::key::ObjectKey;

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
}

/// A run with its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    /// The `SyncJob`.
    pub job: ObjectKey,
    /// The run.
    pub run: RunRecord,
}

/// Access to what is stored, for people.
pub trait Queries {
    /// Documents of the matching streams, last changed first. The filter's days are ignored.
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
}
