//! The environment in which faults are injected: two banks, a route over them, a job, and an operator that reaches the API
//! server through a proxy.
//!
//! A test calls [`FailoverEnv::begin`] with a fault, lets things happen, calls [`FaultRun::end`], and checks the
//! [outcome](super::fault_run::FaultOutcome).

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use busbar::api::v1alpha1::{BankRoute, BreakerPolicy, ProviderConnection, SyncJob};
use busbar::clock::Clock;
use busbar::cluster::resource::HasStatus;
use busbar::domain::time::Mono;
use busbar::testbed::control_plane::{AuditPosition, AuditQuery, Component, ControlPlane, OperatorScope};
use busbar::testbed::faults::{Fault, FaultEnv};
use busbar::testbed::sim::BankHandle;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::bank_env::{BankEnv, bank_connection, mono_connection, quick_policy};
use super::fault_run::FaultRun;
use super::namespace::{TestNs, object_api};
use super::operator::Operator;
use crate::kit::metrics;
use crate::kit::objects::{candidates, job, route};
use crate::kit::wait::{PATIENCE, eventually, within};

/// How long after its end nothing of a fault may be left in any status.
pub(crate) const RECOVERY_DEADLINE: Duration = Duration::from_secs(30);

/// No status write is pending any more when none was seen for longer than two writes of one object are spaced.
pub(crate) const SETTLE_TIME: Duration = Duration::from_secs(6);

/// Plurals and kinds.
const KINDS: [(&str, &str); 4] = [
    ("providerconnections", "ProviderConnection"),
    ("syncjobs", "SyncJob"),
    ("bankroutes", "BankRoute"),
    ("breakerpolicies", "BreakerPolicy"),
];

/// Objects by `plural/name`, each with UID, generation and the transition fields of its status.
pub(crate) type Statuses = BTreeMap<String, Value>;

/// A [`BankEnv`] with two banks, a route, a job and an operator.
pub(crate) struct FailoverEnv {
    banks: BankEnv,
    pub(crate) fault_env: FaultEnv,
    pub(crate) operator: Operator,
    /// The bank that the route prefers.
    pub(crate) a: BankHandle,
    /// The other one.
    pub(crate) b: BankHandle,
    /// The one that the job reads from.
    pub(crate) mono: BankHandle,
    pub(crate) clock: Clock,
    may_forbid: bool,
    /// The controllers have lost the API server, and wait for up to half a minute before they look for it again.
    controllers_wait: bool,
}

impl Deref for FailoverEnv {
    type Target = BankEnv;

    fn deref(&self) -> &BankEnv {
        &self.banks
    }
}

impl FailoverEnv {
    /// With an operator that has settled.
    pub(crate) async fn on(plane: &Arc<ControlPlane>, topic: &str) -> Self {
        Self::with(plane, topic, OperatorScope::Namespace).await
    }

    /// The same for an operator of this scope.
    pub(crate) async fn with(plane: &Arc<ControlPlane>, topic: &str, scope: OperatorScope) -> Self {
        let mut env = Self::empty(plane, topic, scope, &[]).await;
        env.populate().await;
        env.operator.wait_ready().await;
        env.until_settled().await;
        env
    }

    /// With banks and an operator that was started with further flags, and no object of ours.
    pub(crate) async fn empty(plane: &Arc<ControlPlane>, topic: &str, scope: OperatorScope, flags: &[&str]) -> Self {
        let banks = BankEnv::empty(plane, topic).await;
        let fault_env = FaultEnv::new(Arc::clone(plane)).await.expect("a proxy");
        let (a, b) = (banks.bank_with_secret("a").await, banks.bank_with_secret("b").await);
        let mono = banks.mono_with_secret("mono", |c| c).await;
        let kubeconfig = proxied(&banks.ns, &fault_env.proxy.url());
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let flags: Vec<&str> = [kubeconfig.as_str()].into_iter().chain(flags.iter().copied()).collect();
        let operator = match scope {
            OperatorScope::Namespace => Operator::start(&banks.ns, &flags).await,
            OperatorScope::Cluster => Operator::start_cluster_wide(&banks.ns, &flags).await,
        };
        Self {
            banks,
            fault_env,
            operator,
            a,
            b,
            mono,
            clock: Clock::system(),
            may_forbid: false,
            controllers_wait: false,
        }
    }

    /// Creates the objects.
    pub(crate) async fn populate(&self) {
        // An open circuit stays open: what changes after the fault is caused by the fault.
        self.put(&quick_policy("1h")).await;
        self.put(&bank_connection(&self.a, json!({}))).await;
        self.put(&bank_connection(&self.b, json!({}))).await;
        self.put(&mono_connection(&self.mono)).await;
        self.put(&deleting_job()).await;
        self.put(&route("payouts", &candidates(&["a", "b"]), json!({}))).await;
    }

