//! What the gateway asks of the syncs of its process: the objects, plans and replays, which it cannot make itself.

use futures::future::BoxFuture;
use serde_json::Value;

use crate::domain::key::ObjectKey;
use crate::ledger::audit::AuditEntry;
use crate::ledger::raw::{JobDeadLetter, ReplayedLetter};
use crate::ledger::{LedgerError, RunId};

/// Access to the sync jobs of this process.
pub trait SyncOperations: Send + Sync {
    /// The connection of a job; `None` if there is no such job.
    fn connection_of(&self, job: &ObjectKey) -> Option<ObjectKey>;

    /// Notes that a request for the job was stored.
    fn notify(&self, job: &ObjectKey);

    /// Fetches one page of each partition, and says what would be written.
    fn plan<'a>(
        &'a self,
        job: &'a ObjectKey,
        run: RunId,
        samples: u32,
    ) -> BoxFuture<'a, Result<Planned, OperationError>>;

    /// Converts dead letters again from their raw payloads, and stores the rows.
    fn replay<'a>(
        &'a self,
        job: &'a ObjectKey,
        letters: &'a [JobDeadLetter],
        audit: &'a AuditEntry,
    ) -> BoxFuture<'a, Result<Vec<ReplayedLetter>, OperationError>>;
}

/// Why a plan or a replay was not made.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The job cannot run: its spec, or its connection. The reason's name and what to do.
    #[error("the job cannot run ({reason}): {message}")]
    NotReady {
        /// The reason.
        reason: &'static str,
        /// What to do.
        message: String,
    },
    /// A run, a plan or a replay of the job is in progress.
    #[error("a run, a plan or a replay of the job is in progress; retry after Retry-After")]
    Busy,
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What a run would write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planned {
    /// The result of the dry run.
    pub result: String,
    /// Its reason, unless it succeeded.
    pub reason: Option<String>,
    /// Records read.
    pub fetched: u64,
    /// Records that would be rejected.
    pub rejected: u64,
    /// Rows that would be new.
    pub inserted: u64,
    /// Rows that would change.
    pub updated: u64,
    /// Rows that are stored already.
    pub unchanged: u64,
    /// Masked rows.
    pub samples: Vec<Value>,
}
