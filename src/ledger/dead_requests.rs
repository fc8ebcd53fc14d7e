//! Requests to providers that failed for good: kept, retried a few times, then parked for a person.
//!
//! Only what may be repeated without harm is ever stored, and nothing of a credential: those are put on each try by the
//! call path. Parameters can name accounts, so they are sealed where the operator has a key.

use jiff::Timestamp;
use uuid::Uuid;

use super::audit::AuditEntry;
use super::{Lease, Reply};
use crate::domain::key::ObjectKey;

/// Where a request stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum DeadState {
    /// It will be tried again.
    Pending,
    /// All tries failed: a person decides.
    Parked,
    /// A later try succeeded, or nothing is left to try.
    Done,
}

impl DeadState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Parked, Self::Done];

    /// The stored word, also the metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Parked => "parked",
            Self::Done => "done",
        }
    }
}

/// A request to keep.
#[derive(Clone, Debug)]
pub struct NewDeadRequest {
    /// Its id.
    pub id: Uuid,
    /// The connection.
    pub connection: ObjectKey,
    /// The UID of the object that the connection was: another one of that name never gets these parameters.
    pub uid: String,
    /// The connection's provider.
    pub provider: String,
    /// The operation.
    pub operation: String,
    /// The parameters, a JSON object, perhaps sealed.
    pub parameters: Vec<u8>,
    /// Whether `parameters` are sealed.
    pub sealed: bool,
    /// Tells equal requests of one caller: while one is pending or parked, the same one is counted, not stored again.
    pub fingerprint: String,
    /// In whose name it is asked again, as JSON: what the licence profiles are judged with. Whoever replays it.
    pub caller: String,
    /// Who asked first, for people.
    pub subject: String,
    /// Why it failed: a code of ours.
    pub reason: String,
    /// The provider's HTTP status, if it answered.
    pub status: Option<u16>,
    /// The failed request's correlation id.
    pub request_id: Option<Uuid>,
    /// Now.
    pub at: Timestamp,
    /// When to try again.
    pub next: Timestamp,
}

/// A kept request.
#[derive(Clone, Debug)]
pub struct DeadRequest {
    /// Its place in the list; grows.
    pub seq: i64,
    /// What was kept. `at` is when it came, `next` when it is due (its last change, if it is not pending).
    pub request: NewDeadRequest,
    /// Where it stands.
    pub state: DeadState,
    /// Retries so far.
    pub tries: u32,
    /// How often the same request failed while this one was pending or parked.
    pub seen: u64,
    /// When the API server last said that its caller may do this: when it came, or was replayed.
    pub reviewed: Timestamp,
    /// Its last change.
    pub updated: Timestamp,
}

/// How a retry ended.
#[derive(Clone, Debug)]
pub enum Settled {
    /// Nothing is left to do.
    Done,
    /// Once more.
    Again {
        /// When.
        next: Timestamp,
        /// Why it failed this time.
        reason: String,
        /// The provider's HTTP status, if it answered.
        status: Option<u16>,
    },
    /// It was the last try.
    Parked {
        /// Why it failed.
        reason: String,
        /// The provider's HTTP status, if it answered.
        status: Option<u16>,
        /// Written with it.
        audit: Box<AuditEntry>,
    },
    /// The retry could not be made yet (the connection is not there, or suspended): it counts as no try.
    Later {
        /// When to look again.
        next: Timestamp,
    },
}

/// Which requests to list.
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    /// Of connections in this namespace.
    pub namespace: Option<String>,
    /// Of this connection.
    pub connection: Option<String>,
    /// In this state.
    pub state: Option<DeadState>,
    /// Listed after this one (its `seq`), newest first.
    pub before: Option<i64>,
}

/// How many may be kept that wait for a retry or a person.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct DeadCaps {
    /// Of all connections together.
    pub total: u64,
    /// Of one connection, so that a bad one leaves room for the others.
    pub connection: u64,
}

/// How many there are.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadCounts {
    /// That will be tried again.
    pub pending: u64,
    /// That wait for a person.
    pub parked: u64,
}

/// The part of the ledger that keeps failed requests.
pub trait DeadRequests {
    /// Keeps a request, unless the same one is pending or parked already: then that one's id, counted once more. `None`
    /// when as many are kept as `caps` allow.
    fn add_dead_request<'a>(&'a self, request: &'a NewDeadRequest, caps: DeadCaps) -> Reply<'a, Option<Uuid>>;

    /// Pending requests whose time has come, oldest first, at most `each` of one connection.
    fn due_dead_requests(&self, now: Timestamp, limit: u32, each: u32) -> Reply<'_, Vec<DeadRequest>>;

    /// When the next pending request is due that is not due at `after`.
    fn next_dead_request(&self, after: Timestamp) -> Reply<'_, Option<Timestamp>>;

    /// Notes how a retry ended, if `lease` is still the newest and the request still pending; `false` if it is not
    /// pending any more.
    ///
    /// # Errors
    /// [`super::LedgerError::Fenced`] when another holds the lease: this worker must stop.
    fn settle_dead_request<'a>(
        &'a self,
        lease: &'a Lease,
        id: Uuid,
        settled: &'a Settled,
        now: Timestamp,
    ) -> Reply<'a, bool>;

    /// Makes a parked request pending again in the name of `caller`, its tries counted anew; `false` if it is not parked or
    /// its like is pending.
    fn replay_dead_request<'a>(
        &'a self,
        id: Uuid,
        caller: &'a str,
        audit: &'a AuditEntry,
        now: Timestamp,
    ) -> Reply<'a, bool>;

    /// Removes one, wherever it stands; `false` if there is none.
    fn discard_dead_request<'a>(&'a self, id: Uuid, audit: &'a AuditEntry) -> Reply<'a, bool>;

    /// Removes those of a connection that are in `state`; tells how many went.
    fn purge_dead_requests<'a>(
        &'a self,
        connection: &'a ObjectKey,
        state: DeadState,
        audit: &'a AuditEntry,
    ) -> Reply<'a, u64>;

    /// The connections that requests are kept of, with their UIDs.
    fn dead_request_owners(&self) -> Reply<'_, Vec<(ObjectKey, String)>>;

    /// Removes those of a connection (its name and UID) that is no more, last changed before `before`; tells how many went.
    ///
    /// # Errors
    /// [`super::LedgerError::Fenced`] when another holds the lease.
    fn forget_dead_requests<'a>(
        &'a self,
        lease: &'a Lease,
        owner: (&'a ObjectKey, &'a str),
        before: Timestamp,
        audit: &'a AuditEntry,
    ) -> Reply<'a, u64>;

    /// One request.
    fn get_dead_request(&self, id: Uuid) -> Reply<'_, Option<DeadRequest>>;

    /// Requests that match, newest first.
    fn list_dead_requests<'a>(&'a self, filter: &'a DeadFilter, limit: u32) -> Reply<'a, Vec<DeadRequest>>;

    /// How many are pending and parked.
    fn count_dead_requests(&self) -> Reply<'_, DeadCounts>;

    /// Removes done ones last changed before `done`, and parked ones before `parked`.
    fn prune_dead_requests(&self, done: Timestamp, parked: Timestamp) -> Reply<'_, u64>;
}

/// What a request's parameters are sealed for: a sealed text that is moved to another row does not open there.
pub fn seal_name(connection: &ObjectKey, id: Uuid) -> String {
    format!("dead request {id} of {connection}")
}
