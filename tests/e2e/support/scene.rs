//! The stage of a fault: two banks, a route over them, a job, an operator that reaches the API server through a proxy,
//! on which something goes wrong.
//!
//! A test reads as a story: [`Scene::begin`] with a cause, what happens meanwhile, [`FaultRun::end`], and the verdict of
//! [`super::fault_run`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use busbar::api::v1alpha1::{BankRoute, BreakerPolicy, ProviderConnection, SyncJob};
use busbar::clock::Clock;
use busbar::cluster::resource::HasStatus;
use busbar::domain::time::Mono;
use busbar::testbed::control_plane::{AuditPosition, AuditQuery, ControlPlane, OperatorScope};
use busbar::testbed::faults::{Fault, FaultEnv};
use busbar::testbed::sim::BankHandle;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use super::fault_run::FaultRun;
use super::metrics;
use super::plane::PATIENCE;
use super::world::{QUICK, connection, mono_connection, policy, route};
use super::{Operator, World, eventually};

/// How long after its end nothing of a fault may be left in any status.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Nothing more is owed when no status was written for longer than two writes of one object are spaced.
pub(super) const QUIET: Duration = Duration::from_secs(6);

/// Plurals and kinds.
const KINDS: [(&str, &str); 4] = [
    ("providerconnections", "ProviderConnection"),
    ("syncjobs", "SyncJob"),
    ("bankroutes", "BankRoute"),
    ("breakerpolicies", "BreakerPolicy"),
];

/// Objects by `plural/name`, each with UID, generation and what a user must hear of soon.
pub(crate) type Statuses = BTreeMap<String, Value>;

/// The stage.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) fault_env: FaultEnv,
    pub(crate) operator: Operator,
    /// The bank that the route prefers.
    pub(crate) a: BankHandle,
    /// The other one.
    pub(crate) b: BankHandle,
    /// The one that the job reads from.
    pub(crate) mono: BankHandle,
    pub(crate) clock: Clock,
    struck: bool,
}

impl Scene {
    /// Sets the stage on `plane` and waits until all is well and told.
    pub(crate) async fn on(plane: &Arc<ControlPlane>, topic: &str) -> Self {
        Self::with(plane, topic, OperatorScope::Namespace, &[]).await
    }

    /// The same for an operator of this reach, with further flags.
    pub(crate) async fn with(plane: &Arc<ControlPlane>, topic: &str, reach: OperatorScope, flags: &[&str]) -> Self {
        let mut scene = Self::empty(plane, topic, reach, flags).await;
        scene.populate().await;
        scene.operator.wait_ready().await;
        scene.settled().await;
        scene
    }

    /// A stage with banks and an operator that was started, and no object of ours.
    pub(crate) async fn empty(plane: &Arc<ControlPlane>, topic: &str, reach: OperatorScope, flags: &[&str]) -> Self {
        let world = World::bare(plane, topic).await;
        let fault_env = FaultEnv::new(Arc::clone(plane)).await.expect("a proxy");
        let (a, b) = (world.secured("a").await, world.secured("b").await);
        let mono = world.secured_mono("mono", |c| c).await;
        let identity = plane.grant_operator(world.ns.name(), reach).await.expect("an identity");
        let kubeconfig = fault_env.proxy.kubeconfig(&identity.kubeconfig).expect("a kubeconfig");
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let flags: Vec<&str> = [kubeconfig.as_str()].into_iter().chain(flags.iter().copied()).collect();
        let operator = match reach {
            OperatorScope::Namespace => Operator::start(&world.ns, &flags).await,
            OperatorScope::Cluster => Operator::start_cluster_wide(&world.ns, &flags).await,
        };
        Self { world, fault_env, operator, a, b, mono, clock: Clock::system(), struck: false }
    }

