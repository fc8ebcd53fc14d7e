//! A provider that limits the rate of calls.

use busbar::testbed::sim::{Behaviour, RequiredAuth};
use serde_json::{Value, json};

use super::{ConnectionEnv, has_circuit, is, is_verified};
use crate::kit::banks::{arrivals_at, further_arrivals};
use crate::kit::objects::connection;
use crate::kit::wait::eventually;

const GAUGE: &str = "busbar_throttled_until_timestamp_seconds";

fn is_throttled(o: &Value) -> bool {
    is(o, "Throttled", "True", "RateLimited") && o["status"]["throttledUntilTime"].is_string()
}

#[tokio::test]
async fn a_rate_limit_pauses_probes_also_after_a_restart() {
    let mut env = ConnectionEnv::new("throttled").await;
    let (long, short) =
        (env.add_bank("long", RequiredAuth::None).await, env.add_bank("short", RequiredAuth::None).await);
    let healthy = env.add_bank("healthy", RequiredAuth::None).await;
    for (name, bank) in [("long", &long), ("short", &short), ("healthy", &healthy)] {
        env.put(&connection(name, &bank.base_url(), json!({}))).await;
        env.until_verified(name).await;
    }
    long.set_script(Behaviour::rate_limited("3600")).await.unwrap();
    short.set_script(Behaviour::rate_limited("8")).await.unwrap();
    let before = env.until_connection("long", "Throttled", is_throttled).await;
    assert!(
        is_verified(&before) && has_circuit(&before, "Closed"),
        "a rate limit is no outage: {:#}",
        before["status"]
    );
    env.until_connection_event("long", "ProviderThrottled").await;
    let namespace = env.ns.name().to_owned();
    let labels = [("namespace", namespace.as_str()), ("connection", "long")];
    assert!(env.operator.metric(GAUGE, &labels).await.is_some());

    // The short one ends by itself.
    env.until_connection("short", "Throttled", is_throttled).await;
    short.recover().await;
    env.until_connection("short", "no longer Throttled", |o| {
        is_verified(o) && !is_throttled(o) && o["status"]["throttledUntilTime"].is_null()
    })
    .await;
    further_arrivals(&short, "/", 1).await;

    let requests = arrivals_at(&long, "/");
    env.operator.kill9();
    env.operator.restart().await;
    further_arrivals(&healthy, "/", 3).await;
    eventually("the new process has restored the pause", async || env.operator.metric(GAUGE, &labels).await).await;
    assert_eq!(arrivals_at(&long, "/"), requests, "no request during the pause");
    let after = env.latest("long");
    assert_eq!(after["status"]["throttledUntilTime"], before["status"]["throttledUntilTime"]);
    env.finish().await;
}

#[tokio::test]
async fn a_requested_check_ends_a_rate_limit_that_lasts_until_2031() {
    let env = ConnectionEnv::new("until-2031").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    env.put(&connection("bank", &bank.base_url(), json!({}))).await;
    env.until_verified("bank").await;
    bank.set_script(Behaviour::rate_limited("Wed, 01 Jan 2031 00:00:00 GMT")).await.unwrap();
    let paused = env.until_connection("bank", "Throttled", is_throttled).await;
    let time = |field: &str| paused["status"][field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let (since, until) = (time("throttledSinceTime"), time("throttledUntilTime"));
    assert!((0..=24 * 3600 + 2).contains(&until.duration_since(since).as_secs()), "{since} {until}");
    let conditions = paused["status"]["conditions"].as_array().unwrap();
    let message = conditions.iter().find(|c| c["type"] == "Throttled").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("throttledUntilTime") && message.contains("busbar.dev/requestedAt"), "{message}");

    bank.recover().await;
    env.annotate_connection("bank", "busbar.dev/requestedAt", "ready-again").await;
    env.until_connection("bank", "no longer Throttled", |o| {
        !is_throttled(o) && o["status"]["throttledUntilTime"].is_null() && o["status"]["throttledSinceTime"].is_null()
    })
    .await;
    further_arrivals(&bank, "/", 2).await;
    env.finish().await;
}
