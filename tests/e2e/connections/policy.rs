//! Which breaker policy applies to a connection, and what happens when it changes.

use busbar::testbed::sim::RequiredAuth;
use serde_json::{Value, json};

use super::{ConnectionEnv, has_circuit, is_current, is_verified};
use crate::kit::banks::unavailable;
use crate::kit::objects::{connection, policy};

fn has_policy(object: &Value, name: &str, source: &str) -> bool {
    is_current(object) && object["status"]["policy"] == json!({"name": name, "source": source})
}

#[tokio::test]
async fn a_policy_is_found_by_reference_then_by_name_then_in_the_profile() {
    let env = ConnectionEnv::new("policy").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    env.put_quick_policy("mine", "5s").await;
    env.put(&connection("by-ref", &bank.base_url(), json!({"breakerPolicyRef": {"name": "mine"}}))).await;
    env.put(&connection("free", &bank.base_url(), json!({}))).await;
    env.until_connection("by-ref", "Ref", |o| is_verified(o) && has_policy(o, "mine", "Ref")).await;
    env.until_connection("free", "Preset", |o| is_verified(o) && has_policy(o, "Bank", "Preset")).await;

    env.put_quick_policy("default", "5s").await;
    env.until_connection("free", "NamespaceDefault", |o| has_policy(o, "default", "NamespaceDefault")).await;
    env.until_connection_event("free", "PolicyChanged").await;
    assert!(has_policy(&env.latest("by-ref"), "mine", "Ref"));

    env.put(&connection("by-ref", &bank.base_url(), json!({}))).await;
    env.until_connection("by-ref", "NamespaceDefault", |o| has_policy(o, "default", "NamespaceDefault")).await;
    env.until_connection_event("by-ref", "PolicyChanged").await;
    env.delete("BreakerPolicy", "default").await;
    for name in ["free", "by-ref"] {
        let object = env.until_connection(name, "Preset again", |o| has_policy(o, "Bank", "Preset")).await;
        assert!(is_verified(&object), "{:#}", object["status"]);
    }
    env.finish().await;
}

#[tokio::test]
async fn a_policy_edited_while_the_circuit_is_open_does_not_close_it_early() {
    let env = ConnectionEnv::new("edited").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    env.put_quick_policy("default", "5m").await;
    env.put(&connection("bank", &bank.base_url(), json!({}))).await;
    env.until_verified("bank").await;
    bank.fail_with(unavailable()).await.unwrap();
    let open = |o: &Value| has_circuit(o, "Open") && o["status"]["health"] == "Unhealthy";
    let opened = env.until_connection("bank", "Open", open).await;

    let bad = json!({"trip": {"consecutiveFailures": 2}, "open": {"base": "5m"}, "window": {"calls": 100},
        "mode": "Shadow"});
    env.put(&policy("default", bad)).await;
    let shadow = env.until_connection("bank", "Shadow hides the open circuit", |o| has_circuit(o, "Shadow")).await;
    assert_eq!(shadow["status"]["circuitState"]["state"], "Open", "{:#}", shadow["status"]);

    // A shorter base does not shorten the open duration, but a shorter maximum does.
    env.put_quick_policy("default", "5s").await;
    let again = env.until_connection("bank", "enforced again", |o| has_circuit(o, "Open")).await;
    let (was, is) = (&opened["status"]["circuitState"], &again["status"]["circuitState"]);
    assert_eq!(was["lastTransitionTime"], is["lastTransitionTime"]);
    assert_eq!(was["nextTrialTime"], is["nextTrialTime"], "{was} → {is}");
    bank.recover().await;
    let bounded = json!({"trip": {"consecutiveFailures": 2}, "open": {"base": "5s", "max": "6s"}});
    env.put(&policy("default", bounded)).await;
    env.until_connection("bank", "closed by its trial", |o| has_circuit(o, "Closed")).await;
    env.until_connection_event("bank", "CircuitClosed").await;
    env.finish().await;
}
