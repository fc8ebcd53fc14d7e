//! A namespace in which the operator may do everything but read Secrets.

use busbar::testbed::control_plane::OperatorScope;
use busbar::testbed::sim::RequiredAuth;
use serde_json::{Value, json};

use super::{World, connection, further, is, message, verified};
use crate::support::namespace::condition;
use crate::support::plane::PATIENCE;
use crate::support::{TestNs, eventually};

/// Replaces the operator's rights in the namespace by all of them but those on Secrets.
async fn revoke_secrets(ns: &TestNs) {
    let shipped = ns.kubectl(&["get", "clusterrole", "busbar-operator", "-o", "json"]).await.ok().unwrap();
    let shipped: Value = serde_json::from_str(&shipped).unwrap();
    let other = |rule: &&Value| !rule["resources"].as_array().unwrap().contains(&json!("secrets"));
    let rules: Vec<&Value> = shipped["rules"].as_array().unwrap().iter().filter(other).collect();
    let (group, name) = ("rbac.authorization.k8s.io", "no-secrets");
    let api_version = format!("{group}/v1");
    let role = json!({"apiVersion": api_version, "kind": "Role", "metadata": {"name": name}, "rules": rules});
    let binding = json!({
        "apiVersion": api_version, "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "busbar-operator", "namespace": ns.name()}],
    });
    ns.apply(&format!("{role}\n---\n{binding}")).await;
    ns.kubectl(&["delete", "rolebinding", "busbar-operator"]).await.ok().unwrap();
}

fn forbidden(object: &Value) -> bool {
    is(object, "Ready", "False", "SecretForbidden") && is(object, "Reconciling", "True", "SecretForbidden")
}

#[tokio::test]
async fn a_secret_that_rbac_forbids_is_a_condition_with_the_role_binding_to_create() {
    let mut world = World::new("forbidden").await;
    world.operator.expect_forbidden();
    let token = world.ns.canary("token");
    let bank = world.bank("bank", RequiredAuth::Bearer { token: token.clone() }).await;
    world.ns.secret("token", &[("token", token.as_bytes())]).await;
    let spec = json!({"auth": {"bearer": {"secretRef": {"name": "token"}}}});
    world.put(&connection("running", &bank.labelled_url("running"), spec.clone())).await;
    world.until("running", "verified", verified).await;

    revoke_secrets(&world.ns).await;
    let plane = world.ns.plane();
    eventually(PATIENCE, "the right to read Secrets is gone", async || {
        let may = plane.is_allowed(world.operator.user(), world.ns.name(), "get", "", "secrets").await;
        (!may.unwrap()).then_some(())
    })
    .await;
    world.put(&connection("new", &bank.labelled_url("new"), spec)).await;
    for name in ["new", "running"] {
        let object = world.until(name, "SecretForbidden", forbidden).await;
        assert!(condition(&object, "Stalled").is_none(), "{:#}", object["status"]);
        let text = message(&object, "Ready");
        for part in ["Secret \"token\" (spec.auth.bearer.secretRef)", "RoleBinding", "config/rbac/namespaced.yaml"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    // It keeps the credential that it was verified with.
    further(&bank, "/c/running/", 2).await;
    assert!(!world.operator.logs().contains("reconcile failed"), "a refusal is a state, not an error");

    plane.grant_operator(world.ns.name(), OperatorScope::Namespace).await.unwrap();
    for name in ["new", "running"] {
        world.until(name, "verified again", verified).await;
    }
    world.finish().await;
}
