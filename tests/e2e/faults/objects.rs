//! Others do to our objects what is theirs to do, and what is not.

use busbar::api::v1alpha1::SyncJob;
use busbar::testbed::control_plane::OperatorScope;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::plane::{PATIENCE, shared_plane, struck_plane};
use crate::support::status_recorder;
use crate::support::{Expected, Scene, World, eventually, metrics};

/// Somebody writes into a status.
async fn meddle(scene: &Scene, kind: &str, name: &str, status: Value) {
    let api: Api<DynamicObject> = status_recorder::api(&scene.world.ns, kind);
    let params = PatchParams { field_manager: Some("meddler".to_owned()), ..PatchParams::default() };
    api.patch_status(name, &params, &Patch::Merge(json!({ "status": status }))).await.expect("the status is taken");
}

/// What somebody else told is what was told before.
async fn all_is_as_before(scene: &Scene, before: &crate::support::scene::Statuses) -> bool {
    scene.statuses().await == *before
}

#[tokio::test]
async fn a_status_that_somebody_else_has_written_is_ours_again() {
    let plane = shared_plane().await;
    let mut scene = Scene::on(&plane, "meddled").await;
    scene.operator.status_recorder().others_write();
    let mut fault_run = scene.fault_run().await;
    let before = scene.statuses().await;
    let reconciles = async |controller: &str| {
        let scrape = scene.operator.metrics().await;
        let labels = [("controller", controller), ("result", "success")];
        metrics::value(&scrape, "controller_runtime_reconcile_total", &labels).unwrap_or_default()
    };
    let looked = reconciles("SyncJob").await;
    // Values changed, fields and conditions added, one value taken away, everything taken away.
    let theirs = json!({"type": "Theirs", "status": "True", "reason": "Meddling", "message": "", "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let changed = json!({"health": "Unhealthy", "circuit": "ForcedOpen", "throttledUntilTime": "2030-01-01T00:00:00Z",
        "conditions": [theirs]});
    meddle(&scene, "ProviderConnection", "a", changed).await;
    meddle(&scene, "ProviderConnection", "b", json!({"health": null})).await;
    meddle(&scene, "BankRoute", "payouts", json!({"active": "b", "heldPayouts": 7})).await;
    meddle(&scene, "SyncJob", "feed", Value::Null).await;
    fault_run.end(&scene).await;
    // Where something was added, one more takes it out.
    let each =
        [("providerconnections/a", 2), ("providerconnections/b", 1), ("bankroutes/payouts", 2), ("syncjobs/feed", 1)];
    let expected = Expected { writes: &each, ..Expected::default() };
    let said = async |scene: &Scene| all_is_as_before(scene, &before).await;
    let told = |times: usize| {
        let said = scene.operator.logs().matches("status was changed by another field manager").count();
        assert_eq!(said, times, "once for each object");
    };
    let judged = fault_run.judged(&scene, expected, said).await;
    told(4);
    // Ours again, and that it is fires nothing: one look for their write, none for ours.
    let looks = reconciles("SyncJob").await - looked;
    assert!(looks < 2.5, "{looks} reconciles of one job");
    let disputes = scene.operator.metric("busbar_status_disputes_total", &[("kind", "ProviderConnection")]).await;
    assert_eq!(disputes, Some(2.0));

    // Again at once: mended as soon as two writes may follow each other, and not told again.
    let mut again = scene.fault_run().await;
    meddle(&scene, "SyncJob", "feed", json!({"fresh": "False"})).await;
    again.end(&scene).await;
    let expected = Expected { writes: &[("syncjobs/feed", 1)], ..Expected::default() };
    let twice = again.judged(&scene, expected, async |scene| all_is_as_before(scene, &before).await).await;
    told(4);
    let mut unsettled = judged.findings;
    unsettled.extend(twice.findings.iter().cloned());
    assert!(unsettled.is_empty(), "{unsettled:?}");
    twice.passes_from_nothing(&mut scene).await;
    scene.finish().await;
}

#[tokio::test]
async fn a_namespace_that_is_deleted_takes_its_objects_along_and_nothing_else() {
    let plane = struck_plane().await;
    let mut scene = Scene::with(&plane, "survivor", OperatorScope::Cluster, &[]).await;
    let doomed = World::on(&plane, "doomed").await;
    plane.grant_secrets(doomed.ns.name(), scene.world.ns.name()).await.unwrap();
    let bank = doomed.bank("a").await;
    doomed.mono("mono", |c| c).await;
    doomed.put(&crate::jobs::job("mono", "24h", "jitterPercent: 0, deletionPolicy: Delete")).await;
    doomed.put(&crate::support::world::route("payouts", &[("a", "a", "")], "")).await;
    let ran = |j: &SyncJob| j.status.as_ref()?.last_successful_time.as_ref().map(drop);
    doomed.until("feed", "the job ran", ran).await;
    scene.settled().await;

    let mut fault_run = scene.fault_run().await;
    let name = doomed.ns.name();
    doomed.ns.kubectl(&["delete", "namespace", name, "--wait=false"]).await.ok().unwrap();
    eventually(PATIENCE, "the namespace is gone, rows and finalizer of its job too", async || {
        let left =
            doomed.ns.kubectl(&["get", "namespace", name, "--ignore-not-found", "-o", "name"]).await.ok().ok()?;
        left.is_empty().then_some(())
    })
    .await;
    fault_run.end(&scene).await;
    let forgotten = async |scene: &Scene| !scene.operator.metrics().await.contains(&format!("namespace=\"{name}\""));
    let judged = fault_run.judged(&scene, Expected::default(), forgotten).await;
    let probed = bank.arrivals().next;
    scene.probes(2).await;
    assert_eq!(bank.arrivals().next, probed, "its bank is left alone");
    judged.passes(&mut scene).await;
    doomed.ns.kubectl(&["delete", "clusterrolebinding", "busbar-operator"]).await.ok().unwrap();
    scene.finish().await;
}
