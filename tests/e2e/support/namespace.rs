//! One namespace per test, and what is done in it by hand.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use busbar::testbed::canaries::Canaries;
use busbar::testbed::control_plane::ControlPlane;
use k8s_openapi::ByteString;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::plane::shared_plane;

/// What a kubectl said.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) command: String,
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Its stdout, or all it said as an error.
    pub(crate) fn ok(self) -> Result<String, String> {
        if self.success { Ok(self.stdout) } else { Err(format!("{} failed: {}", self.command, self.stderr.trim())) }
    }
}

/// Runs kubectl as admin with `input` on its stdin.
pub(crate) async fn kubectl(plane: &ControlPlane, args: &[&str], input: &str) -> Output {
    let output = plane.run_kubectl(args, input).await.expect("kubectl runs");
    Output {
        command: format!("kubectl {}", args.join(" ")),
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The namespace of one test, on the shared control plane or on one of the test's own.
pub(crate) struct TestNs {
    name: String,
    plane: Arc<ControlPlane>,
    client: Client,
    canaries: Arc<Canaries>,
}

impl TestNs {
    /// A new namespace `e2e-<topic>-<random>` on the shared control plane.
    pub(crate) async fn new(topic: &str) -> Self {
        Self::on(&shared_plane().await, topic).await
    }

    /// The same on any control plane.
    pub(crate) async fn on(plane: &Arc<ControlPlane>, topic: &str) -> Self {
        let random = Uuid::new_v4().simple().to_string();
        let name = format!("e2e-{topic}-{}", &random[..6]);
        let client = plane.client().expect("an admin client");
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("the namespace is new");
        Self { name, plane: Arc::clone(plane), client, canaries: Arc::new(Canaries::new()) }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// An admin client of this test's runtime.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The control plane.
    pub(crate) fn plane(&self) -> &Arc<ControlPlane> {
        &self.plane
    }

    /// The secrets planted here.
    pub(crate) fn canaries(&self) -> &Arc<Canaries> {
        &self.canaries
    }

    /// Objects of a kind in this namespace, as admin.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        <K as Resource>::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// A secret value that the end of the test will look for.
    pub(crate) fn canary(&self, label: &str) -> String {
        self.canaries.value(label)
    }

    /// Creates or replaces a Secret with exactly these keys.
    pub(crate) async fn secret(&self, name: &str, entries: &[(&str, &[u8])]) {
        let data: BTreeMap<String, ByteString> =
            entries.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec()))).collect();
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            data: Some(data),
            ..Secret::default()
        };
        let apply = PatchParams::apply("e2e").force();
        self.api::<Secret>().patch(name, &apply, &Patch::Apply(&secret)).await.expect("the Secret is applied");
    }

    /// The text under a key of a Secret, read as admin.
    pub(crate) async fn secret_text(&self, name: &str, key: &str) -> String {
        let secret = self.api::<Secret>().get(name).await.expect("the Secret exists");
        String::from_utf8(secret.data.expect("data")[key].0.clone()).expect("text")
    }

    /// `kubectl -n <this namespace> <args>`.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_with(args, "").await
    }

    /// The same with something on its stdin.
    pub(crate) async fn kubectl_with(&self, args: &[&str], input: &str) -> Output {
        let args: Vec<&str> = ["-n", self.name.as_str()].into_iter().chain(args.iter().copied()).collect();
        kubectl(&self.plane, &args, input).await
    }

    /// The same as `user`: what is allowed is what RBAC allows to that name.
    pub(crate) async fn kubectl_as(&self, user: &str, args: &[&str], input: &str) -> Output {
        let user = format!("--as={user}");
        let args: Vec<&str> = [user.as_str()].into_iter().chain(args.iter().copied()).collect();
        self.kubectl_with(&args, input).await
    }

    /// Applies manifests as a user would; the server's word if it refuses.
    pub(crate) async fn try_apply(&self, yaml: &str) -> Result<String, String> {
        self.kubectl_with(&["apply", "--server-side", "-f", "-"], yaml).await.ok()
    }

    /// Applies manifests that must be accepted.
    #[track_caller]
    pub(crate) fn apply(&self, yaml: &str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move { self.try_apply(yaml).await.unwrap_or_else(|why| panic!("{caller}: {why}")) }
    }

    /// An object as JSON, or `None` while it does not exist.
    pub(crate) async fn json(&self, kind: &str, name: &str) -> Option<serde_json::Value> {
        let text =
            self.kubectl(&["get", kind, name, "-o", "json", "--ignore-not-found"]).await.ok().expect("kubectl get");
        if text.trim().is_empty() { None } else { Some(serde_json::from_str(&text).expect("kubectl prints JSON")) }
    }
}

/// The condition of this type in an object's status.
pub(crate) fn condition<'a>(object: &'a serde_json::Value, condition_type: &str) -> Option<&'a serde_json::Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == condition_type)
}
