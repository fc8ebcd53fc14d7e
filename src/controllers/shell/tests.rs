//! The shell around reconciles that panic, fail, or may not run at all.

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tempfile::TempDir;

use super::*;
use crate::api::v1alpha1::BreakerPolicy;
use crate::clock::Clock;
use crate::cluster::events::Events;
use crate::cluster::failures::Failures;
use crate::cluster::lease::Leadership;
use crate::cluster::references::References;
use crate::cluster::secrets::Secrets;
use crate::cluster::status::StatusMetrics;
use crate::cluster::stores::{Shared, Stores};
use crate::controllers::IDLE;
use crate::domain::time::Now;
use crate::ledger::sqlite::SqliteLedger;
use crate::ledger::{Ledger, LedgerError};
use crate::provider::profile::Profiles;
use crate::provider::registry::{Access, Registry};
use crate::work::poke::Pokes;
use crate::work::pool::{PoolOptions, SyncPool};
use crate::work::probes::ProbeDriver;

/// Does what the object's name says.
struct Moody;

impl Reconciler for Moody {
    type Object = BreakerPolicy;
    type Observed = ();
    type Step = std::convert::Infallible;

    async fn observe(ctx: &Ctx, object: &BreakerPolicy) -> Result<(), ReconcileError> {
        // Panics after a turn of the runtime too, not only at the first poll.
        tokio::task::yield_now().await;
        match object.name_any().as_str() {
            "panics" => panic!("a defect"),
            "fails" => Err(LedgerError::SchemaBehind.into()),
            "deposed" => {
                ctx.leadership.note(None);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn decide(
        object: &BreakerPolicy,
        _: Option<&crate::api::v1alpha1::BreakerPolicyStatus>,
        (): &(),
        _: Now,
    ) -> Decision<crate::api::v1alpha1::BreakerPolicyStatus, std::convert::Infallible> {
        let status = (object.name_any() == "deposed").then(Default::default);
        Decision { status, steps: Vec::new(), notes: Vec::new(), next: IDLE }
    }

    async fn act(_: &Ctx, _: &BreakerPolicy, (): (), _: Vec<std::convert::Infallible>) -> Result<(), ReconcileError> {
        Ok(())
    }
}

/// A shell whose API server never answers, and the metrics it counts in. It leads if `leading`.
async fn shell(leading: bool) -> (Arc<Shell<Moody>>, Metrics, TempDir) {
    let (service, _) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "default");
    let (clock, metrics, pokes) = (Clock::system(), Metrics::new(), Pokes::new());
    let directory = TempDir::new().unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(directory.path().join("ledger.db")).await.unwrap());
    let registry = Registry::new(clock, &metrics, Access::local()).unwrap();
    let driver = ProbeDriver::new(registry.clone(), pokes.clone(), clock, &metrics).unwrap();
    let pool = SyncPool::new(Arc::clone(&ledger), pokes.clone(), clock, &metrics, PoolOptions::new("me")).unwrap();
    let sink: crate::cluster::stores::Sink = Arc::new(|_| {});
    let shared = Shared { references: Arc::new(References::default()), claims: Arc::default(), sink };
    let (stores, _) = Stores::new(&client, &[], &shared);
    let leadership = Leadership::default();
    leadership.note(leading.then(|| clock.mono()));
    let ctx = Ctx {
        stores,
        client: client.clone(),
        secrets: Secrets::new(client.clone(), clock, Duration::from_mins(1)),
        events: Events::new(client.clone(), clock, "me").0,
        failures: Arc::new(Failures::default()),
        leadership,
        registry,
        prober: driver.handle(),
        pool,
        ledger,
        pokes,
        profiles: Arc::new(Profiles::builtin().unwrap()),
        clock,
    };
    let writer = StatusWriter::new(
        client,
        clock,
        ctx.leadership.clone(),
        Arc::default(),
        StatusMetrics::new(&metrics).unwrap(),
        ctx.stores.policies.clone(),
    );
    let shell_metrics = ShellMetrics::new(&metrics).unwrap();
    let shell = Shell::new(Arc::new(ctx), writer, shell_metrics, 1);
    (shell, metrics, directory)
}

fn policy(name: &str) -> Arc<BreakerPolicy> {
    let text = format!(r#"{{"metadata": {{"name": "{name}", "namespace": "ns", "uid": "u"}}, "spec": {{}}}}"#);
    Arc::new(serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn a_reconcile_that_panics_is_counted_and_left_alone_and_others_go_on() {
    let (shell, metrics, _directory) = shell(true).await;
    let error = shell.reconcile(&policy("panics")).await.unwrap_err();
    assert!(matches!(error, ReconcileError::Panicked));
    assert_eq!(shell.failed(&policy("panics"), &error), Action::requeue(AFTER_PANIC));
    // No trouble with the API server, which a success elsewhere would end: it stays out of the streaks.
    assert!(shell.reconcile(&policy("well")).await.is_ok());
    let text = metrics.render().unwrap();
    for line in [
        "controller_runtime_reconcile_panics_total{controller=\"BreakerPolicy\"} 1",
        "controller_runtime_reconcile_errors_total{controller=\"BreakerPolicy\"} 1",
        "controller_runtime_reconcile_total{controller=\"BreakerPolicy\",result=\"error\"} 1",
        "controller_runtime_reconcile_total{controller=\"BreakerPolicy\",result=\"success\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn trouble_is_retried_with_pauses_and_its_end_wakes_those_who_wait() {
    let (shell, _metrics, _directory) = shell(true).await;
    let (fails, mends) = (policy("fails"), policy("mends"));
    let error = shell.reconcile(&fails).await.unwrap_err();
    assert!(shell.failed(&fails, &error) != Action::requeue(AFTER_PANIC));
    shell.failed(&mends, &error);
    assert!(shell.reconcile(&mends).await.is_ok());
    let mut poked = std::pin::pin!(shell.ctx.pokes.subscribe(BreakerPolicy::KIND, None));
    assert_eq!(poked.next().await, Some(fails.key()));
}

#[tokio::test]
async fn nothing_is_decided_by_a_replica_that_does_not_lead() {
    let (shell, metrics, _directory) = shell(false).await;
    assert_eq!(shell.reconcile(&policy("panics")).await.unwrap(), Action::requeue(RENEW_EVERY));
    assert!(!metrics.render().unwrap().contains("controller_runtime_reconcile_total{"));
}

#[tokio::test]
async fn a_reconcile_whose_lease_goes_while_it_is_at_work_writes_nothing_and_is_no_failure() {
    let (shell, metrics, _directory) = shell(true).await;
    assert_eq!(shell.reconcile(&policy("deposed")).await.unwrap(), Action::requeue(RENEW_EVERY));
    assert!(!metrics.render().unwrap().contains("controller_runtime_reconcile_total{"));
}

#[test]
fn only_long_waits_are_spread_and_never_beyond_what_was_asked() {
    assert_eq!(jittered(Duration::from_secs(5), Mono::from_nanos(123_456)), Duration::from_secs(5));
    for nanos in [0, 1_000, 999_000, 123_456_789] {
        let wait = jittered(Duration::from_mins(45), Mono::from_nanos(nanos));
        assert!(wait >= Duration::from_mins(30) && wait <= Duration::from_mins(45), "{wait:?}");
    }
}
