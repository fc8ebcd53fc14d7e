//! A node on which Pods run: it registers a Node with a lease, binds Pods to it, runs their containers as processes of
//! this machine, sends their probes, honours grace periods and restart policies, and writes their status.
//!
//! Its semantics are a kubelet's, so that rollouts, restarts, leader hand-over and Jobs are observed. It knows nothing
//! of what runs in the Pods; the map of images says which program stands for which image. What differs from a cluster:
//!
//! - A container has a mount namespace, the user, the mounts and the read-only root that the Pod declares, and no
//!   capabilities, but the network of this machine: each Pod has a loopback address, and a flag that names every address
//!   (`0.0.0.0:8081`, `=:8443`) gets that of the Pod. Network policies and Services have no effect.
//! - Every Pod without a node is bound at once, and every claim is bound to a directory.
//! - A deletion without a grace period kills at once, without SIGTERM.
//! - Init containers, probes by gRPC, limits of resources, `kubectl logs` and `port-forward` are not supported; `exec` is.
//!
//! It needs the rights to mount and to change users, so it runs as root.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::ControlPlane;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub(crate) use super::container::Images;
use super::container::Runtime;
use super::environment::Place;
use super::exec::{ExecServer, FEATURE, RunningContainers};
use super::pod_run::{Observed, PodRun};
use super::status::text;

/// Field manager of what the agent applies.
const MANAGER: &str = "node-agent";

/// Interval of renewals of the node's lease, and its duration, as a kubelet's.
const RENEW: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;

/// Pause after a failed request or watch.
const RETRY: Duration = Duration::from_millis(200);

/// What happened to a container.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum ContainerChange {
    Started,
    /// Its Pod is being deleted: SIGTERM follows.
    Stopping,
    /// With this exit code; 128 and the signal's number after a signal.
    Ended(i32),
}

/// A change of one container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContainerEvent {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// The UID of the Pod.
    pub(crate) uid: String,
    pub(crate) container: String,
    pub(crate) at: Timestamp,
    pub(crate) change: ContainerChange,
}

/// What the agent and its Pods share.
pub(super) struct Shared {
    pub(super) clock: Clock,
    node: String,
    directory: PathBuf,
    pub(super) running: Arc<RunningContainers>,
    events: Mutex<Vec<ContainerEvent>>,
}

impl Shared {
    /// Where the directories of claims are.
    pub(super) fn claims(&self) -> PathBuf {
        self.directory.join("claims")
    }

    pub(super) fn report(&self, event: ContainerEvent) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// A running agent. Dropping it ends its Pods' processes; the objects stay.
pub(crate) struct NodeAgent {
    shared: Arc<Shared>,
    _exec: ExecServer,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl NodeAgent {
    /// Starts an agent for the Pods of `namespace`, or of all namespaces.
    pub(crate) async fn start(plane: &Arc<ControlPlane>, namespace: Option<&str>, images: Images) -> Self {
        let allowed = Command::new("unshare").args(["--mount", "true"]).output();
        let allowed = allowed.is_ok_and(|output| output.status.success());
        assert!(
            allowed,
            "mount namespace not allowed: the node agent needs root; run the tests as root or in a container"
        );
        let random = Uuid::new_v4();
        let node = format!("node-{}", &random.simple().to_string()[..6]);
        let directory = plane.run_dir().path().join(&node);
        let running = Arc::<RunningContainers>::default();
        let exec = ExecServer::start(Arc::clone(&running), plane.ca_pem()).await;
        let shared = Arc::new(Shared { clock: Clock::system(), node, directory, running, events: Mutex::default() });
        let client = plane.client().expect("an admin client");
        register(&client, &shared, exec.port).await.expect("the node is registered");
        let lease = AbortOnDropHandle::new(tokio::spawn(renew(client.clone(), Arc::clone(&shared))));
        let pods = namespace.map_or_else(|| Api::all(client.clone()), |ns| Api::namespaced(client.clone(), ns));
        let agent = Agent { plane: Arc::clone(plane), client, shared: Arc::clone(&shared), images, network: random };
        let pods = AbortOnDropHandle::new(tokio::spawn(agent.run(pods)));
        Self { shared, _exec: exec, _tasks: [lease, pods] }
    }

    /// The name of its node.
    pub(crate) fn node(&self) -> &str {
        &self.shared.node
    }

    /// What happened to the containers of a Pod's name, oldest first.
    pub(crate) fn events(&self, namespace: &str, pod: &str) -> Vec<ContainerEvent> {
        let all = self.shared.events.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|event| event.namespace == namespace && event.pod == pod).cloned().collect()
    }

    /// The exit codes of the processes of a Pod's name, oldest first.
    pub(crate) fn exit_codes(&self, namespace: &str, pod: &str) -> Vec<i32> {
        let code = |event: &ContainerEvent| match event.change {
            ContainerChange::Ended(code) => Some(code),
            _ => None,
        };
        self.events(namespace, pod).iter().filter_map(code).collect()
    }

