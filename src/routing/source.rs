//! What decisions read of the running process: routes, connections, and where the outcomes of payouts go.
//!
//! The composition root implements it over the stores and the registry. Every method reads memory only: a decision waits
//! for nothing but the ledger.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::breaker::EffectiveState;
use crate::domain::decision::OutcomeClass;
use crate::domain::forecast::prediction_book::Accepted;
use crate::domain::forecast::{ExternalPrediction, PredictionRefused};
use crate::domain::health::{Health, Ppm, RiskTier};
use crate::domain::key::ObjectKey;
use crate::domain::payout::BankPromises;
use crate::domain::route::{CandidatePrediction, ConnectionState};
use crate::resolve::bank_route::RouteScorer;
use crate::resolve::{ResolvedRoute, SpecError};

/// The routes and connections of this replica.
pub trait RouteSource: Send + Sync + 'static {
    /// The route named `key`.
    fn route(&self, key: &ObjectKey) -> Option<Arc<LiveRoute>>;

    /// The routes of `namespace`, in any order.
    fn routes(&self, namespace: &str) -> Vec<Arc<LiveRoute>>;

    /// The names of all routes, in any order.
    fn keys(&self) -> Vec<ObjectKey>;

    /// The state of the connection named `key` at `now`, read from the running connection: a circuit whose opening was
    /// recorded is open in every later reading.
    fn connection(&self, key: &ObjectKey, now: Timestamp) -> ConnectionState;

    /// The predictions for the connection named `key` that hold at `now`: those of `scorer` or pushed ones, else the
    /// built-in forecast.
    fn predictions(&self, key: &ObjectKey, scorer: Option<&RouteScorer>, now: Timestamp) -> Vec<CandidatePrediction>;

    /// Takes a pushed prediction for the connection named `bank`.
    ///
    /// # Errors
    /// Why it is not accepted.
    fn push_prediction(&self, bank: &ObjectKey, prediction: ExternalPrediction) -> Result<Accepted, PredictionRefused>;

    /// Health and circuit of the connection named `key`; `None` if it is not running.
    fn health(&self, key: &ObjectKey) -> Option<ConnectionHealth>;

    /// Whether the connection named `key` exists and does not run here yet, as after a start or a change of the leader: what
    /// it could do for a payout is not known. Not if its spec cannot be used.
    fn is_starting(&self, _key: &ObjectKey) -> bool {
        false
    }

    /// When the open circuit of the connection named `key` is tried again; `None` if nothing says so.
    fn next_trial(&self, key: &ObjectKey) -> Option<Timestamp>;

    /// What the bank behind this connection promises about payouts; nothing, if the connection is not running.
    fn promises(&self, _connection: &ObjectKey) -> BankPromises {
        BankPromises::default()
    }

    /// Reports what became of a payout through the connection named `key`: to its health and to its scorers.
    fn observe(&self, key: &ObjectKey, feedback: &PayoutFeedback);
}

/// A `BankRoute` of this replica.
#[derive(Clone, Debug)]
pub struct LiveRoute {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// The generation of its spec.
    pub generation: i64,
    /// When it was created.
    pub created: Timestamp,
    /// Whether it is suspended: it accepts no payouts.
    pub suspended: bool,
    /// What its spec was resolved to, or why it cannot be used.
    pub resolved: Result<Arc<ResolvedRoute>, SpecError>,
    /// The bank that takes the reference payout so far, by its status.
    pub incumbent: Option<LiveIncumbent>,
}

/// The bank that a route uses so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveIncumbent {
    /// Name of the candidate.
    pub candidate: String,
    /// Since when.
    pub since: Timestamp,
}

/// What became of a payout, as far as it says something about its bank.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PayoutFeedback {
    /// When.
    pub at: Timestamp,
    /// Name of the candidate.
    pub candidate: String,
    /// What happened.
    pub class: OutcomeClass,
    /// The decision.
    pub decision: Uuid,
    /// How long the bank took, if that was reported.
    pub latency: Option<Duration>,
    /// The route that decided.
    pub route: ObjectKey,
    /// Whether it counts for the bank's health: its first outcome that says whether the bank took the payout.
    pub says_health: bool,
}

/// Health and circuit of a connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ConnectionHealth {
    /// Health.
    pub health: Health,
    /// Risk.
    pub risk: Ppm,
    /// Tier of the risk.
    pub tier: RiskTier,
    /// Estimated share of calls that succeed.
    pub success: Ppm,
    /// 95th percentile of the latency, once there is one.
    pub p95: Option<Duration>,
    /// The effective circuit state.
    pub circuit: EffectiveState,
    /// Since when the circuit's own state is what it is.
    pub since: Timestamp,
}
