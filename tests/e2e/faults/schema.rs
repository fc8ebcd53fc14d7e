//! CRDs that are deleted, applied late, or let objects pass that our types cannot read.

use busbar::api::v1alpha1::ProviderConnection;
use busbar::testbed::control_plane::OperatorScope;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::{connection_field_is, fail_bank_a, get_object, is_active};
use crate::cluster::control_planes::{fault_plane, own_plane_without_crds, report, repository};
use crate::cluster::failover_env::FailoverEnv;
use crate::cluster::fault_run::Expected;
use crate::cluster::namespace::{kubectl, object_api};
use crate::kit::wait::eventually;

/// Those that are deleted. Not that of jobs: the API server sometimes needs minutes for it, see docs/deletion.md.
const CRDS: [&str; 3] = ["providerconnections.busbar.dev", "bankroutes.busbar.dev", "breakerpolicies.busbar.dev"];

/// Their kinds.
const DELETED_KINDS: [&str; 3] = ["ProviderConnection", "BankRoute", "BreakerPolicy"];

#[tokio::test]
async fn missing_crds_are_waited_for() {
    let plane = own_plane_without_crds().await;
    let mut env = FailoverEnv::empty(&plane, "late", OperatorScope::Namespace, &[]).await;
    let mut run = env.fault_run_without_kinds();
    env.operator.wait_listening().await;
    eventually("the gates name what is missing", async || {
        let (status, gates) = env.operator.get("/readyz").await;
        assert_eq!(status, 503, "ready without its kinds: {gates}");
        let expected = ["[+] ledger", "[-] crds", "[-] stores"].iter().all(|gate| gates.contains(gate));
        if expected { Ok(()) } else { Err(gates) }
    })
    .await;
    let reason = "waiting for custom resource definitions: ";
    eventually("the log says what to do", async || run.log_count(&env, reason) == 1).await;
    assert_eq!(run.log_count(&env, "apply the files in crds/"), 1);
    assert_eq!((env.operator.get("/livez").await.0, env.operator.get("/metrics").await.0), (200, 200));
    assert!(env.operator.get("/readyz").await.1.contains("[ ] leading"), "it does not lead yet");
    plane.install().await.unwrap();
    env.operator.wait_ready().await;
    env.populate().await;
    run.end(&env).await;
    let outcome = run.outcome(&env, Expected { reason, ..Expected::default() }, async |env| is_active(env, "a").await);
    outcome.await.assert_recovered(&mut env).await;
    env.finish().await;
}

#[tokio::test]
async fn deleted_crds_leave_nothing_of_their_objects() {
    let plane = fault_plane().await;
    let mut env = FailoverEnv::on(&plane, "kinds").await;
    env.expect_forbidden();
    let mut run = env.fault_run().await;
    let clock = env.clock;
    let began = clock.mono();
    let crds: Api<CustomResourceDefinition> = Api::all(plane.client().unwrap());
    for crd in CRDS {
        crds.delete(crd, &DeleteParams::default()).await.unwrap();
    }
    for crd in CRDS {
        eventually(format!("{crd} is deleted"), async || crds.get_opt(crd).await.unwrap().is_none()).await;
        report(&format!("{crd} was deleted after {:.1?}", clock.mono().since(began)));
    }
    eventually("no series of the connections is left", async || {
        !env.operator.metrics().await.contains("connection=\"a\"")
    })
    .await;
    assert_eq!((env.operator.get("/livez").await.0, env.operator.get("/readyz").await.0), (200, 200));
    let reason = "if the custom resource definition was deleted";
    eventually("each missing kind is logged", async || run.log_count(&env, reason) == DELETED_KINDS.len()).await;
    plane.install().await.unwrap();
    env.populate().await;
    run.end(&env).await;
    let expected = Expected { reason, kinds: &DELETED_KINDS, ..Expected::default() };
    let outcome = run.outcome(&env, expected, async |env| is_active(env, "a").await).await;
    outcome.assert_recovered_from_nothing(&mut env).await;
    env.finish().await;
}

