//! What a connection waits for is noticed soon after it is created, although a copy of a Secret may be old; a request looks
//! at once; and failing health checks say what fails.

use std::net::TcpListener;

use busbar::testbed::sim::{RequiredAuth, Rule, Script, ScriptStep};
use serde_json::{Value, json};

use super::{ConnectionEnv, is, is_verified, message};
use crate::kit::banks::{arrivals_at, further_arrivals, unavailable};
use crate::kit::objects::{bearer_auth, candidates, connection, job, policy, route};

/// The longest time for which a copy of a Secret is used, and the default.
const LONG_REFRESH: &str = "--secret-refresh=60s";

/// Longer than a Secret is looked for again, and shorter than a copy is used otherwise.
const SOON: &str = "--timeout=40s";

async fn patient(topic: &str) -> ConnectionEnv {
    ConnectionEnv::with_flags(topic, |_| vec![LONG_REFRESH.to_owned()]).await
}

fn handled(object: &Value, request: &str) -> bool {
    object["status"]["lastHandledReconcileAt"] == request
}

#[tokio::test]
async fn what_a_connection_waits_for_is_noticed_soon_after_it_is_created() {
    let env = patient("awaited").await;
    let token = env.ns.canary("token");
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    env.ns.secret("key-missing", &[("password", token.as_bytes())]).await;
    env.ns.secret("key-invalid", &[("token", &[0xff])]).await;
    let renamed = json!({"auth": {"bearer": {"secretRef": {"name": "key-missing", "key": "mine"}}}});
    let authority = json!({"tls": {"certSecretRef": {"name": "authority"}}});
    let cases = [
        ("late-secret", bearer_auth("late"), "SecretNotFound"),
        ("late-key", bearer_auth("key-missing"), "SecretKeyMissing"),
        ("late-renamed-key", renamed, "SecretKeyMissing"),
        ("corrected-key", bearer_auth("key-invalid"), "SecretKeyInvalid"),
        ("late-authority", authority, "SecretNotFound"),
        ("late-policy", json!({"breakerPolicyRef": {"name": "strict"}}), "BreakerPolicyNotFound"),
    ];
    for (name, spec, _) in &cases {
        env.put(&connection(name, &bank.base_url(), spec.clone())).await;
    }
    // Created before what they name.
    env.put(&job("early-job", "late-connection", "1h", json!({"stream": "transactions"}))).await;
    env.put(&route("early-route", &candidates(&["late-connection"]), json!({}))).await;
    for (name, _, reason) in &cases {
        env.until_connection(name, reason, |o| is(o, "Ready", "False", reason)).await;
    }
    let recorder = env.operator.status_recorder();
    for (kind, name) in [("SyncJob", "early-job"), ("BankRoute", "early-route")] {
        recorder.until(kind, name, "waits", |o| is(o, "Reconciling", "True", "ConnectionNotFound")).await;
    }

    env.ns.secret("late", &[("token", token.as_bytes())]).await;
    env.ns.secret("key-missing", &[("token", token.as_bytes()), ("mine", token.as_bytes())]).await;
    env.ns.secret("key-invalid", &[("token", token.as_bytes())]).await;
    env.ns.secret("authority", &[("ca.crt", bank.ca_pem().as_bytes())]).await;
    env.put(&policy("strict", json!({}))).await;
    env.put(&connection("late-connection", &bank.base_url(), json!({}))).await;
    // As the README says, and for all at once.
    let names: Vec<String> = cases.iter().map(|(name, ..)| format!("pconn/{name}")).collect();
    let names = names.iter().map(String::as_str);
    let wait: Vec<&str> = ["wait", "--for=condition=Ready", SOON].into_iter().chain(names).collect();
    env.ns.kubectl(&wait).await.ok();
    for (name, ..) in &cases {
        env.until_verified(name).await;
    }
    recorder.until("BankRoute", "early-route", "ready", |o| is(o, "Ready", "True", "Accepted")).await;
    let found = |o: &Value| !is(o, "Reconciling", "True", "ConnectionNotFound");
    recorder.until("SyncJob", "early-job", "has found its connection", found).await;
    env.finish().await;
}

