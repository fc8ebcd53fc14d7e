//! A namespace in which the operator may do everything but read Secrets.

use busbar::testbed::sim::RequiredAuth;
use serde_json::Value;

use super::{ConnectionEnv, is, message};
use crate::cluster::namespace::condition;
use crate::kit::banks::further_arrivals;
use crate::kit::objects::{bearer_auth, connection};
use crate::kit::wait::eventually;

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

    env.ns.kubectl(&["delete", "rolebinding", "busbar-secrets"]).await.ok();
    let plane = env.ns.plane();
    eventually("the right to read Secrets is gone", async || {
        let may = plane.is_allowed(env.operator.user(), env.ns.name(), "get", "", "secrets").await;
        !may.unwrap()
    })
    .await;
    env.put(&connection("new", &bank.labelled_url("new"), spec)).await;
    let account = format!("{}:busbar-operator", env.ns.name());
    let command = [
        "create",
        "rolebinding",
        "busbar-secrets",
        "--clusterrole=busbar-secrets",
        &format!("--serviceaccount={account}"),
    ];
    let remedy = format!("kubectl -n {} {}", env.ns.name(), command.join(" "));
    for name in ["new", "running"] {
        let object = env.until_connection(name, "SecretForbidden", forbidden).await;
        assert!(condition(&object, "Stalled").is_none(), "{:#}", object["status"]);
        let text = message(&object, "Ready");
        for part in ["Secret \"token\" (spec.auth.bearer.secretRef)", "config/rbac/secrets.yaml", &remedy] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    // It keeps the credential that it was verified with.
    further_arrivals(&bank, "/c/running/", 2).await;
    assert!(!env.operator.logs().contains("reconcile failed"), "a refusal is a state, not an error");

    env.ns.kubectl(&command).await.ok();
    for name in ["new", "running"] {
        env.until_verified(name).await;
    }
    env.finish().await;
}
