//! What disrupts an operator in a soak test besides its banks: faults of the control plane, and what users and other
//! programs do to its objects and to its process.

use std::fmt;
use std::time::Duration;

use busbar::testbed::control_plane::{Component, OperatorScope};
use busbar::testbed::faults::Fault;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use super::hung_bank::hung_bank_under_load;
use super::hung_jobs::hung_bank_with_many_jobs;
use super::random::SoakEnv;
use super::terminated_refresh::terminated_during_refresh;
use super::{RandomPlan, only_fault};
use crate::cluster::bank_env::secret_name;
use crate::cluster::chart_release::grant;
use crate::cluster::control_planes::repository;
use crate::cluster::namespace::{kubectl, object_api};
use crate::cluster::operator::Operator;
use crate::kit::wait::{PATIENCE, eventually};

/// One disruption.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Disruption {
    /// A fault of the control plane, or of the connection to it.
    Api(Fault),
    /// Its rights are revoked and granted again.
    RightsRevoked,
    /// Another operator is started with the same lease and ledger.
    SecondOperator,
    /// Another program writes itself into the lease.
    LeaseTaken,
    /// SIGKILL.
    Killed,
    /// SIGSTOP.
    Frozen,
    /// A connection is deleted and created again at once.
    ConnectionRecreated,
    /// Another client writes a status.
    StatusOverwritten,
    /// A bank requires another credential, and the Secret follows.
    CredentialRotated,
    /// A Secret is missing for a while.
    SecretDeleted,
    /// A CRD is missing for a while, with all its objects.
    CrdDeleted,
    /// A schema is loosened, and an object is written that our types cannot read.
    Undecodable,
    /// The ledger's volume is full.
    LedgerFull,
    /// A bank hangs while the gateway is flooded with calls to it; those to another bank are all answered.
    BankHungUnderLoad,
    /// A bank with more jobs than there are slots hangs; requested runs of another bank end in time.
    BankHungWithManyJobs,
    /// SIGTERM while a refresh token is being rotated.
    TerminatedDuringRefresh,
}

impl fmt::Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(fault) => fault.fmt(f),
            other => fmt::Debug::fmt(other, f),
        }
    }
}

impl Disruption {
    /// All that are not of the control plane.
    const OTHERS: [Self; 15] = [
        Self::RightsRevoked,
        Self::SecondOperator,
        Self::LeaseTaken,
        Self::Killed,
        Self::Frozen,
        Self::ConnectionRecreated,
        Self::StatusOverwritten,
        Self::CredentialRotated,
        Self::SecretDeleted,
        Self::CrdDeleted,
        Self::Undecodable,
        Self::LedgerFull,
        Self::BankHungUnderLoad,
        Self::BankHungWithManyJobs,
        Self::TerminatedDuringRefresh,
    ];

    /// One of all of them.
    pub(super) fn any(plan: &mut RandomPlan) -> Self {
        if let Some(name) = only_fault() {
            let named = Self::OTHERS.into_iter().find(|disruption| disruption.to_string() == name);
            return named.unwrap_or_else(|| panic!("SOAK_FAULT={name}: not one of {:?}", Self::OTHERS));
        }
        if plan.chance(60) {
            let more = [Fault::AllRejected(429), Fault::HistoryCompacted];
            let faults: Vec<Fault> = Fault::BY_COMPONENT.into_iter().chain(Fault::BY_PROXY).chain(more).collect();
            return Self::Api(plan.one_of(&faults));
        }
        plan.one_of(&Self::OTHERS)
    }

    /// Whether the API server answers all clients but the operator meanwhile.
    pub(super) fn leaves_api(self) -> bool {
        let component = |fault| Fault::BY_COMPONENT.contains(&fault) || fault == Fault::HistoryCompacted;
        !matches!(self, Self::Api(fault) if component(fault))
    }

