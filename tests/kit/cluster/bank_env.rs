//! A namespace with simulated banks, and how a test changes and reads its objects.
//!
//! Objects go in and out through the API and not through a kubectl each: most of these tests wait for states, and a
//! process per look would be the load they measure.

use std::sync::Arc;

use busbar::api::v1alpha1::common::Condition;
use busbar::clock::Clock;
use busbar::testbed::control_plane::ControlPlane;
use busbar::testbed::sim::{BankConfig, BankHandle, RequiredAuth, Sim};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::events::v1::Event;
use kube::Resource;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::control_planes::shared_plane;
use super::namespace::{TestNs, object_api};
use crate::kit::banks::simulator;
use crate::kit::objects::{bearer_auth, connection, merged_patches, policy, profile_auth, profile_connection};
use crate::kit::wait::eventually;

/// The name of the policy that the connections of a [`BankEnv`] refer to.
pub(crate) const QUICK: &str = "quick";

/// A namespace and its banks.
pub(crate) struct BankEnv {
    pub(crate) ns: TestNs,
    pub(crate) sim: Sim,
    clock: Clock,
}

impl BankEnv {
    /// A new namespace on the shared control plane, with the policy [`QUICK`]: one failure opens, for a second.
    pub(crate) async fn new(topic: &str) -> Self {
        Self::on(&shared_plane().await, topic).await
    }

    /// The same on another control plane.
    pub(crate) async fn on(plane: &Arc<ControlPlane>, topic: &str) -> Self {
        let env = Self::empty(plane, topic).await;
        env.put(&quick_policy("1s")).await;
        env
    }

    /// A new namespace with nothing in it: our kinds may not be served yet.
    pub(crate) async fn empty(plane: &Arc<ControlPlane>, topic: &str) -> Self {
        Self { ns: TestNs::on(plane, topic).await, sim: simulator().await, clock: Clock::system() }
    }

    /// A new bank that requires these credentials.
    pub(crate) async fn add_bank(&self, name: &str, auth: RequiredAuth) -> BankHandle {
        self.sim.add_bank(BankConfig::new(name).auth(auth)).await.expect("a bank")
    }

    /// A bank that requires a bearer token, and the Secret that has it.
    pub(crate) async fn bank_with_secret(&self, name: &str) -> BankHandle {
        let token = self.ns.canary(name);
        let bank = self.add_bank(name, RequiredAuth::Bearer { token: token.clone() }).await;
        self.ns.secret(&secret_name(&bank), &[("token", token.as_bytes())]).await;
        bank
    }

    /// The same with the connection of the same name.
    pub(crate) async fn bank(&self, name: &str) -> BankHandle {
        let bank = self.bank_with_secret(name).await;
        self.put(&bank_connection(&bank, json!({}))).await;
        bank
    }

    /// A bank of Mono's kind, and the Secret that has its key.
    pub(crate) async fn mono_with_secret(
        &self,
        name: &str,
        config: impl FnOnce(BankConfig) -> BankConfig,
    ) -> BankHandle {
        let key = self.ns.canary(name);
        let bank = self.sim.add_bank(config(BankConfig::mono(name, key.clone()))).await.expect("a bank");
        self.ns.secret(&secret_name(&bank), &[("api-key", key.as_bytes())]).await;
        bank
    }

    /// The same with the connection of the same name.
    pub(crate) async fn mono(&self, name: &str, config: impl FnOnce(BankConfig) -> BankConfig) -> BankHandle {
        let bank = self.mono_with_secret(name, config).await;
        self.put(&mono_connection(&bank)).await;
        bank
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.clock.now().wall
    }

    /// Applies an object.
    pub(crate) async fn put(&self, object: &Value) {
        let (kind, name) =
            (object["kind"].as_str().expect("a kind"), object["metadata"]["name"].as_str().expect("a name"));
        // Not forced: a test that takes a field from another manager should know.
        let applied = object_api(&self.ns, kind).patch(name, &PatchParams::apply("e2e"), &Patch::Apply(object)).await;
        applied.unwrap_or_else(|error| panic!("{kind} {name} is not accepted: {error}: {object}"));
    }

