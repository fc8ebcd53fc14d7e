//! Calls of the gateway by service accounts.

use serde_json::Value;
use tokio::sync::Mutex;

use super::control_planes::repository;
use super::namespace::TestNs;
use super::operator::Operator;
use crate::kit::http::gateway_client;
use crate::kit::wait::eventually;

/// Held while roles of the whole cluster are applied: two tests that create the same one at a time would fail.
static ROLES: Mutex<()> = Mutex::const_new(());

/// Applies the roles of a file of `config/rbac/`.
pub(crate) async fn apply_roles(ns: &TestNs, file: &str) {
    let roles = repository("config/rbac").join(file);
    let _held = ROLES.lock().await;
    ns.kubectl(&["apply", "-f", &roles.to_string_lossy()]).await.ok();
}

/// Creates a service account with this cluster role in the namespace, if any; returns a token of it.
pub(crate) async fn caller_token(ns: &TestNs, name: &str, role: Option<&str>) -> String {
    apply_roles(ns, "callers.yaml").await;
    ns.kubectl(&["create", "serviceaccount", name]).await.ok();
    if let Some(role) = role {
        let account = format!("--serviceaccount={}:{name}", ns.name());
        ns.kubectl(&["create", "rolebinding", name, &format!("--clusterrole={role}"), &account]).await.ok();
    }
    ns.kubectl(&["create", "token", name]).await.ok().trim().to_owned()
}

/// Status, error code and body of a response of the gateway.
pub(crate) async fn get(operator: &Operator, path: &str, token: &str) -> (u16, String, Value) {
    let mut request = gateway_client().get(format!("{}{path}", operator.gateway()));
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.expect("a response of the gateway");
    let status = response.status().as_u16();
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).expect("JSON");
    (status, body["data"]["error"].as_str().unwrap_or_default().to_owned(), body)
}

/// Waits until the gateway responds with this status and error code: bindings and specs arrive by watches.
#[track_caller]
pub(crate) fn until_response(
    operator: &Operator,
    path: &str,
    token: &str,
    expected: (u16, &str),
) -> impl Future<Output = ()> {
    eventually(format!("GET {path} is answered {expected:?}"), async move || {
        let (status, error, body) = get(operator, path, token).await;
        if (status, error.as_str()) == expected { Ok(()) } else { Err(format!("{status} {body}")) }
    })
}
