//! Bad weather between the operator and an API server that is well.

use busbar::testbed::trouble::Fault;

use super::{bank_a_fails, route_takes};
use crate::support::plane::shared_plane;
use crate::support::{Expected, Scene};

#[tokio::test]
async fn a_storm_of_503_is_outlived() {
    let plane = shared_plane().await;
    let mut scene = Scene::on(&plane, "storm").await;
    let mut trial = scene.begin(Fault::Storm(503)).await;
    bank_a_fails(&scene).await;
    scene.probes(2).await;
    trial.end().await;
    let expected = Expected {
        reason: "the leader lease cannot be reached",
        writes: &[("providerconnections/a", 1), ("bankroutes/payouts", 1)],
        ..Expected::default()
    };
    trial.judged(expected, async |scene| route_takes(scene, "b").await).await.passes(&mut scene).await;
    scene.finish().await;
}
