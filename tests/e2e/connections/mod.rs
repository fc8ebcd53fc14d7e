//! Connections on a real API server: the real operator, simulated banks over real sockets.

mod access;
mod auth;
mod awaited;
mod check_control;
mod circuit;
mod deletion;
mod forbidden;
mod idle;
mod never_mixed;
mod override_and_maintenance;
mod policy;
mod probe_log;
mod rate_limit;
mod references;
mod restart;
mod rotation;
mod tls;
mod token_shutdown;

use std::ops::Deref;

use busbar::testbed::control_plane::AuditQuery;
use serde_json::{Value, json};

use crate::cluster::bank_env::BankEnv;
use crate::cluster::control_planes::shared_plane;
use crate::cluster::namespace::{TestNs, condition};
use crate::cluster::operator::Operator;
use crate::kit::objects::policy;

/// How old the copy of a Secret may be in these tests.
const SECRET_REFRESH: &str = "--secret-refresh=2s";

const CONNECTION: &str = "ProviderConnection";

/// A [`BankEnv`] with an operator that is ready.
struct ConnectionEnv {
    banks: BankEnv,
    operator: Operator,
}

impl Deref for ConnectionEnv {
    type Target = BankEnv;

    fn deref(&self) -> &BankEnv {
        &self.banks
    }
}

impl ConnectionEnv {
    async fn new(topic: &str) -> Self {
        Self::with_flags(topic, |_| Vec::new()).await
    }

    /// With an operator that has these flags.
    async fn with_flags(topic: &str, flags: impl FnOnce(&TestNs) -> Vec<String>) -> Self {
        let banks = BankEnv::empty(&shared_plane().await, topic).await;
        let mut flags = flags(&banks.ns);
        if !flags.iter().any(|flag| flag.starts_with("--secret-refresh")) {
            flags.push(SECRET_REFRESH.to_owned());
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let operator = Operator::ready(&banks.ns, &flags).await;
        Self { banks, operator }
    }

    /// Annotates a connection.
    async fn annotate_connection(&self, name: &str, key: &str, value: &str) {
        self.annotate(CONNECTION, name, key, value).await;
    }

    /// Waits until the recorded connection is as `look` wants it.
    #[track_caller]
    fn until_connection<'a>(
        &'a self,
        name: &'a str,
        what: &'a str,
        look: impl Fn(&Value) -> bool + 'a,
    ) -> impl Future<Output = Value> + 'a {
        self.operator.status_recorder().until(CONNECTION, name, what, look)
    }

    /// Waits until the connection is verified.
    #[track_caller]
    fn until_verified<'a>(&'a self, name: &'a str) -> impl Future<Output = Value> + 'a {
        self.until_connection(name, "verified", is_verified)
    }

    /// The connection as it was recorded last.
    fn latest(&self, name: &str) -> Value {
        self.operator.status_recorder().latest(CONNECTION, name).unwrap_or_default()
    }

    /// How often the operator wrote the connection's status, by the audit log of the API server.
    fn status_writes(&self, name: &str) -> usize {
        let query = AuditQuery {
            verb: Some("update"),
            resource: Some("providerconnections"),
            subresource: Some("status"),
            name: Some(name),
            ..self.operator.requests()
        };
        self.operator.audit().requests(&query).unwrap().len()
    }

    /// Waits for an event about a connection.
    #[track_caller]
    fn until_connection_event(&self, name: &str, reason: &str) -> impl Future<Output = ()> {
        self.until_event(CONNECTION, name, reason, "")
    }

    /// Whether the metric of the connection's circuit says that it has this state.
    async fn is_state_metric_set(&self, name: &str, state: &str) -> bool {
        let labels = [("namespace", self.ns.name()), ("connection", name), ("state", state)];
        self.operator.metric("busbar_breaker_state", &labels).await == Some(1.0)
    }

    /// Applies a policy that opens after two failures, for `open`.
    async fn put_quick_policy(&self, name: &str, open: &str) {
        self.put(&policy(name, json!({"trip": {"consecutiveFailures": 2}, "open": {"base": open}}))).await;
    }

    async fn finish(self) {
        self.operator.finish(&self.banks.ns).await;
    }
}

/// Whether the object has this condition, for its current generation.
fn is(object: &Value, condition_type: &str, status: &str, reason: &str) -> bool {
    is_current(object)
        && condition(object, condition_type).is_some_and(|c| c["status"] == status && c["reason"] == reason)
}

/// Whether the status is that of the current generation.
fn is_current(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

fn is_verified(object: &Value) -> bool {
    is(object, "Ready", "True", "Verified")
}

fn has_circuit(object: &Value, state: &str) -> bool {
    object["status"]["circuit"] == state
}

fn message(object: &Value, condition_type: &str) -> String {
    condition(object, condition_type).and_then(|c| c["message"].as_str()).unwrap_or_default().to_owned()
}
