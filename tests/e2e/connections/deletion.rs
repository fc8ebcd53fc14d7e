//! A deleted connection leaves nothing behind, and its successor of the same name inherits nothing.

use busbar::testbed::sim::RequiredAuth;
use serde_json::json;

use super::{ConnectionEnv, has_circuit, is_verified};
use crate::kit::banks::{arrivals_at, further_arrivals, unavailable};
use crate::kit::metrics::parse;
use crate::kit::objects::connection;
use crate::kit::wait::eventually;

#[tokio::test]
async fn a_deleted_connection_is_not_checked_and_has_no_series() {
    let env = ConnectionEnv::new("deleted").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    for name in ["reference", "deleted"] {
        env.put(&connection(name, &bank.labelled_url(name), json!({}))).await;
        env.until_verified(name).await;
    }
    let series = async || {
        let samples = parse(&env.operator.metrics().await);
        let of = |label: &str| {
            samples
                .iter()
                .filter(|s| {
                    s.labels.get("namespace").is_some_and(|ns| ns == env.ns.name())
                        && s.labels.get(label).is_some_and(|name| name == "deleted")
                })
                .count()
        };
        (of("connection"), of("name"))
    };
    let (connections, objects) = series().await;
    assert!(connections >= 6 && objects >= 4, "{connections} and {objects} series");
    assert!(connections + objects <= 25, "at most 25 series for a connection: {connections} and {objects}");
    env.delete("ProviderConnection", "deleted").await;
    eventually("its series are removed", async || series().await == (0, 0)).await;
    // A check may have been in flight.
    further_arrivals(&bank, "/c/reference/", 1).await;
    let before = arrivals_at(&bank, "/c/deleted/");
    further_arrivals(&bank, "/c/reference/", 2).await;
    assert_eq!(arrivals_at(&bank, "/c/deleted/"), before);
    assert_eq!(series().await, (0, 0), "they were created again");
    env.finish().await;
}

#[tokio::test]
async fn a_recreated_connection_starts_with_a_closed_circuit() {
    let env = ConnectionEnv::new("anew").await;
    env.put_quick_policy("default", "5m").await;
    let (down, healthy) =
        (env.add_bank("down", RequiredAuth::None).await, env.add_bank("healthy", RequiredAuth::None).await);
    env.put(&connection("bank", &down.base_url(), json!({}))).await;
    env.until_verified("bank").await;
    down.fail_with(unavailable()).await.unwrap();
    let old = env.until_connection("bank", "Open", |o| has_circuit(o, "Open")).await;

    env.delete("ProviderConnection", "bank").await;
    env.put(&connection("bank", &healthy.base_url(), json!({}))).await;
    let new = env.until_connection("bank", "another, verified", |o| {
        is_verified(o) && o["metadata"]["uid"] != old["metadata"]["uid"]
    });
    let new = new.await;
    assert!(has_circuit(&new, "Closed"), "{:#}", new["status"]);
    assert_eq!(new["status"]["circuitState"]["opens"], 0, "{:#}", new["status"]);
    assert_eq!(new["status"]["host"], healthy.address().to_string());
    assert!(env.is_state_metric_set("bank", "Closed").await);
    // And the old bank is not called any more.
    further_arrivals(&healthy, "/", 1).await;
    let before = arrivals_at(&down, "/");
    further_arrivals(&healthy, "/", 2).await;
    assert_eq!(arrivals_at(&down, "/"), before);
    env.finish().await;
}