    /// Creates the objects.
    pub(crate) async fn populate(&self) {
        // A circuit that is open stays so: what changes after the fault is the fault's doing.
        self.world.put(&policy(QUICK, "trip: {consecutiveFailures: 1}, open: {base: 1h}")).await;
        self.world.put(&connection("a", &self.a, "")).await;
        self.world.put(&connection("b", &self.b, "")).await;
        self.world.put(&mono_connection("mono", &self.mono)).await;
        self.world.put(&crate::jobs::job("mono", "24h", "jitterPercent: 0, deletionPolicy: Delete")).await;
        self.world.put(&route("payouts", &[("a", "a", ""), ("b", "b", "")], "")).await;
    }

    /// Waits until all is well and told.
    pub(crate) async fn settled(&self) {
        self.active("a").await;
        let ran = |j: &SyncJob| j.status.as_ref()?.last_successful_time.as_ref().map(drop);
        self.world.until("feed", "the job ran", ran).await;
        self.quiet(PATIENCE).await;
    }

    /// Waits until the route takes this bank.
    pub(crate) async fn active(&self, name: &'static str) {
        let seen = move |r: &BankRoute| (r.status.as_ref()?.active.as_deref()? == name).then_some(());
        self.world.until("payouts", &format!("{name} takes payouts"), seen).await;
    }

    /// Begins `fault` and notes where the world stands.
    pub(crate) async fn begin(&mut self, fault: Fault) -> FaultRun {
        self.struck |= !Fault::BY_PROXY.contains(&fault);
        let mut fault_run = self.fault_run().await;
        fault_run.fault = Some(fault);
        fault.begin(&self.fault_env).await.unwrap_or_else(|error| panic!("{fault} does not begin: {error}"));
        fault_run
    }

    /// From here on the API server may refuse by mistake: something restarts it, or takes kinds away.
    pub(crate) fn strike(&mut self) {
        self.struck = true;
    }

    /// The same for a cause of the test's own.
    pub(crate) async fn fault_run(&self) -> FaultRun {
        let before = self.statuses().await;
        FaultRun { before, ..self.without_kinds() }
    }

    /// The same while our kinds are not served.
    pub(crate) fn without_kinds(&self) -> FaultRun {
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
    pub(crate) async fn probes(&self, count: u64) {
        let (a, b) = (self.a.arrivals().next, self.b.arrivals().next);
        eventually(PATIENCE, "probes go on", async || {
            (self.a.arrivals().next >= a + count && self.b.arrivals().next >= b + count).then_some(())
        })
        .await;
    }

    /// What users are told of every object now.
    pub(crate) async fn statuses(&self) -> Statuses {
        let mut found = Statuses::new();
        for (plural, kind) in KINDS {
            let resource =
                ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("busbar.dev", "v1alpha1", kind), plural);
            let api: Api<DynamicObject> = Api::namespaced_with(self.world.ns.client(), self.world.ns.name(), &resource);
            for object in api.list(&ListParams::default()).await.expect("objects are listed") {
                let status = told(kind, &serde_json::to_value(&object).expect("an object is JSON"));
                let value = serde_json::json!({
                    "uid": object.uid(), "generation": object.metadata.generation, "status": status,
                });
                found.insert(format!("{plural}/{}", object.name_any()), value);
            }
        }
        found
    }

    /// Successful writes of status since `position`, by object.
    pub(crate) fn writes(&self, since: AuditPosition) -> BTreeMap<String, usize> {
        let namespace = Some(self.world.ns.name());
        let query =
            AuditQuery { verb: Some("patch"), subresource: Some("status"), namespace, ..self.operator.requests() };
        let mut count = BTreeMap::new();
        for request in self.operator.audit().requests_since(since, &query).expect("the audit log") {
            if request.code < 300 {
                *count.entry(format!("{}/{}", request.resource, request.name)).or_default() += 1;
            }
        }
        count
    }

    /// How many changes of `plural/name` that a user must hear of were seen since then.
    pub(super) fn changes(&self, object: &str, since: Mono) -> usize {
        let (plural, name) = object.split_once('/').expect("a plural and a name");
        let kind = KINDS.iter().find(|(p, _)| *p == plural).map_or("", |(_, kind)| kind);
        let mut last = None;
        let mut count = 0;
        for sight in self.operator.status_recorder().history(kind, name) {
            let now = (sight.object["metadata"]["uid"].clone(), told(kind, &sight.object));
            count += usize::from(sight.at >= since && last.as_ref() != Some(&now));
            last = Some(now);
        }
        count
    }