    /// Deletes an object; it may have finalizers to wait for.
    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        object_api(&self.ns, kind).delete(name, &DeleteParams::default()).await.expect("deleted");
    }

    /// Changes an object, as `kubectl patch --type=merge` would.
    pub(crate) async fn merge(&self, kind: &str, name: &str, patch: Value) {
        let patched = object_api(&self.ns, kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }

    /// Changes part of an object's spec.
    pub(crate) async fn patch_spec<K: BusbarKind>(&self, name: &str, spec: Value) {
        self.merge(&K::kind(&()), name, json!({ "spec": spec })).await;
    }

    /// Sets an annotation.
    pub(crate) async fn annotate(&self, kind: &str, name: &str, key: &str, value: &str) {
        self.merge(kind, name, json!({"metadata": {"annotations": {key: value}}})).await;
    }

    /// Sets `busbar.dev/requestedAt` to a new value, and returns it.
    pub(crate) async fn request<K: BusbarKind>(&self, name: &str) -> String {
        let at = self.now().to_string();
        self.annotate(&K::kind(&()), name, "busbar.dev/requestedAt", &at).await;
        at
    }

    /// The status of an object, which has one.
    pub(crate) async fn get<K: BusbarKind>(&self, name: &str) -> K {
        self.ns.api::<K>().get(name).await.expect("the object exists")
    }

    /// Waits until `look` finds what it looks for in the object; a failure shows the last status.
    #[track_caller]
    pub(crate) fn until<K: BusbarKind, T>(
        &self,
        name: &str,
        what: &str,
        mut look: impl FnMut(&K) -> Option<T>,
    ) -> impl Future<Output = T> {
        let api = self.ns.api::<K>();
        eventually(format!("{name}: {what}"), async move || match api.get_opt(name).await {
            Ok(Some(object)) => look(&object).ok_or_else(|| format!("{:#}", json!(object)["status"])),
            other => Err(format!("{other:?}")),
        })
    }

    /// Waits for an event about the object with this reason whose note contains `text`.
    #[track_caller]
    pub(crate) fn until_event(&self, kind: &str, name: &str, reason: &str, text: &str) -> impl Future<Output = ()> {
        eventually(format!("event {reason} of {kind} {name} with {text:?}"), async move || {
            let events = self.events(kind, name).await;
            let found = events.iter().any(|(seen, note)| seen == reason && note.contains(text));
            if found { Ok(()) } else { Err(events) }
        })
    }

    /// Reasons and notes of the events about an object.
    pub(crate) async fn events(&self, kind: &str, name: &str) -> Vec<(String, String)> {
        let all = self.ns.api::<Event>().list(&ListParams::default()).await.expect("events are listed");
        let about = |e: &Event| {
            e.regarding.as_ref().is_some_and(|r| r.kind.as_deref() == Some(kind) && r.name.as_deref() == Some(name))
        };
        all.items
            .into_iter()
            .filter(about)
            .map(|e| (e.reason.unwrap_or_default(), e.note.unwrap_or_default()))
            .collect()
    }
}

/// Our kinds, as typed objects.
pub(crate) trait BusbarKind:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug
{
}

impl<K> BusbarKind for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug
{
}

/// The name of a bank's Secret.
pub(crate) fn secret_name(bank: &BankHandle) -> String {
    format!("{}-credentials", bank.name())
}

/// The policy [`QUICK`]: one failure opens, for this time.
pub(crate) fn quick_policy(open: &str) -> Value {
    policy(QUICK, json!({"preset": "Api", "trip": {"consecutiveFailures": 1}, "open": {"base": open}}))
}

/// The connection to a bank with its name and Secret: one failed or good check decides about its health.
pub(crate) fn bank_connection(bank: &BankHandle, patch: Value) -> Value {
    named_connection(bank.name(), bank, patch)
}

/// The same with another name.
pub(crate) fn named_connection(name: &str, bank: &BankHandle, patch: Value) -> Value {
    let quick = json!({
        "healthCheck": {"unhealthyThreshold": 1, "healthyThreshold": 1},
        "breakerPolicyRef": {"name": QUICK},
    });
    let quick = merged_patches(quick, bearer_auth(&secret_name(bank)));
    connection(name, &bank.base_url(), merged_patches(quick, patch))
}

/// The connection to a bank of Mono's kind with its name and Secret.
pub(crate) fn mono_connection(bank: &BankHandle) -> Value {
    let quick = json!({"healthCheck": {"interval": "5s", "timeout": "2s"}, "breakerPolicyRef": {"name": QUICK}});
    let patch = merged_patches(profile_auth(&secret_name(bank)), quick);
    profile_connection(bank.name(), "mono", &format!("{}/v2", bank.base_url()), patch)
}

/// A condition of a status as `(status, reason)`.
pub(crate) fn condition_of(conditions: &[Condition], condition_type: &str) -> Option<(String, String)> {
    conditions.iter().find(|c| c.type_ == condition_type).map(|c| (c.status.clone(), c.reason.clone()))
}

/// Whether a condition has this status and reason.
pub(crate) fn has_condition(conditions: &[Condition], condition_type: &str, status: &str, reason: &str) -> bool {
    conditions.iter().any(|c| c.type_ == condition_type && c.status == status && c.reason == reason)
}
