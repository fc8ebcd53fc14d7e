//! Documents as stored.

use jiff::Timestamp;

use crate::domain::document::DocumentRecord;

/// A document as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDocument {
    /// Namespace of its stream.
    pub namespace: String,
    /// Connection of its stream.
    pub connection: String,
    /// Its stream.
    pub stream: String,
    /// Partition of its stream.
    pub partition: String,
    /// The record.
    pub record: DocumentRecord,
    /// 1 at insertion, incremented by each change.
    pub revision: u32,
    /// Time of insertion.
    pub created: Timestamp,
    /// Time of the last change.
    pub updated: Timestamp,
}
