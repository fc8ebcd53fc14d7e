//! A control plane, a simulated bank and the operator, each a process of its own. The operator has its own
//! ServiceAccount and the rights of `config/rbac/`, as it would in a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use busbar::api::v1alpha1::ProviderConnection;
use busbar::clock::Clock;
use busbar::testbed::control_plane::process::{Process, ProcessSpec};
use busbar::testbed::control_plane::{AuditQuery, ControlPlane, OperatorIdentity, OperatorScope, Options};
use busbar::testbed::sim::BankEndpoints;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::bank::{self, SimBanks, wait_for_json};
use crate::machine;

/// Creates in flight at a time.
const CREATORS: usize = 32;
/// How long anything may take before the bench gives up: far beyond every target.
const TIMEOUT: Duration = Duration::from_mins(10);
/// How long the API server is left alone between two rounds.
const AT_REST: Duration = Duration::from_secs(90);
/// The namespace of every bench; each environment has a control plane of its own.
pub(crate) const NAMESPACE: &str = "bench";
/// The Secret with the simulated banks' certificate authority.
const CA_SECRET: &str = "bank-ca";

/// The processes that a bench of the operator needs. Dropping it ends them all.
pub(crate) struct BenchEnv {
    pub(crate) operator: Process,
    pub(crate) banks: SimBanks,
    pub(crate) plane: ControlPlane,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    /// Where the gateway is reached, `http://127.0.0.1:<port>`.
    pub(crate) gateway: String,
    identity: OperatorIdentity,
    admin: String,
}

/// Where an operator listens.
#[derive(serde::Deserialize)]
struct Announcement {
    admin: String,
    gateway: String,
}

