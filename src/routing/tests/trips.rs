//! Circuits that open while decisions go on: none that starts after the tripping record has returned chooses the bank.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;

use super::env::{Env, Script, key, payout};
use crate::clock::Clock;
use crate::domain::breaker::CallClass;
use crate::domain::forecast::prediction_book::Accepted;
use crate::domain::forecast::{ExternalPrediction, PredictionRefused};
use crate::domain::key::ObjectKey;
use crate::domain::route::{CandidatePrediction, ConnectionState};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::profile::CheckMode;
use crate::provider::call_progress::CallProgress;
use crate::provider::monitor::CompletedCall;
use crate::provider::registry::{Registry, RegistryOptions};
use crate::provider::testkit::{response, settings};
use crate::resolve::bank_route::RouteScorer;
use crate::routing::{ConnectionHealth, DecisionService, LiveRoute, PayoutFeedback, RouteSource, RoutingDeps};
use crate::settings::Settings;
use crate::tasks::TaskGroup;

/// The routes of a script, over real connections.
struct Connected {
    script: Arc<Script>,
    registry: Registry,
}

impl RouteSource for Connected {
    fn route(&self, key: &ObjectKey) -> Option<Arc<LiveRoute>> {
        self.script.route(key)
    }

    fn routes(&self, namespace: &str) -> Vec<Arc<LiveRoute>> {
        self.script.routes(namespace)
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.script.keys()
    }

    fn connection(&self, key: &ObjectKey, now: Timestamp) -> ConnectionState {
        self.registry.get(key).map_or(ConnectionState::Missing, |connection| connection.route_state(now))
    }

    fn predictions(&self, _: &ObjectKey, _: Option<&RouteScorer>, _: Timestamp) -> Vec<CandidatePrediction> {
        Vec::new()
    }

    fn push_prediction(&self, _: &ObjectKey, _: ExternalPrediction) -> Result<Accepted, PredictionRefused> {
        Err(PredictionRefused::UnknownBank)
    }

    fn health(&self, _: &ObjectKey) -> Option<ConnectionHealth> {
        None
    }

    fn next_trial(&self, _: &ObjectKey) -> Option<Timestamp> {
        None
    }

    fn observe(&self, _: &ObjectKey, _: &PayoutFeedback) {}
}

/// A connection whose first failure opens its circuit.
fn fragile() -> Arc<Settings> {
    settings(|draft| {
        draft.breaker.consecutive_failures = 1;
        draft.health_check.mode = CheckMode::Passive;
    })
}

/// Records a failed call: when this returns, the circuit is open.
fn fail(registry: &Registry, settings: &Settings) {
    let connection = registry.get(&key("a")).unwrap();
    let monitor = connection.monitor();
    let started = connection.now();
    let permit = monitor.admit(CallClass::Read, started).unwrap();
    let (operation, progress, failed) = ("x".into(), CallProgress::default(), response(500));
    let (class, result) = (CallClass::Read, Ok(&failed));
    monitor.record(
        settings,
        &CompletedCall { permit, class, operation: &operation, started, progress: &progress, result },
    );
}

fn service(ledger: &Arc<dyn Ledger>, script: &Arc<Script>) -> (Arc<DecisionService>, Registry) {
    let (clock, metrics) = (Clock::system(), Metrics::new());
    let registry = Registry::new(clock, &metrics, RegistryOptions::default()).unwrap();
    let routes = Arc::new(Connected { script: Arc::clone(script), registry: registry.clone() });
    let deps = RoutingDeps { clock, ledger: Arc::clone(ledger), routes, tasks: TaskGroup::default() };
    (DecisionService::new(deps, &metrics).unwrap().0, registry)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_decision_that_starts_after_a_trip_chooses_the_bank() {
    // Ten thousand are made by the bench `route` and by tests/it/decisions/late_choices.rs.
    const TRIPS: u64 = 500;
    let env = Env::new().await;
    let (service, registry) = service(&env.ledger, &env.script);
    let (fragile, request) = (fragile(), Arc::new(payout("p-1")));
    registry.apply(&key("b"), "b", Arc::clone(&fragile), None);
    // Odd from the return of the tripping record until the bank is about to come back.
    let (phase, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let decider = {
        let (service, request) = (Arc::clone(&service), Arc::clone(&request));
        let (phase, done) = (Arc::clone(&phase), Arc::clone(&done));
        tokio::spawn(async move {
            let (mut decided, mut late) = (0_u64, 0_u64);
            while !done.load(Ordering::Acquire) {
                let before = phase.load(Ordering::Acquire);
                let bank = service.test(&request).await.unwrap().evaluation.active;
                if before % 2 == 1 && phase.load(Ordering::Acquire) == before {
                    decided += 1;
                    late += u64::from(bank.as_deref() == Some("a"));
                }
                tokio::task::yield_now().await;
            }
            (decided, late)
        })
    };
    let mut late = 0;
    for trip in 0..TRIPS {
        // Another object of the same name: its circuit is closed.
        registry.apply(&key("a"), &format!("uid-{trip}"), Arc::clone(&fragile), None);
        let before = service.test(&request).await.unwrap().evaluation.active;
        assert_eq!(before.as_deref(), Some("a"), "the cheaper bank is back");
        fail(&registry, &fragile);
        phase.fetch_add(1, Ordering::AcqRel);
        let chosen = service.test(&request).await.unwrap().evaluation.active;
        late += u64::from(chosen.as_deref() != Some("b"));
        tokio::task::yield_now().await;
        phase.fetch_add(1, Ordering::AcqRel);
    }
    done.store(true, Ordering::Release);
    let (count, elsewhere) = decider.await.unwrap();
    assert_eq!((late, elsewhere), (0, 0), "of {TRIPS} here and {count} elsewhere");
}
