//! A connection that is deleted leaves nothing behind, and its successor of the same name inherits nothing.

use busbar::testbed::sim::{Behaviour, RequiredAuth};
use serde_json::json;

use super::{World, arrivals, circuit, connection, further, verified};
use crate::support::eventually;
use crate::support::metrics::parse;
use crate::support::plane::PATIENCE;

#[tokio::test]
async fn a_deleted_connection_is_no_longer_checked_and_its_series_vanish() {
    let world = World::new("gone").await;
    let bank = world.bank("bank", RequiredAuth::None).await;
    for name in ["beat", "gone"] {
        world.put(&connection(name, &bank.labelled_url(name), json!({}))).await;
        world.until(name, "verified", verified).await;
    }
    let series = async || {
        let samples = parse(&world.operator.metrics().await);
        let of = |label: &str| {
            samples
                .iter()
                .filter(|s| {
                    s.labels.get("namespace").is_some_and(|ns| ns == world.ns.name())
                        && s.labels.get(label).is_some_and(|name| name == "gone")
                })
                .count()
        };
        (of("connection"), of("name"))
    };
    let (connections, objects) = series().await;
    assert!(connections >= 6 && objects >= 4, "{connections} and {objects} series");
    assert!(connections + objects <= 25, "at most 25 series for a connection: {connections} and {objects}");
    world.delete("ProviderConnection", "gone").await;
    eventually(PATIENCE, "its series vanish", async || (series().await == (0, 0)).then_some(())).await;
    // A check may have been under way.
    further(&bank, "/c/beat/", 1).await;
    let before = arrivals(&bank, "/c/gone/");
    further(&bank, "/c/beat/", 2).await;
    assert_eq!(arrivals(&bank, "/c/gone/"), before);
    assert_eq!(series().await, (0, 0), "they came back");
    world.finish().await;
}

#[tokio::test]
async fn a_connection_created_anew_under_the_same_name_starts_with_a_closed_circuit() {
    let world = World::new("anew").await;
    world.quick_policy("default", "5m").await;
    let (down, well) = (world.bank("down", RequiredAuth::None).await, world.bank("well", RequiredAuth::None).await);
    world.put(&connection("bank", &down.base_url(), json!({}))).await;
    world.until("bank", "verified", verified).await;
    down.fail_with(Behaviour::status(503)).await.unwrap();
    let old = world.until("bank", "Open", |o| circuit(o, "Open")).await;

    world.delete("ProviderConnection", "bank").await;
    world.put(&connection("bank", &well.base_url(), json!({}))).await;
    let new =
        world.until("bank", "another, verified", |o| verified(o) && o["metadata"]["uid"] != old["metadata"]["uid"]);
    let new = new.await;
    assert!(circuit(&new, "Closed"), "{:#}", new["status"]);
    assert_eq!(new["status"]["circuitState"]["opens"], 0, "{:#}", new["status"]);
    assert_eq!(new["status"]["host"], well.address().to_string());
    let labels = [("namespace", world.ns.name()), ("connection", "bank"), ("state", "Closed")];
    assert_eq!(world.operator.metric("busbar_breaker_state", &labels).await, Some(1.0));
    // And the old bank is left alone.
    further(&well, "/", 1).await;
    let before = arrivals(&down, "/");
    further(&well, "/", 2).await;
    assert_eq!(arrivals(&down, "/"), before);
    world.finish().await;
}
