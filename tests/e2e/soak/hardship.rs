//! What befalls an operator in a soak beside its banks: the faults of the control plane, and what people and other
//! programs do to its objects and to itself.

use std::fmt;
use std::time::Duration;

use busbar::testbed::control_plane::{ControlPlane, OperatorScope};
use busbar::testbed::faults::Fault;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use super::Plan;
use super::random::Stage;
use crate::support::plane::{PATIENCE, repository};
use crate::support::status_recorder::api;
use crate::support::{Operator, eventually};

/// One misfortune.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Hardship {
    /// Of the control plane, or of the way to it.
    Api(Fault),
    /// Its rights are taken away and given back.
    RightsRevoked,
    /// Somebody starts another operator beside it, with the same lease and ledger.
    SecondOperator,
    /// Another program writes itself into the lease.
    LeaseTaken,
    /// SIGKILL.
    Killed,
    /// SIGSTOP.
    Frozen,
    /// A connection is deleted and made again at once.
    Reborn,
    /// Somebody writes a status.
    Forged,
    /// A bank changes its credential, and the Secret follows.
    Rotated,
    /// A Secret is missing for a while.
    SecretGone,
    /// A kind is missing for a while, with all objects of it.
    KindGone,
    /// Somebody has loosened a schema, and written what our types cannot read.
    Unreadable,
}

impl fmt::Display for Hardship {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(fault) => fault.fmt(f),
            other => fmt::Debug::fmt(other, f),
        }
    }
}

impl Hardship {
    /// All that are not of the control plane.
    const OTHERS: [Self; 11] = [
        Self::RightsRevoked,
        Self::SecondOperator,
        Self::LeaseTaken,
        Self::Killed,
        Self::Frozen,
        Self::Reborn,
        Self::Forged,
        Self::Rotated,
        Self::SecretGone,
        Self::KindGone,
        Self::Unreadable,
    ];

    /// One of all of them.
    pub(super) fn any(plan: &mut Plan) -> Self {
        if plan.chance(60) {
            let more = [Fault::AllRejected(429), Fault::HistoryCompacted];
            let faults: Vec<Fault> = Fault::BY_COMPONENT.into_iter().chain(Fault::BY_PROXY).chain(more).collect();
            return Self::Api(plan.one_of(&faults));
        }
        plan.one_of(&Self::OTHERS)
    }

    /// Whether the API server answers everybody but the operator meanwhile.
    pub(super) fn leaves_api(self) -> bool {
        let component = |fault| Fault::BY_COMPONENT.contains(&fault) || fault == Fault::HistoryCompacted;
        !matches!(self, Self::Api(fault) if component(fault))
    }

