//! Fifty connections, sixteen syncs and ten routes under random disruptions, one after another, while their banks fail and
//! recover at random. What is checked: every recorded status keeps the rules of conditions, the ledger holds each
//! transaction of the banks once, and after the end nothing of the disruptions is left in any status.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use busbar::api::v1alpha1::SyncJob;
use busbar::testbed::control_plane::{ControlPlane, OperatorScope};
use busbar::testbed::sim::{
    AccountConfig, BankHandle, Behaviour, Down, FailurePoint, Garbage, RequiredAuth, ScriptStep,
};
use kube::api::ListParams;
use serde_json::{Value, json};

use super::disruption::Disruption;
use super::terminated_refresh::key_flag;
use super::{RandomPlan, add_transactions, commit_log, soak_job};
use crate::cluster::bank_env::{bank_connection, quick_policy, secret_name};
use crate::cluster::control_planes::{fault_plane, report};
use crate::cluster::failover_env::{FailoverEnv, RECOVERY_DEADLINE, Statuses};
use crate::cluster::ledger_volume::LedgerVolume;
use crate::cluster::sync_jobs::{assert_same, bank_transactions, stored_rows};
use crate::kit::objects::{candidates, route};
use crate::kit::wait::{PATIENCE, eventually, within};

/// Banks that are only probed, and banks that are synced too.
const PLAIN: usize = 34;
const SYNCED: usize = 16;
const ROUTES: usize = 10;

/// Secrets that exist again are noticed within the recovery deadline.
const REFRESH: &str = "--secret-refresh=5s";

/// For so long no status must change: longer than two writes of one object are spaced.
const NO_CHANGE: Duration = Duration::from_secs(7);

/// Two checks, after which a recovered bank counts as healthy, by design.
const TWO_CHECKS: Duration = Duration::from_secs(12);

/// A [`FailoverEnv`] with many banks instead of its own objects.
pub(super) struct SoakEnv {
    env: FailoverEnv,
    /// The plain ones first.
    pub(super) banks: Vec<BankHandle>,
    /// Flags that a second operator needs too, to be the same.
    pub(super) flags: Vec<String>,
    /// The value of the last request to all jobs. A run that a bank stalls continues until its timeout, and the request waits
    /// for its end while the rest of the status is already good.
    requested: Option<String>,
    /// The number of the last added transaction.
    number: u64,
    /// The ledger's volume, if one can be mounted.
    pub(super) volume: Option<LedgerVolume>,
}

impl Deref for SoakEnv {
    type Target = FailoverEnv;

    fn deref(&self) -> &FailoverEnv {
        &self.env
    }
}

impl DerefMut for SoakEnv {
    fn deref_mut(&mut self) -> &mut FailoverEnv {
        &mut self.env
    }
}

impl SoakEnv {
    async fn new(plane: &Arc<ControlPlane>) -> Self {
        let keys = key_flag(plane);
        let mut env = FailoverEnv::empty(plane, "soak", OperatorScope::Namespace, &[REFRESH, &keys]).await;
        // Rights are revoked here, and API servers forbid what they have not read yet.
        env.expect_forbidden();
        env.put(&quick_policy("1s")).await;
        let mut banks = Vec::new();
        for n in 0..PLAIN {
            banks.push(env.bank(&format!("plain-{n:02}")).await);
        }
        for n in 0..SYNCED {
            let config = |n: usize| AccountConfig::new("acc-1", 20 + 40 * n as u64);
            banks.push(env.mono(&format!("mono-{n:02}"), |c| c.accounts([config(n)])).await);
        }
        env.operator.wait_ready().await;
        assert!(env.operator.sigterm().await.success());
        let volume = LedgerVolume::mount(&env.ns.ledger_file("a"));
        env.operator.restart().await;
        let flags = vec![env.ns.ledger_flag("a"), REFRESH.to_owned(), keys];
        commit_log::install(&env.ns.ledger_file("a"));
        let soak = Self { env, banks, flags, requested: None, number: 0, volume };
        for bank in &soak.banks[PLAIN..] {
            soak.put(&soak_job(bank.name())).await;
        }
        soak.put_routes().await;
        soak
    }