    /// Waits until the job has run, bank a is active and no status is written any more.
    pub(crate) async fn until_settled(&self) {
        self.until_active("a").await;
        self.until("feed", "the job ran", has_succeeded).await;
        self.until_quiet(PATIENCE).await;
    }

    /// Waits until this bank is the active one of the route.
    pub(crate) async fn until_active(&self, name: &'static str) {
        let active = move |r: &BankRoute| (r.status.as_ref()?.active.as_deref()? == name).then_some(());
        self.until("payouts", &format!("{name} is active"), active).await;
    }

    /// Begins a fault.
    pub(crate) async fn begin(&mut self, fault: Fault) -> FaultRun {
        self.may_forbid |= !Fault::BY_PROXY.contains(&fault);
        self.controllers_wait |= Fault::BY_COMPONENT.contains(&fault);
        let mut run = self.fault_run().await;
        run.fault = Some(fault);
        fault.begin(&self.fault_env).await.unwrap_or_else(|error| panic!("{fault} does not begin: {error}"));
        run
    }

    /// From here on the API server may forbid requests: it is restarted, or rights or kinds are removed.
    pub(crate) fn expect_forbidden(&mut self) {
        self.may_forbid = true;
    }

    /// Begins a run of a fault that the test injects itself.
    pub(crate) async fn fault_run(&self) -> FaultRun {
        let before = self.statuses().await;
        FaultRun { before, ..self.fault_run_without_kinds() }
    }

    /// The same while our kinds are not served.
    pub(crate) fn fault_run_without_kinds(&self) -> FaultRun {
        FaultRun {
            fault: None,
            began: self.clock.mono(),
            before: Statuses::new(),
            pid: self.operator.pid(),
            log: self.operator.logs().len(),
            audit: self.operator.audit().position().expect("the audit log"),
            ended: None,
        }
    }

    /// Waits until both banks were probed `count` times more.
    pub(crate) async fn further_probes(&self, count: u64) {
        let (a, b) = (self.a.arrivals().next, self.b.arrivals().next);
        eventually("both banks are probed", async || {
            self.a.arrivals().next >= a + count && self.b.arrivals().next >= b + count
        })
        .await;
    }

    /// The statuses of all objects now.
    pub(crate) async fn statuses(&self) -> Statuses {
        let mut found = Statuses::new();
        for (plural, kind) in KINDS {
            let objects = object_api(&self.ns, kind).list(&ListParams::default()).await.expect("objects are listed");
            for object in objects {
                let status = transition_fields(kind, &serde_json::to_value(&object).expect("an object is JSON"));
                let value = json!({"uid": object.uid(), "generation": object.metadata.generation, "status": status});
                found.insert(format!("{plural}/{}", object.name_any()), value);
            }
        }
        found
    }

    /// Successful status writes since `position`, by object.
    pub(crate) fn status_writes(&self, since: AuditPosition) -> BTreeMap<String, usize> {
        let namespace = Some(self.ns.name());
        let query =
            AuditQuery { verb: Some("update"), subresource: Some("status"), namespace, ..self.operator.requests() };
        let mut count = BTreeMap::new();
        for request in self.operator.audit().requests_since(since, &query).expect("the audit log") {
            if request.code < 300 {
                *count.entry(format!("{}/{}", request.resource, request.name)).or_default() += 1;
            }
        }
        count
    }

    /// How many changes of the transition fields of `plural/name` were recorded since then.
    pub(super) fn transitions(&self, object: &str, since: Mono) -> usize {
        let (plural, name) = object.split_once('/').expect("a plural and a name");
        let kind = kind_of(plural);
        let mut last = None;
        let mut count = 0;
        for state in self.operator.status_recorder().history(kind, name) {
            let now = (state.object["metadata"]["uid"].clone(), transition_fields(kind, &state.object));
            count += usize::from(state.at >= since && last.as_ref() != Some(&now));
            last = Some(now);
        }
        count
    }

    /// Waits until no status is written any more.
    pub(super) async fn until_quiet(&self, deadline: Duration) {
        let audit = self.operator.audit();
        let (mut position, mut since) = (audit.position().expect("the audit log"), self.clock.mono());
        within(deadline, "no status is written any more", async || {
            let writes = self.status_writes(position);
            if !writes.is_empty() {
                (position, since) = (audit.position().expect("the audit log"), self.clock.mono());
            }
            if self.clock.mono().since(since) > SETTLE_TIME { Ok(()) } else { Err(writes) }
        })
        .await;
    }

