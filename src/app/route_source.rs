//! What decisions read of this process: routes from the stores, connections from the registry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::CandidateState;
use crate::app::standby_state::{OwnKnowledge, standby_health, standby_state, will_start};
use crate::clock::Clock;
use crate::cluster::resource::WatchedResource as _;
use crate::cluster::stores::Stores;
use crate::controllers::bankroute::resolution;
use crate::controllers::resolutions::Resolutions;
use crate::domain::clock_skew::happened;
use crate::domain::decision::OutcomeClass;
use crate::domain::forecast::external::DEFAULT_MAX_AGE;
use crate::domain::forecast::prediction_book::Accepted;
use crate::domain::forecast::wire::WireOutcome;
use crate::domain::forecast::{ExternalPrediction, Forecast, PredictionRefused, PredictionSource};
use crate::domain::key::ObjectKey;
use crate::domain::payout::BankPromises;
use crate::domain::route::{CandidatePrediction, ConnectionState};
use crate::provider::predictions::Predictions;
use crate::provider::registry::Registry;
use crate::resolve::bank_route::RouteScorer;
use crate::routing::{ConnectionHealth, LiveIncumbent, LiveRoute, PayoutFeedback, RouteSource};

/// Routes by name, each with the stored object that it was resolved from.
type ResolvedRoutes = HashMap<ObjectKey, (Arc<BankRoute>, Arc<LiveRoute>)>;

/// The routes and connections of this process.
pub(super) struct ProcessRoutes {
    clock: Clock,
    stores: Stores,
    registry: Registry,
    resolutions: Arc<Resolutions>,
    predictions: Arc<Predictions>,
    /// Whether this replica probes its connections: it holds, or held, the leader lease.
    probes: AtomicBool,
    /// What the stored objects came to; an entry counts while its object is the stored one.
    routes: Mutex<ResolvedRoutes>,
}

impl ProcessRoutes {
    pub(super) fn new(
        clock: Clock,
        stores: Stores,
        registry: Registry,
        resolutions: Arc<Resolutions>,
        predictions: Arc<Predictions>,
    ) -> Self {
        Self {
            clock,
            stores,
            registry,
            resolutions,
            predictions,
            probes: AtomicBool::new(false),
            routes: Mutex::default(),
        }
    }

    /// From now on health and circuit are those that this replica measures.
    pub(super) fn set_probing(&self) {
        self.probes.store(true, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, ResolvedRoutes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The route that `object`, which is the stored one, comes to.
    fn live(&self, key: &ObjectKey, object: Arc<BankRoute>) -> Arc<LiveRoute> {
        if let Some((_, live)) = self.lock().get(key).filter(|(known, _)| Arc::ptr_eq(known, &object)) {
            return Arc::clone(live);
        }
        let exists = || self.stores.routes.get(key).is_some();
        let resolved = resolution::resolve(&self.resolutions.routes, key, &object, exists);
        let live = Arc::new(LiveRoute {
            key: key.clone(),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            created: object.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0),
            suspended: object.spec.suspend,
            resolved,
            incumbent: incumbent(&object, self.clock.now().wall),
        });
        let mut routes = self.lock();
        // Deleted routes go with the next one that is new here.
        if !routes.contains_key(key) {
            routes.retain(|key, _| self.stores.routes.get(key).is_some());
        }
        routes.insert(key.clone(), (object, Arc::clone(&live)));
        live
    }
}

impl RouteSource for ProcessRoutes {
    fn route(&self, key: &ObjectKey) -> Option<Arc<LiveRoute>> {
        self.stores.routes.get(key).map(|object| self.live(key, object))
    }

    fn routes(&self, namespace: &str) -> Vec<Arc<LiveRoute>> {
        let objects = self.stores.routes.list().into_iter();
        let within = objects.filter(|object| object.metadata.namespace.as_deref() == Some(namespace));
        within.map(|object| self.live(&object.key(), object)).collect()
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.stores.routes.list().iter().map(|object| object.key()).collect()
    }

    fn connection(&self, key: &ObjectKey, now: Timestamp) -> ConnectionState {
        match self.stores.connections.get(key) {
            None => ConnectionState::Missing,
            Some(stored) => match self.registry.get(key) {
                // Another object of the same name is another connection.
                Some(live) if Some(&**live.uid()) == stored.metadata.uid.as_deref() => {
                    let state = live.route_state(now);
                    if self.probes.load(Ordering::Acquire) {
                        return state;
                    }
                    standby_state(state, &OwnKnowledge::of(&live), &stored)
                }
                _ => ConnectionState::NotReady,
            },
        }
    }

    fn predictions(&self, key: &ObjectKey, scorer: Option<&RouteScorer>, now: Timestamp) -> Vec<CandidatePrediction> {
        let external = self.predictions.current(key, scorer.map(|scorer| scorer.connection.as_str()), now);
        if !external.is_empty() {
            return external;
        }
        self.registry.get(key).and_then(|connection| connection.forecast()).iter().map(Forecast::candidate).collect()
    }

    fn push_prediction(&self, bank: &ObjectKey, prediction: ExternalPrediction) -> Result<Accepted, PredictionRefused> {
        let routes = self.routes(&bank.namespace);
        self.predictions.push(bank, PredictionSource::Pushed, prediction, max_age(&routes, &bank.name))
    }

