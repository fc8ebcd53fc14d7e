//! The chart's release, run by the node agent with the chart's own `ServiceAccount`, RBAC and probes: install, test,
//! rolling upgrade, and the end of the leader.

use std::path::PathBuf;
use std::time::Duration;

use busbar::api::v1alpha1::{BankRoute, ProviderConnection};
use busbar::testbed::sim::AccountConfig;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::{Value, json};

use crate::chart::{Cluster, NAMESPACE};
use crate::cluster::bank_env::{BankEnv, bank_connection, has_condition, quick_policy};
use crate::cluster::control_planes::{forbidden, report};
use crate::cluster::failover_env::{deleting_job, has_succeeded};
use crate::cluster::node::agent::{ContainerChange, Images, NodeAgent, claim_dir};
use crate::cluster::status_recorder::StatusRecorder;
use crate::cluster::sync_jobs::{FEED, assert_same, bank_transactions, page_requests, rows_of, slow_pages};
use crate::kit::banks::further_arrivals;
use crate::kit::objects::{INTERVAL_SECONDS, candidates, route};
use crate::kit::wait::eventually;
use crate::least_privilege::{Rights, rights_of, used};

/// The operator's Pod: the first of the `StatefulSet`.
pub(crate) const POD: &str = "busbar-0";

/// Documented bound (docs/faults.md) from a replica's start until it leads, if the leader before it was killed.
const TAKEOVER: Duration = Duration::from_secs(17);

/// Rights that this test does not need, each with where it is needed. `least_privilege.rs` uses all of them.
const UNUSED: [(&str, &str); 5] = [
    ("get busbar.dev/providerconnections", "an object is read again after a conflict only"),
    ("get busbar.dev/syncjobs", "likewise"),
    ("get busbar.dev/bankroutes", "likewise"),
    ("get busbar.dev/breakerpolicies", "likewise"),
    ("patch events.k8s.io/events", "continues a series: the same event about the same object again"),
];

/// A release with its Pods, and a namespace with banks.
pub(crate) struct Release {
    pub(crate) cluster: Cluster,
    pub(crate) agent: NodeAgent,
    pub(crate) env: BankEnv,
}

impl Release {
    /// Installs the release on a control plane of its own and waits for its Pod; the operator may read the Secrets of the
    /// namespace with the banks. `values` are further ones, for `--set`.
    pub(crate) async fn installed(topic: &str, values: &[&str]) -> Self {
        let images = [("busbar".to_owned(), env!("CARGO_BIN_EXE_busbar").into())].into();
        Self::installed_from("charts/busbar", images, topic, values).await
    }

    /// The same from another chart, with the programs of these images.
    pub(crate) async fn installed_from(chart: &str, images: Images, topic: &str, values: &[&str]) -> Self {
        let cluster = Cluster::new().await;
        cluster.restricted_namespace(NAMESPACE).await;
        let env = BankEnv::empty(&cluster.plane, topic).await;
        let agent = NodeAgent::start(&cluster.plane, None, images).await;
        let secrets = format!("rbac.secretNamespaces={{{}}}", env.ns.name());
        let settings = [&[&*secrets, "operator.allowProviderAddresses={127.0.0.0/8}"], values].concat();
        let settings = settings.into_iter().flat_map(|values| ["--set", values]);
        let install = ["install", "busbar", chart, "--wait", "--timeout=3m"].into_iter().chain(settings);
        let installed = cluster.helm(&install.collect::<Vec<_>>()).await;
        let pod = cluster.get("pod", POD).await;
        assert!(installed.success(), "{}\n{pod:#?}", installed.stderr);
        Self { cluster, agent, env }
    }

    /// The ledger, on the volume of the Pod's claim.
    pub(crate) fn ledger(&self) -> PathBuf {
        claim_dir(&self.cluster.plane, NAMESPACE, &format!("ledger-{POD}")).join("busbar.db")
    }

