//! The definitions of our kinds go, come late, or let through what our types cannot read.

use busbar::api::v1alpha1::ProviderConnection;
use busbar::testbed::control_plane::OperatorScope;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::json;

use super::{bank_a_fails, now, route_takes, told_of};
use crate::support::plane::{PATIENCE, own_plane_without_crds, struck_plane, tell};
use crate::support::{Expected, Scene, eventually, status_recorder};

/// Those that are deleted. Not that of jobs: the API server needs minutes for it at times, see docs/deletion.md.
const CRDS: [&str; 3] = ["providerconnections.busbar.dev", "bankroutes.busbar.dev", "breakerpolicies.busbar.dev"];
/// Their kinds.
const GONE: [&str; 3] = ["ProviderConnection", "BankRoute", "BreakerPolicy"];

#[tokio::test]
async fn kinds_that_come_late_are_waited_for() {
    let plane = own_plane_without_crds().await;
    let mut scene = Scene::empty(&plane, "late", OperatorScope::Namespace, &[]).await;
    let mut fault_run = scene.without_kinds();
    scene.operator.wait_announced().await;
    eventually(PATIENCE, "the gates tell what is missing", async || {
        let (status, gates) = scene.operator.get("/readyz").await;
        assert_eq!(status, 503, "ready without its kinds: {gates}");
        (gates.contains("[+] ledger") && gates.contains("[-] crds") && gates.contains("[-] stores")).then_some(())
    })
    .await;
    let reason = "waiting for custom resource definitions: ";
    eventually(PATIENCE, "the log tells what to do", async || {
        (fault_run.said_times(&scene, reason) == 1).then_some(())
    })
    .await;
    assert_eq!(fault_run.said_times(&scene, "apply the files in crds/"), 1);
    assert_eq!((scene.operator.get("/livez").await.0, scene.operator.get("/metrics").await.0), (200, 200));
    assert!(scene.operator.get("/readyz").await.1.contains("[ ] leading"), "nothing to lead yet");
    plane.install().await.unwrap();
    scene.operator.wait_ready().await;
    scene.populate().await;
    fault_run.end(&scene).await;
    let judged = fault_run
        .judged(&scene, Expected { reason, ..Expected::default() }, async |scene| route_takes(scene, "a").await);
    judged.await.passes(&mut scene).await;
    scene.finish().await;
}

#[tokio::test]
async fn kinds_that_are_deleted_under_the_operator_are_waited_for_and_nothing_of_them_lives_on() {
    let plane = struck_plane().await;
    let mut scene = Scene::on(&plane, "kinds").await;
    scene.strike();
    let mut fault_run = scene.fault_run().await;
    let clock = scene.clock;
    let began = clock.mono();
    let crds: Api<CustomResourceDefinition> = Api::all(plane.client().unwrap());
    for crd in CRDS {
        crds.delete(crd, &kube::api::DeleteParams::default()).await.unwrap();
    }
    for crd in CRDS {
        eventually(PATIENCE, &format!("{crd} is gone"), async || {
            crds.get_opt(crd).await.unwrap().is_none().then_some(())
        })
        .await;
        tell(&format!("{crd} was gone after {:.1?}", clock.mono().since(began)));
    }
    eventually(PATIENCE, "nothing is left of the connections", async || {
        let scrape = scene.operator.metrics().await;
        (!scrape.contains("connection=\"a\"")).then_some(())
    })
    .await;
    assert_eq!((scene.operator.get("/livez").await.0, scene.operator.get("/readyz").await.0), (200, 200));
    let reason = "if the custom resource definition was deleted";
    eventually(PATIENCE, "each kind is missed", async || {
        (fault_run.said_times(&scene, reason) == GONE.len()).then_some(())
    })
    .await;
    plane.install().await.unwrap();
    scene.populate().await;
    fault_run.end(&scene).await;
    let expected = Expected { reason, kinds: &GONE, ..Expected::default() };
    let judged = fault_run.judged(&scene, expected, async |scene| route_takes(scene, "a").await).await;
    judged.passes_from_nothing(&mut scene).await;
    scene.finish().await;
}

#[tokio::test]
async fn an_object_that_our_types_cannot_read_is_told_once_and_goes_on_as_it_was_last() {
    let plane = struck_plane().await;
    let mut scene = Scene::on(&plane, "unreadable").await;
    let mut fault_run = scene.fault_run().await;
    // Somebody has loosened the schema, and used it.
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/healthCheck/properties/path";
    let loose = json!([{"op": "replace", "path": field, "value": {"x-kubernetes-preserve-unknown-fields": true}}]);
    let mended =
        plane.run_kubectl(&["patch", "crd", CRDS[0], "--type=json", "-p", &loose.to_string()], "").await.unwrap();
    assert!(mended.status.success(), "{}", String::from_utf8_lossy(&mended.stderr));
    let objects: Api<DynamicObject> = status_recorder::api(&scene.world.ns, "ProviderConnection");
    let patch = async |path: serde_json::Value| {
        let patch = Patch::Merge(json!({"spec": {"healthCheck": {"path": path}}}));
        objects.patch("a", &PatchParams::default(), &patch).await.map(drop)
    };
    eventually(PATIENCE, "the loose schema is in force", async || patch(json!(["health"])).await.ok()).await;
    let reason = "object failed to decode";
    eventually(PATIENCE, "it is told", async || (fault_run.said_times(&scene, reason) == 1).then_some(())).await;

    // Others go on.
    scene.world.patch::<ProviderConnection>("b", json!({"suspend": true})).await;
    let suspended =
        |c: &ProviderConnection| c.status.as_ref()?.conditions.iter().any(|c| c.type_ == "Suspended").then_some(());
    scene.world.until("b", "b is suspended", suspended).await;
    scene.world.patch::<ProviderConnection>("b", json!({"suspend": null})).await;
    scene.world.until("b", "b is not", |c: &ProviderConnection| suspended(c).is_none().then_some(())).await;
    // So does it, as it was when it could be read last; what it says and what is written about it tells nothing new.
    bank_a_fails(&scene).await;
    scene.active("b").await;
    scene.fault_env.proxy.cut_watches();
    scene.a.recover().await;
    patch(json!("/health")).await.unwrap();
    let crds = crate::support::plane::repository("crds");
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", &crds.to_string_lossy()];
    assert!(plane.run_kubectl(&apply, "").await.unwrap().status.success(), "the schema is as it was");
    fault_run.end(&scene).await;
    assert!(now::<ProviderConnection>(&scene, "a").await.is_some(), "it can be read again");
    let observed = |c: &ProviderConnection| Some(c.status.as_ref()?.observed_generation == c.metadata.generation);
    let expected = Expected { reason, ..Expected::default() };
    fault_run
        .judged(&scene, expected, async |scene| told_of(scene, "a", observed, true).await)
        .await
        .passes(&mut scene)
        .await;
    scene.finish().await;
}
