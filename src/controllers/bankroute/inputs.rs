//! What a route's status is computed from. Plain values.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::route::{CandidatePrediction, ConnectionState, Proposal, RouteRules};
use crate::resolve::{ResolvedRoute, SpecError};

/// Inputs of [`decide`](super::decide::decide): the result of `observe`.
#[derive(Clone, Debug)]
pub struct RouteInputs {
    /// What the spec was resolved to, or why it cannot be used.
    pub route: Result<Arc<ResolvedRoute>, SpecError>,
    /// State of each candidate's connection, in the spec's order.
    pub connections: Vec<ConnectionState>,
    /// The rules of the spec with the weights, pins and approvals of the API; `None`: those of the spec alone.
    pub rules: Option<Arc<RouteRules>>,
    /// What is predicted of each candidate, in the spec's order; empty: nothing.
    pub predictions: Vec<Vec<CandidatePrediction>>,
    /// Whether the connection of `spec.scorer` does not exist.
    pub scorer_missing: bool,
    /// The newest proposal of the route.
    pub proposal: StoredProposalView,
    /// How many payouts of the route wait for a person; `None`: not known.
    pub held_payouts: Option<u64>,
}

impl RouteInputs {
    /// The inputs of a route of which nothing but its spec and its connections is known.
    pub fn of(route: Result<Arc<ResolvedRoute>, SpecError>, connections: Vec<ConnectionState>) -> Self {
        Self {
            route,
            connections,
            rules: None,
            predictions: Vec::new(),
            scorer_missing: false,
            proposal: StoredProposalView::None,
            held_payouts: None,
        }
    }
}

/// The newest proposal of a route, as the ledger has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum StoredProposalView {
    /// The ledger did not respond: nothing is proposed or withdrawn, and the status stays.
    Unknown,
    /// There is none.
    #[default]
    None,
    /// It waits for an operator.
    Pending(KnownProposal),
    /// An operator approved it.
    Approved(KnownProposal),
    /// An operator rejected it.
    Rejected(KnownProposal),
    /// It lapsed.
    Lapsed(KnownProposal),
}

/// A proposal as the ledger has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownProposal {
    /// Its ID.
    pub id: Uuid,
    /// The proposed candidate.
    pub candidate: String,
    /// When it lapses.
    pub until: Timestamp,
}

/// One step of `act`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteStep {
    /// Store the proposal of the forecast.
    Propose(Proposal),
    /// End a proposal: its time is over, or the forecast does not propose it any more.
    Lapse(Uuid),
}
