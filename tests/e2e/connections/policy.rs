//! Which breaker policy guards a connection, and what happens when it changes.

use busbar::testbed::sim::{Behaviour, RequiredAuth};
use serde_json::{Value, json};

use super::{World, circuit, connection, current, policy, verified};

fn guarded_by(object: &Value, name: &str, source: &str) -> bool {
    current(object) && object["status"]["policy"] == json!({"name": name, "source": source})
}

#[tokio::test]
async fn a_policy_is_found_by_reference_then_by_the_name_default_then_in_the_profile() {
    let world = World::new("policy").await;
    let bank = world.bank("bank", RequiredAuth::None).await;
    world.quick_policy("mine", "5s").await;
    world.put(&connection("by-ref", &bank.base_url(), json!({"breakerPolicyRef": {"name": "mine"}}))).await;
    world.put(&connection("free", &bank.base_url(), json!({}))).await;
    world.until("by-ref", "Ref", |o| verified(o) && guarded_by(o, "mine", "Ref")).await;
    world.until("free", "Preset", |o| verified(o) && guarded_by(o, "Bank", "Preset")).await;

    world.quick_policy("default", "5s").await;
    world.until("free", "NamespaceDefault", |o| guarded_by(o, "default", "NamespaceDefault")).await;
    world.event("free", "PolicyChanged").await;
    assert!(guarded_by(&world.now("by-ref"), "mine", "Ref"));

    world.put(&connection("by-ref", &bank.base_url(), json!({}))).await;
    world.until("by-ref", "NamespaceDefault", |o| guarded_by(o, "default", "NamespaceDefault")).await;
    world.event("by-ref", "PolicyChanged").await;
    world.delete("BreakerPolicy", "default").await;
    for name in ["free", "by-ref"] {
        let object = world.until(name, "Preset again", |o| guarded_by(o, "Bank", "Preset")).await;
        assert!(verified(&object), "{:#}", object["status"]);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_policy_edited_while_the_circuit_is_open_never_closes_it_early_and_counts_from_then_on() {
    let world = World::new("edited").await;
    let bank = world.bank("bank", RequiredAuth::None).await;
    world.quick_policy("default", "5m").await;
    world.put(&connection("bank", &bank.base_url(), json!({}))).await;
    world.until("bank", "verified", verified).await;
    bank.fail_with(Behaviour::status(503)).await.unwrap();
    let open = |o: &Value| circuit(o, "Open") && o["status"]["health"] == "Unhealthy";
    let opened = world.until("bank", "Open", open).await;

    let bad = json!({"trip": {"consecutiveFailures": 2}, "open": {"base": "5m"}, "window": {"calls": 100},
        "mode": "Shadow"});
    world.put(&policy("default", bad)).await;
    let shadow = world.until("bank", "Shadow hides the open circuit", |o| circuit(o, "Shadow")).await;
    assert_eq!(shadow["status"]["circuitState"]["state"], "Open", "{:#}", shadow["status"]);

    // A shorter open time does not shorten what was promised, but its upper bound does.
    world.quick_policy("default", "5s").await;
    let again = world.until("bank", "enforced again", |o| circuit(o, "Open")).await;
    let (was, is) = (&opened["status"]["circuitState"], &again["status"]["circuitState"]);
    assert_eq!(was["lastTransitionTime"], is["lastTransitionTime"]);
    assert_eq!(was["nextTrialTime"], is["nextTrialTime"], "{was} → {is}");
    bank.recover().await;
    let bounded = json!({"trip": {"consecutiveFailures": 2}, "open": {"base": "5s", "max": "6s"}});
    world.put(&policy("default", bounded)).await;
    world.until("bank", "closed by its trial", |o| circuit(o, "Closed")).await;
    world.event("bank", "CircuitClosed").await;
    world.finish().await;
}
