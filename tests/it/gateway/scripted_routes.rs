//! Routes and banks as a test scripts them, and the decision service over them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use busbar::api::v1alpha1::BankRoute;
use busbar::clock::Clock;
use busbar::domain::breaker::EffectiveState;
use busbar::domain::forecast::PredictionRefused;
use busbar::domain::forecast::external::{DEFAULT_MAX_AGE, ExternalPrediction};
use busbar::domain::forecast::prediction_book::Accepted;
use busbar::domain::health::{Health, Ppm, RiskTier};
use busbar::domain::key::ObjectKey;
use busbar::domain::payout::BankPromises;
use busbar::domain::route::{CandidateHealth, CandidatePrediction, ConnectionState};
use busbar::domain::window::WindowPosition;
use busbar::ledger::Ledger;
use busbar::metrics::Metrics;
use busbar::resolve::bank_route::{RouteScorer, bank_route};
use busbar::routing::{ConnectionHealth, DecisionService, LiveRoute, PayoutFeedback, RouteSource, RoutingDeps};
use busbar::tasks::TaskGroup;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::harness::key;

/// The routes and the banks of the namespace `treasury`. A bank that is not scripted does not exist.
#[derive(Default)]
pub(crate) struct ScriptedRoutes {
    routes: Mutex<BTreeMap<ObjectKey, Arc<LiveRoute>>>,
    banks: Mutex<BTreeMap<ObjectKey, ConnectionState>>,
    trials: Mutex<BTreeMap<ObjectKey, Timestamp>>,
    promises: Mutex<BTreeMap<ObjectKey, BankPromises>>,
    predictions: Mutex<BTreeMap<ObjectKey, Vec<CandidatePrediction>>>,
    pushed: Mutex<Vec<ExternalPrediction>>,
    feedback: Mutex<Vec<PayoutFeedback>>,
    starting: Mutex<BTreeSet<ObjectKey>>,
}

/// A running connection that calls may use, with this share of successes.
pub(crate) fn live(success: u32) -> ConnectionState {
    ConnectionState::Live {
        effective: EffectiveState::Closed,
        health: CandidateHealth::Usable,
        suspended: false,
        maintenance: WindowPosition::default(),
        success,
    }
}

/// The spec of a route of three banks, whose costs for 1000 USD are those of the golden table: 7.70, 9.50 and 7.40.
pub(crate) fn golden_spec() -> Value {
    let bank = |name: &str, basis_points: &str, fixed: &str, spread: &str| {
        json!({
            "name": name,
            "connectionRef": {"name": name},
            "bankProfileID": format!("profile-{name}"),
            "fees": [{"name": "all", "basisPoints": basis_points, "fixed": fixed}],
            "fundingCurrency": "EUR",
            "fx": {"spreadBasisPoints": spread},
        })
    };
    let candidates =
        [bank("bank-a", "50", "0.30", "20"), bank("bank-b", "40", "1.00", "25"), bank("bank-c", "45", "0.80", "20")];
    json!({"referenceCurrency": "USD", "candidates": candidates})
}

impl ScriptedRoutes {
    /// Adds or replaces the route `name`.
    pub(crate) fn add(&self, name: &str, spec: &Value) {
        let object = json!({
            "apiVersion": "busbar.dev/v1alpha1", "kind": "BankRoute", "metadata": {"name": name}, "spec": spec,
        });
        let object: BankRoute = serde_json::from_value(object).unwrap();
        let mut routes = self.routes.lock().unwrap();
        let generation = routes.get(&key(name)).map_or(1, |route| route.generation + 1);
        let route = LiveRoute {
            key: key(name),
            uid: format!("uid-{name}"),
            generation,
            created: Timestamp::UNIX_EPOCH,
            suspended: object.spec.suspend,
            resolved: bank_route(&object.spec).map(Arc::new),
            incumbent: None,
        };
        routes.insert(key(name), Arc::new(route));
    }

    /// The route `payouts` of the golden table, and its banks.
    pub(crate) fn add_golden(&self) {
        self.add("payouts", &golden_spec());
        for (bank, success) in [("bank-a", 980_000), ("bank-b", 900_000), ("bank-c", 995_000)] {
            self.set(bank, live(success));
        }
    }

    /// Sets the state of the connection `name`.
    pub(crate) fn set(&self, name: &str, state: ConnectionState) {
        self.banks.lock().unwrap().insert(key(name), state);
    }

    /// The bank exists and does not run yet.
    pub(crate) fn starts(&self, name: &str) {
        self.set(name, ConnectionState::NotReady);
        self.starting.lock().unwrap().insert(key(name));
    }