    /// Applies the routes, each over three banks.
    pub(super) async fn put_routes(&self) {
        for n in 0..ROUTES {
            let names = [0, 1, 2].map(|k| self.banks[(n * 5 + k * 17) % self.banks.len()].name().to_owned());
            let candidates = candidates(&names.each_ref().map(String::as_str));
            self.put(&route(&format!("route-{n}"), &candidates, json!({}))).await;
        }
    }

    /// One of the plain banks.
    pub(super) fn any_plain(plan: &mut RandomPlan) -> usize {
        let all: Vec<usize> = (0..PLAIN).collect();
        plan.one_of(&all)
    }

    /// Two of the synced banks.
    pub(super) fn two_synced(plan: &mut RandomPlan) -> (usize, usize) {
        let all: Vec<usize> = (PLAIN..PLAIN + SYNCED).collect();
        let first = plan.one_of(&all);
        let others: Vec<usize> = all.into_iter().filter(|index| *index != first).collect();
        (first, plan.one_of(&others))
    }

    /// Deletes the connection of a plain bank and creates it again at once.
    pub(super) async fn recreate_connection(&self, plan: &mut RandomPlan) {
        let index = Self::any_plain(plan);
        self.delete("ProviderConnection", self.banks[index].name()).await;
        self.put(&bank_connection(&self.banks[index], json!({}))).await;
    }

    /// A plain bank requires another token.
    pub(super) fn require_token(&self, index: usize, token: &str) {
        self.banks[index].set_auth(&RequiredAuth::Bearer { token: token.to_owned() }).expect("a token");
    }

    /// Writes the token of a plain bank into its Secret.
    pub(super) async fn write_secret(&self, index: usize, token: &str) {
        self.ns.secret(&secret_name(&self.banks[index]), &[("token", token.as_bytes())]).await;
    }

    /// Some banks fail in their own ways, some recover, and the synced ones get new transactions.
    async fn vary_banks(&mut self, plan: &mut RandomPlan) {
        for index in 0..self.banks.len() {
            if plan.chance(10) {
                let step = random_failure(plan);
                self.banks[index].set_script(step).await.expect("a script");
            } else if plan.chance(50) {
                self.banks[index].recover().await;
            }
            if index >= PLAIN && plan.chance(30) {
                let count = plan.one_of(&[1, 3, 120]);
                add_transactions(&self.env, &self.banks[index], &mut self.number, count);
            }
        }
    }

    /// Users change specs and request runs and checks meanwhile.
    pub(super) async fn edit_specs(&self, plan: &mut RandomPlan) {
        let name = self.banks[Self::any_plain(plan)].name().to_owned();
        let interval = plan.one_of(&["5s", "6s"]);
        self.merge("ProviderConnection", &name, json!({"spec": {"healthCheck": {"interval": interval}}})).await;
        let request = json!({"metadata": {"annotations": {"busbar.dev/requestedAt": self.now().to_string()}}});
        self.merge("ProviderConnection", &name, request.clone()).await;
        let synced: Vec<usize> = (PLAIN..PLAIN + SYNCED).collect();
        let name = self.banks[plan.one_of(&synced)].name().to_owned();
        self.merge("SyncJob", &name, json!({"spec": {"suspend": plan.chance(30)}})).await;
        self.merge("SyncJob", &name, request).await;
        let name = format!("route-{}", plan.one_of(&[0, 1, 2, 3]));
        self.merge("BankRoute", &name, json!({"spec": {"priority": plan.one_of(&[0, 1, 10])}})).await;
        if plan.chance(30) {
            self.recreate_connection(plan).await;
        }
    }

    /// Lets all banks recover, and requests a run of every job.
    async fn repair(&mut self) {
        for bank in &self.banks {
            bank.recover().await;
        }
        let now = self.now().to_string();
        let request = json!({
            "metadata": {"annotations": {"busbar.dev/requestedAt": now}},
            "spec": {"suspend": false},
        });
        self.requested = Some(now);
        for bank in &self.banks[PLAIN..] {
            self.merge("SyncJob", bank.name(), request.clone()).await;
        }
    }

