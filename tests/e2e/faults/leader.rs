//! Somebody else wants to lead.

use busbar::api::v1alpha1::ProviderConnection;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{route_takes, told_of};
use crate::runtime_replicas::assert_idle;
use crate::support::plane::{PATIENCE, shared_plane};
use crate::support::world::down;
use crate::support::{Expected, Operator, Scene};

#[tokio::test]
async fn a_second_operator_that_was_started_by_mistake_does_nothing() {
    let plane = shared_plane().await;
    let mut scene = Scene::on(&plane, "second").await;
    let mut fault_run = scene.fault_run().await;
    // With a ledger of its own: nothing but the lease tells the two apart.
    let mut second = Operator::start_replica(&scene.world.ns, "mistake", &[]).await;
    second.wait_ready().await;
    let before = scene.a.arrivals().next;
    scene.probes(3).await;
    assert_idle(&second).await;
    let probes = scene.a.arrivals().next - before;
    assert!(probes <= 4, "{probes} probes, where three or four were due: both probe");
    second.finish(&scene.world.ns).await;
    fault_run.end(&scene).await;
    fault_run.judged(&scene, Expected::default(), async |_| true).await.passes(&mut scene).await;
    scene.finish().await;
}

async fn write_lease(scene: &Scene, holder: &str) {
    let now = MicroTime(scene.clock.now().wall);
    let spec = json!({"spec": {"holderIdentity": holder, "renewTime": now, "leaseDurationSeconds": 15}});
    let leases = scene.world.ns.api::<Lease>();
    leases.patch("busbar", &PatchParams::default(), &Patch::Merge(&spec)).await.expect("the lease is there");
}

#[tokio::test]
async fn an_operator_whose_lease_was_taken_ends_and_its_successor_waits_its_turn() {
    let plane = shared_plane().await;
    let mut scene = Scene::on(&plane, "taken").await;
    let mut fault_run = scene.fault_run().await;
    write_lease(&scene, "intruder").await;
    let ended = scene.operator.wait_exit(PATIENCE).await;
    assert!(!ended.success(), "whoever starts it again must see that it did not mean to end: {ended}");
    scene.operator.restart().await;
    assert_idle(&scene.operator).await;
    scene.a.fail_with(down()).await.unwrap();
    let verified = scene.world.ns.api::<ProviderConnection>().get("a").await.unwrap();
    assert!(
        told_of(&scene, "a", |c| c.metadata.resource_version.clone(), verified.metadata.resource_version.unwrap())
            .await
    );
    write_lease(&scene, "").await;
    fault_run.end(&scene).await;
    let expected = Expected { reason: "leader lease lost: now held by intruder", ends: true, ..Expected::default() };
    fault_run.judged(&scene, expected, async |scene| route_takes(scene, "b").await).await.passes(&mut scene).await;
    scene.finish().await;
}
