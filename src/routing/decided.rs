//! What a decision is answered with, and how a stored one is explained again.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::decision::{DecisionRecord, Hash, SealedSnapshot, replay};
use crate::domain::route::Evaluation;
use crate::ledger::decisions::{StoredDecision, StoredOutcome};
use crate::routing::error::{ReplayProblem, RoutingError};
use crate::routing::service::DecisionService;

/// A decision with its explanation.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Every candidate, with the reason for its state.
    pub evaluation: Evaluation,
    /// Whether it is too old to be acted upon.
    pub expired: bool,
    /// Its hash in the chain.
    pub hash: Hash,
    /// The outcomes that were reported of it.
    pub outcomes: Vec<StoredOutcome>,
    /// The record.
    pub record: Arc<DecisionRecord>,
    /// Whether it was decided by an earlier request.
    pub replayed: bool,
    /// Hash of the request.
    pub request_hash: Hash,
    /// Its number in the chain.
    pub seq: u64,
    /// What it was decided on.
    pub snapshot: Arc<SealedSnapshot>,
    /// The override that replaced it.
    pub superseded_by: Option<Uuid>,
}

/// What a decision would be, without one being stored.
#[derive(Clone, Debug)]
pub struct Tested {
    /// When.
    pub at: Timestamp,
    /// Every candidate, with the reason for its state.
    pub evaluation: Evaluation,
    /// What it was evaluated on.
    pub snapshot: Arc<SealedSnapshot>,
}

impl DecisionService {
    /// A stored decision, explained by making it again from its snapshot.
    pub(super) async fn explain(
        &self,
        stored: StoredDecision,
        replayed: bool,
        now: Timestamp,
    ) -> Result<Decided, RoutingError> {
        let fail = |problem| RoutingError::Unreplayable { id: stored.id, problem };
        let record = DecisionRecord::decode(&stored.body).map_err(|_| fail(ReplayProblem::Unreadable("record")))?;
        let snapshot = self.snapshot(&stored).await?;
        let evaluation = replay(&record, &snapshot.snapshot).map_err(|error| fail(ReplayProblem::Replay(error)))?;
        Ok(Decided {
            evaluation,
            expired: record.is_expired(now),
            hash: stored.hash,
            outcomes: stored.outcomes,
            record: Arc::new(record),
            replayed,
            request_hash: stored.request_hash,
            seq: stored.seq,
            snapshot,
            superseded_by: stored.superseded_by,
        })
    }

    /// The snapshot of a stored decision.
    pub(super) async fn snapshot(&self, stored: &StoredDecision) -> Result<Arc<SealedSnapshot>, RoutingError> {
        if let Some(recent) = self.cache.recent(&stored.snapshot) {
            return Ok(recent);
        }
        let fail = |problem| RoutingError::Unreplayable { id: stored.id, problem };
        let read = self.ledger.snapshot(stored.snapshot).await;
        let bytes = read.map_err(|error| RoutingError::ledger("reading a snapshot", &error))?;
        let bytes = bytes.ok_or_else(|| fail(ReplayProblem::SnapshotMissing))?;
        let opened = SealedSnapshot::open(bytes).ok().filter(|opened| opened.id == stored.snapshot);
        let snapshot = Arc::new(opened.ok_or_else(|| fail(ReplayProblem::Unreadable("snapshot")))?);
        self.cache.remember(&snapshot);
        Ok(snapshot)
    }
}
