//! Rights that are taken from the operator while it runs, and given back.

use std::time::Duration;

use busbar::testbed::control_plane::OperatorScope;

use super::{bank_a_fails, route_takes};
use crate::support::plane::shared_plane;
use crate::support::{Expected, Scene};

#[tokio::test]
async fn rights_that_were_revoked_are_used_again_when_they_are_back() {
    let plane = shared_plane().await;
    let mut scene = Scene::on(&plane, "revoked").await;
    scene.operator.expect_forbidden();
    let mut fault_run = scene.fault_run().await;
    // All but the lease: it leads, and may neither read nor write.
    scene.world.ns.kubectl(&["delete", "rolebinding", "busbar-operator"]).await.ok().unwrap();
    // Rights are asked for when a watch begins, and the API server takes a moment to hear that they are gone.
    crate::support::eventually(crate::support::plane::PATIENCE, "the rights are gone", async || {
        let may =
            plane.is_allowed(scene.operator.user(), scene.world.ns.name(), "watch", "busbar.dev", "syncjobs").await;
        (!may.unwrap()).then_some(())
    })
    .await;
    scene.fault_env.proxy.cut_watches();
    bank_a_fails(&scene).await;
    fault_run.last(&scene, Duration::from_secs(40)).await;
    let (livez, readyz) = (scene.operator.get("/livez").await.0, scene.operator.get("/readyz").await.0);
    assert_eq!((livez, readyz), (200, 200));
    plane.grant_operator(scene.world.ns.name(), OperatorScope::Namespace).await.unwrap();
    fault_run.end(&scene).await;
    for kind in ["ProviderConnection", "SyncJob", "BankRoute", "BreakerPolicy"] {
        let told = fault_run.said(&scene).into_iter().filter(|line| {
            let text = line.to_string();
            line["level"] == "WARN"
                && line["kind"] == kind
                && text.contains("watch failed")
                && text.contains("is forbidden")
        });
        assert_eq!(told.count(), 1, "why {kind} is not watched is told once");
    }
    fault_run
        .judged(&scene, Expected::default(), async |scene| route_takes(scene, "b").await)
        .await
        .passes(&mut scene)
        .await;
    scene.finish().await;
}
