//! Other clients change our objects: statuses that they must not write, and a namespace that they may delete.

use busbar::testbed::control_plane::{OperatorScope, Options};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::bank_env::BankEnv;
use crate::cluster::control_planes::{own_plane, shared_plane};
use crate::cluster::failover_env::{FailoverEnv, Statuses, deleting_job, has_succeeded};
use crate::cluster::fault_run::Expected;
use crate::cluster::namespace::object_api;
use crate::kit::metrics;
use crate::kit::objects::{candidates, route};
use crate::kit::wait::eventually;

/// Another client writes a status.
async fn write_status(env: &FailoverEnv, kind: &str, name: &str, status: Value) {
    let api: Api<DynamicObject> = object_api(&env.ns, kind);
    let params = PatchParams { field_manager: Some("another".to_owned()), ..PatchParams::default() };
    api.patch_status(name, &params, &Patch::Merge(json!({ "status": status }))).await.expect("the status is written");
}

/// Whether all statuses are as they were.
async fn are_as_before(env: &FailoverEnv, before: &Statuses) -> bool {
    env.statuses().await == *before
}

#[tokio::test]
async fn a_status_written_by_another_client_is_overwritten() {
    let plane = shared_plane().await;
    let mut env = FailoverEnv::on(&plane, "foreign").await;
    env.operator.status_recorder().allow_foreign_writes();
    let mut run = env.fault_run().await;
    let before = env.statuses().await;
    let reconciles = async |controller: &str| {
        let scrape = env.operator.metrics().await;
        let labels = [("controller", controller), ("result", "success")];
        metrics::value(&scrape, "controller_runtime_reconcile_total", &labels).unwrap_or_default()
    };
    let earlier = reconciles("SyncJob").await;
    // Values changed, fields and conditions added, one value removed, everything removed.
    let theirs = json!({"type": "Theirs", "status": "True", "reason": "Written", "message": "", "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let changed = json!({"health": "Unhealthy", "circuit": "ForcedOpen", "throttledUntilTime": "2030-01-01T00:00:00Z",
        "conditions": [theirs]});
    write_status(&env, "ProviderConnection", "a", changed).await;
    write_status(&env, "ProviderConnection", "b", json!({"health": null})).await;
    write_status(&env, "BankRoute", "payouts", json!({"active": "b", "heldPayouts": 7})).await;
    write_status(&env, "SyncJob", "feed", Value::Null).await;
    run.end(&env).await;
    // What was added goes with what was changed.
    let each =
        [("providerconnections/a", 1), ("providerconnections/b", 1), ("bankroutes/payouts", 1), ("syncjobs/feed", 1)];
    let expected = Expected { writes: &each, ..Expected::default() };
    let recovered = async |env: &FailoverEnv| are_as_before(env, &before).await;
    let assert_logged = |times: usize| {
        let count = env.operator.logs().matches("status was changed by another field manager").count();
        assert_eq!(count, times, "once for each object");
    };
    let outcome = run.outcome(&env, expected, recovered).await;
    assert_logged(4);
    // One reconcile for their write, none for ours.
    let more = reconciles("SyncJob").await - earlier;
    assert!(more < 2.5, "{more} reconciles of one job");
    let disputes = env.operator.metric("busbar_status_disputes_total", &[("kind", "ProviderConnection")]).await;
    assert_eq!(disputes, Some(2.0));

    // Again at once: overwritten as soon as two writes may follow each other, and not logged again.
    let mut second_run = env.fault_run().await;
    write_status(&env, "SyncJob", "feed", json!({"fresh": "False"})).await;
    second_run.end(&env).await;
    let expected = Expected { writes: &[("syncjobs/feed", 1)], ..Expected::default() };
    let second = second_run.outcome(&env, expected, async |env| are_as_before(env, &before).await).await;
    assert_logged(4);
    let mut findings = outcome.findings;
    findings.extend(second.findings.iter().cloned());
    assert!(findings.is_empty(), "{findings:?}");
    second.assert_recovered_from_nothing(&mut env).await;
    env.finish().await;
}

#[tokio::test]
async fn a_deleted_namespace_affects_no_other() {
    // Not one that other tests have left namespaces on: this operator sees all of them, and may not read their Secrets.
    let plane = own_plane(Options::default()).await;
    let mut env = FailoverEnv::with(&plane, "kept", OperatorScope::Cluster).await;
    let deleted_env = BankEnv::on(&plane, "deleted").await;
    plane.grant_secrets(deleted_env.ns.name(), env.ns.name()).await.unwrap();
    let bank = deleted_env.bank("a").await;
    deleted_env.mono("mono", |c| c).await;
    deleted_env.put(&deleting_job()).await;
    deleted_env.put(&route("payouts", &candidates(&["a"]), json!({}))).await;
    deleted_env.until("feed", "the job ran", has_succeeded).await;
    env.until_settled().await;

    let mut run = env.fault_run().await;
    let name = deleted_env.ns.name();
    deleted_env.ns.kubectl(&["delete", "namespace", name, "--wait=false"]).await.ok();
    eventually("the namespace is deleted, with the finalizer of its job", async || {
        let output = deleted_env.ns.kubectl(&["get", "namespace", name, "--ignore-not-found", "-o", "name"]).await;
        if output.success && output.stdout.is_empty() { Ok(()) } else { Err(output) }
    })
    .await;
    run.end(&env).await;
    let has_no_series =
        async |env: &FailoverEnv| !env.operator.metrics().await.contains(&format!("namespace=\"{name}\""));
    let outcome = run.outcome(&env, Expected::default(), has_no_series).await;
    let probed = bank.arrivals().next;
    env.further_probes(2).await;
    assert_eq!(bank.arrivals().next, probed, "its bank is not called any more");
    outcome.assert_recovered(&mut env).await;
    deleted_env.ns.kubectl(&["delete", "clusterrolebinding", "busbar-operator"]).await.ok();
    env.finish().await;
}
