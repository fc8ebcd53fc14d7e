//! Connections on a real API server: the real operator, simulated banks over real sockets.
//!
//! One file per subject. Here is what they share: a [`World`] of one namespace, and the words in which the tests speak of
//! objects and conditions.

mod access;
mod asked;
mod auth;
mod circuit;
mod gone;
mod idle;
mod overlay;
mod policy;
mod probe_log;
mod references;
mod restart;
mod rotation;
mod throttled;
mod tls;

use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::sim::{BankConfig, BankHandle, RequiredAuth, Sim, SimConfig};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::namespace::condition;
use crate::support::plane::PATIENCE;
use crate::support::status_recorder::api;
use crate::support::{Operator, TestNs, eventually};

/// The shortest interval that the schema allows, in seconds.
const INTERVAL: u64 = 5;

/// How old an operator of these tests lets the copy of a Secret grow.
const SECRET_REFRESH: &str = "--secret-refresh=2s";

/// A namespace, its simulated banks and its operator.
struct World {
    ns: TestNs,
    sim: Sim,
    operator: Operator,
}

impl World {
    /// With an operator that is ready.
    async fn new(topic: &str) -> Self {
        let ns = TestNs::new(topic).await;
        let sim = Sim::start(SimConfig::default()).await.unwrap();
        let operator = Operator::ready(&ns, &[SECRET_REFRESH]).await;
        Self { ns, sim, operator }
    }

    /// A new bank that wants these credentials.
    async fn bank(&self, name: &str, auth: RequiredAuth) -> BankHandle {
        self.sim.add_bank(BankConfig::new(name).auth(auth)).await.unwrap()
    }

    /// Applies an object as a user's tool would.
    async fn put(&self, object: &Value) {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let apply = PatchParams::apply("e2e").force();
        if let Err(why) = api(&self.ns, kind).patch(name, &apply, &Patch::Apply(object)).await {
            panic!("{kind} {name} is not accepted: {why}");
        }
    }

    /// Deletes an object; it is gone when this returns.
    async fn delete(&self, kind: &str, name: &str) {
        api(&self.ns, kind).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Annotates a connection.
    async fn annotate(&self, name: &str, key: &str, value: &str) {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        let api = api(&self.ns, "ProviderConnection");
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Waits until the connection is as `look` wants it.
    #[track_caller]
    fn until<'a>(
        &'a self,
        name: &'a str,
        what: &'a str,
        look: impl Fn(&Value) -> bool + 'a,
    ) -> impl Future<Output = Value> + 'a {
        self.operator.status_recorder().until("ProviderConnection", name, PATIENCE, what, look)
    }

    /// The connection as it was last seen.
    fn now(&self, name: &str) -> Value {
        self.operator.status_recorder().latest("ProviderConnection", name).unwrap_or_default()
    }

    /// How often the operator wrote the connection's status, by the API server's word.
    fn writes(&self, name: &str) -> usize {
        let query = AuditQuery {
            verb: Some("patch"),
            resource: Some("providerconnections"),
            subresource: Some("status"),
            name: Some(name),
            ..self.operator.requests()
        };
        self.operator.audit().requests(&query).unwrap().len()
    }

    /// Waits for an event about an object.
    async fn event(&self, name: &str, reason: &str) {
        let what = format!("event {reason} about {name}");
        eventually(PATIENCE, &what, async || (!self.events(name, reason).await.is_empty()).then_some(())).await;
    }

    /// The events of this reason about an object.
    async fn events(&self, name: &str, reason: &str) -> Vec<k8s_openapi::api::events::v1::Event> {
        let events: kube::Api<k8s_openapi::api::events::v1::Event> = self.ns.api();
        let listed = events.list(&kube::api::ListParams::default()).await.unwrap();
        let about = |event: &k8s_openapi::api::events::v1::Event| {
            event.reason.as_deref() == Some(reason)
                && event.regarding.as_ref().is_some_and(|regarding| regarding.name.as_deref() == Some(name))
        };
        listed.items.into_iter().filter(about).collect()
    }

    /// A policy that opens after two failures, for `open`.
    async fn quick_policy(&self, name: &str, open: &str) {
        self.put(&policy(name, json!({"trip": {"consecutiveFailures": 2}, "open": {"base": open}}))).await;
    }

    async fn finish(self) {
        self.operator.finish(&self.ns).await;
    }
}

/// How many requests `bank` has had whose path begins with `path`.
fn arrivals(bank: &BankHandle, path: &str) -> usize {
    bank.arrivals().entries.iter().filter(|arrival| arrival.path.starts_with(path)).count()
}

/// Waits until `bank` has had `more` further requests whose path begins with `path`.
async fn further(bank: &BankHandle, path: &str, more: usize) {
    let wanted = arrivals(bank, path) + more;
    let what = format!("{more} further requests for {path} at {}", bank.name());
    eventually(PATIENCE, &what, async || (arrivals(bank, path) >= wanted).then_some(())).await;
}

/// A connection to `url` that is checked every [`INTERVAL`]; `spec` is laid over that as a merge patch.
fn connection(name: &str, url: &str, spec: Value) -> Value {
    let mut whole = json!({
        "provider": "generic",
        "environment": "Sandbox",
        "endpoint": {"baseURL": url, "insecure": true},
        "healthCheck": {"path": "/health", "interval": format!("{INTERVAL}s"), "timeout": "1s"},
    });
    lay(&mut whole, spec);
    object("ProviderConnection", name, &whole)
}

/// A breaker policy.
#[expect(clippy::needless_pass_by_value, reason = "written in place, everywhere")]
fn policy(name: &str, spec: Value) -> Value {
    object("BreakerPolicy", name, &spec)
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "busbar.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// RFC 7396.
fn lay(over: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *over = patch;
        return;
    };
    if !over.is_object() {
        *over = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            over.as_object_mut().unwrap().remove(&key);
        } else {
            lay(&mut over[key.as_str()], value);
        }
    }
}

/// Whether the object has this condition, for the present generation.
fn is(object: &Value, condition_type: &str, status: &str, reason: &str) -> bool {
    current(object) && condition(object, condition_type).is_some_and(|c| c["status"] == status && c["reason"] == reason)
}

/// Whether the status speaks of the present generation.
fn current(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

fn verified(object: &Value) -> bool {
    is(object, "Ready", "True", "Verified")
}

fn circuit(object: &Value, state: &str) -> bool {
    object["status"]["circuit"] == state
}

fn message(object: &Value, condition_type: &str) -> String {
    condition(object, condition_type).and_then(|c| c["message"].as_str()).unwrap_or_default().to_owned()
}