    /// The lease, if it is held: the holder's Pod UID and when it became the holder.
    async fn leader(&self) -> Option<(String, Timestamp)> {
        let leases: Api<Lease> = Api::namespaced(self.env.ns.client(), NAMESPACE);
        let spec = leases.get_opt("busbar").await.ok()??.spec?;
        let holder = spec.holder_identity?;
        let (_, uid) = holder.split_once('_')?;
        Some((uid.to_owned(), spec.acquire_time?.0))
    }

    /// Waits until a Pod other than `before` leads.
    async fn leader_after(&self, before: &str) -> (String, Timestamp) {
        eventually("another Pod leads", async || self.leader().await.filter(|(uid, _)| uid != before)).await
    }

    /// When this happened to the container of the Pod with this UID.
    fn time_of(&self, uid: &str, change: ContainerChange) -> Timestamp {
        let events = self.agent.events(NAMESPACE, POD);
        let event = events.iter().find(|event| event.uid == uid && event.change == change);
        event.unwrap_or_else(|| panic!("{change:?} of {uid} in {events:#?}")).at
    }

    /// Waits until the connection is Ready and Healthy.
    pub(crate) async fn until_ready(&self, name: &str) {
        self.env
            .until(name, "Ready and Healthy", |connection: &ProviderConnection| {
                let conditions = &connection.status.as_ref()?.conditions;
                let holds = |name: &str| conditions.iter().any(|c| c.type_ == name && c.status == "True");
                (holds("Ready") && holds("Healthy")).then_some(())
            })
            .await;
    }

    /// The operator's requests that the API server forbade.
    pub(crate) fn denied(&self) -> Vec<String> {
        forbidden(&self.cluster.plane.audit(), &format!("system:serviceaccount:{NAMESPACE}:busbar-operator"))
    }

    /// What the bindings of the operator's `ServiceAccount` grant.
    async fn granted(&self) -> Rights {
        let list = async |args: &[&str]| -> Vec<Value> {
            let text = self.cluster.kubectl(&[args, &["-o", "json"]].concat(), "").await.ok();
            serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().unwrap().clone()
        };
        let bindings = list(&["get", "clusterrolebindings,rolebindings", "--all-namespaces"]).await;
        let roles = list(&["get", "clusterroles,roles", "--all-namespaces"]).await;
        let subject = json!({"kind": "ServiceAccount", "name": "busbar-operator", "namespace": NAMESPACE});
        let own = bindings.iter().filter(|b| b["subjects"].as_array().is_some_and(|all| all.contains(&subject)));
        let role = |binding: &Value| {
            let namespace = match binding["roleRef"]["kind"].as_str() {
                Some("Role") => binding["metadata"]["namespace"].clone(),
                _ => Value::Null,
            };
            let found = roles.iter().find(|role| {
                role["metadata"]["name"] == binding["roleRef"]["name"] && role["metadata"]["namespace"] == namespace
            });
            rights_of(found.unwrap_or_else(|| panic!("the role of {binding:#}")))
        };
        own.flat_map(role).collect()
    }
}

