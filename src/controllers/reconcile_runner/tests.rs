//! The runner with reconciles that panic, fail or must not run.

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tempfile::TempDir;

use super::*;
use crate::api::v1alpha1::BreakerPolicy;
use crate::cluster::status::{StatusDeps, StatusMetrics};
use crate::controllers::DEFAULT_REQUEUE;
use crate::controllers::testkit::context;
use crate::domain::time::Now;
use crate::ledger::LedgerError;

/// A reconciler whose behaviour is selected by the object's name.
struct ScriptedReconciler;

impl Reconciler for ScriptedReconciler {
    type Object = BreakerPolicy;
    type Observed = ();
    type Step = std::convert::Infallible;

    async fn observe(ctx: &Ctx, object: &BreakerPolicy) -> Result<(), ReconcileError> {
        // Yields first, so that a panic after the first poll is covered too.
        tokio::task::yield_now().await;
        match object.name_any().as_str() {
            "panics" => panic!("a bug"),
            "fails" => Err(LedgerError::SchemaOutdated.into()),
            "loses-lease" => {
                ctx.leadership.record_renewal(None);
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
        let status = (object.name_any() == "loses-lease").then(Default::default);
        Decision { status, steps: Vec::new(), events: Vec::new(), requeue_after: DEFAULT_REQUEUE }
    }

    async fn act(_: &Ctx, _: &BreakerPolicy, (): (), _: Vec<std::convert::Infallible>) -> Result<(), ReconcileError> {
        Ok(())
    }
}

/// A runner whose API server never responds, and its metrics. The replica is the leader if `leading`.
async fn runner(leading: bool) -> (Arc<ReconcileRunner<ScriptedReconciler>>, Metrics, TempDir) {
    let (service, _) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "default");
    let metrics = Metrics::new();
    let (ctx, directory) = context(&client, &metrics).await;
    ctx.leadership.record_renewal(leading.then(|| ctx.clock.mono()));
    let status = StatusDeps {
        client,
        clock: ctx.clock,
        leadership: ctx.leadership.clone(),
        metrics: StatusMetrics::new(&metrics).unwrap(),
    };
    let writer = StatusWriter::new(status, ctx.stores.policies.clone());
    let reconcile_metrics = ReconcileMetrics::new(&metrics).unwrap();
    let runner = ReconcileRunner::new(Arc::new(ctx), writer, reconcile_metrics, 1);
    (runner, metrics, directory)
}

fn policy(name: &str) -> Arc<BreakerPolicy> {
    let text = format!(r#"{{"metadata": {{"name": "{name}", "namespace": "ns", "uid": "u"}}, "spec": {{}}}}"#);
    Arc::new(serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn a_panic_is_counted_and_requeued_late_and_other_objects_are_reconciled() {
    let (runner, metrics, _directory) = runner(true).await;
    let error = runner.reconcile(&policy("panics")).await.unwrap_err();
    assert!(matches!(error, ReconcileError::Panicked));
    assert_eq!(runner.failed(&policy("panics"), &error), Action::requeue(PANIC_REQUEUE));
    // Not an API server fault, which a success elsewhere would end: it does not enter the backoff.
    assert!(runner.reconcile(&policy("succeeds")).await.is_ok());
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
async fn a_failure_is_retried_with_backoff_and_the_next_success_requeues_it() {
    let (runner, _metrics, _directory) = runner(true).await;
    let (fails, recovers) = (policy("fails"), policy("recovers"));
    let error = runner.reconcile(&fails).await.unwrap_err();
    assert!(runner.failed(&fails, &error) != Action::requeue(PANIC_REQUEUE));
    runner.failed(&recovers, &error);
    assert!(runner.reconcile(&recovers).await.is_ok());
    let mut queue = std::pin::pin!(runner.ctx.reconcile_queue.subscribe(BreakerPolicy::KIND, None));
    assert_eq!(queue.next().await, Some(fails.key()));
}

#[tokio::test]
async fn a_standby_does_not_reconcile() {
    let (runner, metrics, _directory) = runner(false).await;
    assert_eq!(runner.reconcile(&policy("panics")).await.unwrap(), Action::requeue(RENEW_INTERVAL));
    assert!(!metrics.render().unwrap().contains("controller_runtime_reconcile_total{"));
}

#[tokio::test]
async fn a_lease_lost_during_a_reconcile_writes_nothing_and_is_not_a_failure() {
    let (runner, metrics, _directory) = runner(true).await;
    assert_eq!(runner.reconcile(&policy("loses-lease")).await.unwrap(), Action::requeue(RENEW_INTERVAL));
    assert!(!metrics.render().unwrap().contains("controller_runtime_reconcile_total{"));
}

#[test]
fn jitter_only_shortens_long_delays() {
    assert_eq!(jittered(Duration::from_secs(5), Mono::from_nanos(123_456)), Duration::from_secs(5));
    for nanos in [0, 1_000, 999_000, 123_456_789] {
        let delay = jittered(Duration::from_mins(45), Mono::from_nanos(nanos));
        assert!(delay >= Duration::from_mins(30) && delay <= Duration::from_mins(45), "{delay:?}");
    }
}
