//! A route that decides on a request, as of one instant.

use std::sync::Arc;

use crate::domain::decision::{DecisionRecord, DecisionRequest, Hash};
use crate::ledger::decisions::NewDecision;
use crate::resolve::ResolvedRoute;
use crate::routing::snapshot_cache::CurrentSnapshot;
use crate::routing::source::LiveRoute;

/// A route that decides on a request, as of one instant.
pub(crate) struct OpenRoute {
    /// The hash of the request: it is computed once.
    pub(crate) request_hash: Hash,
    pub(crate) route: Arc<LiveRoute>,
    pub(crate) resolved: Arc<ResolvedRoute>,
    pub(crate) current: Arc<CurrentSnapshot>,
}

impl OpenRoute {
    /// A decision of this route, as it is stored.
    pub(crate) fn decision(&self, request: &DecisionRequest, record: &Arc<DecisionRecord>) -> NewDecision {
        let candidate = self.current.sealed.snapshot.candidate(&record.candidate);
        NewDecision {
            key: request.key(),
            request_hash: self.request_hash,
            body: record.encode(),
            record: Arc::clone(record),
            route: self.route.key.name.to_string(),
            limit: candidate.and_then(|candidate| candidate.daily_limit.clone()),
            snapshot: Arc::clone(&self.current.encoded),
        }
    }
}
