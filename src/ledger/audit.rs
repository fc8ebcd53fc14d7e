//! The audit log: which subject requested which action, and whether it was allowed. Append-only, pruned by age, calls also
//! by size.
//!
//! Names and codes only: no call parameters, no provider text, no request headers.

use jiff::Timestamp;
use uuid::Uuid;

use super::error::LedgerFuture;
use super::lease::Lease;

/// The kind of action that an entry records.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum AuditKind {
    /// A provider call; `action` is the operation or the declared purpose.
    Call,
    /// A dead request: parked, replayed or deleted.
    DeadRequest,
    /// A sync job: a run, a resync or a plan that was asked for over HTTP, or dead letters that were replayed or resolved.
    Sync,
    /// A consumer of events: created, renamed, removed, a key rotated; events sent again, dead letters purged or replayed.
    Consumer,
    /// A request to the HTTP API that was answered with an error; `action` is its method and the template of its path,
    /// `reason` the code of the error.
    Request,
}

impl AuditKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Call, Self::DeadRequest, Self::Sync, Self::Consumer, Self::Request];

    /// The stored value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::DeadRequest => "dead_request",
            Self::Sync => "sync",
            Self::Consumer => "consumer",
            Self::Request => "request",
        }
    }
}

/// One audited action.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEntry {
    /// When it happened.
    pub at: Timestamp,
    /// Its kind.
    pub kind: AuditKind,
    /// The operation, the purpose, or the action taken.
    pub action: String,
    /// The user as authenticated by the API server; `busbar` for the operator's own actions.
    pub subject: String,
    /// The licence profile that decided, if any.
    pub rights_profile: Option<String>,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Namespace of the connection.
    pub namespace: String,
    /// Name of the connection.
    pub connection: String,
    /// Its provider's id.
    pub provider: Option<String>,
    /// The purpose declared by the caller.
    pub purpose: Option<String>,
    /// Code of the refusal or failure.
    pub reason: Option<String>,
    /// The request's correlation id.
    pub request_id: Option<Uuid>,
    /// Equal refusals that this entry stands for; `None`: it happened once.
    pub repeats: Option<Repeats>,
}

impl AuditEntry {
    /// How often it happened.
    pub fn count(&self) -> u64 {
        self.repeats.map_or(1, |repeats| repeats.count)
    }
}

/// Equal refusals that are one entry.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Repeats {
    /// Their number, the first included.
    pub count: u64,
    /// When the last one happened.
    pub last: Timestamp,
}

/// An entry with its sequence number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredAudit {
    /// Increases with every entry.
    pub seq: i64,
    /// The entry.
    pub entry: AuditEntry,
}

/// Entries that one writer appends together.
#[derive(Copy, Clone, Debug)]
pub struct AuditBatch<'a> {
    /// The writer: a process, from its start on.
    pub writer: Uuid,
    /// Increases with each batch of the writer.
    pub number: u64,
    /// The time.
    pub at: Timestamp,
    /// The entries.
    pub entries: &'a [AuditEntry],
}

/// Access to the audit log.
pub trait Audit {
    /// Appends all entries or none.
    fn append_audit<'a>(&'a self, entries: &'a [AuditEntry]) -> LedgerFuture<'a, ()>;

    /// Appends all entries or none, once: a batch whose number is not above that of the writer's last one is there already,
    /// because the answer to its COMMIT was lost.
    fn append_audit_batch<'a>(&'a self, batch: AuditBatch<'a>) -> LedgerFuture<'a, ()>;

    /// Entries of one namespace (`None`: all), newest first, with a sequence number below `before` if given.
    fn list_audit<'a>(
        &'a self,
        namespace: Option<&'a str>,
        before: Option<i64>,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredAudit>>;

    /// Deletes at most [`AuditPruning::max_rows`] entries, and as many rows of licence usage, that are over the limits.
    ///
    /// # Errors
    /// [`Fenced`](super::error::LedgerError::Fenced): another process prunes; nothing is deleted.
    fn prune_audit<'a>(&'a self, lease: &'a Lease, pruning: AuditPruning) -> LedgerFuture<'a, PrunedAudit>;
}

/// What may be deleted from the audit log, in one transaction.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct AuditPruning {
    /// Entries older than this are deleted, and licence usage of earlier days; `None`: nothing is deleted by age.
    ///
    /// An entry that is ahead of `now` was written by a wrong clock; it is deleted with the first entry after it.
    pub before: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
    /// Size of the entries of kind [`AuditKind::Call`], in bytes; beyond it the oldest of them are deleted, of those
    /// namespaces first that have most.
    pub max_call_bytes: u64,
    /// Most rows to delete.
    pub max_rows: u32,
}

/// What was deleted from the audit log.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct PrunedAudit {
    /// Entries deleted because of their age.
    pub expired: u64,
    /// Entries of calls deleted because of the size of all of them.
    pub oversize: u64,
    /// Size of the entries of calls that are left, in bytes.
    pub call_bytes: u64,
    /// Whether there is more to delete.
    pub more: bool,
}

/// Key of a daily licence usage counter.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UsageKey {
    /// Namespace of the connection.
    pub namespace: String,
    /// Name of the connection.
    pub connection: String,
    /// The licence profile.
    pub profile: String,
    /// The UTC day.
    pub day: jiff::civil::Date,
}

/// Licence usage counters, shared by all replicas.
pub trait Usage {
    /// Reserves up to `want` requests of the day's `limit`; returns the number granted, 0 when the limit is used up.
    fn take_usage<'a>(&'a self, key: &'a UsageKey, want: u64, limit: u64) -> LedgerFuture<'a, u64>;
}