impl BenchEnv {
    /// Starts it all and waits until the operator is ready.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with further flags of the operator.
    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        println!("machine: {}", machine::describe());
        let clock = Clock::system();
        let plane = ControlPlane::start(Options::default()).await.expect("a control plane");
        plane.install().await.expect("CRDs and roles");
        let client = plane.client().expect("an admin client");
        create_namespace(&client, NAMESPACE).await;
        let identity = plane.grant_operator(NAMESPACE, OperatorScope::Namespace).await.expect("the operator's rights");
        let banks = SimBanks::start(plane.run_dir()).await;
        let (operator, Announcement { admin, gateway }) = operator(&plane, &identity, flags).await;
        let env = Self { operator, banks, plane, client, clock, gateway, identity, admin };
        env.ready().await;
        println!(
            "control plane, banks and operator are up after {:.1?}",
            clock.mono().since(busbar::domain::time::Mono::ZERO)
        );
        env
    }

    /// Waits until the garbage collector watches connections, half a minute after their definition appeared: every
    /// change of one then costs the API server a message to it, whichever client made the change.
    pub(crate) async fn garbage_collector_watches(&self) {
        let query = AuditQuery { verb: Some("watch"), resource: Some("providerconnections"), ..AuditQuery::default() };
        let began = self.clock.mono();
        loop {
            let watches = self.plane.audit().requests(&query).expect("an audit log");
            if watches.iter().any(|watch| watch.user_agent.starts_with("kube-controller-manager/")) {
                return;
            }
            assert!(self.clock.mono().since(began) < TIMEOUT, "the garbage collector does not watch connections");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The connections of the operator's namespace, as admin.
    pub(crate) fn connections(&self) -> Api<ProviderConnection> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Creates a further namespace, which the operator does not watch.
    pub(crate) async fn create_namespace(&self, name: &str) {
        create_namespace(&self.client, name).await;
    }

    /// Applies manifests as admin.
    pub(crate) async fn apply(&self, manifests: &[Value]) {
        let text: Vec<String> = manifests.iter().map(Value::to_string).collect();
        let args = ["-n", NAMESPACE, "apply", "--server-side", "-f", "-"];
        let output = self.plane.run_kubectl(&args, &text.join("\n---\n")).await.expect("kubectl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Creates the Secret that connections over HTTPS name.
    pub(crate) async fn trust_the_banks(&self) {
        let secret = Secret {
            metadata: ObjectMeta { name: Some(CA_SECRET.to_owned()), ..ObjectMeta::default() },
            string_data: Some(BTreeMap::from([("ca.crt".to_owned(), self.banks.ca_pem().to_owned())])),
            ..Secret::default()
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        api.create(&PostParams::default(), &secret).await.expect("the Secret is new");
    }

    /// [`Self::make_ready_in`] the operator's namespace.
    pub(crate) async fn make_ready(
        &self,
        count: usize,
        one: impl Fn(usize) -> ProviderConnection,
    ) -> (Duration, Duration) {
        self.make_ready_in(NAMESPACE, count, one).await
    }

    /// Creates `count` connections and waits until the API server shows the last of them Ready. Returns the time from
    /// the first create to the last Ready seen by a watch, and the time the creates alone took.
    pub(crate) async fn make_ready_in(
        &self,
        namespace: &str,
        count: usize,
        one: impl Fn(usize) -> ProviderConnection,
    ) -> (Duration, Duration) {
        let api: Api<ProviderConnection> = Api::namespaced(self.client.clone(), namespace);
        let mut events = watcher(api.clone(), watcher::Config::default()).boxed();
        // The watch is open before the first create, so that its opening is not measured.
        while !matches!(events.try_next().await.expect("a watch"), Some(watcher::Event::InitDone)) {}
        let objects: Vec<_> = (0..count).map(one).collect();
        let began = self.clock.mono();
        let creating = async {
            let params = PostParams::default();
            let creates = objects.iter().map(|object| api.create(&params, object));
            futures::stream::iter(creates)
                .buffer_unordered(CREATORS)
                .try_for_each(|_| std::future::ready(Ok(())))
                .await
                .expect("every create is accepted");
            self.clock.mono().since(began)
        };
        let watching = async {
            let mut ready = std::collections::HashSet::new();
            while ready.len() < count {
                let event = events.try_next().await.expect("the watch holds").expect("a watch never ends");
                if let watcher::Event::Apply(object) | watcher::Event::InitApply(object) = event
                    && condition(&object, "Ready", "True")
                {
                    ready.insert(object.metadata.name);
                }
            }
            self.clock.mono().since(began)
        };
        let both = async { tokio::join!(watching, creating) };
        tokio::time::timeout(TIMEOUT, both).await.expect("all Ready within ten minutes")
    }

    /// Deletes all connections of a namespace, and leaves the API server alone for a while.
    pub(crate) async fn remove_all_of(&self, namespace: &str) {
        let api: Api<ProviderConnection> = Api::namespaced(self.client.clone(), namespace);
        let (all, began) = (kube::api::ListParams::default(), self.clock.mono());
        while !api.list_metadata(&all).await.expect("a list").items.is_empty() {
            assert!(self.clock.mono().since(began) < TIMEOUT, "the connections are not gone");
            // One request may not live to see the end of ten thousand.
            drop(api.delete_collection(&DeleteParams::default(), &all).await);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        tokio::time::sleep(AT_REST).await;
    }

    /// Waits until every connection has condition `what` True; asks the API server, twice a second.
    pub(crate) async fn all_true(&self, what: &str, count: usize) {
        let began = self.clock.mono();
        loop {
            let list = self.connections().list(&kube::api::ListParams::default()).await.expect("a list");
            if list.items.iter().filter(|object| condition(object, what, "True")).count() == count {
                return;
            }
            assert!(self.clock.mono().since(began) < TIMEOUT, "not all {count} connections are {what}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// One scrape of the operator's metrics.
    pub(crate) async fn scrape(&self) -> String {
        let answer = bank::http().get(format!("http://{}/metrics", self.admin)).send().await.expect("a scrape");
        answer.text().await.expect("a scrape's text")
    }

    /// Resident memory of the operator after three scrapes, and the most it ever had, in MiB.
    pub(crate) async fn memory_after_scrapes(&self) -> (f64, f64) {
        let mut bytes = 0;
        for _ in 0..3 {
            bytes = self.scrape().await.len();
        }
        let pid = self.operator.pid();
        let (now, most) = (machine::memory_mib(pid, "VmRSS"), machine::memory_mib(pid, "VmHWM"));
        println!("operator: {now:.0} MiB after three scrapes of {:.1} MiB each, at most {most:.0} MiB", mib(bytes));
        (now, most)
    }

    /// Prints how many status writes the operator has made, and for how many objects.
    pub(crate) fn print_writes(&self, objects: usize) {
        let query = AuditQuery { user: Some(self.user()), ..AuditQuery::default() };
        let mut counts = BTreeMap::<String, usize>::new();
        for request in self.plane.audit().requests(&query).expect("an audit log") {
            *counts.entry(format!("{} {}/{}", request.verb, request.resource, request.subresource)).or_default() += 1;
        }
        println!("the operator's requests for {objects} objects so far: {counts:?}");
    }

    /// The user name that the audit log knows the operator by.
    pub(crate) fn user(&self) -> &str {
        &self.identity.user
    }

    async fn ready(&self) {
        let http = bank::http();
        let began = self.clock.mono();
        loop {
            let answer = http.get(format!("http://{}/readyz?verbose", self.admin)).send().await;
            if let Ok(answer) = answer
                && answer.status().is_success()
                && answer.text().await.is_ok_and(|text| text.contains("[+] leading"))
            {
                return;
            }
            let waited = self.clock.mono().since(began);
            assert!(waited < TIMEOUT, "the operator is not ready:\n{}", self.operator.log_tail(20));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn create_namespace(client: &Client, name: &str) {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("a namespace");
}

async fn operator(plane: &ControlPlane, identity: &OperatorIdentity, flags: &[&str]) -> (Process, Announcement) {
    let directory = plane.run_dir().path();
    let announce = directory.join("busbar.json");
    let flag = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}").into();
    let mut spec = ProcessSpec {
        name: "busbar".to_owned(),
        program: env!("CARGO_BIN_EXE_busbar").into(),
        args: vec![
            "run".into(),
            flag("kubeconfig", &identity.kubeconfig.display()),
            flag("watch-namespaces", &NAMESPACE),
            flag("lease-namespace", &NAMESPACE),
            flag("admin-address", &"127.0.0.1:0"),
            flag("gateway-address", &"127.0.0.1:0"),
            flag("ledger", &format_args!("sqlite:{}", directory.join("busbar.db").display())),
            flag("announce-file", &announce.display()),
            flag("allow-provider-addresses", &"127.0.0.0/8"),
        ],
        env: Vec::new(),
        log: directory.join("busbar.log"),
    };
    spec.args.extend(flags.iter().map(Into::into));
    let process = Process::spawn(plane.run_dir(), &spec).expect("the operator starts");
    (process, wait_for_json(&announce).await)
}

/// Whether an object's condition has this status.
pub(crate) fn condition(object: &ProviderConnection, what: &str, status: &str) -> bool {
    let conditions = object.status.iter().flat_map(|s| &s.conditions);
    conditions.into_iter().any(|c| c.type_.as_str() == what && c.status.as_str() == status)
}

/// A connection of the generic provider to `base_url`, probed at `interval`.
pub(crate) fn connection(name: &str, base_url: &str, interval: &str) -> Value {
    let mut object = json!({
        "apiVersion": "busbar.dev/v1alpha1",
        "kind": "ProviderConnection",
        "metadata": { "name": name },
        "spec": {
            "provider": "generic",
            "environment": "Sandbox",
            "endpoint": { "baseURL": base_url },
            "healthCheck": { "path": "/health", "interval": interval },
        },
    });
    if base_url.starts_with("http:") {
        object["spec"]["endpoint"]["insecure"] = json!(true);
    } else {
        object["spec"]["tls"] = json!({ "certSecretRef": { "name": CA_SECRET } });
    }
    object
}

/// Connection number `n` to a bank, on a path of its own.
pub(crate) fn numbered(base_url: &str, n: usize, interval: &str) -> ProviderConnection {
    let object = connection(&format!("bank-{n:05}"), &format!("{base_url}/c/{n:05}"), interval);
    serde_json::from_value(object).expect("a connection")
}

/// A bank whose log holds `arrivals`.
pub(crate) async fn big_bank(env: &BenchEnv, arrivals: usize) -> BankEndpoints {
    env.banks.bank(&bank::config("bank", arrivals)).await
}

fn mib(bytes: usize) -> f64 {
    crate::stats::float(bytes) / 1024.0 / 1024.0
}
