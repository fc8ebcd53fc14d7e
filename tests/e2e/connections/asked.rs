//! What users ask of a running connection: suspend it, check it now, leave it alone; and what they ask in vain.

use busbar::testbed::sim::{BankHandle, RequiredAuth};
use serde_json::{Value, json};

use super::{World, arrivals, circuit, connection, current, further, is, message, verified};
use crate::support::namespace::condition;

/// So long that no check of its own falls into the test.
const NEVER: &str = "24h";

/// Two further checks of the connection `beat`, which is checked every few seconds: others of the same interval would
/// have been checked too.
async fn beats(bank: &BankHandle) {
    further(bank, "/c/beat/", 2).await;
}

#[tokio::test]
async fn a_suspended_connection_is_not_checked_and_goes_on_when_resumed() {
    let world = World::new("suspend").await;
    let bank = world.bank("bank", RequiredAuth::None).await;
    let put = async |name: &str, spec: Value| world.put(&connection(name, &bank.labelled_url(name), spec)).await;
    put("beat", json!({})).await;
    put("paused", json!({})).await;
    put("born-paused", json!({"suspend": true})).await;
    put("broken", json!({"suspend": true, "auth": {"bearer": {"secretRef": {"name": "absent"}}}})).await;
    world.until("paused", "verified", verified).await;
    let told = |o: &Value| is(o, "Suspended", "True", "Suspended");
    let object = world.until("born-paused", "Suspended", told).await;
    assert!(is(&object, "Ready", "True", "Unverified"), "{:#}", object["status"]);
    // References are still looked at.
    let both = |o: &Value| told(o) && is(o, "Ready", "False", "SecretNotFound");
    world.until("broken", "Suspended, and its Secret missed", both).await;

    put("paused", json!({"suspend": true})).await;
    let object = world.until("paused", "Suspended", told).await;
    assert!(is(&object, "Ready", "True", "Verified"), "the verdict stays: {:#}", object["status"]);
    beats(&bank).await;
    let before = arrivals(&bank, "/c/paused/");
    world.annotate("paused", "busbar.dev/requestedAt", "now").await;
    let handled = |o: &Value| o["status"]["lastHandledReconcileAt"] == "now";
    world.until("paused", "the request is acknowledged", handled).await;
    beats(&bank).await;
    assert_eq!(arrivals(&bank, "/c/paused/"), before, "checked although suspended");
    assert_eq!(arrivals(&bank, "/c/born-paused/"), 0);

    for name in ["paused", "born-paused"] {
        put(name, json!({})).await;
        let resumed = |o: &Value| verified(o) && condition(o, "Suspended").is_none();
        world.until(name, "verified, not suspended", resumed).await;
    }
    assert!(arrivals(&bank, "/c/paused/") > before);
    world.finish().await;
}

#[tokio::test]
async fn a_request_for_a_check_makes_exactly_one_and_is_acknowledged() {
    let world = World::new("asked").await;
    let bank = world.bank("bank", RequiredAuth::None).await;
    let rarely = json!({"healthCheck": {"interval": NEVER}});
    world.put(&connection("beat", &bank.labelled_url("beat"), json!({}))).await;
    world.put(&connection("asked", &bank.labelled_url("asked"), rarely.clone())).await;
    world.until("asked", "verified", verified).await;
    let ours = "/c/asked/";
    assert_eq!(arrivals(&bank, ours), 1, "one check verifies it");
    for (annotation, value, checks) in [
        // The first comes within the pause between two writes of one status.
        ("busbar.dev/requestedAt", "first", 2),
        ("busbar.dev/requestedAt", "second", 3),
        // Ours wins: the alias of a tool that knows nothing of ours is not looked at beside it.
        ("reconcile.fluxcd.io/requestedAt", "hidden", 3),
    ] {
        world.annotate("asked", annotation, value).await;
        if value != "hidden" {
            let handled = |o: &Value| o["status"]["lastHandledReconcileAt"] == value;
            world.until("asked", "the request is acknowledged", handled).await;
        }
        beats(&bank).await;
        assert_eq!(arrivals(&bank, ours), checks, "after {annotation}: {value}");
    }

    // Asked for by Flux, and born with the request.
    for (name, annotation) in [("flux", "reconcile.fluxcd.io/requestedAt"), ("born", "busbar.dev/requestedAt")] {
        let mut object = connection(name, &bank.labelled_url(name), rarely.clone());
        object["metadata"]["annotations"] = json!({annotation: "at-birth"});
        world.put(&object).await;
        let handled = |o: &Value| verified(o) && o["status"]["lastHandledReconcileAt"] == "at-birth";
        world.until(name, "verified and acknowledged", handled).await;
        world.annotate(name, annotation, "again").await;
        let handled = |o: &Value| o["status"]["lastHandledReconcileAt"] == "again";
        world.until(name, "acknowledged again", handled).await;
    }
    beats(&bank).await;
    for name in ["flux", "born"] {
        let checks = arrivals(&bank, &format!("/c/{name}/"));
        assert_eq!(
            checks, 2,
            "{name}: the check that verifies it is the one asked for at birth; one more was asked for"
        );
    }
    world.finish().await;
}

#[tokio::test]
async fn a_passive_connection_is_ready_and_never_called() {
    let world = World::new("passive").await;
    let bank = world.bank("bank", RequiredAuth::None).await;
    world.put(&connection("beat", &bank.labelled_url("beat"), json!({}))).await;
    let passive = json!({"healthCheck": {"mode": "Passive", "path": null, "interval": null, "timeout": null}});
    world.put(&connection("passive", &bank.labelled_url("passive"), passive.clone())).await;
    let ready = |o: &Value| is(o, "Ready", "True", "Unverified");
    let object = world.until("passive", "Ready, Unverified", ready).await;
    assert!(is(&object, "Healthy", "Unknown", "NotChecked") && circuit(&object, "Closed"), "{:#}", object["status"]);
    assert!(message(&object, "Ready").contains("passive"), "{}", message(&object, "Ready"));
    world.annotate("passive", "busbar.dev/requestedAt", "now").await;
    let handled = |o: &Value| o["status"]["lastHandledReconcileAt"] == "now";
    world.until("passive", "the request is acknowledged", handled).await;
    beats(&bank).await;
    assert_eq!(arrivals(&bank, "/c/passive/"), 0);
    // Active again: checked and verified.
    world.put(&connection("passive", &bank.labelled_url("passive"), json!({}))).await;
    world.until("passive", "verified", verified).await;
    world.finish().await;
}

#[tokio::test]
async fn fields_that_nothing_reads_yet_are_named_in_the_message_of_ready() {
    let world = World::new("unread").await;
    let bank = world.bank("bank", RequiredAuth::None).await;
    world.ns.secret("hook", &[("webhook-secret", world.ns.canary("hook").as_bytes())]).await;
    let fields = json!({
        "webhook": {"staticSecret": {"header": "x-hook", "secretRef": {"name": "hook"}}},
        "payouts": {"inquiry": "None"},
    });
    let names: Vec<String> = fields.as_object().unwrap().keys().cloned().collect();
    world.put(&connection("unread", &bank.base_url(), fields)).await;
    let object = world.until("unread", "verified", verified).await;
    let message = message(&object, "Ready");
    for name in names {
        assert!(message.contains(&format!("spec.{name}")), "{name} is not named: {message}");
    }
    world.put(&connection("unread", &bank.base_url(), json!({}))).await;
    let quiet = |o: &Value| current(o) && verified(o) && !super::message(o, "Ready").contains("spec.");
    world.until("unread", "nothing to name any more", quiet).await;
    world.finish().await;
}
