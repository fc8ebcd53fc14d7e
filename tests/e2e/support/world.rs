//! A namespace with simulated banks in it, and how a test changes and reads its objects.
//!
//! Objects go in and out through the API, not through a kubectl each: most of these tests wait for states, and a process
//! per look would be the load they measure.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::ControlPlane;
use busbar::testbed::sim::{BankConfig, BankHandle, Behaviour, RequiredAuth, Sim, SimConfig};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::ApiResource;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::namespace::TestNs;
use super::plane::{PATIENCE, shared_plane};

/// How often an object is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The name of the [`World`]'s quick policy.
pub(crate) const QUICK: &str = "quick";

/// A namespace and its banks.
pub(crate) struct World {
    pub(crate) ns: TestNs,
    pub(crate) sim: Sim,
    clock: Clock,
}

impl World {
    /// A new namespace on the shared control plane, with the policy [`QUICK`]: one failure opens, for a second.
    pub(crate) async fn new(topic: &str) -> Self {
        Self::on(&shared_plane().await, topic).await
    }

    /// A new namespace on any control plane, with nothing in it: our kinds may not be served yet.
    pub(crate) async fn bare(plane: &Arc<ControlPlane>, topic: &str) -> Self {
        let sim = Sim::start(SimConfig::default()).await.expect("a simulator");
        Self { ns: TestNs::on(plane, topic).await, sim, clock: Clock::system() }
    }

    /// The same as [`World::new`] on any control plane.
    pub(crate) async fn on(plane: &Arc<ControlPlane>, topic: &str) -> Self {
        let world = Self::bare(plane, topic).await;
        world.put(&policy(QUICK, "trip: {consecutiveFailures: 1}, open: {base: 1s}")).await;
        world
    }

    /// A bank that wants a bearer token, and the connection of the same name that reaches it.
    pub(crate) async fn bank(&self, name: &str) -> BankHandle {
        let bank = self.secured(name).await;
        self.put(&connection(name, &bank, "")).await;
        bank
    }

    /// A bank that wants a bearer token, and the Secret that has it.
    pub(crate) async fn secured(&self, name: &str) -> BankHandle {
        let token = self.ns.canary(name);
        let auth = RequiredAuth::Bearer { token: token.clone() };
        let bank = self.sim.add_bank(BankConfig::new(name).auth(auth)).await.expect("a bank");
        self.ns.secret(&format!("{name}-credentials"), &[("token", token.as_bytes())]).await;
        bank
    }

    /// A bank of Mono's kind, and the connection of the same name that reaches it.
    pub(crate) async fn mono(&self, name: &str, config: impl FnOnce(BankConfig) -> BankConfig) -> BankHandle {
        let bank = self.secured_mono(name, config).await;
        self.put(&mono_connection(name, &bank)).await;
        bank
    }

    /// A bank of Mono's kind, and the Secret that has its key.
    pub(crate) async fn secured_mono(&self, name: &str, config: impl FnOnce(BankConfig) -> BankConfig) -> BankHandle {
        let key = self.ns.canary(name);
        let bank = self.sim.add_bank(config(BankConfig::mono(name, key.clone()))).await.expect("a bank");
        self.ns.secret(&format!("{name}-credentials"), &[("api-key", key.as_bytes())]).await;
        bank
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.clock.now().wall
    }

    /// Applies one object, given as YAML.
    pub(crate) async fn put(&self, yaml: &str) {
        self.try_put(yaml).await.unwrap_or_else(|error| panic!("{error}: {yaml}"));
    }

