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
//! - A test may take over when a container that has ended starts again ([`Restarts::ByTest`]).
//! - Init containers, probes by gRPC, declared limits of resources, `kubectl logs` and `port-forward` are not supported;
//!   `exec` is.
//!
//! It needs the rights to mount and to change users, so it runs as root.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
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
use super::control::{Control, Restarts, StartedContainer};
use super::environment::Place;
use super::exec::{ExecServer, FEATURE, RunningContainers};
use super::pod_run::{Observed, PodRun};
use super::status::text;
use crate::cluster::memory_limit::MemoryLimit;

/// Field manager of what the agent applies.
const MANAGER: &str = "node-agent";

/// Interval of renewals of the node's lease, and its duration, as a kubelet's.
const RENEW: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;

/// How long a request may take: an API server that hangs must not keep a node from looking at its processes.
pub(super) const REQUEST: Duration = Duration::from_secs(5);

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
    /// Where the directories of claims are. They outlive a node.
    pub(super) claims: PathBuf,
    pub(super) control: Control,
    pub(super) running: Arc<RunningContainers>,
    events: Mutex<Vec<ContainerEvent>>,
    memory_limit: Mutex<Option<MemoryLimit>>,
}

impl Shared {
    /// The limit for the containers that are started from now on.
    pub(super) fn memory_limit(&self) -> Option<MemoryLimit> {
        self.memory_limit.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        Self::start_with(plane, namespace, images, Restarts::ByPolicy).await
    }

    /// The same; `restarts` says who starts a container again that has ended.
    pub(crate) async fn start_with(
        plane: &Arc<ControlPlane>,
        namespace: Option<&str>,
        images: Images,
        restarts: Restarts,
    ) -> Self {
        let allowed = Command::new("unshare").args(["--mount", "true"]).output();
        let allowed = allowed.is_ok_and(|output| output.status.success());
        assert!(
            allowed,
            "mount namespace not allowed: the node agent needs root; run the tests as root or in a container"
        );
        let node = format!("node-{}", &Uuid::new_v4().simple().to_string()[..6]);
        let running = Arc::<RunningContainers>::default();
        let exec = ExecServer::start(Arc::clone(&running), plane.ca_pem()).await;
        let shared = Arc::new(Shared {
            clock: Clock::system(),
            directory: plane.run_dir().path().join(&node),
            claims: claims(plane),
            node,
            control: Control::new(restarts),
            running,
            events: Mutex::default(),
            memory_limit: Mutex::default(),
        });
        let client = plane.client().expect("an admin client");
        register(&client, &shared, exec.port).await.expect("the node is registered");
        let lease = AbortOnDropHandle::new(tokio::spawn(renew(client.clone(), Arc::clone(&shared))));
        let pods = namespace.map_or_else(|| Api::all(client.clone()), |ns| Api::namespaced(client.clone(), ns));
        let agent =
            Agent { plane: Arc::clone(plane), client, shared: Arc::clone(&shared), images, network: next_network() };
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

    /// The container of this Pod's name that was started last.
    pub(crate) fn newest(&self, namespace: &str, pod: &str) -> Option<StartedContainer> {
        self.shared.control.newest(namespace, pod)
    }

    /// Starts the container of this Pod again, which has ended: the test's part with [`Restarts::ByTest`].
    pub(crate) fn restart(&self, pod_uid: &str) {
        self.shared.control.release(pod_uid);
    }

    /// Limits the memory of the containers that are started from now on.
    pub(crate) fn limit_memory(&self, limit: MemoryLimit) {
        *self.shared.memory_limit.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
    }

    /// The output of a container so far, of all its processes.
    pub(crate) fn log(&self, pod_uid: &str, container: &str) -> String {
        let path = self.shared.directory.join(pod_uid).join(format!("{container}.log"));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }
}

/// Where the directories of the claims of a control plane are.
fn claims(plane: &ControlPlane) -> PathBuf {
    plane.run_dir().path().join("claims")
}

/// The directory of a claim, which is the same for every node, and also before the claim exists.
pub(crate) fn claim_dir(plane: &ControlPlane, namespace: &str, claim: &str) -> PathBuf {
    claims(plane).join(namespace).join(claim)
}

/// A network for the Pods of one node: the second and third byte of their addresses. No two nodes of this process have the
/// same one; those of other processes begin elsewhere.
fn next_network() -> (u8, u8) {
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(Uuid::new_v4().as_fields().0));
    // 127.0 and 127.255 are left to others.
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % (254 * 256);
    let [_, _, high, low] = number.to_be_bytes();
    (high + 1, low)
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
    /// See [`next_network`].
    network: (u8, u8),
}

impl Agent {
    async fn run(self, api: Api<Pod>) {
        let mut running: HashMap<String, watch::Sender<Observed>> = HashMap::new();
        // The Pods since the last list, which begins with `Init`.
        let mut listed = HashSet::new();
        let mut pods = JoinSet::new();
        let mut count: u8 = 0;
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
                                // The address of the first of 254 Pods is free again by then.
                                count = count % 254 + 1;
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
    fn runtime(&self, uid: &str, count: u8) -> Runtime {
        let (high, low) = self.network;
        let ip = format!("127.{high}.{low}.{count}");
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
        drop(tokio::time::timeout(REQUEST, self.client.request_text(request)).await);
    }
}
