//! Bad weather between the operator and an API server that is well.

use std::time::Duration;

use busbar::api::v1alpha1::{BankRoute, ProviderConnection};
use busbar::testbed::faults::Fault;
use busbar::testbed::sim::{BankConfig, RequiredAuth};
use kube::api::DeleteParams;

use super::{LEASE, bank_a_fails, route_takes, told_of};
use crate::support::plane::shared_plane;
use crate::support::world::{connection, route};
use crate::support::{Expected, Scene, eventually};

async fn a_storm(topic: &str, status: u16) {
    let plane = shared_plane().await;
    let mut scene = Scene::on(&plane, topic).await;
    let mut fault_run = scene.begin(Fault::AllRejected(status)).await;
    bank_a_fails(&scene).await;
    fault_run.last(&scene, Duration::from_mins(1)).await;
    fault_run.end(&scene).await;
    let expected = Expected { reason: LEASE, ..Expected::default() };
    fault_run.judged(&scene, expected, async |scene| route_takes(scene, "b").await).await.passes(&mut scene).await;
    let (requests, refused) = (scene.fault_env.proxy.requests(), scene.fault_env.proxy.rejected());
    // Four watches every ten seconds, the lease every two, and nobody else.
    assert!(refused < 120, "{refused} of {requests} requests went into the storm: that is one more");
    scene.finish().await;
}

#[tokio::test]
async fn a_storm_of_503_is_outlived() {
    a_storm("storm", 503).await;
}

#[tokio::test]
async fn a_storm_of_429_is_outlived() {
    a_storm("busy", 429).await;
}

#[tokio::test]
async fn showers_of_503_are_got_through() {
    let plane = shared_plane().await;
    let mut scene = Scene::on(&plane, "showers").await;
    let mut fault_run = scene.begin(Fault::SomeRejected(50)).await;
    bank_a_fails(&scene).await;
    fault_run.last(&scene, Duration::from_secs(30)).await;
    fault_run.end(&scene).await;
    // Of thirty renewals some are refused for certain; how many writes of which object are is luck, and the verdict holds
    // that each is told of once.
    let expected = Expected { reason: LEASE, ..Expected::default() };
    fault_run.judged(&scene, expected, async |scene| route_takes(scene, "b").await).await.passes(&mut scene).await;
    scene.finish().await;
}

#[tokio::test]
async fn an_object_that_is_replaced_between_two_watches_is_another() {
    let plane = shared_plane().await;
    let mut scene = Scene::on(&plane, "replaced").await;
    let token = scene.world.ns.canary("other");
    let other = BankConfig::new("other").auth(RequiredAuth::Bearer { token: token.clone() });
    let other = scene.world.sim.add_bank(other).await.unwrap();
    scene.world.ns.secret("other-credentials", &[("token", token.as_bytes())]).await;

    let mut fault_run = scene.begin(Fault::WatchesHeld).await;
    let connections = scene.world.ns.api::<ProviderConnection>();
    connections.delete("a", &DeleteParams::default()).await.unwrap();
    scene.world.put(&connection("a", &other, "")).await;
    fault_run.end(&scene).await;
    let address = other.address().to_string();
    let host = |c: &ProviderConnection| c.status.as_ref()?.host.clone();
    let expected = Expected { writes: &[("providerconnections/a", 1)], ..Expected::default() };
    let judged =
        fault_run.judged(&scene, expected, async |scene| told_of(scene, "a", host, address.clone()).await).await;
    assert_ne!(judged.statuses["providerconnections/a"]["uid"], judged.before["providerconnections/a"]["uid"]);
    let before = scene.a.arrivals().next;
    judged.passes(&mut scene).await;
    assert_eq!(scene.a.arrivals().next, before, "the bank of the one that is gone is left alone");
    scene.finish().await;
}

#[tokio::test]
async fn a_replaced_object_whose_successor_cannot_run_leaves_no_credential_in_use() {
    let plane = shared_plane().await;
    let mut scene = Scene::on(&plane, "orphan").await;
    let mut fault_run = scene.begin(Fault::WatchesHeld).await;
    let connections = scene.world.ns.api::<ProviderConnection>();
    connections.delete("a", &DeleteParams::default()).await.unwrap();
    let successor = connection("a", &scene.a, "").replace("a-credentials", "nowhere");
    scene.world.put(&successor).await;
    fault_run.end(&scene).await;
    let reason = |c: &ProviderConnection| {
        let conditions = &c.status.as_ref()?.conditions;
        Some(conditions.iter().find(|c| c.type_ == "Ready")?.reason.clone())
    };
    eventually(Duration::from_secs(30), "the successor's Secret is missed", async || {
        told_of(&scene, "a", reason, "SecretNotFound".to_owned()).await.then_some(())
    })
    .await;
    // The other bank's probes measure the time.
    let (before, b) = (scene.a.arrivals().next, scene.b.arrivals().next);
    eventually(Duration::from_secs(30), "bank b was probed three times more", async || {
        (scene.b.arrivals().next >= b + 3).then_some(())
    })
    .await;
    assert_eq!(scene.a.arrivals().next, before, "the old credential is not used any more");
    scene.finish().await;
}

#[tokio::test]
async fn what_was_found_of_an_object_that_is_no_more_is_not_written_to_its_successor() {
    let plane = shared_plane().await;
    let mut scene = Scene::on(&plane, "heir").await;
    // Whoever wrote the old one's status to the new one would tell of a generation that it does not have.
    scene.world.patch::<BankRoute>("payouts", serde_json::json!({"priority": 7})).await;
    let observed = |r: &BankRoute| (r.status.as_ref()?.observed_generation == Some(2)).then_some(());
    scene.world.until("payouts", "the change is observed", observed).await;
    let mut fault_run = scene.begin(Fault::WatchesHeld).await;
    scene.world.ns.api::<BankRoute>().delete("payouts", &DeleteParams::default()).await.unwrap();
    scene.world.put(&route("payouts", &[("a", "a", ""), ("b", "b", "")], "")).await;
    bank_a_fails(&scene).await;
    fault_run.end(&scene).await;
    let expected = Expected::default();
    let judged = fault_run.judged(&scene, expected, async |scene| route_takes(scene, "b").await).await;
    assert_ne!(judged.statuses["bankroutes/payouts"]["uid"], judged.before["bankroutes/payouts"]["uid"]);
    judged.passes(&mut scene).await;
    scene.finish().await;
}
