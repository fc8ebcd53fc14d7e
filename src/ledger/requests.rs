//! Runs and resyncs that were asked for over HTTP: rows, so that no replica and no restart loses one, and `spec` is never
//! written.

use jiff::Timestamp;
use uuid::Uuid;

use super::audit::AuditEntry;
use super::error::LedgerFuture;
use super::runs::RunId;
use crate::domain::key::ObjectKey;

/// The subject of requests that webhooks made.
pub const WEBHOOK_SUBJECT: &str = "busbar:webhook";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedRun {
    /// A run as scheduled, now.
    Run,
    /// A range again, beside the incremental windows.
    Resync {
        /// The ID of the resync, unique for the job, `spec.resync` included.
        id: String,
        /// Start of the range, inclusive.
        from: Timestamp,
        /// End of the range.
        to: Timestamp,
        /// Names of the partitions; empty: all.
        partitions: Vec<String>,
    },
}

/// A request to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRunRequest {
    /// Its ID, derived from the job and the client's key: the same request twice is one row.
    pub id: Uuid,
    /// The `SyncJob`.
    pub job: ObjectKey,
    /// What was asked for.
    pub requested: RequestedRun,
    /// The run's ID: the correlation ID of the request, unless another run has it.
    pub run: RunId,
    /// Who asked.
    pub subject: String,
    /// Why, if the caller said.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// The state of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// Waits for its run.
    Open,
    /// Its run was made.
    Done,
    /// It was refused; the outcome says why.
    Refused,
}

impl RequestState {
    /// All values.
    pub const ALL: [Self; 3] = [Self::Open, Self::Done, Self::Refused];

    /// The stored value, and the value in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

/// A request as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRunRequest {
    /// The request.
    pub request: NewRunRequest,
    /// Its state.
    pub state: RequestState,
    /// The result of its run, or why it was refused; `None` while it is open.
    pub outcome: Option<String>,
    /// When it was closed.
    pub closed: Option<Timestamp>,
}

/// The result of storing a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// It is stored now, and its run has this ID: another than was asked for if a run or a request has that one.
    Stored(RunId),
    /// The same request was stored before, in this state.
    Repeated(Box<StoredRunRequest>),
    /// The ID belongs to another request: another key of the client is required, or another resync ID.
    Conflict,
}

/// Access to requests.
pub trait RunRequests {
    /// Stores a request with its audit entry, unless it is stored already.
    fn request_run<'a>(&'a self, request: &'a NewRunRequest, audit: &'a AuditEntry)
    -> LedgerFuture<'a, RequestOutcome>;

    /// The open requests of a job (`None`: of all jobs), oldest first.
    fn open_requests<'a>(&'a self, job: Option<&'a ObjectKey>) -> LedgerFuture<'a, Vec<StoredRunRequest>>;

    /// Closes an open request; `false` if it was closed before.
    fn close_request<'a>(
        &'a self,
        id: Uuid,
        state: RequestState,
        outcome: &'a str,
        now: Timestamp,
    ) -> LedgerFuture<'a, bool>;

    /// Deletes requests that were closed before `before`; resyncs are kept, because their IDs stay used.
    fn prune_requests<'a>(
        &'a self,
        lease: &'a super::lease::Lease,
        before: Timestamp,
        limit: u32,
    ) -> LedgerFuture<'a, u64>;
}
