//! The API server and etcd stop, freeze, forget and have had enough.

use std::time::Duration;

use busbar::api::v1alpha1::ProviderConnection;
use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::faults::Fault;
use serde_json::json;

use super::{FAILED_OVER, KINDS, LEASE, bank_a_fails, route_takes};
use crate::support::plane::struck_plane;
use crate::support::scene::SOON;
use crate::support::{Expected, Scene, eventually};

/// The lease runs out, and probes, which come every 5 s, go on.
const HALF_A_MINUTE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_api_server_that_is_stopped_for_half_a_minute_is_caught_up_with_in_one_write_for_each_object() {
    let plane = struck_plane().await;
    let mut scene = Scene::on(&plane, "stopped").await;
    let mut fault_run = scene.begin(Fault::ApiServerStopped).await;
    bank_a_fails(&scene).await;
    scene.probes(2).await;
    let (livez, readyz) = (scene.operator.get("/livez").await.0, scene.operator.get("/readyz").await.0);
    assert_eq!((livez, readyz), (200, 200), "a Pod that is killed now would know nothing");
    fault_run.last(&scene, HALF_A_MINUTE).await;
    fault_run.end(&scene).await;
    let expected = Expected { reason: LEASE, writes: &FAILED_OVER, ..Expected::default() };
    fault_run
        .judged(&scene, expected, async |scene| route_takes(scene, "b").await)
        .await
        .passes_from_nothing(&mut scene)
        .await;
    scene.finish().await;
}

#[tokio::test]
async fn an_api_server_that_is_frozen_for_a_minute_is_waited_for() {
    let plane = struck_plane().await;
    let mut scene = Scene::on(&plane, "paused").await;
    let mut fault_run = scene.begin(Fault::ApiServerPaused).await;
    bank_a_fails(&scene).await;
    scene.probes(8).await;
    fault_run.last(&scene, 2 * HALF_A_MINUTE).await;
    fault_run.end(&scene).await;
    // What was asked while it froze may be done when it thaws, though nobody waits for it; then one more tells what changed.
    let expected = Expected { reason: LEASE, ..Expected::default() };
    fault_run
        .judged(&scene, expected, async |scene| route_takes(scene, "b").await)
        .await
        .passes_from_nothing(&mut scene)
        .await;
    scene.finish().await;
}

#[tokio::test]
async fn an_etcd_that_is_killed_and_started_under_the_operator_costs_nothing() {
    let plane = struck_plane().await;
    let mut scene = Scene::on(&plane, "etcd").await;
    let mut fault_run = scene.begin(Fault::EtcdKilled).await;
    bank_a_fails(&scene).await;
    // Until it was noticed: two probes may come between two renewals of the lease.
    eventually(SOON, "the lease is missed", async || (fault_run.said_times(&scene, LEASE) > 0).then_some(())).await;
    fault_run.end(&scene).await;
    let expected = Expected { reason: LEASE, ..Expected::default() };
    fault_run
        .judged(&scene, expected, async |scene| route_takes(scene, "b").await)
        .await
        .passes_from_nothing(&mut scene)
        .await;
    scene.finish().await;
}

/// While no watch can be open, a spec changes and an object is created; then `fault` ends, and the watches' past is gone.
async fn a_lost_history(topic: &str, fault: Fault) {
    let plane = struck_plane().await;
    let mut scene = Scene::on(&plane, topic).await;
    let mut fault_run = scene.begin(fault).await;
    scene.world.patch::<ProviderConnection>("a", json!({"suspend": true})).await;
    scene.world.put(&crate::support::world::policy("unused", "")).await;
    let audit = scene.operator.audit();
    let position = audit.position().unwrap();
    fault_run.end(&scene).await;
    let reason = "watch expired (410 Gone); relisting";
    let expected = Expected { reason, kinds: &KINDS, writes: &FAILED_OVER, ..Expected::default() };
    let judged = fault_run.judged(&scene, expected, async |scene| route_takes(scene, "b").await).await;
    let lists = AuditQuery { verb: Some("list"), resource: Some("providerconnections"), ..scene.operator.requests() };
    assert!(!audit.requests_since(position, &lists).unwrap().is_empty(), "the watch went on, and this was no test");
    assert!(judged.statuses["breakerpolicies/unused"]["status"]["conditions"].is_array(), "{:?}", judged.statuses);
    judged.passes(&mut scene).await;
    scene.finish().await;
}

#[tokio::test]
async fn a_watch_that_would_go_on_from_before_a_restart_of_the_api_server_reads_everything_again() {
    a_lost_history("restarted", Fault::HistoryLost).await;
}

#[tokio::test]
async fn a_watch_that_would_go_on_from_a_compacted_revision_reads_everything_again() {
    a_lost_history("compacted", Fault::HistoryCompacted).await;
}

#[tokio::test]
async fn an_api_server_without_a_free_slot_is_not_pressed() {
    let plane = struck_plane().await;
    let mut scene = Scene::on(&plane, "crowded").await;
    let mut fault_run = scene.begin(Fault::ApiServerOverloaded).await;
    bank_a_fails(&scene).await;
    fault_run.last(&scene, HALF_A_MINUTE).await;
    fault_run.end(&scene).await;
    let expected = Expected { reason: LEASE, writes: &FAILED_OVER, ..Expected::default() };
    fault_run
        .judged(&scene, expected, async |scene| route_takes(scene, "b").await)
        .await
        .passes_from_nothing(&mut scene)
        .await;
    scene.finish().await;
}