    /// Lets it happen, for `time`; all of it is over when this returns.
    pub(super) async fn befall(self, stage: &mut Stage, plan: &mut Plan, time: Duration) {
        match self {
            Self::Api(fault) => {
                let fault_env = &stage.scene.fault_env;
                fault.begin(fault_env).await.unwrap_or_else(|error| panic!("{fault} does not begin: {error}"));
                if self.leaves_api() {
                    stage.meddle(plan).await;
                }
                tokio::time::sleep(time).await;
                let fault_env = &stage.scene.fault_env;
                fault.end(fault_env).await.unwrap_or_else(|error| panic!("{fault} does not end: {error}"));
            }
            Self::RightsRevoked => {
                let bindings: Api<RoleBinding> = stage.scene.world.ns.api();
                bindings.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("bindings");
                tokio::time::sleep(time).await;
                let ns = &stage.scene.world.ns;
                ns.plane().grant_operator(ns.name(), OperatorScope::Namespace).await.expect("rights");
            }
            Self::SecondOperator => {
                let flags: Vec<&str> = stage.flags.iter().map(String::as_str).collect();
                let mut second = Operator::start_replica(&stage.scene.world.ns, "second", &flags).await;
                second.expect_forbidden();
                second.wait_ready().await;
                tokio::time::sleep(time).await;
                second.finish(&stage.scene.world.ns).await;
            }
            Self::LeaseTaken => self.take_lease(stage).await,
            Self::Killed => {
                stage.scene.operator.kill9();
                tokio::time::sleep(time / 4).await;
                stage.scene.operator.restart().await;
            }
            Self::Frozen => {
                stage.scene.operator.pause();
                stage.meddle(plan).await;
                tokio::time::sleep(time).await;
                stage.scene.operator.resume();
            }
            Self::Reborn => stage.reborn(plan).await,
            Self::Forged => {
                let name = stage.banks[Stage::any_plain(plan)].name().to_owned();
                let forged = Patch::Merge(json!({"status": {"host": "forged.example"}}));
                let connections = api(&stage.scene.world.ns, "ProviderConnection");
                connections.patch_status(&name, &PatchParams::default(), &forged).await.expect("forged");
            }
            Self::Rotated => {
                let index = Stage::any_plain(plan);
                let token = stage.scene.world.ns.canary(stage.banks[index].name());
                stage.demand(index, &token);
                tokio::time::sleep(time / 2).await;
                stage.credential(index, &token).await;
            }
            Self::SecretGone => {
                let index = Stage::any_plain(plan);
                let secrets: Api<Secret> = stage.scene.world.ns.api();
                let name = format!("{}-credentials", stage.banks[index].name());
                let secret = secrets.get(&name).await.expect("the Secret");
                secrets.delete(&name, &DeleteParams::default()).await.expect("deleted");
                tokio::time::sleep(time).await;
                let token = String::from_utf8(secret.data.expect("data")["token"].0.clone()).expect("text");
                stage.credential(index, &token).await;
            }
            Self::KindGone => {
                let plane = stage.scene.world.ns.plane();
                let kinds: Api<CustomResourceDefinition> = Api::all(plane.client().expect("a client"));
                let name = "bankroutes.busbar.dev";
                kinds.delete(name, &DeleteParams::default()).await.expect("deleted");
                eventually(PATIENCE, "the kind is gone", async || {
                    kinds.get_opt(name).await.ok()?.is_none().then_some(())
                })
                .await;
                tokio::time::sleep(time).await;
                plane.install().await.expect("the kinds");
                stage.routes().await;
            }
            Self::Unreadable => {
                let plane = stage.scene.world.ns.plane();
                let pointer =
                    "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/healthCheck/properties/path";
                let any = json!({"x-kubernetes-preserve-unknown-fields": true});
                let loose = json!([{"op": "replace", "path": pointer, "value": any}]).to_string();
                let patch = ["patch", "crd", "providerconnections.busbar.dev", "--type=json", "-p", &loose];
                kubectl(plane, &patch).await;
                let connections = api(&stage.scene.world.ns, "ProviderConnection");
                let name = stage.banks[Stage::any_plain(plan)].name().to_owned();
                let write = async |path: serde_json::Value| {
                    let patch = Patch::Merge(json!({"spec": {"healthCheck": {"path": path}}}));
                    connections.patch(&name, &PatchParams::default(), &patch).await.map(drop)
                };
                eventually(PATIENCE, "the loose schema is in force", async || write(json!(["health"])).await.ok())
                    .await;
                tokio::time::sleep(time).await;
                write(json!("/health")).await.expect("written");
                let crds = repository("crds");
                kubectl(plane, &["apply", "--server-side", "--force-conflicts", "-f", &crds.to_string_lossy()]).await;
            }
        }
    }

    /// The operator finds its lease in other hands, and ends; whoever runs it starts it again.
    async fn take_lease(self, stage: &mut Stage) {
        // Who does not lead has nothing to lose, and only waits: after the last theft it does so for a while.
        eventually(PATIENCE, "it leads", async || stage.scene.operator.leads().await.then_some(())).await;
        let leases: Api<Lease> = stage.scene.world.ns.api();
        let now = stage.scene.world.now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let thief = Patch::Merge(json!({"spec": {"holderIdentity": "thief", "acquireTime": now, "renewTime": now}}));
        leases.patch("busbar", &PatchParams::default(), &thief).await.expect("the lease is taken");
        let status = stage.scene.operator.wait_exit(PATIENCE).await;
        assert!(!status.success(), "who has lost its lease ends, and says so: {status}");
        stage.scene.operator.restart().await;
    }
}

async fn kubectl(plane: &ControlPlane, args: &[&str]) {
    let done = plane.run_kubectl(args, "").await.expect("kubectl runs");
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}