    /// Waits until nothing more is owed.
    pub(super) async fn quiet(&self, within: Duration) {
        let audit = self.operator.audit();
        let (mut position, mut since) = (audit.position().expect("the audit log"), self.clock.mono());
        eventually(within, "no status is written any more", async || {
            if !self.writes(position).is_empty() {
                (position, since) = (audit.position().expect("the audit log"), self.clock.mono());
            }
            (self.clock.mono().since(since) > QUIET).then_some(())
        })
        .await;
    }

    /// Takes every status away.
    async fn erase(&self) {
        for (kind, name) in self.statuses().await.keys().filter_map(|key| key.split_once('/')) {
            let kind = KINDS.iter().find(|(plural, _)| *plural == kind).map_or("", |(_, kind)| kind);
            let nothing = Patch::Merge(serde_json::json!({ "status": null }));
            let objects = super::status_recorder::api(&self.world.ns, kind);
            objects.patch_status(name, &PatchParams::default(), &nothing).await.expect("the status is taken away");
        }
    }

    /// Replaces the operator by one that knows only what is written, and waits until it has looked at everything. With
    /// `nothing`, what was written is taken away before, and its ledger is all that the new one finds.
    pub(super) async fn fresh(&mut self, nothing: bool) {
        // One that has ended already needs no end.
        if self.operator.pid().is_some() {
            let ended = self.operator.sigterm().await;
            assert!(ended.success(), "it ended with {ended}");
        }
        if nothing {
            self.operator.status_recorder().others_write();
            self.erase().await;
        }
        let b = self.b.arrivals().next;
        self.operator.restart().await;
        let objects = self.statuses().await;
        // First probes start at once and together; bank a may be suspended, or have lost its connection.
        eventually(PATIENCE, "a fresh operator has checked bank b", async || {
            (self.b.arrivals().next > b).then_some(())
        })
        .await;
        let mut last = (-1.0, self.clock.mono());
        eventually(PATIENCE, "a fresh operator has reconciled everything", async || {
            let scrape = self.operator.metrics().await;
            let all = metrics::find(&scrape, "controller_runtime_reconcile_total", &[("result", "success")]);
            for (plural, kind) in KINDS {
                let wanted = objects.keys().filter(|key| key.starts_with(plural)).count();
                let done: f64 = all.iter().filter(|s| s.labels["controller"] == kind).map(|s| s.value).sum();
                if done < f64::from(u32::try_from(wanted).unwrap_or(u32::MAX)) {
                    return None;
                }
            }
            let sum: f64 = all.iter().map(|sample| sample.value).sum();
            if (sum - last.0).abs() > 0.5 {
                last = (sum, self.clock.mono());
            }
            (self.clock.mono().since(last.1) > Duration::from_secs(2)).then_some(())
        })
        .await;
    }

    /// The end of the test.
    pub(crate) async fn finish(mut self) {
        if self.struck {
            // An API server that has just started refuses what it will allow once its authorizer has read the bindings.
            self.operator.expect_forbidden();
        }
        self.operator.finish(&self.world.ns).await;
    }
}

/// The status without what only rides along; as it is if our types cannot read the object.
fn told(kind: &str, whole: &Value) -> Value {
    fn of<K: HasStatus>(object: &Value) -> Option<Value> {
        let typed: K = serde_json::from_value(object.clone()).ok()?;
        serde_json::to_value(K::transition_fields(typed.status()?)).ok()
    }
    let stripped = match kind {
        "ProviderConnection" => of::<ProviderConnection>(whole),
        "SyncJob" => of::<SyncJob>(whole),
        "BankRoute" => of::<BankRoute>(whole),
        _ => of::<BreakerPolicy>(whole),
    };
    stripped.unwrap_or_else(|| whole["status"].clone())
}
