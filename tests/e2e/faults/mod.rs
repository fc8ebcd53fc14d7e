//! Every way in which the API server fails an operator: a fault, what happens meanwhile, its end, and the checks of
//! [`crate::cluster::fault_run`].

mod components;
mod leader_lease;
mod objects;
mod proxy;
mod rbac;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use busbar::api::v1alpha1::{BankRoute, ProviderConnection};
use busbar::testbed::control_plane::ControlPlane;
use busbar::testbed::faults::Fault;

use crate::cluster::bank_env::BusbarKind;
use crate::cluster::failover_env::FailoverEnv;
use crate::cluster::fault_run::{Expected, FaultOutcome, FaultRun};
use crate::kit::banks::unavailable;

/// What a failed bank costs: one write of the connection, one of the route.
const FAILED_OVER: [(&str, usize); 2] = [("providerconnections/a", 1), ("bankroutes/payouts", 1)];

/// Our kinds, each of which has a watch of its own.
const KINDS: [&str; 4] = ["ProviderConnection", "SyncJob", "BankRoute", "BreakerPolicy"];

/// Part of the log line of an API server that does not answer.
const LEASE_REQUEST_FAILED: &str = "leader lease request failed";

/// Bank a fails; returns when probes have noticed it.
async fn fail_bank_a(env: &FailoverEnv) {
    env.a.fail_with(unavailable()).await.unwrap();
    env.further_probes(2).await;
}

/// Injects a fault, during which bank a fails and `meanwhile` happens; after its end bank b must become active.
async fn fail_over_during(
    plane: &Arc<ControlPlane>,
    topic: &str,
    fault: Fault,
    expected: Expected<'_>,
    meanwhile: impl AsyncFnOnce(&FailoverEnv, &FaultRun),
) -> (FailoverEnv, FaultOutcome) {
    let mut env = FailoverEnv::on(plane, topic).await;
    let mut run = env.begin(fault).await;
    fail_bank_a(&env).await;
    meanwhile(&env, &run).await;
    run.end(&env).await;
    let outcome = run.outcome(&env, expected, async |env| is_active(env, "b").await).await;
    (env, outcome)
}

/// The object as it is now; `None` as well while the API server does not answer.
async fn get_object<K: BusbarKind>(env: &FailoverEnv, name: &str) -> Option<K> {
    let objects = env.ns.api::<K>();
    tokio::time::timeout(Duration::from_secs(2), objects.get(name)).await.ok()?.ok()
}

/// Whether bank `name` is the active one of the route.
async fn is_active(env: &FailoverEnv, name: &str) -> bool {
    let route = get_object::<BankRoute>(env, "payouts").await;
    route.is_some_and(|route| route.status.is_some_and(|status| status.active.as_deref() == Some(name)))
}

/// Whether a field of the connection has this value.
async fn connection_field_is<T: PartialEq>(
    env: &FailoverEnv,
    name: &str,
    field: impl Fn(&ProviderConnection) -> Option<T>,
    value: T,
) -> bool {
    get_object::<ProviderConnection>(env, name).await.is_some_and(|connection| field(&connection) == Some(value))
}
