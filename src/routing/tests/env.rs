//! A decision service on a ledger of its own, whose routes and connections a test scripts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::bank_route::BankRouteSpec;
use crate::clock::Clock;
use crate::domain::breaker::EffectiveState;
use crate::domain::decision::{DecisionRequest, OutcomeClass, RequestDraft};
use crate::domain::forecast::prediction_book::Accepted;
use crate::domain::forecast::{ExternalPrediction, PredictionRefused};
use crate::domain::key::ObjectKey;
use crate::domain::route::{CandidateHealth, CandidatePrediction, ConnectionState};
use crate::domain::window::WindowPosition;
use crate::ledger::{self, Ledger, LedgerUrl, OpenMode};
use crate::metrics::Metrics;
use crate::resolve::bank_route;
use crate::resolve::bank_route::RouteScorer;
use crate::routing::{
    Actor, ConnectionHealth, Decided, DecisionService, LiveRoute, OutcomeReport, OutcomeStored, PayoutFeedback,
    RouteSource, RoutingDeps, RoutingError,
};
use crate::tasks::TaskGroup;

pub(super) const START: &str = "2026-11-29T12:00:00Z";

/// Routes and connections as a test says. A connection that it does not mention is well.
#[derive(Default)]
pub(super) struct Script {
    pub(super) routes: Mutex<BTreeMap<ObjectKey, Arc<LiveRoute>>>,
    states: Mutex<BTreeMap<ObjectKey, ConnectionState>>,
    pub(super) trials: Mutex<BTreeMap<ObjectKey, Timestamp>>,
    pub(super) feedback: Mutex<Vec<(ObjectKey, PayoutFeedback)>>,
    /// Connections that do not run yet.
    pub(super) starting: Mutex<BTreeSet<ObjectKey>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl RouteSource for Script {
    fn route(&self, key: &ObjectKey) -> Option<Arc<LiveRoute>> {
        lock(&self.routes).get(key).cloned()
    }

    fn routes(&self, namespace: &str) -> Vec<Arc<LiveRoute>> {
        lock(&self.routes).values().filter(|route| *route.key.namespace == *namespace).cloned().collect()
    }

    fn keys(&self) -> Vec<ObjectKey> {
        lock(&self.routes).keys().cloned().collect()
    }

    fn connection(&self, key: &ObjectKey, _: Timestamp) -> ConnectionState {
        lock(&self.states).get(key).copied().unwrap_or(live(EffectiveState::Closed, 1_000_000))
    }

    fn predictions(&self, _: &ObjectKey, _: Option<&RouteScorer>, _: Timestamp) -> Vec<CandidatePrediction> {
        Vec::new()
    }

    fn push_prediction(&self, _: &ObjectKey, _: ExternalPrediction) -> Result<Accepted, PredictionRefused> {
        Ok(Accepted::New)
    }

    fn health(&self, _: &ObjectKey) -> Option<ConnectionHealth> {
        None
    }

    fn is_starting(&self, key: &ObjectKey) -> bool {
        lock(&self.starting).contains(key)
    }

    fn next_trial(&self, key: &ObjectKey) -> Option<Timestamp> {
        lock(&self.trials).get(key).copied()
    }

    fn observe(&self, key: &ObjectKey, feedback: &PayoutFeedback) {
        lock(&self.feedback).push((key.clone(), feedback.clone()));
    }
}

pub(super) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("payments", name)
}

pub(super) fn live(effective: EffectiveState, success: u32) -> ConnectionState {
    let (health, maintenance) = (CandidateHealth::Usable, WindowPosition::default());
    ConnectionState::Live { effective, health, suspended: false, maintenance, success }
}

/// Two banks: `a` takes 1 of each payout, `b` takes 2.
pub(super) fn two_banks() -> Value {
    let bank = |name: &str, fixed: &str| {
        json!({
            "name": name, "connectionRef": {"name": name}, "bankProfileID": format!("profile-{name}"),
            "fees": [{"name": "all", "fixed": fixed}],
        })
    };
    json!({"referenceCurrency": "EUR", "candidates": [bank("a", "1"), bank("b", "2")]})
}

