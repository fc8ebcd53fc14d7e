//! Fifty connections, sixteen syncs and ten routes under random trouble, one after another, while their banks fail and
//! recover as they like. What is checked: every status ever seen keeps the rules of conditions, the ledger holds what the
//! banks gave, once, and when all is over nothing of it is left in any status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use busbar::api::v1alpha1::SyncJob;
use busbar::testbed::control_plane::{ControlPlane, OperatorScope};
use busbar::testbed::sim::{
    AccountConfig, BankHandle, Behaviour, Down, FailurePoint, Garbage, RequiredAuth, ScriptStep,
};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::hardship::Hardship;
use super::{Plan, book, job, journal};
use crate::jobs::{assert_same, ledger_file, rows, truth};
use crate::support::plane::{PATIENCE, struck_plane, tell};
use crate::support::scene::{SOON, Statuses};
use crate::support::status_recorder::api;
use crate::support::world::{QUICK, connection, policy, route};
use crate::support::{Scene, World, eventually};

/// Banks that are only probed, and banks that are synced too.
const PLAIN: usize = 34;
const SYNCED: usize = 16;
const ROUTES: usize = 10;

/// Secrets that come back are noticed within the time that a verdict has.
const REFRESH: &str = "--secret-refresh=5s";

/// No status changes for so long: longer than two writes of one object are spaced.
const QUIET: Duration = Duration::from_secs(7);

/// Two checks, after which a bank that is well again counts as such: that takes its time by design, whoever looks.
const RECOVERY: Duration = Duration::from_secs(12);

/// The world of the soak.
pub(super) struct Stage {
    pub(super) scene: Scene,
    /// The plain ones first.
    pub(super) banks: Vec<BankHandle>,
    /// Flags of the operator's that another needs too, to be the same.
    pub(super) flags: Vec<String>,
    /// When all jobs were asked to run, once they were. A run that a bank stalls goes on till its time is up, and what was
    /// asked for waits behind it while every other word of the status is well.
    asked: Option<String>,
    number: u64,
}

impl Stage {
    async fn new(plane: &Arc<ControlPlane>) -> Self {
        let mut scene = Scene::empty(plane, "soak", OperatorScope::Namespace, &[REFRESH]).await;
        // Rights are taken away in here, and API servers refuse what they have not read yet.
        scene.strike();
        let world = &scene.world;
        world.put(&policy(QUICK, "trip: {consecutiveFailures: 1}, open: {base: 1s}")).await;
        let mut banks = Vec::new();
        for n in 0..PLAIN {
            banks.push(world.bank(&format!("plain-{n:02}")).await);
        }
        for n in 0..SYNCED {
            let config = |n: usize| AccountConfig::new("acc-1", 20 + 40 * n as u64);
            banks.push(world.mono(&format!("mono-{n:02}"), |c| c.accounts([config(n)])).await);
        }
        scene.operator.wait_ready().await;
        let file = ledger_file(&scene.world.ns, "a");
        let flags = vec![format!("--ledger=sqlite:{}", file.display()), REFRESH.to_owned()];
        journal::keep(&file).await;
        let stage = Self { scene, banks, flags, asked: None, number: 0 };
        for bank in &stage.banks[PLAIN..] {
            stage.scene.world.put(&job(bank.name())).await;
        }
        stage.routes().await;
        stage
    }

    /// Puts the routes, each over three banks.
    pub(super) async fn routes(&self) {
        for n in 0..ROUTES {
            let names = [0, 1, 2].map(|k| self.banks[(n * 5 + k * 17) % self.banks.len()].name().to_owned());
            let candidates = names.each_ref().map(|name| (name.as_str(), name.as_str(), ""));
            self.scene.world.put(&route(&format!("route-{n}"), &candidates, "")).await;
        }
    }

    /// One of the plain banks.
    pub(super) fn any_plain(plan: &mut Plan) -> usize {
        let all: Vec<usize> = (0..PLAIN).collect();
        plan.one_of(&all)
    }

    /// Puts the connection of a plain bank.
    pub(super) async fn connect(&self, index: usize) {
        self.scene.world.put(&connection(self.banks[index].name(), &self.banks[index], "")).await;
    }

    /// The connection of a plain bank is deleted and made again at once.
    pub(super) async fn reborn(&self, plan: &mut Plan) {
        let index = Self::any_plain(plan);
        let connections = api(&self.scene.world.ns, "ProviderConnection");
        connections.delete(self.banks[index].name(), &DeleteParams::default()).await.expect("deleted");
        self.connect(index).await;
    }