    /// The same, for a server that may be out of reach.
    pub(crate) async fn try_put(&self, yaml: &str) -> kube::Result<()> {
        let value = serde_yaml::Value::deserialize(serde_yaml::Deserializer::from_str(yaml)).expect("YAML");
        let object: DynamicObject = serde_json::from_str(&serde_json::to_string(&value).unwrap()).expect("an object");
        let TypeMeta { api_version, kind } = object.types.clone().expect("a kind");
        let (group, version) = api_version.split_once('/').expect("a group");
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.ns.client(), self.ns.name(), &resource);
        // Not forced: a test that takes a field from somebody else should know.
        api.patch(&object.name_any(), &PatchParams::apply("e2e"), &Patch::Apply(&object)).await.map(drop)
    }

    /// Changes part of an object's spec, as `kubectl patch --type=merge` would.
    pub(crate) async fn patch<K: Ours>(&self, name: &str, spec: serde_json::Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.ns.api::<K>().patch(name, &PatchParams::default(), &patch).await.expect("the patch is accepted");
    }

    /// Sets `busbar.dev/requestedAt` to something new, and returns it.
    pub(crate) async fn request<K: Ours>(&self, name: &str) -> String {
        let at = self.clock.now().wall.to_string();
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"busbar.dev/requestedAt": at}}}));
        self.ns.api::<K>().patch(name, &PatchParams::default(), &patch).await.expect("the annotation is accepted");
        at
    }

    /// Waits until `look` finds what it wants in the object; shows its status if that does not come.
    #[track_caller]
    pub(crate) fn until<K: Ours, T>(
        &self,
        name: &str,
        what: &str,
        look: impl FnMut(&K) -> Option<T>,
    ) -> impl Future<Output = T> {
        self.until_within(PATIENCE, name, what, look, std::panic::Location::caller())
    }

    async fn until_within<K: Ours, T>(
        &self,
        deadline: Duration,
        name: &str,
        what: &str,
        mut look: impl FnMut(&K) -> Option<T>,
        caller: &'static std::panic::Location<'static>,
    ) -> T {
        let (api, began) = (self.ns.api::<K>(), self.clock.mono());
        loop {
            let seen = tokio::time::timeout(deadline, api.get_opt(name)).await;
            if let Ok(Ok(Some(object))) = &seen
                && let Some(found) = look(object)
            {
                return found;
            }
            if self.clock.mono().since(began) > deadline {
                let last = match seen {
                    Ok(Ok(Some(object))) => serde_json::to_string_pretty(&json!(object)["status"]).unwrap(),
                    other => format!("{other:?}"),
                };
                panic!("{caller}: not within {deadline:?}: {what}; {name} is at {last}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until an event with this reason and these words tells of the object.
    #[track_caller]
    pub(crate) fn event(&self, kind: &str, name: &str, reason: &str, words: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let began = self.clock.mono();
            loop {
                let events = self.events(kind, name).await;
                if events.iter().any(|(seen, note)| seen == reason && note.contains(words)) {
                    return;
                }
                let late = self.clock.mono().since(began) > PATIENCE;
                assert!(!late, "{caller}: no event {reason} of {name} says {words:?}: {events:#?}");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Reasons and messages of the events of an object.
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
pub(crate) trait Ours:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug
{
}

impl<K> Ours for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug
{
}

/// A policy with these fields beside `preset: Api`.
pub(crate) fn policy(name: &str, fields: &str) -> String {
    format!(
        "{{apiVersion: busbar.dev/v1alpha1, kind: BreakerPolicy, metadata: {{name: {name}}}, spec: {{preset: Api, {fields}}}}}"
    )
}

/// A connection to `bank` that is probed every 5 s, with further fields.
pub(crate) fn connection(name: &str, bank: &BankHandle, fields: &str) -> String {
    format!(
        "{{apiVersion: busbar.dev/v1alpha1, kind: ProviderConnection, metadata: {{name: {name}}}, spec: {{
          provider: generic, environment: Sandbox, endpoint: {{baseURL: '{}', insecure: true}},
          auth: {{bearer: {{secretRef: {{name: {}-credentials}}}}}},
          healthCheck: {{path: /health, interval: 5s, timeout: 1s, unhealthyThreshold: 1, healthyThreshold: 1}},
          breakerPolicyRef: {{name: {QUICK}}}, {fields}}}}}",
        bank.base_url(),
        bank.name(),
    )
}

/// A connection to a bank of Mono's kind that is probed every 5 s.
pub(crate) fn mono_connection(name: &str, bank: &BankHandle) -> String {
    format!(
        "{{apiVersion: busbar.dev/v1alpha1, kind: ProviderConnection, metadata: {{name: {name}}}, spec: {{
          provider: mono, environment: Sandbox, endpoint: {{baseURL: '{}/v2', insecure: true}},
          auth: {{profile: {{secretRef: {{name: {name}-credentials}}}}}},
          healthCheck: {{interval: 5s, timeout: 2s}}, breakerPolicyRef: {{name: {QUICK}}}}}}}",
        bank.base_url()
    )
}

/// A route over candidates, each with its connection's name and further fields.
pub(crate) fn route(name: &str, candidates: &[(&str, &str, &str)], fields: &str) -> String {
    let mut list = String::new();
    for (candidate, connection, fields) in candidates {
        write!(list, "{{name: {candidate}, connectionRef: {{name: {connection}}}, {fields}}}, ").unwrap();
    }
    format!(
        "{{apiVersion: busbar.dev/v1alpha1, kind: BankRoute, metadata: {{name: {name}}}, spec: {{
          referenceCurrency: EUR, candidates: [{list}], {fields}}}}}"
    )
}

/// The failure that most tests want: an answer, and a bad one.
pub(crate) fn down() -> Behaviour {
    Behaviour::status(503)
}

/// A condition of a status as `(status, reason)`.
pub(crate) fn condition(
    conditions: &[busbar::api::v1alpha1::common::Condition],
    condition_type: &str,
) -> Option<(String, String)> {
    conditions.iter().find(|c| c.type_ == condition_type).map(|c| (c.status.clone(), c.reason.clone()))
}
