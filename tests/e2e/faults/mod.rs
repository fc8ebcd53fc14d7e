//! Every way in which the API server fails an operator, each a story: a cause, what happens meanwhile, its end, and the
//! verdict of [`crate::support::scene`].

mod components;
mod leader;
mod objects;
mod proxied;
mod rights;
mod schema;

use std::time::Duration;

use busbar::api::v1alpha1::{BankRoute, ProviderConnection};

use crate::support::Scene;
use crate::support::world::{Ours, down};

/// What a failed bank costs: one write of the connection, one of the route.
const FAILED_OVER: [(&str, usize); 2] = [("providerconnections/a", 1), ("bankroutes/payouts", 1)];

/// Our kinds, each of which has a watch of its own.
const KINDS: [&str; 4] = ["ProviderConnection", "SyncJob", "BankRoute", "BreakerPolicy"];

/// Words of the line that tells that nobody answers.
const LEASE: &str = "leader lease request failed";

/// Bank a fails; returns when probes have seen it.
async fn bank_a_fails(scene: &Scene) {
    scene.a.fail_with(down()).await.unwrap();
    scene.probes(2).await;
}

/// The object as it is now; `None` as well while the API server does not answer.
async fn now<K: Ours>(scene: &Scene, name: &str) -> Option<K> {
    let objects = scene.world.ns.api::<K>();
    tokio::time::timeout(Duration::from_secs(2), objects.get(name)).await.ok()?.ok()
}

/// Whether the route takes bank `name`.
async fn route_takes(scene: &Scene, name: &str) -> bool {
    now::<BankRoute>(scene, "payouts")
        .await
        .is_some_and(|r| r.status.is_some_and(|s| s.active.as_deref() == Some(name)))
}

/// Whether the connection tells of the last change of its spec.
async fn told_of<T: PartialEq>(
    scene: &Scene,
    name: &str,
    look: impl Fn(&ProviderConnection) -> Option<T>,
    wanted: T,
) -> bool {
    now::<ProviderConnection>(scene, name).await.is_some_and(|c| look(&c) == Some(wanted))
}