#[tokio::test]
async fn a_right_to_read_secrets_that_is_granted_later_is_noticed_soon() {
    let mut env = patient("granted").await;
    env.operator.expect_forbidden();
    let token = env.ns.canary("token");
    let bank = env.add_bank("bank", RequiredAuth::Bearer { token: token.clone() }).await;
    env.ns.secret("token", &[("token", token.as_bytes())]).await;
    let binding = env.ns.kubectl(&["get", "rolebinding", "busbar-secrets", "-o", "json"]).await.ok();
    env.ns.kubectl(&["delete", "rolebinding", "busbar-secrets"]).await.ok();
    env.put(&connection("bank", &bank.base_url(), bearer_auth("token"))).await;
    env.until_connection("bank", "forbidden", |o| is(o, "Ready", "False", "SecretForbidden")).await;
    let mut binding: Value = serde_json::from_str(&binding).unwrap();
    let metadata = binding["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| ["name", "namespace"].contains(&key.as_str()));
    env.ns.kubectl_with(&["create", "-f", "-"], &binding.to_string()).await.ok();
    env.ns.kubectl(&["wait", "--for=condition=Ready", SOON, "pconn/bank"]).await.ok();
    env.until_verified("bank").await;
    env.finish().await;
}

#[tokio::test]
async fn a_request_reads_the_secret_anew_before_it_is_acknowledged() {
    let env = patient("request").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    env.ns.secret("token", &[("token", env.ns.canary("one").as_bytes())]).await;
    env.ns.secret("trust", &[("ca.crt", bank.ca_pem().as_bytes())]).await;
    env.put(&connection("bank", &bank.base_url(), bearer_auth("token"))).await;
    env.put(&connection("trusting", &bank.base_url(), json!({"tls": {"certSecretRef": {"name": "trust"}}}))).await;
    let version = |o: &Value| o["status"]["credential"]["secretResourceVersion"].clone();
    let before = version(&env.until_verified("bank").await);
    env.until_verified("trusting").await;

    // Rotated: the acknowledging status shows the new version, and a probe was sent with it.
    env.ns.secret("token", &[("token", env.ns.canary("two").as_bytes())]).await;
    let probes = arrivals_at(&bank, "/health");
    env.annotate_connection("bank", "busbar.dev/requestedAt", "rotated").await;
    let object = env.until_connection("bank", "acknowledged", |o| handled(o, "rotated")).await;
    assert_ne!(version(&object), before, "acknowledged with the former Secret");
    assert!(is_verified(&object) && arrivals_at(&bank, "/health") > probes);

    // Deleted, and another kind of reference: a trusted authority.
    env.ns.kubectl(&["delete", "secret", "token", "trust"]).await.ok();
    for name in ["bank", "trusting"] {
        env.annotate_connection(name, "busbar.dev/requestedAt", "deleted").await;
        let object = env.until_connection(name, "acknowledged", |o| handled(o, "deleted")).await;
        assert!(is(&object, "Ready", "False", "SecretNotFound"), "{name}: {:#}", object["status"]);
    }
    // Created again, under the name that Flux uses.
    env.ns.secret("token", &[("token", env.ns.canary("three").as_bytes())]).await;
    env.merge(
        "ProviderConnection",
        "bank",
        json!({"metadata": {"annotations": {
        "busbar.dev/requestedAt": null, "reconcile.fluxcd.io/requestedAt": "created"}}}),
    )
    .await;
    let object = env.until_connection("bank", "acknowledged", |o| handled(o, "created")).await;
    assert!(!is(&object, "Ready", "False", "SecretNotFound"), "{:#}", object["status"]);
    env.finish().await;
}

#[tokio::test]
async fn failing_health_checks_say_the_class_of_the_failure() {
    let env = ConnectionEnv::new("failing").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    // A port that was free a moment ago refuses connections.
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let script = |path: &str, step: ScriptStep| Rule { repeat: true, ..Rule::on(path, [step]) };
    let rules = vec![
        script("/c/status/health", ScriptStep::from(unavailable())),
        script("/c/hang/health", ScriptStep::slow(std::time::Duration::from_secs(30))),
    ];
    bank.set_script(Script { rules }).await.unwrap();
    let quick = json!({"healthCheck": {"unhealthyThreshold": 1, "healthyThreshold": 1}});
    let tls = json!({"endpoint": {"insecure": null}, "healthCheck": {"unhealthyThreshold": 1}});
    let cases = [
        ("dns", "http://bank.invalid".to_owned(), &quick, "(DNS)"),
        ("refused", format!("http://{refused}"), &quick, "connection refused (connect)"),
        // The bank's authority is not trusted.
        ("tls", bank.https_url(), &tls, "unknown issuer (TLS)"),
        ("hang", bank.labelled_url("hang"), &quick, "(timeout)"),
        ("status", bank.labelled_url("status"), &quick, "unexpected HTTP status 503 (status)"),
    ];
    for (name, url, spec, _) in &cases {
        env.put(&connection(name, url, (*spec).clone())).await;
    }
    for (name, _, _, text) in &cases {
        let object = env.until_connection(name, text, |o| is(o, "Healthy", "False", "ChecksFailing")).await;
        let said = message(&object, "Healthy");
        assert!(said.starts_with("health checks fail: ") && said.contains(text), "{name}: {said}");
        env.until_event("ProviderConnection", name, "ChecksFailing", text).await;
    }
    // Another failure replaces the first once it has lasted.
    bank.set_script(Script {
        rules: vec![script("/c/status/health", ScriptStep::slow(std::time::Duration::from_secs(30)))],
    })
    .await
    .unwrap();
    further_arrivals(&bank, "/c/status/", 2).await;
    env.until_connection("status", "timed out", |o| message(o, "Healthy").contains("(timeout)")).await;
    env.finish().await;
}
