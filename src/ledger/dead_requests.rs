//! Dead requests: provider requests that failed permanently, stored, retried a few times, then parked for a user.
//!
//! Only idempotent requests are stored, and never a credential: the call path adds those to each attempt. Parameters
//! can contain account numbers, so they are encrypted if the operator has a key.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::audit::AuditEntry;
use super::error::LedgerFuture;
use super::lease::Lease;
use super::outbox::OutboxEvent;
use crate::domain::breaker::MAX_THROTTLE;
use crate::domain::key::ObjectKey;

/// Longest delay of a retry: the longest accepted `Retry-After`.
pub const MAX_RETRY_DELAY: Duration = MAX_THROTTLE;

/// The state of a dead request.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum DeadRequestState {
    /// Will be retried.
    Pending,
    /// All retries failed; a user must replay or discard it.
    Parked,
    /// A retry succeeded, or no retry is needed.
    Done,
}

impl DeadRequestState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Parked, Self::Done];

    /// The stored value, also the metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Parked => "parked",
            Self::Done => "done",
        }
    }
}

/// A dead request to store.
#[derive(Clone, Debug)]
pub struct NewDeadRequest {
    /// Its id.
    pub id: Uuid,
    /// The connection.
    pub connection: ObjectKey,
    /// The connection's UID: a later object of the same name never receives these parameters.
    pub uid: String,
    /// The connection's provider.
    pub provider: String,
    /// The operation.
    pub operation: String,
    /// The parameters as a JSON object, encrypted if `encrypted` is set.
    pub parameters: Vec<u8>,
    /// Whether `parameters` is encrypted.
    pub encrypted: bool,
    /// Identifies equal requests of one caller: while one is pending or parked, repetitions are counted, not stored.
    pub fingerprint: String,
    /// Identity for the retries, as JSON, evaluated by the licence profiles: the original caller or the replaying one.
    pub caller: String,
    /// Name of the original caller, for display.
    pub subject: String,
    /// Code of the failure.
    pub reason: String,
    /// The provider's HTTP status, if it responded.
    pub status: Option<u16>,
    /// The failed request's correlation id.
    pub request_id: Option<Uuid>,
    /// When it failed.
    pub at: Timestamp,
    /// When to retry.
    pub next: Timestamp,
}

/// A dead request as stored.
#[derive(Clone, Debug)]
pub struct DeadRequest {
    /// Its sequence number; increases.
    pub seq: i64,
    /// The request. `at` is when it was stored, `next` when it is due (its last change if it is not pending).
    pub request: NewDeadRequest,
    /// Its state.
    pub state: DeadRequestState,
    /// Retries so far.
    pub tries: u32,
    /// How often the same request failed while this one was pending or parked.
    pub seen: u64,
    /// When the API server last authorized its caller: at storage or replay.
    pub reviewed: Timestamp,
    /// Its last change.
    pub updated: Timestamp,
}

/// Outcome of a retry.
#[derive(Clone, Debug)]
pub enum RetryOutcome {
    /// Succeeded, or no longer needed.
    Done,
    /// Failed; retry again.
    Retry {
        /// When to retry.
        next: Timestamp,
        /// Code of the failure.
        reason: String,
        /// The provider's HTTP status, if it responded.
        status: Option<u16>,
    },
    /// Failed, and it was the last retry.
    Parked {
        /// Code of the failure.
        reason: String,
        /// The provider's HTTP status, if it responded.
        status: Option<u16>,
        /// Audit entry written in the same transaction.
        audit: Box<AuditEntry>,
        /// Event stored in the same transaction.
        event: Box<OutboxEvent>,
    },
    /// Not attempted (connection missing or suspended); does not count as a retry.
    Postponed {
        /// When to check again.
        next: Timestamp,
    },
}

/// Filter for dead requests.
#[derive(Clone, Debug, Default)]
pub struct DeadRequestFilter {
    /// Namespace of the connection.
    pub namespace: Option<String>,
    /// Name of the connection.
    pub connection: Option<String>,
    /// The state.
    pub state: Option<DeadRequestState>,
    /// Only those with a `seq` below this one (lists are newest first).
    pub before: Option<i64>,
}

/// Limits on stored pending and parked requests.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct DeadRequestLimits {
    /// For all connections together. It may be exceeded by what each connection is guaranteed.
    pub total: u64,
    /// Per connection, so that a failing one cannot use up the total. A tenth of it is guaranteed: ten failing connections
    /// that have used up the total cannot take that from another.
    pub connection: u64,
}

