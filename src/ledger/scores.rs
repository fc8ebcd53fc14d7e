//! What the forecast keeps of external scorers: opaque to the ledger, one row for each connection and source. Retention
//! deletes what is not written any more, together with decisions.

use jiff::Timestamp;

use super::error::LedgerFuture;

/// What is kept of a source's scores of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredScore {
    /// The namespace of the connection.
    pub namespace: String,
    /// The connection.
    pub connection: String,
    /// The source of the scores.
    pub source: String,
    /// The content, as the forecast writes it.
    pub body: Vec<u8>,
    /// When it was written.
    pub updated: Timestamp,
}

/// Access to what the forecast keeps.
pub trait Scores {
    /// Stores the content for each connection and source, in place of what is stored, unless that is newer.
    fn put_scores<'a>(&'a self, scores: &'a [StoredScore]) -> LedgerFuture<'a, ()>;

    /// All of it, by namespace, connection and source.
    fn scores(&self) -> LedgerFuture<'_, Vec<StoredScore>>;
}
