//! Transactions as stored, and the filter that selects them.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::domain::record::TransactionRecord;

/// Filter for transactions. Unset fields match all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// The namespace.
    pub namespace: Option<String>,
    /// The connection's name.
    pub connection: Option<String>,
    /// The stream's name.
    pub stream: Option<String>,
    /// The partition's name.
    pub partition: Option<String>,
    /// First booking day, inclusive.
    pub from: Option<Date>,
    /// Last booking day, inclusive.
    pub to: Option<Date>,
}

/// A transaction as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTransaction {
    /// Namespace of its stream.
    pub namespace: String,
    /// Connection of its stream.
    pub connection: String,
    /// Partition of its stream.
    pub partition: String,
    /// The record.
    pub record: TransactionRecord,
    /// 1 at insertion, incremented by each change.
    pub revision: u32,
    /// The run that last changed it.
    pub run_id: String,
    /// Time of insertion.
    pub created: Timestamp,
    /// Time of the last change.
    pub updated: Timestamp,
}

/// What identifies a transaction within its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowIdentity {
    /// The token of its account.
    pub account_token: String,
    /// Its key.
    pub record_key: String,
}

/// The new identity of a stored transaction; `None` keeps it.
pub type ReplaceIdentity = Arc<dyn Fn(&TransactionRecord) -> Option<RowIdentity> + Send + Sync>;
