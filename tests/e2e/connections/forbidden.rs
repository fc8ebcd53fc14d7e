//! A namespace in which the operator may do everything but read Secrets.

use busbar::testbed::control_plane::OperatorScope;
use busbar::testbed::sim::RequiredAuth;
use serde_json::{Value, json};

use super::{ConnectionEnv, is, message};
use crate::cluster::namespace::{TestNs, condition};
use crate::kit::banks::further_arrivals;
use crate::kit::objects::{bearer_auth, connection};
use crate::kit::wait::eventually;

/// Replaces the operator's rights in the namespace by all of them but those on Secrets.
async fn revoke_secrets(ns: &TestNs) {
    let shipped = ns.kubectl(&["get", "clusterrole", "busbar-operator", "-o", "json"]).await;
    let shipped: Value = serde_json::from_str(&shipped.ok()).unwrap();
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
    ns.kubectl(&["delete", "rolebinding", "busbar-operator"]).await.ok();
}

fn forbidden(object: &Value) -> bool {
    is(object, "Ready", "False", "SecretForbidden") && is(object, "Reconciling", "True", "SecretForbidden")
}

#[tokio::test]
async fn a_secret_that_rbac_forbids_is_a_condition_with_the_role_binding_to_create() {
    let mut env = ConnectionEnv::new("forbidden").await;
    env.operator.expect_forbidden();
    let token = env.ns.canary("token");
    let bank = env.add_bank("bank", RequiredAuth::Bearer { token: token.clone() }).await;
    env.ns.secret("token", &[("token", token.as_bytes())]).await;
    let spec = bearer_auth("token");
    env.put(&connection("running", &bank.labelled_url("running"), spec.clone())).await;
    env.until_verified("running").await;

    revoke_secrets(&env.ns).await;
    let plane = env.ns.plane();
    eventually("the right to read Secrets is gone", async || {
        let may = plane.is_allowed(env.operator.user(), env.ns.name(), "get", "", "secrets").await;
        !may.unwrap()
    })
    .await;
    env.put(&connection("new", &bank.labelled_url("new"), spec)).await;
    for name in ["new", "running"] {
        let object = env.until_connection(name, "SecretForbidden", forbidden).await;
        assert!(condition(&object, "Stalled").is_none(), "{:#}", object["status"]);
        let text = message(&object, "Ready");
        for part in ["Secret \"token\" (spec.auth.bearer.secretRef)", "RoleBinding", "config/rbac/namespaced.yaml"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    // It keeps the credential that it was verified with.
    further_arrivals(&bank, "/c/running/", 2).await;
    assert!(!env.operator.logs().contains("reconcile failed"), "a refusal is a state, not an error");

    plane.grant_operator(env.ns.name(), OperatorScope::Namespace).await.unwrap();
    for name in ["new", "running"] {
        env.until_verified(name).await;
    }
    env.finish().await;
}