    fn health(&self, key: &ObjectKey) -> Option<ConnectionHealth> {
        let connection = self.registry.get(key)?;
        let reading = connection.health_reading();
        let assessment = reading.assessment;
        let local = ConnectionHealth {
            health: reading.health,
            risk: assessment.risk,
            tier: assessment.tier,
            success: assessment.success,
            p95: assessment.p95,
            circuit: reading.circuit,
            since: reading.since,
        };
        if self.probes.load(Ordering::Acquire) {
            return Some(local);
        }
        let own = OwnKnowledge::of(&connection);
        Some(self.stores.connections.get(key).map_or(local, |stored| standby_health(local, &own, &stored)))
    }

    fn is_starting(&self, key: &ObjectKey) -> bool {
        let Some(stored) = self.stores.connections.get(key) else { return false };
        let uid = stored.metadata.uid.as_deref();
        let runs = self.registry.get(key).is_some_and(|live| Some(&**live.uid()) == uid);
        !runs && will_start(&stored)
    }

    fn next_trial(&self, key: &ObjectKey) -> Option<Timestamp> {
        let at = self.registry.get(key)?.next_trial()?;
        Some(self.clock.now().wall_at(at))
    }

    fn promises(&self, key: &ObjectKey) -> BankPromises {
        self.registry.get(key).map_or_else(BankPromises::default, |live| live.settings().promises().clone())
    }

    fn observe(&self, key: &ObjectKey, feedback: &PayoutFeedback) {
        let Some(connection) = self.registry.get(key) else { return };
        if feedback.says_health {
            connection.observe_payout(feedback.class == OutcomeClass::Success, feedback.latency);
        }
        let route = self.route(&feedback.route);
        let scorer = route.as_ref().and_then(|route| route.resolved.as_ref().ok()?.scorer.as_ref());
        if let Some(scorer) = scorer {
            self.predictions.report(&key.sibling(scorer.connection.as_str()), wire_outcome(key, feedback));
        }
    }
}

/// The age that a pushed prediction about the connection `bank` may have: the least that `spec.scorer` of its routes says.
fn max_age(routes: &[Arc<LiveRoute>], bank: &str) -> Duration {
    let resolved = routes.iter().filter_map(|route| route.resolved.as_ref().ok());
    let with_bank = resolved.filter(|route| route.candidates.iter().any(|one| one.connection == bank));
    with_bank.filter_map(|route| Some(route.scorer.as_ref()?.max_age)).min().unwrap_or(DEFAULT_MAX_AGE)
}

/// What the scorer of a route is told of a payout through the connection `bank`.
fn wire_outcome(bank: &ObjectKey, feedback: &PayoutFeedback) -> WireOutcome {
    let millis = |latency: Duration| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
    WireOutcome {
        at: feedback.at,
        candidate: feedback.candidate.clone(),
        class: feedback.class.as_str().to_owned(),
        connection: bank.name.to_string(),
        decision_id: feedback.decision.to_string(),
        latency_ms: feedback.latency.map(millis),
        route: feedback.route.name.to_string(),
    }
}

/// The bank that takes the reference payout so far, by the status of the route. An instant that is ahead of the clock is
/// taken as `now`.
fn incumbent(object: &BankRoute, now: Timestamp) -> Option<LiveIncumbent> {
    let status = object.status.as_ref()?;
    let name = status.active.as_deref()?;
    let is_active = |state: CandidateState| state == CandidateState::Preferred;
    let active = status.candidates.iter().find(|one| one.name == name && is_active(one.state))?;
    Some(LiveIncumbent { candidate: name.to_owned(), since: happened(active.last_transition_time.0, now) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::v1alpha1::BankRouteSpec;
    use crate::resolve::bank_route::bank_route;

    fn route(bank: &str, scorer: &Value) -> Arc<LiveRoute> {
        let spec: BankRouteSpec = serde_json::from_value(json!({
            "referenceCurrency": "EUR", "candidates": [{"name": "one", "connectionRef": {"name": bank}}], "scorer": scorer,
        }))
        .unwrap();
        Arc::new(LiveRoute {
            key: ObjectKey::new("payments", "eu"),
            uid: String::new(),
            generation: 1,
            created: Timestamp::UNIX_EPOCH,
            suspended: false,
            resolved: bank_route(&spec).map(Arc::new),
            incumbent: None,
        })
    }

    #[test]
    fn a_pushed_prediction_may_be_as_old_as_the_strictest_route_of_its_bank_says() {
        let scorer = |age: &str| json!({"connectionRef": {"name": "sira"}, "maxAge": age});
        let routes = [
            route("a", &scorer("10m")),
            route("a", &scorer("90s")),
            route("a", &Value::Null),
            route("b", &scorer("30s")),
            route("c", &Value::Null),
        ];
        assert!(routes.iter().all(|route| route.resolved.is_ok()));
        for (bank, age) in [
            ("a", Duration::from_secs(90)),
            ("b", Duration::from_secs(30)),
            ("c", DEFAULT_MAX_AGE),
            ("d", DEFAULT_MAX_AGE),
        ] {
            assert_eq!(max_age(&routes, bank), age, "{bank}");
        }
    }
}