    /// An object whose status is not good, if there is one.
    async fn unhealthy_object(&self) -> Option<String> {
        for (key, object) in self.statuses().await {
            let status = &object["status"];
            let is = |kind: &str, wanted: &str| {
                let all = status["conditions"].as_array();
                all.is_some_and(|all| all.iter().any(|c| c["type"] == kind && c["status"] == wanted))
            };
            let healthy = match key.split('/').next().unwrap_or_default() {
                "providerconnections" => {
                    is("Ready", "True")
                        && is("Healthy", "True")
                        && is("Authenticated", "True")
                        && status["circuit"] == "Closed"
                }
                "syncjobs" => {
                    is("Ready", "True")
                        && is("Fresh", "True")
                        && status["lastResult"] == "Succeeded"
                        && self
                            .requested
                            .as_ref()
                            .is_none_or(|requested| status["lastHandledReconcileAt"] == requested.as_str())
                }
                "bankroutes" => is("Ready", "True") && is("Available", "True"),
                _ => is("Ready", "True"),
            };
            if !healthy {
                return Some(format!("{key}\n{status:#}"));
            }
        }
        None
    }

    /// Waits until all statuses are good; returns the object that was the last one.
    async fn until_healthy(&self, deadline: Duration, what: &str) -> String {
        let mut last = String::new();
        within(deadline, what, async || {
            let Some(object) = self.unhealthy_object().await else { return Ok(()) };
            object.lines().next().unwrap_or_default().clone_into(&mut last);
            Err(format!("{object}\n{}", self.operator.log_tail()))
        })
        .await;
        last
    }

    /// Waits until no status changes any more, and returns all.
    async fn until_unchanged(&self) -> Statuses {
        let mut last = without_decaying_risk(self.statuses().await);
        let mut since = self.clock.mono();
        eventually("no status changes any more", async || {
            let now = without_decaying_risk(self.statuses().await);
            if now != last {
                (last, since) = (now, self.clock.mono());
            }
            (self.clock.mono().since(since) > NO_CHANGE).then(|| last.clone())
        })
        .await
    }
}

/// Without what only time changes after a failure: the risk band falls over minutes by design, and with it its messages.
fn without_decaying_risk(mut all: Statuses) -> Statuses {
    for object in all.values_mut() {
        let status = &mut object["status"];
        if status["health"].is_string() {
            status["risk"] = Value::Null;
            status["health"] = Value::Null;
            status["circuitState"]["opens"] = Value::Null;
            for condition in status["conditions"].as_array_mut().into_iter().flatten() {
                if condition["type"] == "Healthy" {
                    condition["reason"] = Value::Null;
                    condition["message"] = Value::Null;
                }
            }
        }
    }
    all
}

/// Where two values differ, one line for each place.
fn differences(path: &str, was: &Value, is: &Value, found: &mut Vec<String>) {
    match (was, is) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                differences(&format!("{path}.{key}"), &was[key.as_str()], &is[key.as_str()], found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (was, is)) in one.iter().zip(other).enumerate() {
                differences(&format!("{path}[{index}]"), was, is, found);
            }
        }
        _ if was == is => {}
        _ => found.push(format!("{path} was {was}, is {is}")),
    }
}

