//! Broken references of a connection: the status names field and remedy, and recovers without a restart.

use busbar::testbed::sim::RequiredAuth;
use serde_json::{Value, json};

use super::{ConnectionEnv, has_circuit, is, is_verified, message};
use crate::cluster::namespace::condition;
use crate::kit::banks::{arrivals_at, further_arrivals};
use crate::kit::objects::{bearer_auth, connection};

/// A connection with a broken reference.
struct BrokenReference {
    name: &'static str,
    spec: Value,
    reason: &'static str,
    /// What the message must contain: field, object, key.
    parts: &'static [&'static str],
}

fn broken_references() -> [BrokenReference; 8] {
    let tls = |name: &str| json!({"tls": {"certSecretRef": {"name": name}}});
    [
        BrokenReference {
            name: "no-secret",
            spec: bearer_auth("absent"),
            reason: "SecretNotFound",
            parts: &["spec.auth.bearer.secretRef", "\"absent\"", "create"],
        },
        BrokenReference {
            name: "no-key",
            spec: bearer_auth("wrong-key"),
            reason: "SecretKeyMissing",
            parts: &["spec.auth.bearer.secretRef", "\"wrong-key\"", "\"token\"", "add"],
        },
        BrokenReference {
            name: "no-renamed-key",
            spec: json!({"auth": {"bearer": {"secretRef": {"name": "wrong-key", "key": "mine"}}}}),
            reason: "SecretKeyMissing",
            parts: &["spec.auth.bearer.secretRef", "\"wrong-key\"", "\"mine\"", "add"],
        },
        BrokenReference {
            name: "not-utf8",
            spec: bearer_auth("bytes"),
            reason: "SecretKeyInvalid",
            parts: &["spec.auth.bearer.secretRef", "\"bytes\"", "\"token\"", "UTF-8"],
        },
        BrokenReference {
            name: "line-break",
            spec: bearer_auth("lines"),
            reason: "SecretKeyInvalid",
            parts: &["spec.auth.bearer"],
        },
        BrokenReference {
            name: "no-policy",
            spec: json!({"breakerPolicyRef": {"name": "strict"}}),
            reason: "BreakerPolicyNotFound",
            parts: &["spec.breakerPolicyRef", "\"strict\"", "create"],
        },
        BrokenReference {
            name: "no-tls-secret",
            spec: tls("trust"),
            reason: "SecretNotFound",
            parts: &["spec.tls.certSecretRef", "\"trust\"", "create"],
        },
        BrokenReference {
            name: "no-pem",
            spec: tls("not-pem"),
            reason: "SecretKeyInvalid",
            parts: &["spec.tls.certSecretRef", "ca.crt"],
        },
    ]
}

#[tokio::test]
async fn every_broken_reference_is_reported_with_field_and_remedy() {
    let env = ConnectionEnv::new("broken").await;
    let token = env.ns.canary("token");
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    let mut invalid = token.clone().into_bytes();
    invalid.extend([0xff, 0xfe]);
    env.ns.secret("wrong-key", &[("Token", token.as_bytes())]).await;
    env.ns.secret("bytes", &[("token", &invalid)]).await;
    env.ns.secret("lines", &[("token", format!("{token}\nX-Injected: 1\n").as_bytes())]).await;
    env.ns.secret("not-pem", &[("ca.crt", token.as_bytes())]).await;
    for BrokenReference { name, spec, .. } in broken_references() {
        env.put(&connection(name, &bank.labelled_url(name), spec)).await;
    }
    for BrokenReference { name, reason, parts, .. } in broken_references() {
        let reported = |o: &Value| is(o, "Ready", "False", reason) && is(o, "Reconciling", "True", reason);
        let object = env.until_connection(name, reason, reported).await;
        let message = message(&object, "Ready");
        let missing: Vec<_> = parts.iter().filter(|part| !message.contains(**part)).collect();
        assert!(missing.is_empty(), "{name}: {missing:?} is not in: {message}");
        assert!(condition(&object, "Stalled").is_none(), "{name}: another object can fix it");
        assert_eq!(arrivals_at(&bank, &format!("/c/{name}/")), 0, "{name} is called without what it refers to");
    }

    for secret in ["absent", "bytes", "lines"] {
        env.ns.secret(secret, &[("token", token.as_bytes())]).await;
    }
    env.ns.secret("wrong-key", &[("token", token.as_bytes()), ("mine", token.as_bytes())]).await;
    env.put_quick_policy("strict", "5s").await;
    for secret in ["trust", "not-pem"] {
        env.ns.secret(secret, &[("ca.crt", bank.ca_pem().as_bytes())]).await;
    }
    for BrokenReference { name, .. } in broken_references() {
        let object = env.until_connection(name, "verified once it is fixed", is_verified).await;
        assert!(condition(&object, "Reconciling").is_none());
    }
    env.finish().await;
}

#[tokio::test]
async fn a_secret_of_one_mebibyte_works() {
    let env = ConnectionEnv::new("large").await;
    let token = env.ns.canary("token");
    let bank = env.add_bank("bank", RequiredAuth::Bearer { token: token.clone() }).await;
    // The API server accepts 1 MiB of values; these are no text.
    let rest = vec![0xff; 1024 * 1024 - token.len()];
    env.ns.secret("large", &[("token", token.as_bytes()), ("rest", &rest)]).await;
    env.put(&connection("large", &bank.base_url(), bearer_auth("large"))).await;
    env.until_verified("large").await;
    env.finish().await;
}

#[tokio::test]
async fn a_deleted_secret_stops_the_calls_until_it_exists_again() {
    let env = ConnectionEnv::new("deleted").await;
    let token = env.ns.canary("token");
    let bank = env.add_bank("bank", RequiredAuth::Bearer { token: token.clone() }).await;
    env.ns.secret("token", &[("token", token.as_bytes())]).await;
    env.put(&connection("guarded", &bank.labelled_url("guarded"), bearer_auth("token"))).await;
    env.put(&connection("reference", &bank.labelled_url("reference"), json!({}))).await;
    env.until_verified("guarded").await;
    env.ns.kubectl(&["delete", "secret", "token"]).await.ok();
    let not_found =
        |o: &Value| is(o, "Ready", "False", "SecretNotFound") && is(o, "Reconciling", "True", "SecretNotFound");
    let object = env.until_connection("guarded", "SecretNotFound", not_found).await;
    assert!(is(&object, "Authenticated", "Unknown", "SecretNotFound"), "{:#}", object["status"]);
    // A probe may have been in flight when the Secret was deleted.
    further_arrivals(&bank, "/c/reference/", 1).await;
    let before = arrivals_at(&bank, "/c/guarded/");
    further_arrivals(&bank, "/c/reference/", 2).await;
    assert_eq!(arrivals_at(&bank, "/c/guarded/"), before, "the credential is deleted, but still used");
    env.ns.secret("token", &[("token", token.as_bytes())]).await;
    let object = env.until_connection("guarded", "verified again", is_verified).await;
    assert!(has_circuit(&object, "Closed"));
    env.finish().await;
}