    /// Lets it happen for `time`; it has ended when this returns.
    pub(super) async fn inject(self, env: &mut SoakEnv, plan: &mut RandomPlan, time: Duration) {
        match self {
            Self::Api(fault) => {
                fault.begin(&env.fault_env).await.unwrap_or_else(|error| panic!("{fault} does not begin: {error}"));
                if self.leaves_api() {
                    env.edit_specs(plan).await;
                }
                tokio::time::sleep(time).await;
                fault.end(&env.fault_env).await.unwrap_or_else(|error| panic!("{fault} does not end: {error}"));
                if Fault::BY_COMPONENT.contains(&fault) {
                    // They would look for the API server again after half a minute.
                    let controllers = env.ns.plane().restart(Component::ControllerManager).await;
                    controllers.expect("the controllers start");
                }
            }
            Self::RightsRevoked => {
                let bindings: Api<RoleBinding> = env.ns.api();
                bindings.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("bindings");
                tokio::time::sleep(time).await;
                grant(&env.ns, OperatorScope::Namespace).await;
            }
            Self::SecondOperator => {
                let flags: Vec<&str> = env.flags.iter().map(String::as_str).collect();
                let mut second = Operator::start_replica(&env.ns, "second", &flags).await;
                second.expect_forbidden();
                second.wait_ready().await;
                tokio::time::sleep(time).await;
                second.finish(&env.ns).await;
            }
            Self::LeaseTaken => self.take_lease(env).await,
            Self::Killed => {
                env.operator.kill9();
                tokio::time::sleep(time / 4).await;
                env.operator.restart().await;
            }
            Self::Frozen => {
                env.operator.pause();
                env.edit_specs(plan).await;
                tokio::time::sleep(time).await;
                env.operator.resume();
            }
            Self::ConnectionRecreated => env.recreate_connection(plan).await,
            Self::StatusOverwritten => {
                let name = env.banks[SoakEnv::any_plain(plan)].name().to_owned();
                let status = Patch::Merge(json!({"status": {"host": "overwritten.example"}}));
                let connections = object_api(&env.ns, "ProviderConnection");
                connections.patch_status(&name, &PatchParams::default(), &status).await.expect("written");
            }
            Self::CredentialRotated => {
                let index = SoakEnv::any_plain(plan);
                let token = env.ns.canary(env.banks[index].name());
                env.require_token(index, &token);
                tokio::time::sleep(time / 2).await;
                env.write_secret(index, &token).await;
            }
            Self::SecretDeleted => {
                let index = SoakEnv::any_plain(plan);
                let secrets: Api<Secret> = env.ns.api();
                let name = secret_name(&env.banks[index]);
                let secret = secrets.get(&name).await.expect("the Secret");
                secrets.delete(&name, &DeleteParams::default()).await.expect("deleted");
                tokio::time::sleep(time).await;
                let token = String::from_utf8(secret.data.expect("data")["token"].0.clone()).expect("text");
                env.write_secret(index, &token).await;
            }
            Self::CrdDeleted => {
                let plane = env.ns.plane();
                let crds: Api<CustomResourceDefinition> = Api::all(plane.client().expect("a client"));
                let name = "bankroutes.busbar.dev";
                crds.delete(name, &DeleteParams::default()).await.expect("deleted");
                eventually("the CRD is deleted", async || matches!(crds.get_opt(name).await, Ok(None))).await;
                tokio::time::sleep(time).await;
                plane.install().await.expect("the CRDs");
                env.put_routes().await;
            }
            Self::LedgerFull => {
                let Some(volume) = &env.volume else { return };
                volume.fill();
                env.edit_specs(plan).await;
                tokio::time::sleep(time).await;
                volume.free();
            }
            Self::BankHungUnderLoad => hung_bank_under_load(env, plan, time).await,
            Self::BankHungWithManyJobs => hung_bank_with_many_jobs(env, plan, time).await,
            Self::TerminatedDuringRefresh => terminated_during_refresh(env).await,
            Self::Undecodable => store_undecodable(env, plan, time).await,
        }
    }

    /// The operator finds another holder of its lease and exits; it is started again.
    async fn take_lease(self, env: &mut SoakEnv) {
        // A standby has no lease to lose: after the last takeover it waits for a while.
        env.operator.wait_leading().await;
        let leases: Api<Lease> = env.ns.api();
        let now = env.now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let takeover =
            Patch::Merge(json!({"spec": {"holderIdentity": "another", "acquireTime": now, "renewTime": now}}));
        leases.patch("busbar", &PatchParams::default(), &takeover).await.expect("the lease is taken");
        let status = env.operator.wait_exit(PATIENCE).await;
        assert!(!status.success(), "an operator that has lost its lease exits with an error: {status}");
        env.operator.restart().await;
    }
}

/// A loosened definition lets an object in that the operator cannot decode; then both are as they were.
async fn store_undecodable(env: &SoakEnv, plan: &mut RandomPlan, time: Duration) {
    let plane = env.ns.plane();
    let pointer = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/healthCheck/properties/path";
    let any = json!({"x-kubernetes-preserve-unknown-fields": true});
    let loose = json!([{"op": "replace", "path": pointer, "value": any}]).to_string();
    let patch = ["patch", "crd", "providerconnections.busbar.dev", "--type=json", "-p", &loose];
    kubectl(plane, &patch, "").await.ok();
    let connections = object_api(&env.ns, "ProviderConnection");
    let name = env.banks[SoakEnv::any_plain(plan)].name().to_owned();
    let write = async |path: serde_json::Value| {
        let patch = Patch::Merge(json!({"spec": {"healthCheck": {"path": path}}}));
        connections.patch(&name, &PatchParams::default(), &patch).await.map(drop)
    };
    eventually("the loose schema is in effect", async || write(json!(["health"])).await).await;
    tokio::time::sleep(time).await;
    write(json!("/health")).await.expect("written");
    let crds = repository("crds");
    kubectl(plane, &["apply", "--server-side", "--force-conflicts", "-f", &crds.to_string_lossy()], "").await.ok();
}