    /// A plain bank wants another credential.
    pub(super) fn demand(&self, index: usize, token: &str) {
        self.banks[index].set_auth(&RequiredAuth::Bearer { token: token.to_owned() }).expect("a token");
    }

    /// Writes the credential of a plain bank into its Secret.
    pub(super) async fn credential(&self, index: usize, token: &str) {
        let name = format!("{}-credentials", self.banks[index].name());
        self.scene.world.ns.secret(&name, &[("token", token.as_bytes())]).await;
    }

    /// Some banks fail in their own ways, some recover, and the synced ones book on.
    async fn weather(&mut self, plan: &mut Plan) {
        for index in 0..self.banks.len() {
            if plan.chance(10) {
                let step = misbehaviour(plan);
                self.banks[index].set_script(step).await.expect("a script");
            } else if plan.chance(50) {
                self.banks[index].recover().await;
            }
            if index >= PLAIN && plan.chance(30) {
                let more = plan.one_of(&[1, 3, 120]);
                book(&self.scene.world, &self.banks[index].clone(), &mut self.number, more);
            }
        }
    }

    /// People change specs and ask for things meanwhile.
    pub(super) async fn meddle(&self, plan: &mut Plan) {
        let world = &self.scene.world;
        let name = self.banks[Self::any_plain(plan)].name().to_owned();
        let interval = plan.one_of(&["5s", "6s"]);
        merge(world, "ProviderConnection", &name, json!({"spec": {"healthCheck": {"interval": interval}}})).await;
        let asked = json!({"metadata": {"annotations": {"busbar.dev/requestedAt": world.now().to_string()}}});
        merge(world, "ProviderConnection", &name, asked.clone()).await;
        let synced: Vec<usize> = (PLAIN..PLAIN + SYNCED).collect();
        let name = self.banks[plan.one_of(&synced)].name().to_owned();
        merge(world, "SyncJob", &name, json!({"spec": {"suspend": plan.chance(30)}})).await;
        merge(world, "SyncJob", &name, asked).await;
        let name = format!("route-{}", plan.one_of(&[0, 1, 2, 3]));
        merge(world, "BankRoute", &name, json!({"spec": {"priority": plan.one_of(&[0, 1, 10])}})).await;
        if plan.chance(30) {
            self.reborn(plan).await;
        }
    }

    /// Whatever still was wrong is not any more.
    async fn mend(&mut self) {
        for bank in &self.banks {
            bank.recover().await;
        }
        let now = self.scene.world.now().to_string();
        let asked = json!({
            "metadata": {"annotations": {"busbar.dev/requestedAt": now}},
            "spec": {"suspend": false},
        });
        self.asked = Some(now);
        for bank in &self.banks[PLAIN..] {
            merge(&self.scene.world, "SyncJob", bank.name(), asked.clone()).await;
        }
    }