    /// The bank has this circuit.
    pub(crate) fn circuit(&self, name: &str, circuit: EffectiveState) {
        if let Some(ConnectionState::Live { effective, .. }) = self.banks.lock().unwrap().get_mut(&key(name)) {
            *effective = circuit;
        }
    }

    /// Sets when the open circuit of the connection `name` is tried again.
    pub(crate) fn next_trial_at(&self, name: &str, at: Timestamp) {
        self.trials.lock().unwrap().insert(key(name), at);
    }

    /// Sets what the bank behind the connection `name` promises about payouts.
    pub(crate) fn promise(&self, name: &str, promises: BankPromises) {
        self.promises.lock().unwrap().insert(key(name), promises);
    }

    /// The predictions that were accepted.
    pub(crate) fn pushed(&self) -> Vec<ExternalPrediction> {
        self.pushed.lock().unwrap().clone()
    }

    /// What was reported of payouts, and not taken before.
    pub(crate) fn take_feedback(&self) -> Vec<PayoutFeedback> {
        std::mem::take(&mut self.feedback.lock().unwrap())
    }
}

impl RouteSource for ScriptedRoutes {
    fn route(&self, key: &ObjectKey) -> Option<Arc<LiveRoute>> {
        self.routes.lock().unwrap().get(key).cloned()
    }

    fn routes(&self, namespace: &str) -> Vec<Arc<LiveRoute>> {
        let routes = self.routes.lock().unwrap();
        routes.values().filter(|route| *route.key.namespace == *namespace).cloned().collect()
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.routes.lock().unwrap().keys().cloned().collect()
    }

    fn connection(&self, key: &ObjectKey, _: Timestamp) -> ConnectionState {
        self.banks.lock().unwrap().get(key).copied().unwrap_or(ConnectionState::Missing)
    }

    fn predictions(&self, key: &ObjectKey, _: Option<&RouteScorer>, _: Timestamp) -> Vec<CandidatePrediction> {
        self.predictions.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    fn push_prediction(&self, bank: &ObjectKey, prediction: ExternalPrediction) -> Result<Accepted, PredictionRefused> {
        if !self.banks.lock().unwrap().contains_key(bank) {
            return Err(PredictionRefused::UnknownBank);
        }
        prediction.check(DEFAULT_MAX_AGE, crate::kit::time::now())?;
        let mut pushed = self.pushed.lock().unwrap();
        let repeated = pushed.contains(&prediction);
        pushed.push(prediction);
        Ok(if repeated { Accepted::Repeated } else { Accepted::New })
    }

    fn health(&self, key: &ObjectKey) -> Option<ConnectionHealth> {
        let ConnectionState::Live { effective, success, .. } = self.connection(key, Timestamp::UNIX_EPOCH) else {
            return None;
        };
        Some(ConnectionHealth {
            health: Health::Healthy,
            risk: Ppm::new(10_000),
            tier: RiskTier::Low,
            success: Ppm::new(success),
            p95: Some(Duration::from_millis(120)),
            circuit: effective,
            since: Timestamp::UNIX_EPOCH,
        })
    }

    fn is_starting(&self, key: &ObjectKey) -> bool {
        self.starting.lock().unwrap().contains(key)
    }

    fn next_trial(&self, key: &ObjectKey) -> Option<Timestamp> {
        self.trials.lock().unwrap().get(key).copied()
    }

    fn promises(&self, key: &ObjectKey) -> BankPromises {
        self.promises.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    fn observe(&self, _: &ObjectKey, feedback: &PayoutFeedback) {
        self.feedback.lock().unwrap().push(feedback.clone());
    }
}

/// Starts the decision service over routes that the test scripts, until `stop`.
pub(crate) fn start_routing(
    ledger: &Arc<dyn Ledger>,
    clock: Clock,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> (Arc<ScriptedRoutes>, Arc<DecisionService>) {
    let (routes, tasks) = (Arc::new(ScriptedRoutes::default()), TaskGroup::default());
    let deps = RoutingDeps {
        clock,
        ledger: Arc::clone(ledger),
        routes: Arc::<ScriptedRoutes>::clone(&routes),
        tasks: tasks.clone(),
    };
    let (service, running) = DecisionService::new(deps, metrics).unwrap();
    tasks.spawn("decisions", running.committer.run(stop.clone()));
    tasks.spawn("ops_refresh", running.ops_refresh.run(stop.clone()));
    (routes, service)
}