    /// The directory of a claim with this UID.
    pub(crate) fn claim(&self, uid: &str) -> PathBuf {
        self.shared.claims().join(uid)
    }

    /// The output of a container so far, of all its processes.
    pub(crate) fn log(&self, pod_uid: &str, container: &str) -> String {
        let path = self.shared.directory.join(pod_uid).join(format!("{container}.log"));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }
}

/// Applies the Node and its status, with the port of the server for commands.
async fn register(client: &Client, shared: &Shared, port: u16) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let (name, now) = (&shared.node, text(shared.clock.now().wall));
    let parameters = PatchParams::apply(MANAGER).force();
    let metadata = json!({"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
    nodes.patch(name, &parameters, &Patch::Apply(&node)).await?;
    let resources = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "node agent is running",
        "lastTransitionTime": now, "lastHeartbeatTime": now});
    let status = json!({
        "capacity": resources, "allocatable": resources, "conditions": [ready],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}, "declaredFeatures": [FEATURE],
        // No host name: the API server would prefer it, and resolve it.
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
    });
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status});
    nodes.patch_status(name, &parameters, &Patch::Apply(&node)).await.map(drop)
}

/// Renews the node's lease for as long as the agent lives.
async fn renew(client: Client, shared: Arc<Shared>) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    loop {
        let now = shared.clock.now().wall.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let spec = json!({"holderIdentity": shared.node, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now});
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": shared.node}, "spec": spec});
        let parameters = PatchParams::apply(MANAGER).force();
        let renewed = leases.patch(&shared.node, &parameters, &Patch::Apply(&lease)).await;
        tokio::time::sleep(if renewed.is_ok() { RENEW } else { RETRY }).await;
    }
}

/// Follows the Pods.
struct Agent {
    plane: Arc<ControlPlane>,
    client: Client,
    shared: Arc<Shared>,
    images: Images,
    /// Random bytes, so that the addresses of two agents differ.
    network: Uuid,
}

impl Agent {
    async fn run(self, api: Api<Pod>) {
        let mut running: HashMap<String, watch::Sender<Observed>> = HashMap::new();
        // The Pods since the last list, which begins with `Init`.
        let mut listed = HashSet::new();
        let mut pods = JoinSet::new();
        let mut count = 0;
        let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                    let uid = pod.uid().unwrap_or_default();
                    listed.insert(uid.clone());
                    match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
                        None => self.bind(&pod).await,
                        Some(node) if node != self.shared.node => {}
                        Some(_) => {
                            if let Some(observed) = running.get(&uid) {
                                observed.send_replace(Observed::Present(Box::new(pod)));
                            } else {
                                count += 1;
                                let run = PodRun::new(Arc::clone(&self.shared), self.runtime(&uid, count), pod.clone());
                                let (sender, receiver) = watch::channel(Observed::Present(Box::new(pod)));
                                running.insert(uid, sender);
                                pods.spawn(run.run(receiver));
                            }
                        }
                    }
                }
                Ok(Event::Delete(pod)) => {
                    if let Some(observed) = running.remove(&pod.uid().unwrap_or_default()) {
                        observed.send_replace(Observed::Gone);
                    }
                }
                Ok(Event::Init) => listed.clear(),
                // A Pod that was deleted while the watch was interrupted.
                Ok(Event::InitDone) => running.retain(|uid, observed| {
                    let present = listed.contains(uid);
                    if !present {
                        observed.send_replace(Observed::Gone);
                    }
                    present
                }),
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// What the containers of a Pod need. Addresses are those of a network of the agent's own within 127.0.0.0/8.
    fn runtime(&self, uid: &str, count: u16) -> Runtime {
        let [a, b, ..] = *self.network.as_bytes();
        let [high, low] = count.to_be_bytes();
        let ip = format!("127.{}.{}.{low}", 16 + a % 224, b.wrapping_add(high));
        let address = self.plane.url().trim_start_matches("https://");
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "443"));
        Runtime {
            client: self.client.clone(),
            run: Arc::clone(self.plane.run_dir()),
            images: self.images.clone(),
            place: Place { node: self.shared.node.clone(), ip, api_server: (host.to_owned(), port.to_owned()) },
            directory: self.shared.directory.join(uid),
        }
    }

    /// Plays the scheduler. A Pod that is gone or bound already needs nothing.
    async fn bind(&self, pod: &Pod) {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": name, "uid": pod.uid()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.shared.node},
        });
        let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/pods/{name}/binding"))
            .header("content-type", "application/json")
            .body(binding.to_string().into_bytes())
            .expect("a request");
        drop(self.client.request_text(request).await);
    }
}
