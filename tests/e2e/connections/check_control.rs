//! How users control the health checks of a running connection: suspend it, request a check, make it passive.

use busbar::testbed::sim::{BankHandle, RequiredAuth};
use serde_json::{Value, json};

use super::{ConnectionEnv, has_circuit, is, is_current, is_verified, message};
use crate::cluster::namespace::condition;
use crate::kit::banks::{arrivals_at, further_arrivals};
use crate::kit::objects::connection;

/// So long that no scheduled check falls into the test.
const RARELY: &str = "24h";

/// Two further checks of the connection `reference`, which is checked every few seconds: others of the same interval would
/// have been checked too.
async fn two_intervals(bank: &BankHandle) {
    further_arrivals(bank, "/c/reference/", 2).await;
}

#[tokio::test]
async fn a_suspended_connection_is_not_checked_until_resumed() {
    let env = ConnectionEnv::new("suspend").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    let put = async |name: &str, spec: Value| env.put(&connection(name, &bank.labelled_url(name), spec)).await;
    put("reference", json!({})).await;
    put("paused", json!({})).await;
    put("created-paused", json!({"suspend": true})).await;
    put("broken", json!({"suspend": true, "auth": {"bearer": {"secretRef": {"name": "absent"}}}})).await;
    env.until_verified("paused").await;
    let suspended = |o: &Value| is(o, "Suspended", "True", "Suspended");
    let object = env.until_connection("created-paused", "Suspended", suspended).await;
    assert!(is(&object, "Ready", "True", "Unverified"), "{:#}", object["status"]);
    // References are still resolved.
    let both = |o: &Value| suspended(o) && is(o, "Ready", "False", "SecretNotFound");
    env.until_connection("broken", "Suspended, and its Secret not found", both).await;

    put("paused", json!({"suspend": true})).await;
    let object = env.until_connection("paused", "Suspended", suspended).await;
    assert!(is(&object, "Ready", "True", "Verified"), "it stays verified: {:#}", object["status"]);
    two_intervals(&bank).await;
    let before = arrivals_at(&bank, "/c/paused/");
    env.annotate_connection("paused", "busbar.dev/requestedAt", "now").await;
    let handled = |o: &Value| o["status"]["lastHandledReconcileAt"] == "now";
    env.until_connection("paused", "the request is acknowledged", handled).await;
    two_intervals(&bank).await;
    assert_eq!(arrivals_at(&bank, "/c/paused/"), before, "checked although suspended");
    assert_eq!(arrivals_at(&bank, "/c/created-paused/"), 0);

    for name in ["paused", "created-paused"] {
        put(name, json!({})).await;
        let resumed = |o: &Value| is_verified(o) && condition(o, "Suspended").is_none();
        env.until_connection(name, "verified, not suspended", resumed).await;
    }
    assert!(arrivals_at(&bank, "/c/paused/") > before);
    env.finish().await;
}

#[tokio::test]
async fn a_requested_check_runs_exactly_once() {
    let env = ConnectionEnv::new("requested").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    let rarely = json!({"healthCheck": {"interval": RARELY}});
    env.put(&connection("reference", &bank.labelled_url("reference"), json!({}))).await;
    env.put(&connection("requested", &bank.labelled_url("requested"), rarely.clone())).await;
    env.until_verified("requested").await;
    let path = "/c/requested/";
    assert_eq!(arrivals_at(&bank, path), 1, "one check verifies it");
    for (annotation, value, checks) in [
        // The first comes within the pause between two writes of one status.
        ("busbar.dev/requestedAt", "first", 2),
        ("busbar.dev/requestedAt", "second", 3),
        // Ours wins: the alias of another tool is ignored next to it.
        ("reconcile.fluxcd.io/requestedAt", "hidden", 3),
    ] {
        env.annotate_connection("requested", annotation, value).await;
        if value != "hidden" {
            let handled = |o: &Value| o["status"]["lastHandledReconcileAt"] == value;
            env.until_connection("requested", "the request is acknowledged", handled).await;
        }
        two_intervals(&bank).await;
        assert_eq!(arrivals_at(&bank, path), checks, "after {annotation}: {value}");
    }

    // Requested by Flux, and created with the request.
    for (name, annotation) in [("flux", "reconcile.fluxcd.io/requestedAt"), ("created", "busbar.dev/requestedAt")] {
        let mut object = connection(name, &bank.labelled_url(name), rarely.clone());
        object["metadata"]["annotations"] = json!({annotation: "at-creation"});
        env.put(&object).await;
        let handled = |o: &Value| is_verified(o) && o["status"]["lastHandledReconcileAt"] == "at-creation";
        env.until_connection(name, "verified and acknowledged", handled).await;
        env.annotate_connection(name, annotation, "again").await;
        let handled = |o: &Value| o["status"]["lastHandledReconcileAt"] == "again";
        env.until_connection(name, "acknowledged again", handled).await;
    }
    two_intervals(&bank).await;
    for name in ["flux", "created"] {
        let checks = arrivals_at(&bank, &format!("/c/{name}/"));
        assert_eq!(
            checks, 2,
            "{name}: the check that verifies it is the one requested at creation; one more was requested"
        );
    }
    env.finish().await;
}

#[tokio::test]
async fn a_passive_connection_is_never_checked() {
    let env = ConnectionEnv::new("passive").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    env.put(&connection("reference", &bank.labelled_url("reference"), json!({}))).await;
    let passive = json!({"healthCheck": {"mode": "Passive", "path": null, "interval": null, "timeout": null}});
    env.put(&connection("passive", &bank.labelled_url("passive"), passive.clone())).await;
    let ready = |o: &Value| is(o, "Ready", "True", "Unverified");
    let object = env.until_connection("passive", "Ready, Unverified", ready).await;
    assert!(
        is(&object, "Healthy", "Unknown", "NotChecked") && has_circuit(&object, "Closed"),
        "{:#}",
        object["status"]
    );
    assert!(message(&object, "Ready").contains("passive"), "{}", message(&object, "Ready"));
    env.annotate_connection("passive", "busbar.dev/requestedAt", "now").await;
    let handled = |o: &Value| o["status"]["lastHandledReconcileAt"] == "now";
    env.until_connection("passive", "the request is acknowledged", handled).await;
    two_intervals(&bank).await;
    assert_eq!(arrivals_at(&bank, "/c/passive/"), 0);
    // Active again: checked and verified.
    env.put(&connection("passive", &bank.labelled_url("passive"), json!({}))).await;
    env.until_verified("passive").await;
    env.finish().await;
}

#[tokio::test]
async fn the_message_of_ready_names_fields_without_effect() {
    let env = ConnectionEnv::new("unread").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    env.ns.secret("hook", &[("webhook-secret", env.ns.canary("hook").as_bytes())]).await;
    let fields = json!({
        "webhook": {"staticSecret": {"secretRef": {"name": "hook"}}},
        "payouts": {"inquiry": "None"},
    });
    let names: Vec<String> = fields.as_object().unwrap().keys().cloned().collect();
    env.put(&connection("unread", &bank.base_url(), fields)).await;
    let object = env.until_verified("unread").await;
    let text = message(&object, "Ready");
    for name in names {
        assert!(text.contains(&format!("spec.{name}")), "{name} is not named: {text}");
    }
    env.put(&connection("unread", &bank.base_url(), json!({}))).await;
    let unnamed = |o: &Value| is_current(o) && is_verified(o) && !message(o, "Ready").contains("spec.");
    env.until_connection("unread", "nothing to name any more", unnamed).await;
    env.finish().await;
}
