//! Every way in which the API server fails an operator, each a story: a cause, what happens meanwhile, its end, and the
//! verdict of [`crate::support::scene`].

mod components;
mod proxied;

use crate::support::Scene;
use crate::support::world::down;

/// Bank a fails; returns when probes have seen it.
async fn bank_a_fails(scene: &Scene) {
    scene.a.fail_with(down()).await.unwrap();
    scene.probes(2).await;
}

/// Whether the route takes bank `name`; false as well while the API server does not answer.
async fn route_takes(scene: &Scene, name: &str) -> bool {
    let routes = scene.world.ns.api::<busbar::api::v1alpha1::BankRoute>();
    let found = tokio::time::timeout(std::time::Duration::from_secs(2), routes.get("payouts")).await;
    found.is_ok_and(|r| r.is_ok_and(|r| r.status.is_some_and(|s| s.active.as_deref() == Some(name))))
}
