//! The operator and an API server that is not as it should be: our kinds are missing, or nobody answers for a while.

use std::time::Duration;

use busbar::api::v1alpha1::{BankRoute, ProviderConnection};
use busbar::testbed::control_plane::Component;
use kube::Api;

use crate::support::plane::{PATIENCE, own_plane_without_crds, tell};
use crate::support::world::{down, route};
use crate::support::{Operator, TestNs, World, eventually};
use busbar::clock::Clock;

/// Probes of the operator, which come every 5 s, wait for a whole interval and a time-out at worst.
const TWO_PROBES: usize = 2;

#[tokio::test]
async fn missing_kinds_are_waited_for_and_a_lost_api_server_is_outlived() {
    let plane = own_plane_without_crds().await;
    let ns = TestNs::on(&plane, "late").await;
    let mut operator = Operator::start(&ns, &[]).await;
    operator.wait_announced().await;
    eventually(PATIENCE, "the gates tell what is missing", async || {
        let (status, gates) = operator.get("/readyz").await;
        assert_eq!(status, 503, "ready without its kinds: {gates}");
        (gates.contains("[+] ledger") && gates.contains("[-] crds") && gates.contains("[-] stores")).then_some(())
    })
    .await;
    eventually(PATIENCE, "the log tells what to do", async || {
        operator.logs().contains("waiting for custom resource definitions: ").then_some(())
    })
    .await;
    assert!(operator.logs().contains("apply the files in crds/"));
    assert_eq!((operator.get("/livez").await.0, operator.get("/metrics").await.0), (200, 200));
    assert!(operator.get("/readyz").await.1.contains("[ ] leading"), "nothing to lead yet");
    plane.install().await.unwrap();
    operator.wait_ready().await;
    assert_eq!(operator.logs().matches("waiting for custom resource definitions: ").count(), 1, "said once");
    operator.finish(&ns).await;

    an_outage(&plane).await;
}

/// The API server goes away for longer than the lease lasts, a bank fails meanwhile.
async fn an_outage(plane: &std::sync::Arc<busbar::testbed::control_plane::ControlPlane>) {
    let clock = Clock::system();
    let world = World::on(plane, "outage").await;
    let a = world.bank("a").await;
    world.bank("b").await;
    world.put(&route("payouts", &[("a", "a", ""), ("b", "b", "")], "")).await;
    let mut operator = Operator::ready(&world.ns, &[]).await;
    // An API server that has just started refuses what it will allow once its authorizer has read the bindings.
    operator.expect_forbidden();
    let active =
        |name: &'static str| move |r: &BankRoute| (r.status.as_ref()?.active.as_deref()? == name).then_some(());
    let both = |r: &BankRoute| (r.status.as_ref()?.candidate_summary.as_deref()? == "2/2").then_some(());
    world.until("payouts", "both can take payouts", both).await;

    plane.stop_component(Component::ApiServer).await.unwrap();
    let (began, before) = (clock.mono(), a.arrivals().next);
    // Longer than the lease: as long as four probes take.
    eventually(PATIENCE, "probes go on", async || (a.arrivals().next >= before + 2 * TWO_PROBES as u64).then_some(()))
        .await;
    a.fail_with(down()).await.unwrap();
    let failed = a.arrivals().next;
    eventually(PATIENCE, "probes see the bank fail", async || {
        (a.arrivals().next >= failed + TWO_PROBES as u64).then_some(())
    })
    .await;
    let circuit = [("namespace", world.ns.name()), ("connection", "a"), ("state", "Closed")];
    assert_eq!(operator.metric("busbar_breaker_state", &circuit).await, Some(0.0), "it knows without an API server");
    assert_eq!((operator.get("/livez").await.0, operator.get("/readyz").await.0), (200, 200));
    assert!(operator.pid().is_some());
    let away = clock.mono().since(began);

    plane.start_component(Component::ApiServer).await.unwrap();
    let back = clock.mono();
    // A client of its own: an old connection may hang.
    let routes: Api<BankRoute> = Api::namespaced(plane.client().unwrap(), world.ns.name());
    eventually(Duration::from_secs(30), "the route tells what happened meanwhile", async || {
        routes.get("payouts").await.ok().as_ref().and_then(active("b"))
    })
    .await;
    tell(&format!(
        "the API server was away for {away:.1?}; {:.1?} after it came back the route told of the failure",
        clock.mono().since(back)
    ));
    a.recover().await;
    world.until("payouts", "a is active again", active("a")).await;
    // News by watch still arrive: a change of spec is acted on.
    world.patch::<ProviderConnection>("a", serde_json::json!({"suspend": true})).await;
    world.until("payouts", "the watch works", active("b")).await;
    let said = operator.logs().lines().filter(|line| line.contains("the leader lease cannot be reached")).count();
    assert_eq!(said, 1, "an outage is told once");
    let noise = operator.logs().lines().filter(|line| line.contains("client error (Connect)")).count();
    assert!(noise <= 10, "{noise} lines tell of one outage");
    let restarts = operator.logs().matches("admin port bound").count();
    assert_eq!(restarts, 1, "the process lived through it");
    operator.finish(&world.ns).await;
}
