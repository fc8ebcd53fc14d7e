//! The API server and etcd stop, freeze, forget and have had enough.

use std::time::Duration;

use busbar::testbed::trouble::Fault;

use super::{bank_a_fails, route_takes};
use crate::support::plane::struck_plane;
use crate::support::{Expected, Scene};

/// The lease runs out, and probes, which come every 5 s, go on.
const HALF_A_MINUTE: Duration = Duration::from_secs(30);

/// What a failed bank costs: one write of the connection, one of the route.
const FAILED_OVER: [(&str, usize); 2] = [("providerconnections/a", 1), ("bankroutes/payouts", 1)];

#[tokio::test]
async fn an_api_server_that_is_stopped_for_half_a_minute_is_caught_up_with_in_one_write_for_each_object() {
    let plane = struck_plane().await;
    let mut scene = Scene::on(&plane, "stopped").await;
    let mut trial = scene.begin(Fault::ApiServerStopped).await;
    bank_a_fails(&scene).await;
    scene.probes(2).await;
    trial.last(HALF_A_MINUTE).await;
    trial.end().await;
    let expected =
        Expected { reason: "the leader lease cannot be reached", writes: &FAILED_OVER, ..Expected::default() };
    trial.judged(expected, async |scene| route_takes(scene, "b").await).await.passes(&mut scene).await;
    scene.finish().await;
}