    /// What is not well in a status; `None` if all is.
    async fn ailing(&self) -> Option<String> {
        for (key, object) in self.scene.statuses().await {
            let status = &object["status"];
            let is = |kind: &str, wanted: &str| {
                let all = status["conditions"].as_array();
                all.is_some_and(|all| all.iter().any(|c| c["type"] == kind && c["status"] == wanted))
            };
            let well = match key.split('/').next().unwrap_or_default() {
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
                        && self.asked.as_ref().is_none_or(|asked| status["lastHandledReconcileAt"] == asked.as_str())
                }
                "bankroutes" => is("Ready", "True") && is("Available", "True"),
                _ => is("Ready", "True"),
            };
            if !well {
                return Some(format!("{key}\n{status:#}"));
            }
        }
        None
    }

    /// Waits until all is well, and told so; returns what was the last to be.
    async fn well(&self, within: Duration, what: &str) -> String {
        let began = self.scene.clock.mono();
        let mut last = String::new();
        loop {
            let Some(ailing) = self.ailing().await else { return last };
            ailing.lines().next().unwrap_or_default().clone_into(&mut last);
            let late = self.scene.clock.mono().since(began) > within;
            assert!(!late, "not within {within:?}: {what}: {ailing}\n{}", self.scene.operator.logs_tail());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until nothing changes any more in what users are told, and returns that.
    async fn settled(&self) -> Statuses {
        let mut last = lasting(self.scene.statuses().await);
        let mut since = self.scene.clock.mono();
        eventually(PATIENCE, "no status changes any more", async || {
            let now = lasting(self.scene.statuses().await);
            if now != last {
                (last, since) = (now, self.scene.clock.mono());
            }
            (self.scene.clock.mono().since(since) > QUIET).then(|| last.clone())
        })
        .await
    }
}

/// Without what a former failure leaves to time alone: the band of risk fades over minutes, as designed, and with it goes
/// what is said of it.
fn lasting(mut all: Statuses) -> Statuses {
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

/// One of the ways in which banks fail.
fn misbehaviour(plan: &mut Plan) -> ScriptStep {
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

async fn merge(world: &World, kind: &str, name: &str, patch: Value) {
    let params = PatchParams::default();
    let patched = api(&world.ns, kind).patch(name, &params, &Patch::Merge(patch)).await;
    patched.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
}

#[tokio::test]
async fn whatever_befalls_it_every_status_is_true_and_when_it_is_over_nothing_of_it_is_left() {
    let mut plan = Plan::new("random trouble");
    let plane = struck_plane().await;
    let mut stage = Stage::new(&plane).await;
    stage.well(PATIENCE, "all is well at first").await;

    let clock = stage.scene.clock;
    let until = clock.mono() + plan.time;
    let longest = (plan.time.as_secs() / 12).clamp(3, 20);
    let mut befell: BTreeMap<String, usize> = BTreeMap::new();
    while clock.mono() < until {
        stage.weather(&mut plan).await;
        let (hardship, time) = (Hardship::any(&mut plan), plan.seconds(1..=longest));
        tell(&format!("soak: {:.0?} left: {hardship} for {time:.1?}", until.since(clock.mono())));
        hardship.befall(&mut stage, &mut plan, time).await;
        *befell.entry(hardship.to_string()).or_default() += 1;
        if let Some(status) = stage.scene.operator.exited() {
            panic!("seed {}: ended by {hardship}: {status}\n{}", plan.seed, stage.scene.operator.logs_tail());
        }
        tokio::time::sleep(plan.seconds(0..=4)).await;
    }

    let leads = async || stage.scene.operator.leads().await.then_some(());
    eventually(PATIENCE, "the operator leads", leads).await;
    stage.mend().await;
    let mended = clock.mono();
    let last = stage.well(RECOVERY + SOON, "all is told as it is, soon after the end of all trouble").await;
    let took = clock.mono().since(mended);
    let told = stage.settled().await;
    assert!(stage.scene.operator.sigterm().await.success());
    stage.scene.operator.restart().await;
    eventually(PATIENCE, "a fresh operator leads", async || stage.scene.operator.leads().await.then_some(())).await;
    stage.well(PATIENCE, "a fresh operator tells the same").await;
    let fresh = stage.settled().await;
    let mut otherwise = Vec::new();
    for (key, was) in &told {
        differences(key, was, fresh.get(key).unwrap_or(&Value::Null), &mut otherwise);
    }
    assert!(otherwise.is_empty(), "seed {}: told otherwise by a fresh operator:\n{}", plan.seed, otherwise.join("\n"));
    for bank in &stage.banks[PLAIN..] {
        let wanted = truth(&stage.scene.world, bank).await;
        let own = async || {
            let all = rows(&stage.scene.world.ns, "a").await;
            all.into_iter().filter(|row| row.connection == bank.name()).collect::<Vec<_>>()
        };
        eventually(PATIENCE, &format!("all that {} has is in the ledger", bank.name()), async || {
            (own().await.len() >= wanted.len()).then_some(())
        })
        .await;
        assert_same(&own().await, &wanted);
    }
    assert!(!stage.scene.operator.logs().contains("panicked"), "seed {}: something panicked", plan.seed);
    let (file, seed) = (ledger_file(&stage.scene.world.ns, "a"), plan.seed);
    let jobs = stage.scene.world.ns.api::<SyncJob>().list(&ListParams::default()).await.expect("jobs");
    assert_eq!(jobs.items.len(), SYNCED);
    stage.scene.finish().await;
    let (findings, tally) = journal::findings(&file).await;
    assert!(findings.is_empty(), "seed {seed}:\n{}", findings.join("\n"));
    tell(&format!(
        "soak: {} misfortunes {befell:?}; well {took:.1?} after the last, {last} at last; {} commits in {} runs; seed {seed}",
        befell.values().sum::<usize>(),
        tally.commits,
        tally.runs,
    ));
}
