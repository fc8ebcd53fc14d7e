//! The audit: who asked for what, and whether it was allowed. Written once, never changed, removed by age alone.
//!
//! Names and codes only: no parameter of a call, no text of a provider, no header of a caller.

use jiff::Timestamp;
use uuid::Uuid;

use super::Reply;

/// What kind of act an entry tells of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum AuditKind {
    /// A provider call that somebody asked for; `action` is the operation or the declared purpose.
    Call,
    /// A request that failed for good: parked, or asked for again.
    DeadRequest,
}

impl AuditKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Call, Self::DeadRequest];

    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::DeadRequest => "dead_request",
        }
    }
}

/// One act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// What kind of act.
    pub kind: AuditKind,
    /// The operation, the purpose, or what was done.
    pub action: String,
    /// Who, as the API server names him; `busbar` for what the operator does itself.
    pub subject: String,
    /// The licence profile that decided, if any did.
    pub rights_profile: Option<String>,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Namespace of the connection.
    pub namespace: String,
    /// Name of the connection.
    pub connection: String,
    /// Its provider's id.
    pub provider: Option<String>,
    /// The purpose that the caller declared.
    pub purpose: Option<String>,
    /// Why it was refused, or why it failed: a code of ours.
    pub reason: Option<String>,
    /// The request's correlation id.
    pub request_id: Option<Uuid>,
}

/// An entry and its place in the audit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredAudit {
    /// Grows with every entry.
    pub seq: i64,
    /// The entry.
    pub entry: AuditEntry,
}

/// The part of the ledger that remembers acts.
pub trait Audit {
    /// Appends entries, all or none.
    fn append_audit<'a>(&'a self, entries: &'a [AuditEntry]) -> Reply<'a, ()>;

    /// Entries of one namespace (all, if `None`), newest first, those before `before` if it is given.
    fn list_audit<'a>(
        &'a self,
        namespace: Option<&'a str>,
        before: Option<i64>,
        limit: u32,
    ) -> Reply<'a, Vec<StoredAudit>>;

    /// Removes entries older than `before`, and counts of licence use of days before that. Tells how many entries.
    fn prune_audit(&self, before: Timestamp) -> Reply<'_, u64>;
}

/// Whose use of a connection is counted.
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

/// The part of the ledger that counts the use of licences, for all replicas together.
pub trait Usage {
    /// Takes up to `want` requests of the day's `limit`; tells how many are granted, 0 when the day's are used up.
    fn take_usage<'a>(&'a self, key: &'a UsageKey, want: u64, limit: u64) -> Reply<'a, u64>;
}
