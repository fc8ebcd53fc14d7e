//! The API server and etcd are stopped, frozen, lose their history or are overloaded.

use std::time::Duration;

use busbar::api::v1alpha1::ProviderConnection;
use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::faults::Fault;
use serde_json::json;

use super::{FAILED_OVER, KINDS, LEASE_REQUEST_FAILED, fail_over_during, is_active};
use crate::cluster::control_planes::fault_plane;
use crate::cluster::failover_env::{FailoverEnv, RECOVERY_DEADLINE};
use crate::cluster::fault_run::Expected;
use crate::kit::objects::policy;
use crate::kit::wait::within;

/// The lease expires, and probes, which come every 5 s, continue.
const HALF_A_MINUTE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn after_a_stopped_api_server_each_object_is_written_once() {
    let plane = fault_plane().await;
    let expected = Expected { reason: LEASE_REQUEST_FAILED, writes: &FAILED_OVER, ..Expected::default() };
    let run = fail_over_during(&plane, "stopped", Fault::ApiServerStopped, expected, async |env, run| {
        env.further_probes(2).await;
        let (livez, readyz) = (env.operator.get("/livez").await.0, env.operator.get("/readyz").await.0);
        assert_eq!((livez, readyz), (200, 200), "a Pod that is killed now would lose its state");
        run.last_for(env, HALF_A_MINUTE).await;
    });
    let (mut env, outcome) = run.await;
    outcome.assert_recovered_from_nothing(&mut env).await;
    env.finish().await;
}

#[tokio::test]
async fn a_frozen_api_server_is_waited_for() {
    let plane = fault_plane().await;
    // A request sent before the freeze may be served after it, without a caller; then one more write has the change.
    let expected = Expected { reason: LEASE_REQUEST_FAILED, ..Expected::default() };
    let run = fail_over_during(&plane, "paused", Fault::ApiServerPaused, expected, async |env, run| {
        env.further_probes(8).await;
        run.last_for(env, 2 * HALF_A_MINUTE).await;
    });
    let (mut env, outcome) = run.await;
    outcome.assert_recovered_from_nothing(&mut env).await;
    env.finish().await;
}

#[tokio::test]
async fn a_killed_etcd_leaves_nothing_behind() {
    let plane = fault_plane().await;
    let expected = Expected { reason: LEASE_REQUEST_FAILED, ..Expected::default() };
    let run = fail_over_during(&plane, "etcd", Fault::EtcdKilled, expected, async |env, run| {
        // Until it was noticed: two probes may come between two renewals of the lease.
        let noticed = async || run.log_count(env, LEASE_REQUEST_FAILED) > 0;
        within(RECOVERY_DEADLINE, "a lease request failed", noticed).await;
    });
    let (mut env, outcome) = run.await;
    outcome.assert_recovered_from_nothing(&mut env).await;
    env.finish().await;
}

/// While no watch can be open, a spec changes and an object is created; then `fault` ends, and the history is lost.
async fn lost_history(topic: &str, fault: Fault) {
    let plane = fault_plane().await;
    let mut env = FailoverEnv::on(&plane, topic).await;
    let mut run = env.begin(fault).await;
    env.patch_spec::<ProviderConnection>("a", json!({"suspend": true})).await;
    env.put(&policy("unused", json!({"preset": "Api"}))).await;
    let audit = env.operator.audit();
    let position = audit.position().unwrap();
    run.end(&env).await;
    let reason = "watch expired (410 Gone); relisting";
    let expected = Expected { reason, kinds: &KINDS, writes: &FAILED_OVER, ..Expected::default() };
    let outcome = run.outcome(&env, expected, async |env| is_active(env, "b").await).await;
    let lists = AuditQuery { verb: Some("list"), resource: Some("providerconnections"), ..env.operator.requests() };
    assert!(!audit.requests_since(position, &lists).unwrap().is_empty(), "the watch continued, so this tested nothing");
    assert!(outcome.statuses["breakerpolicies/unused"]["status"]["conditions"].is_array(), "{:?}", outcome.statuses);
    outcome.assert_recovered(&mut env).await;
    env.finish().await;
}

#[tokio::test]
async fn a_watch_from_before_a_restart_of_the_api_server_relists() {
    lost_history("restarted", Fault::HistoryLost).await;
}

#[tokio::test]
async fn a_watch_from_a_compacted_revision_relists() {
    lost_history("compacted", Fault::HistoryCompacted).await;
}

#[tokio::test]
async fn an_overloaded_api_server_gets_few_requests() {
    let plane = fault_plane().await;
    let expected = Expected { reason: LEASE_REQUEST_FAILED, writes: &FAILED_OVER, ..Expected::default() };
    let run = fail_over_during(&plane, "overloaded", Fault::ApiServerOverloaded, expected, async |env, run| {
        run.last_for(env, HALF_A_MINUTE).await;
    });
    let (mut env, outcome) = run.await;
    outcome.assert_recovered_from_nothing(&mut env).await;
    env.finish().await;
}
