//! Another holder of the leader lease.

use busbar::api::v1alpha1::ProviderConnection;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{connection_field_is, is_active};
use crate::cluster::control_planes::shared_plane;
use crate::cluster::failover_env::FailoverEnv;
use crate::cluster::fault_run::Expected;
use crate::cluster::operator::Operator;
use crate::kit::banks::unavailable;
use crate::kit::wait::PATIENCE;

#[tokio::test]
async fn a_second_operator_does_nothing() {
    let plane = shared_plane().await;
    let mut env = FailoverEnv::on(&plane, "second").await;
    let mut run = env.fault_run().await;
    // With a ledger of its own: only the lease distinguishes the two.
    let mut second = Operator::start_replica(&env.ns, "mistake", &[]).await;
    second.wait_ready().await;
    let before = env.a.arrivals().next;
    env.further_probes(3).await;
    second.assert_standby().await;
    let probes = env.a.arrivals().next - before;
    assert!(probes <= 4, "{probes} probes instead of three or four: both probe");
    second.finish(&env.ns).await;
    run.end(&env).await;
    run.outcome(&env, Expected::default(), async |_| true).await.assert_recovered(&mut env).await;
    env.finish().await;
}

async fn write_lease(env: &FailoverEnv, holder: &str) {
    let now = MicroTime(env.clock.now().wall);
    let spec = json!({"spec": {"holderIdentity": holder, "renewTime": now, "leaseDurationSeconds": 15}});
    let leases = env.ns.api::<Lease>();
    leases.patch("busbar", &PatchParams::default(), &Patch::Merge(&spec)).await.expect("the lease exists");
}

#[tokio::test]
async fn an_operator_whose_lease_was_taken_exits() {
    let plane = shared_plane().await;
    let mut env = FailoverEnv::on(&plane, "taken").await;
    let mut run = env.fault_run().await;
    write_lease(&env, "intruder").await;
    let status = env.operator.wait_exit(PATIENCE).await;
    assert!(!status.success(), "an exit that was not requested is a failure: {status}");
    env.operator.restart().await;
    env.operator.assert_standby().await;
    env.a.fail_with(unavailable()).await.unwrap();
    let version = env.get::<ProviderConnection>("a").await.metadata.resource_version.unwrap();
    assert!(connection_field_is(&env, "a", |c| c.metadata.resource_version.clone(), version).await);
    write_lease(&env, "").await;
    run.end(&env).await;
    let expected = Expected { reason: "leader lease lost: now held by intruder", exits: true, ..Expected::default() };
    run.outcome(&env, expected, async |env| is_active(env, "b").await).await.assert_recovered(&mut env).await;
    env.finish().await;
}
