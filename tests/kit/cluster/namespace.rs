//! One namespace per test, and what is done in it by hand.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use busbar::testbed::canaries::Canaries;
use busbar::testbed::control_plane::ControlPlane;
use k8s_openapi::ByteString;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::control_planes::shared_plane;
use super::node::agent::{NodeAgent, claim_dir};
use super::node::control::Restarts;

/// What a kubectl printed.
#[derive(Clone, Debug)]
pub(crate) struct KubectlOutput {
    pub(crate) command: String,
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl KubectlOutput {
    /// Its stdout; panics with its stderr if it failed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.success, "{} failed: {}", self.command, self.stderr.trim());
        self.stdout
    }
}

/// Runs kubectl as admin with `input` on its stdin.
pub(crate) async fn kubectl(plane: &ControlPlane, args: &[&str], input: &str) -> KubectlOutput {
    let output = plane.run_kubectl(args, input).await.expect("kubectl runs");
    KubectlOutput {
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
    node: OnceCell<Arc<NodeAgent>>,
    /// The workload of the chart's release, when it is installed here.
    pub(super) workload: OnceCell<Value>,
}

/// The image that the chart names, without its tag.
const IMAGE: &str = "busbar";

/// The name of the `StatefulSet` of a replica: that of the chart's release, or one like it.
pub(super) fn workload_name(replica: &str) -> String {
    if replica == "a" { "busbar".to_owned() } else { format!("busbar-{replica}") }
}

impl TestNs {
    /// A new namespace `e2e-<topic>-<random>` on the shared control plane.
    pub(crate) async fn new(topic: &str) -> Self {
        Self::on(&shared_plane().await, topic).await
    }

    /// The same on another control plane.
    pub(crate) async fn on(plane: &Arc<ControlPlane>, topic: &str) -> Self {
        let random = Uuid::new_v4().simple().to_string();
        let name = format!("e2e-{topic}-{}", &random[..6]);
        let client = plane.client().expect("an admin client");
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("the namespace is new");
        let (node, workload) = Default::default();
        Self { name, plane: Arc::clone(plane), client, canaries: Arc::new(Canaries::new()), node, workload }
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

    /// The node on which the Pods of this namespace run. The first caller starts it; a container that has ended starts again
    /// when the test says so.
    pub(crate) async fn node(&self) -> &Arc<NodeAgent> {
        let start = async || {
            let images = [(IMAGE.to_owned(), env!("CARGO_BIN_EXE_busbar").into())].into();
            Arc::new(NodeAgent::start_with(&self.plane, Some(&self.name), images, Restarts::ByTest).await)
        };
        self.node.get_or_init(start).await
    }

    /// The claim of a replica's ledger.
    pub(super) fn ledger_claim(replica: &str) -> String {
        format!("ledger-{}-0", workload_name(replica))
    }

    /// The ledger of that replica: a file in the directory of its claim.
    pub(crate) fn ledger_file(&self, replica: &str) -> PathBuf {
        claim_dir(&self.plane, &self.name, &Self::ledger_claim(replica)).join("busbar.db")
    }

    /// The flag that makes an operator or a command use that ledger.
    pub(crate) fn ledger_flag(&self, replica: &str) -> String {
        format!("--ledger=sqlite:{}", self.ledger_file(replica).display())
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
    pub(crate) async fn kubectl(&self, args: &[&str]) -> KubectlOutput {
        self.kubectl_with(args, "").await
    }

    /// Everything in the namespace that an operator may have written.
    pub(crate) async fn written_objects(&self) -> String {
        let ours = self.kubectl(&["api-resources", "--api-group=busbar.dev", "-o", "name"]).await.stdout;
        let kinds: Vec<&str> = ours.lines().chain(["events.events.k8s.io", "leases.coordination.k8s.io"]).collect();
        self.kubectl(&["get", &kinds.join(","), "-o", "json", "--show-managed-fields"]).await.ok()
    }

    /// The same with `input` on its stdin.
    pub(crate) async fn kubectl_with(&self, args: &[&str], input: &str) -> KubectlOutput {
        let args: Vec<&str> = ["-n", self.name.as_str()].into_iter().chain(args.iter().copied()).collect();
        kubectl(&self.plane, &args, input).await
    }

    /// Applies manifests that must be accepted, as a user would.
    #[track_caller]
    pub(crate) fn apply(&self, manifests: &str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let output = self.kubectl_with(&["apply", "--server-side", "-f", "-"], manifests).await;
            assert!(output.success, "{caller}: {}", output.stderr);
            output.stdout
        }
    }

    /// An object as JSON, or `None` while it does not exist.
    pub(crate) async fn json(&self, kind: &str, name: &str) -> Option<Value> {
        let text = self.kubectl(&["get", kind, name, "-o", "json", "--ignore-not-found"]).await.ok();
        if text.trim().is_empty() { None } else { Some(serde_json::from_str(&text).expect("kubectl prints JSON")) }
    }
}

/// Objects of one of our kinds in the namespace of `ns`, as admin.
pub(crate) fn object_api(ns: &TestNs, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("busbar.dev", "v1alpha1", kind));
    Api::namespaced_with(ns.client(), ns.name(), &resource)
}

/// The condition of this type in an object's status.
pub(crate) fn condition<'a>(object: &'a Value, condition_type: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == condition_type)
}