#[tokio::test]
async fn a_release_installs_upgrades_and_fails_over_with_exactly_its_rights() {
    let release = Release::installed("chart", &[]).await;
    let (cluster, env) = (&release.cluster, &release.env);
    let uid = cluster.get("pod", POD).await.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(release.leader_after("").await.0, uid);

    let recorder = StatusRecorder::of(&env.ns);
    env.put(&quick_policy("1s")).await;
    let bank = env.bank_with_secret("a").await;
    env.put(&bank_connection(&bank, json!({}))).await;
    let mono = env.mono("mono", |config| config.accounts([AccountConfig::new("acc-1", 2_000)])).await;
    mono.set_script(slow_pages(1_000)).await.unwrap();
    env.put(&route("payouts", &candidates(&["a"]), json!({}))).await;
    for name in ["a", "mono"] {
        release.until_ready(name).await;
    }
    let available = |route: &BankRoute| {
        has_condition(&route.status.as_ref()?.conditions, "Available", "True", "CandidateAvailable").then_some(())
    };
    env.until("payouts", "a takes payouts", available).await;
    further_arrivals(&bank, "/health", 2).await;
    let tested = cluster.helm(&["test", "busbar", "--timeout=2m"]).await;
    assert!(tested.success(), "{}{}", tested.stdout, tested.stderr);

    // A rolling upgrade in the middle of a run: the Pod releases the lease and its successor goes on.
    env.put(&deleting_job()).await;
    eventually("some pages", async || page_requests(&mono) >= 3).await;
    let upgrade = ["upgrade", "busbar", "charts/busbar", "--reuse-values", "--set", "operator.logLevel=debug"];
    cluster.helm(&[&upgrade[..], &["--wait", "--timeout=3m"]].concat()).await.ok();
    let (upgraded, leads) = release.leader_after(&uid).await;
    further_arrivals(&bank, "/health", 2).await;
    assert_eq!(release.agent.exit_codes(NAMESPACE, POD), [0], "it ended by itself within its grace period");
    let hand_over = leads.duration_since(release.time_of(&uid, ContainerChange::Stopping)).unsigned_abs();
    let probes: Vec<_> = bank.arrivals().entries.into_iter().filter(|a| a.path == "/health").map(|a| a.at_ns).collect();
    let longest = probes.windows(2).map(|pair| Duration::from_nanos(pair[1] - pair[0])).max().unwrap();
    let allowed = hand_over + 2 * Duration::from_secs(INTERVAL_SECONDS);
    assert!(longest <= allowed, "{longest:?} without a probe; the hand-over took {hand_over:?}");

    // The Pod is killed without a chance to release the lease, which has to expire.
    let force = ["-n", NAMESPACE, "delete", "pod", POD, "--force", "--grace-period=0"];
    cluster.kubectl(&force, "").await.ok();
    let (successor, leads) = release.leader_after(&upgraded).await;
    let took = leads.duration_since(release.time_of(&successor, ContainerChange::Started)).unsigned_abs();
    assert!(took <= TAKEOVER, "leads {took:?} after its start");
    assert_eq!(release.agent.exit_codes(NAMESPACE, POD), [0, 128 + 9]);
    further_arrivals(&bank, "/health", 2).await;

    // The run ended, and each page of it was stored once.
    env.until(FEED, "the job ran", has_succeeded).await;
    assert_same(&rows_of(&env.ns, release.ledger()).await, &bank_transactions(env, &mono).await);

    // No status said anything else meanwhile.
    let findings = recorder.findings().await;
    assert!(findings.is_empty(), "{findings:#?}");
    for (kind, name, types) in
        [("ProviderConnection", "a", &["Ready", "Healthy"][..]), ("BankRoute", "payouts", &["Ready", "Available"])]
    {
        for wanted in types {
            let history = recorder.history(kind, name);
            let holds = |object: &Value| {
                let all = object["status"]["conditions"].as_array().into_iter().flatten();
                all.clone().any(|c| c["type"] == **wanted && c["status"] == "True")
            };
            let since = history.iter().skip_while(|state| !holds(&state.object));
            let lost: Vec<_> = since.filter(|state| !holds(&state.object)).map(|s| &s.object["status"]).collect();
            assert!(lost.is_empty(), "{wanted} of {name} was lost: {lost:#?}");
        }
    }

    // The finalizer of a job whose data is deleted with it.
    env.ns.kubectl(&["delete", "syncjob", FEED]).await.ok();
    let (account, audit) = (format!("system:serviceaccount:{NAMESPACE}:busbar-operator"), cluster.plane.audit());
    let (granted, used) = (release.granted().await, used(&audit, &account));
    let unused: Vec<_> = granted.difference(&used).collect();
    let argued = |right: &str| UNUSED.iter().any(|(name, _)| *name == right);
    report(&format!("rights that the chart grants and this test did not use: {unused:?}"));
    assert!(unused.iter().all(|right| argued(right)), "granted by the chart and never used: {unused:#?}");
    assert!(UNUSED.iter().all(|(name, _)| granted.contains(*name)), "argued and not granted: {granted:#?}");
    assert_eq!(release.denied(), Vec::<String>::new());
}