    /// Removes every status.
    async fn erase_statuses(&self) {
        for (plural, name) in self.statuses().await.keys().filter_map(|key| key.split_once('/')) {
            let nothing = Patch::Merge(json!({ "status": null }));
            let objects = object_api(&self.ns, kind_of(plural));
            objects.patch_status(name, &PatchParams::default(), &nothing).await.expect("the status is removed");
        }
    }

    /// Replaces the operator's process by a new one, and waits until that has reconciled everything. With `erase`, all
    /// statuses are removed before, and the ledger is all that the new process finds.
    pub(super) async fn replace_operator(&mut self, erase: bool) {
        // It may have exited already.
        if self.operator.pid().is_some() {
            let status = self.operator.sigterm().await;
            assert!(status.success(), "it exited with {status}");
        }
        if erase {
            self.operator.status_recorder().allow_foreign_writes();
            self.erase_statuses().await;
        }
        if std::mem::take(&mut self.controllers_wait) {
            let plane = self.ns.plane();
            plane.restart(Component::ControllerManager).await.expect("the controllers create the new Pod at once");
        }
        let b = self.b.arrivals().next;
        self.operator.restart().await;
        let objects = self.statuses().await;
        // First probes start at once and together; bank a may be suspended, or have lost its connection.
        eventually("the new operator has probed bank b", async || self.b.arrivals().next > b).await;
        let mut last = (-1.0, self.clock.mono());
        eventually("the new operator has reconciled everything", async || {
            let scrape = self.operator.metrics().await;
            let all = metrics::find(&scrape, "controller_runtime_reconcile_total", &[("result", "success")]);
            for (plural, kind) in KINDS {
                let wanted = objects.keys().filter(|key| key.starts_with(plural)).count();
                let done: f64 = all.iter().filter(|s| s.labels["controller"] == kind).map(|s| s.value).sum();
                if done < f64::from(u32::try_from(wanted).unwrap_or(u32::MAX)) {
                    return Err(format!("{done} of {wanted} {plural}"));
                }
            }
            let sum: f64 = all.iter().map(|sample| sample.value).sum();
            if (sum - last.0).abs() > 0.5 {
                last = (sum, self.clock.mono());
            }
            let settled = self.clock.mono().since(last.1) > Duration::from_secs(2);
            if settled { Ok(()) } else { Err(format!("{sum} reconciles, the last one just now")) }
        })
        .await;
    }

    /// The end of the test.
    pub(crate) async fn finish(mut self) {
        if self.may_forbid {
            // An API server that has just started forbids what it will allow once its authorizer has read the bindings.
            self.operator.expect_forbidden();
        }
        self.operator.finish(&self.banks.ns).await;
    }
}

/// A kubeconfig that directs a Pod to the proxy of a namespace, with the token of its own account.
fn proxied(ns: &TestNs, url: &str) -> PathBuf {
    let folder = ns.plane().run_dir().path().join("kubeconfigs").join(ns.name());
    fs::create_dir_all(&folder).expect("a folder");
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
        "clusters": [{"name": "proxy", "cluster": {"server": url}}],
        "users": [{"name": "pod", "user": {"tokenFile": token}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "pod", "namespace": ns.name()}}],
    });
    let file = folder.join("kubeconfig");
    fs::write(&file, kubeconfig.to_string()).expect("written");
    file
}

/// The job `feed`, whose rows are deleted with it.
pub(crate) fn deleting_job() -> Value {
    job("feed", "mono", "24h", json!({"jitterPercent": 0, "deletionPolicy": "Delete"}))
}

/// Whether a run of the job has succeeded.
pub(crate) fn has_succeeded(job: &SyncJob) -> Option<()> {
    job.status.as_ref()?.last_successful_time.as_ref().map(drop)
}

fn kind_of(plural: &str) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == plural).map_or("", |(_, kind)| kind)
}

/// The transition fields of the status; the whole status if our types cannot read the object.
fn transition_fields(kind: &str, object: &Value) -> Value {
    fn of<K: HasStatus>(object: &Value) -> Option<Value> {
        let typed: K = serde_json::from_value(object.clone()).ok()?;
        serde_json::to_value(K::transition_fields(typed.status()?)).ok()
    }
    let fields = match kind {
        "ProviderConnection" => of::<ProviderConnection>(object),
        "SyncJob" => of::<SyncJob>(object),
        "BankRoute" => of::<BankRoute>(object),
        _ => of::<BreakerPolicy>(object),
    };
    fields.unwrap_or_else(|| object["status"].clone())
}