/// Counts by state.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadRequestCounts {
    /// Waiting for a retry.
    pub pending: u64,
    /// Waiting for a user.
    pub parked: u64,
}

/// A connection with stored requests. A connection created again under the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadRequestOwner {
    /// The connection.
    pub connection: ObjectKey,
    /// Its UID; empty for requests stored before UIDs were recorded.
    pub uid: String,
}

/// Access to dead requests.
pub trait DeadRequests {
    /// Stores a request and returns its id; if the same one is pending or parked, increments that one's count and
    /// returns its id. `None` when `limits` are reached.
    fn add_dead_request<'a>(
        &'a self,
        request: &'a NewDeadRequest,
        limits: DeadRequestLimits,
    ) -> LedgerFuture<'a, Option<Uuid>>;

    /// Pending requests that are due, at most `per_connection` of each connection: the oldest of each namespace, then the
    /// second of each, and so on. First corrects requests
    /// whose instants a wrong clock wrote: their last change becomes `now`, and their next retry keeps its distance
    /// from it, at most [`MAX_RETRY_DELAY`].
    fn due_dead_requests(&self, now: Timestamp, limit: u32, per_connection: u32) -> LedgerFuture<'_, Vec<DeadRequest>>;

    /// The earliest due time later than `after` of a pending request.
    fn next_dead_request(&self, after: Timestamp) -> LedgerFuture<'_, Option<Timestamp>>;

    /// Records the outcome of a retry if `lease` still holds and the request is still pending; `false` if it is no
    /// longer pending.
    ///
    /// # Errors
    /// [`super::error::LedgerError::Fenced`] when another holds the lease: this worker must stop.
    fn settle_dead_request<'a>(
        &'a self,
        lease: &'a Lease,
        id: Uuid,
        outcome: &'a RetryOutcome,
        now: Timestamp,
    ) -> LedgerFuture<'a, bool>;

    /// Makes a parked request pending again with the identity `caller` and resets its retries; `false` if it is not
    /// parked or an equal request is pending.
    fn replay_dead_request<'a>(
        &'a self,
        id: Uuid,
        caller: &'a str,
        audit: &'a AuditEntry,
        now: Timestamp,
    ) -> LedgerFuture<'a, bool>;

    /// Deletes a request in any state; `false` if there is none. A user asks for it, on any replica, so no lease is
    /// required: ids are never used again, and the outcome of a retry that is under way is no longer stored.
    fn discard_dead_request<'a>(&'a self, id: Uuid, audit: &'a AuditEntry) -> LedgerFuture<'a, bool>;

    /// Deletes a connection's requests that are in `state` at the time of the transaction; returns the number deleted.
    /// A user asks for it, on any replica, so no lease is required: a request that was replayed meanwhile is not parked,
    /// and stays.
    fn purge_dead_requests<'a>(
        &'a self,
        connection: &'a ObjectKey,
        state: DeadRequestState,
        audit: &'a AuditEntry,
    ) -> LedgerFuture<'a, u64>;

    /// The connections with stored requests.
    fn dead_request_owners(&self) -> LedgerFuture<'_, Vec<DeadRequestOwner>>;

    /// Deletes the requests of a deleted connection last changed before `before`; returns the number
    /// deleted.
    ///
    /// # Errors
    /// [`super::error::LedgerError::Fenced`] when another holds the lease.
    fn delete_orphaned_dead_requests<'a>(
        &'a self,
        lease: &'a Lease,
        owner: &'a DeadRequestOwner,
        before: Timestamp,
        audit: &'a AuditEntry,
    ) -> LedgerFuture<'a, u64>;

    /// One request.
    fn get_dead_request(&self, id: Uuid) -> LedgerFuture<'_, Option<DeadRequest>>;

    /// Matching requests, newest first.
    fn list_dead_requests<'a>(
        &'a self,
        filter: &'a DeadRequestFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<DeadRequest>>;

    /// The number of pending and of parked requests.
    fn count_dead_requests(&self) -> LedgerFuture<'_, DeadRequestCounts>;

    /// Deletes done requests last changed before `done` and parked ones before `parked`; returns the number deleted.
    ///
    /// # Errors
    /// [`super::error::LedgerError::Fenced`] when another holds the lease.
    fn prune_dead_requests<'a>(&'a self, lease: &'a Lease, done: Timestamp, parked: Timestamp)
    -> LedgerFuture<'a, u64>;
}

/// Encryption context of a request's parameters: a ciphertext moved to another row cannot be decrypted there.
pub fn encryption_context(connection: &ObjectKey, id: Uuid) -> String {
    format!("dead request {id} of {connection}")
}
