//! What a connection names and what is wrong with it: told with field and remedy, noticed when mended, without a restart.

use busbar::testbed::sim::RequiredAuth;
use serde_json::{Value, json};

use super::{World, arrivals, circuit, connection, further, is, message, verified};
use crate::support::namespace::condition;

/// A connection that waits for another object.
struct Broken {
    name: &'static str,
    spec: Value,
    reason: &'static str,
    /// Words that the message must hold: field, object, key.
    says: &'static [&'static str],
}

fn bearer(secret: &str) -> Value {
    json!({"auth": {"bearer": {"secretRef": {"name": secret}}}})
}

fn broken() -> [Broken; 8] {
    let tls = |name: &str| json!({"tls": {"certSecretRef": {"name": name}}});
    [
        Broken {
            name: "no-secret",
            spec: bearer("absent"),
            reason: "SecretNotFound",
            says: &["spec.auth.bearer.secretRef", "\"absent\"", "create"],
        },
        Broken {
            name: "no-key",
            spec: bearer("wrong-key"),
            reason: "SecretKeyMissing",
            says: &["spec.auth.bearer.secretRef", "\"wrong-key\"", "\"token\"", "add"],
        },
        Broken {
            name: "no-renamed-key",
            spec: json!({"auth": {"bearer": {"secretRef": {"name": "wrong-key", "key": "mine"}}}}),
            reason: "SecretKeyMissing",
            says: &["spec.auth.bearer.secretRef", "\"wrong-key\"", "\"mine\"", "add"],
        },
        Broken {
            name: "not-utf8",
            spec: bearer("bytes"),
            reason: "SecretKeyInvalid",
            says: &["spec.auth.bearer.secretRef", "\"bytes\"", "\"token\"", "UTF-8"],
        },
        Broken { name: "line-break", spec: bearer("lines"), reason: "SecretKeyInvalid", says: &["spec.auth.bearer"] },
        Broken {
            name: "no-policy",
            spec: json!({"breakerPolicyRef": {"name": "strict"}}),
            reason: "BreakerPolicyNotFound",
            says: &["spec.breakerPolicyRef", "\"strict\"", "create"],
        },
        Broken {
            name: "no-tls-secret",
            spec: tls("trust"),
            reason: "SecretNotFound",
            says: &["spec.tls.certSecretRef", "\"trust\"", "create"],
        },
        Broken {
            name: "no-pem",
            spec: tls("not-pem"),
            reason: "SecretKeyInvalid",
            says: &["spec.tls.certSecretRef", "ca.crt"],
        },
    ]
}

#[tokio::test]
async fn every_broken_reference_names_field_and_remedy_and_heals_when_it_is_mended() {
    let world = World::new("broken").await;
    let token = world.ns.canary("token");
    let bank = world.bank("bank", RequiredAuth::None).await;
    let mut invalid = token.clone().into_bytes();
    invalid.extend([0xff, 0xfe]);
    world.ns.secret("wrong-key", &[("Token", token.as_bytes())]).await;
    world.ns.secret("bytes", &[("token", &invalid)]).await;
    world.ns.secret("lines", &[("token", format!("{token}\nX-Injected: 1\n").as_bytes())]).await;
    world.ns.secret("not-pem", &[("ca.crt", token.as_bytes())]).await;
    for Broken { name, spec, .. } in broken() {
        world.put(&connection(name, &bank.labelled_url(name), spec)).await;
    }
    for Broken { name, reason, says, .. } in broken() {
        let told = |o: &Value| is(o, "Ready", "False", reason) && is(o, "Reconciling", "True", reason);
        let object = world.until(name, reason, told).await;
        let message = message(&object, "Ready");
        let missing: Vec<_> = says.iter().filter(|word| !message.contains(*word)).collect();
        assert!(missing.is_empty(), "{name}: {missing:?} is not in: {message}");
        assert!(condition(&object, "Stalled").is_none(), "{name}: another object can repair it");
        assert_eq!(arrivals(&bank, &format!("/c/{name}/")), 0, "{name} calls without what it names");
    }

    for secret in ["absent", "bytes", "lines"] {
        world.ns.secret(secret, &[("token", token.as_bytes())]).await;
    }
    world.ns.secret("wrong-key", &[("token", token.as_bytes()), ("mine", token.as_bytes())]).await;
    world.quick_policy("strict", "5s").await;
    for secret in ["trust", "not-pem"] {
        world.ns.secret(secret, &[("ca.crt", bank.ca_pem().as_bytes())]).await;
    }
    for Broken { name, .. } in broken() {
        let object = world.until(name, "verified once it is mended", verified).await;
        assert!(condition(&object, "Reconciling").is_none());
    }
    world.finish().await;
}

#[tokio::test]
async fn a_secret_of_a_mebibyte_whose_named_key_is_sound_works() {
    let world = World::new("large").await;
    let token = world.ns.canary("token");
    let bank = world.bank("bank", RequiredAuth::Bearer { token: token.clone() }).await;
    // The API server takes 1 MiB of values; these are no text.
    let rest = vec![0xff; 1024 * 1024 - token.len()];
    world.ns.secret("large", &[("token", token.as_bytes()), ("rest", &rest)]).await;
    world.put(&connection("large", &bank.base_url(), bearer("large"))).await;
    world.until("large", "verified", verified).await;
    world.finish().await;
}

#[tokio::test]
async fn a_secret_deleted_while_running_stops_the_calls_until_it_is_back() {
    let world = World::new("deleted").await;
    let token = world.ns.canary("token");
    let bank = world.bank("bank", RequiredAuth::Bearer { token: token.clone() }).await;
    world.ns.secret("token", &[("token", token.as_bytes())]).await;
    world.put(&connection("guarded", &bank.labelled_url("guarded"), bearer("token"))).await;
    world.put(&connection("beat", &bank.labelled_url("beat"), json!({}))).await;
    world.until("guarded", "verified", verified).await;
    world.ns.kubectl(&["delete", "secret", "token"]).await.ok().unwrap();
    let told = |o: &Value| is(o, "Ready", "False", "SecretNotFound") && is(o, "Reconciling", "True", "SecretNotFound");
    let object = world.until("guarded", "SecretNotFound", told).await;
    assert!(is(&object, "Authenticated", "Unknown", "SecretNotFound"), "{:#}", object["status"]);
    // A probe may have been under way when the Secret went.
    further(&bank, "/c/beat/", 1).await;
    let before = arrivals(&bank, "/c/guarded/");
    further(&bank, "/c/beat/", 2).await;
    assert_eq!(arrivals(&bank, "/c/guarded/"), before, "the credential is gone, but still used");
    world.ns.secret("token", &[("token", token.as_bytes())]).await;
    let object = world.until("guarded", "verified again", verified).await;
    assert!(circuit(&object, "Closed"));
    world.finish().await;
}