#[tokio::test]
async fn an_undecodable_object_keeps_its_last_settings() {
    let plane = fault_plane().await;
    let mut env = FailoverEnv::on(&plane, "unreadable").await;
    let mut run = env.fault_run().await;
    // The schema is loosened, and an object uses that.
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/healthCheck/properties/path";
    let loose = json!([{"op": "replace", "path": field, "value": {"x-kubernetes-preserve-unknown-fields": true}}]);
    kubectl(&plane, &["patch", "crd", CRDS[0], "--type=json", "-p", &loose.to_string()], "").await.ok();
    let objects: Api<DynamicObject> = object_api(&env.ns, "ProviderConnection");
    let patch = async |path: Value| {
        let patch = Patch::Merge(json!({"spec": {"healthCheck": {"path": path}}}));
        objects.patch("a", &PatchParams::default(), &patch).await.map(drop)
    };
    eventually("the loose schema is in effect", async || patch(json!(["health"])).await).await;
    let reason = "object failed to decode";
    eventually("it is logged", async || run.log_count(&env, reason) == 1).await;

    // Others are still reconciled.
    env.patch_spec::<ProviderConnection>("b", json!({"suspend": true})).await;
    let suspended =
        |c: &ProviderConnection| c.status.as_ref()?.conditions.iter().any(|c| c.type_ == "Suspended").then_some(());
    env.until("b", "b is suspended", suspended).await;
    env.patch_spec::<ProviderConnection>("b", json!({"suspend": null})).await;
    env.until("b", "b is not", |c: &ProviderConnection| suspended(c).is_none().then_some(())).await;
    // So is this one, with the settings that were read last.
    fail_bank_a(&env).await;
    env.until_active("b").await;
    env.fault_env.proxy.cut_watches();
    env.a.recover().await;
    patch(json!("/health")).await.unwrap();
    let crds = repository("crds");
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", &crds.to_string_lossy()];
    kubectl(&plane, &apply, "").await.ok();
    run.end(&env).await;
    assert!(get_object::<ProviderConnection>(&env, "a").await.is_some(), "it can be decoded again");
    let observed = |c: &ProviderConnection| Some(c.status.as_ref()?.observed_generation == c.metadata.generation);
    let expected = Expected { reason, ..Expected::default() };
    run.outcome(&env, expected, async |env| connection_field_is(env, "a", observed, true).await)
        .await
        .assert_recovered(&mut env)
        .await;
    env.finish().await;
}

#[tokio::test]
async fn a_status_that_the_definition_does_not_know_is_an_error_and_is_not_written() {
    let plane = fault_plane().await;
    let env = FailoverEnv::on(&plane, "older").await;
    let run = env.fault_run().await;
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/host";
    let older = json!([{"op": "remove", "path": field}]);
    kubectl(&plane, &["patch", "crd", CRDS[0], "--type=json", "-p", &older.to_string()], "").await.ok();
    eventually("the field is not served any more", async || {
        get_object::<ProviderConnection>(&env, "a").await.is_some_and(|a| a.status.is_some_and(|s| s.host.is_none()))
    })
    .await;
    let position = env.operator.audit().position().unwrap();
    fail_bank_a(&env).await;
    let reason = "unknown field \\\"status.host\\\"";
    eventually("the error names the field", async || run.log_count(&env, reason) > 0).await;
    let written = env.status_writes(position);
    assert!(!written.contains_key("providerconnections/a"), "{written:?}");
    let crds = repository("crds");
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", &crds.to_string_lossy()];
    kubectl(&plane, &apply, "").await.ok();
    env.until_active("b").await;
    eventually("it is written again", async || env.status_writes(position).contains_key("providerconnections/a")).await;
    env.finish().await;
}