pub(super) struct Env {
    pub(super) service: Arc<DecisionService>,
    pub(super) script: Arc<Script>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) metrics: Metrics,
    step: Box<dyn Fn(SignedDuration) + Send + Sync>,
    pub(super) stop: CancellationToken,
    pub(super) committing: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Env {
    /// One route `eu` of two banks.
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = LedgerUrl::Sqlite(folder.path().join("ledger.db"));
        let ledger = ledger::open(&url, OpenMode::Migrate).await.unwrap();
        let (clock, step) = Clock::steppable(START.parse().unwrap());
        let (script, metrics) = (Arc::new(Script::default()), Metrics::new());
        let deps = RoutingDeps {
            clock,
            ledger: Arc::clone(&ledger),
            routes: Arc::clone(&script) as Arc<dyn RouteSource>,
            tasks: TaskGroup::default(),
        };
        let (service, tasks) = DecisionService::new(deps, &metrics).unwrap();
        let cancel = CancellationToken::new();
        let handle = tokio::spawn(tasks.committer.run(cancel.clone()));
        let step = Box::new(step);
        let env = Self { service, script, ledger, metrics, step, stop: cancel, committing: handle, _folder: folder };
        env.apply("eu", &two_banks());
        env
    }

    /// Declares a route, or changes it.
    pub(super) fn apply(&self, name: &str, spec: &Value) {
        let spec: BankRouteSpec = serde_json::from_value(spec.clone()).unwrap();
        let generation = self.script.route(&key(name)).map_or(1, |route| route.generation + 1);
        let route = LiveRoute {
            key: key(name),
            uid: format!("uid-{name}"),
            generation,
            created: START.parse().unwrap(),
            suspended: spec.suspend,
            resolved: bank_route(&spec).map(Arc::new),
            incumbent: None,
        };
        lock(&self.script.routes).insert(route.key.clone(), Arc::new(route));
    }

    /// Changes a route as it is served.
    pub(super) fn edit(&self, name: &str, change: impl FnOnce(&mut LiveRoute)) {
        let mut route = (*self.script.route(&key(name)).unwrap()).clone();
        change(&mut route);
        lock(&self.script.routes).insert(route.key.clone(), Arc::new(route));
    }

    pub(super) fn set(&self, connection: &str, state: ConnectionState) {
        lock(&self.script.states).insert(key(connection), state);
    }

    /// Opens the circuit of a connection.
    pub(super) fn trip(&self, connection: &str) {
        self.set(connection, live(EffectiveState::Open, 900_000));
    }

    /// Moves the wall clock.
    pub(super) fn advance(&self, by: SignedDuration) {
        (self.step)(by);
    }

    pub(super) async fn decide(&self, request: DecisionRequest) -> Result<Decided, RoutingError> {
        self.service.decide(request, &ops()).await
    }

    /// Decides on a payout of 100 EUR.
    pub(super) async fn decided(&self, payout_id: &str) -> Decided {
        self.decide(payout(payout_id)).await.unwrap()
    }

    pub(super) async fn report(&self, decision: &Decided, class: OutcomeClass) -> Result<OutcomeStored, RoutingError> {
        let report = OutcomeReport { at: None, class, decision: decision.record.id, latency: None };
        self.service.outcomes("payments", vec![report], &ops()).await.unwrap().remove(0).result
    }

    /// The number of entries in the audit.
    pub(super) async fn entries(&self) -> u64 {
        self.ledger.chain_head().await.unwrap().seq
    }
}

pub(super) fn ops() -> Actor {
    Actor { request_id: None, subject: "ops".to_owned() }
}

/// A payout of 100 EUR on the route `eu`.
pub(super) fn payout(payout_id: &str) -> DecisionRequest {
    request(payout_id, "100", Some("eu"))
}

pub(super) fn request(payout_id: &str, amount: &str, route: Option<&str>) -> DecisionRequest {
    let draft = RequestDraft {
        amount: amount.to_owned(),
        attempt_no: None,
        country: Some("SN".to_owned()),
        currency: "EUR".to_owned(),
        merchant: None,
        namespace: "payments".to_owned(),
        payout_id: payout_id.to_owned(),
        rail: None,
        rates: Vec::new(),
        route: route.map(str::to_owned),
    };
    draft.validate(START.parse().unwrap()).unwrap()
}
