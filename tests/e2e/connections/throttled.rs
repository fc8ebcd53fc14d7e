//! A provider asks to be left alone.

use busbar::testbed::sim::{Behaviour, RequiredAuth};
use serde_json::{Value, json};

use super::{World, arrivals, circuit, connection, further, is, verified};
use crate::support::eventually;
use crate::support::plane::PATIENCE;

const GAUGE: &str = "busbar_throttled_until_timestamp_seconds";

fn throttled(o: &Value) -> bool {
    is(o, "Throttled", "True", "RateLimited") && o["status"]["throttledUntilTime"].is_string()
}

#[tokio::test]
async fn a_pause_is_shown_kept_by_a_new_process_and_over_by_itself() {
    let mut world = World::new("throttled").await;
    let (long, short) = (world.bank("long", RequiredAuth::None).await, world.bank("short", RequiredAuth::None).await);
    let well = world.bank("well", RequiredAuth::None).await;
    for (name, bank) in [("long", &long), ("short", &short), ("well", &well)] {
        world.put(&connection(name, &bank.base_url(), json!({}))).await;
        world.until(name, "verified", verified).await;
    }
    long.set_script(Behaviour::rate_limited("3600")).await.unwrap();
    short.set_script(Behaviour::rate_limited("8")).await.unwrap();
    let before = world.until("long", "Throttled", throttled).await;
    assert!(verified(&before) && circuit(&before, "Closed"), "a pause is no outage: {:#}", before["status"]);
    world.event("long", "ProviderThrottled").await;
    let labels = [("namespace", world.ns.name()), ("connection", "long")];
    assert!(world.operator.metric(GAUGE, &labels).await.is_some());

    // The short one is over by itself; nobody asked meanwhile but for the one that began it.
    world.until("short", "Throttled", throttled).await;
    short.recover().await;
    world
        .until("short", "no longer Throttled", |o| {
            verified(o) && !throttled(o) && o["status"]["throttledUntilTime"].is_null()
        })
        .await;
    further(&short, "/", 1).await;

    let asked = arrivals(&long, "/");
    world.operator.kill9();
    world.operator.restart().await;
    further(&well, "/", 3).await;
    eventually(PATIENCE, "the new process knows of the pause", async || {
        world.operator.metric(GAUGE, &labels).await.map(drop)
    })
    .await;
    assert_eq!(arrivals(&long, "/"), asked, "not one request in the pause, whoever leads");
    let after = world.now("long");
    assert_eq!(after["status"]["throttledUntilTime"], before["status"]["throttledUntilTime"]);
    world.finish().await;
}