/// A body that would take half a gigabyte as a tree.
fn expensive() -> Behaviour {
    let body = format!("[{}{{}}]", r#"{"a":0},"#.repeat(640_000));
    Behaviour::Status { code: 200, headers: BTreeMap::new(), body: Some(body) }
}

/// One of the ways in which banks fail.
fn random_failure(plan: &mut RandomPlan) -> ScriptStep {
    let all = [
        Behaviour::status(500),
        Behaviour::status(503),
        Behaviour::status(401),
        Behaviour::status(403),
        Behaviour::rate_limited("2"),
        Behaviour::Stall(FailurePoint::BeforeHead),
        Behaviour::Stall(FailurePoint::AfterHead),
        Behaviour::Dribble { bytes: 16, every_ms: 20 },
        Behaviour::Reset(FailurePoint::BeforeHead),
        Behaviour::Reset(FailurePoint::AfterHead),
        Behaviour::Truncate { percent: 50 },
        Behaviour::Garbage(Garbage::Html),
        Behaviour::Garbage(Garbage::InvalidJson),
        Behaviour::Garbage(Garbage::Empty),
        expensive(),
        Behaviour::Down(Down::Refuse),
        Behaviour::Down(Down::Close),
        Behaviour::Down(Down::Hang),
        Behaviour::Healthy,
    ];
    let index: Vec<usize> = (0..all.len()).collect();
    let behaviour = all[plan.one_of(&index)].clone();
    match behaviour {
        Behaviour::Healthy => ScriptStep::slow(Duration::from_millis(1_500)),
        Behaviour::Down(_) => ScriptStep::from(behaviour),
        other => ScriptStep::from(other).share(plan.one_of(&[30, 100, 100])),
    }
}

#[tokio::test]
async fn random_disruptions_leave_nothing_behind() {
    let mut plan = RandomPlan::new("random disruptions");
    let plane = fault_plane().await;
    let mut env = SoakEnv::new(&plane).await;
    env.until_healthy(PATIENCE, "all statuses are good at first").await;

    let clock = env.clock;
    let until = clock.mono() + plan.duration;
    let longest = (plan.duration.as_secs() / 12).clamp(3, 20);
    let mut injected: BTreeMap<String, usize> = BTreeMap::new();
    while clock.mono() < until {
        env.vary_banks(&mut plan).await;
        let (disruption, time) = (Disruption::any(&mut plan), plan.seconds(1..=longest));
        report(&format!("soak: {:.0?} left: {disruption} for {time:.1?}", until.since(clock.mono())));
        disruption.inject(&mut env, &mut plan, time).await;
        *injected.entry(disruption.to_string()).or_default() += 1;
        if let Some(status) = env.operator.exited() {
            panic!("seed {}: exited after {disruption}: {status}\n{}", plan.seed, env.operator.log_tail());
        }
        tokio::time::sleep(plan.seconds(0..=4)).await;
    }

    env.operator.wait_leading().await;
    env.repair().await;
    let repaired = clock.mono();
    let last = env.until_healthy(TWO_CHECKS + RECOVERY_DEADLINE, "all statuses are good soon after the end").await;
    let took = clock.mono().since(repaired);
    let before = env.until_unchanged().await;
    assert!(env.operator.sigterm().await.success());
    env.operator.restart().await;
    env.operator.wait_leading().await;
    env.until_healthy(PATIENCE, "all statuses are good after a restart").await;
    let after = env.until_unchanged().await;
    let mut changes = Vec::new();
    for (key, was) in &before {
        differences(key, was, after.get(key).unwrap_or(&Value::Null), &mut changes);
    }
    assert!(changes.is_empty(), "seed {}: changed by a restart:\n{}", plan.seed, changes.join("\n"));
    for bank in &env.banks[PLAIN..] {
        let expected = bank_transactions(&env, bank).await;
        let rows = async || {
            let all = stored_rows(&env.ns, "a").await;
            all.into_iter().filter(|row| row.connection == bank.name()).collect::<Vec<_>>()
        };
        eventually(format!("all transactions of {} are in the ledger", bank.name()), async || {
            rows().await.len() >= expected.len()
        })
        .await;
        assert_same(&rows().await, &expected);
    }
    assert!(!env.operator.logs().contains("panicked"), "seed {}: a task panicked", plan.seed);
    let (file, seed) = (env.ns.ledger_file("a"), plan.seed);
    let jobs = env.ns.api::<SyncJob>().list(&ListParams::default()).await.expect("jobs");
    assert_eq!(jobs.items.len(), SYNCED);
    env.env.finish().await;
    let (findings, totals) = commit_log::findings(&file);
    assert!(findings.is_empty(), "seed {seed}:\n{}", findings.join("\n"));
    report(&format!(
        "soak: {} disruptions {injected:?}; good {took:.1?} after the last, {last} last; {} commits in {} runs; seed {seed}",
        injected.values().sum::<usize>(),
        totals.commits,
        totals.runs,
    ));
}
