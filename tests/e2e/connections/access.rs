//! What the operator's own set-up lets a connection do: where it may connect to, what it may keep; and client
//! certificates, which a bank may demand.

use std::fs;
use std::sync::Arc;

use busbar::testbed::control_plane::ControlPlane;
use busbar::testbed::sim::{BankConfig, Behaviour, RequiredAuth, Rule, Script, ScriptStep, Sim, SimConfig};
use serde_json::{Value, json};

use super::{World, arrivals, circuit, connection, further, is, message, verified};
use crate::support::namespace::condition;
use crate::support::{Operator, TestNs};

async fn world(topic: &str, flags: impl FnOnce(&TestNs) -> Vec<String>) -> World {
    let ns = TestNs::new(topic).await;
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let mut flags = flags(&ns);
    flags.push("--secret-refresh=2s".to_owned());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let operator = Operator::ready(&ns, &flags).await;
    World { ns, sim, operator }
}

/// A folder with one key, as a mounted Secret has it.
fn key_folder(plane: &Arc<ControlPlane>, namespace: &str) -> String {
    let folder = plane.run_dir().path().join(format!("keys-{namespace}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("2026-11-22"), [5; 32]).unwrap();
    format!("--key-secret={}", folder.display())
}

#[tokio::test]
async fn an_address_that_the_flag_does_not_allow_is_told_by_its_kind_and_nobody_is_knocked_at() {
    let world = world("addresses", |_| vec!["--allow-provider-addresses=127.0.0.2".to_owned()]).await;
    let bank = world.bank("bank", RequiredAuth::None).await;
    let port = bank.address().port();
    // What the spec spells out can only be mended there, or by the flag.
    world.put(&connection("literal", &bank.base_url(), json!({}))).await;
    let token_url = format!("http://169.254.169.254:{port}/token");
    world.ns.secret("oauth", &[("client-id", b"busbar"), ("client-secret", b"not-a-real-secret")]).await;
    let auth = json!({"oauth2ClientCredentials": {"tokenURL": token_url, "secretRef": {"name": "oauth"}}});
    world.put(&connection("token", "http://bank.invalid", json!({"auth": auth}))).await;
    // What a name leads to may change by itself.
    world.put(&connection("name", &format!("http://localhost:{port}"), json!({}))).await;

    let stalled = |o: &Value| is(o, "Stalled", "True", "AddressNotAllowed");
    for (name, told) in
        [("literal", "the provider's host has a loopback"), ("token", "the token endpoint's host has a cloud metadata")]
    {
        let object = world.until(name, "Stalled by its address", stalled).await;
        let text = message(&object, "Ready");
        assert!(text.contains(told) && text.contains("--allow-provider-addresses"), "{text}");
        assert!(is(&object, "Ready", "False", "AddressNotAllowed"));
    }
    let waiting = |o: &Value| is(o, "Reconciling", "True", "AddressNotAllowed");
    let object = world.until("name", "Reconciling by its address", waiting).await;
    assert!(is(&object, "Ready", "False", "AddressNotAllowed") && condition(&object, "Stalled").is_none());
    assert!(!message(&object, "Ready").contains("127."), "{}", message(&object, "Ready"));
    assert_eq!(bank.counters().connections, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_refresh_token_needs_a_key_and_with_one_outlives_the_operator() {
    let refresh = |world: &World| world.ns.canary("refresh");
    let wants = |secret: &str, refresh: &str| RequiredAuth::RefreshToken {
        client_id: "busbar".to_owned(),
        client_secret: secret.to_owned(),
        refresh_token: refresh.to_owned(),
        expires_in_seconds: 6,
    };
    let spec = |url: String| json!({"auth": {"oauth2RefreshToken": {"tokenURL": url, "secretRef": {"name": "grant"}}}});

    let keyless = world("refresh-keyless", |_| Vec::new()).await;
    let (secret, token) = (keyless.ns.canary("client"), refresh(&keyless));
    let bank = keyless.bank("bank", wants(&secret, &token)).await;
    let entries =
        [("client-id", &b"busbar"[..]), ("client-secret", secret.as_bytes()), ("refresh-token", token.as_bytes())];
    keyless.ns.secret("grant", &entries).await;
    keyless.put(&connection("bank", &bank.base_url(), spec(bank.token_url()))).await;
    let stalled = |o: &Value| is(o, "Stalled", "True", "KeyMissing");
    let object = keyless.until("bank", "Stalled for want of a key", stalled).await;
    assert!(message(&object, "Ready").contains("--key-secret"));
    assert_eq!(bank.counters().connections, 0, "a token that cannot be kept is not spent");
    keyless.finish().await;

    let mut world = world("refresh", |ns| vec![key_folder(ns.plane(), ns.name())]).await;
    let (secret, token) = (world.ns.canary("client"), refresh(&world));
    let bank = world.bank("bank", wants(&secret, &token)).await;
    let entries =
        [("client-id", &b"busbar"[..]), ("client-secret", secret.as_bytes()), ("refresh-token", token.as_bytes())];
    world.ns.secret("grant", &entries).await;
    world.put(&connection("bank", &bank.base_url(), spec(bank.token_url()))).await;
    world.until("bank", "verified with the Secret's token", verified).await;
    further(&bank, "/oauth", 2).await;
    world.operator.restart().await;
    further(&bank, "/oauth", 2).await;
    further(&bank, "/health", 1).await;
    assert_eq!(bank.counters().tokens_refused, 0, "no spent token was ever sent");
    assert!(is(&world.now("bank"), "Authenticated", "True", "CredentialAccepted"));
    world.finish().await;
}

#[tokio::test]
async fn a_bank_that_demands_a_certificate_is_shown_the_one_that_is_in_the_secret_now() {
    let world = world("mtls", |_| Vec::new()).await;
    let bank = BankConfig { demands_certificate: true, ..BankConfig::new("bank") };
    let bank = world.sim.add_bank(bank).await.unwrap();
    let ca = bank.ca_pem().to_owned();
    let put = async |certificate: &str, key: &str| {
        let entries = [("ca.crt", ca.as_bytes()), ("tls.crt", certificate.as_bytes()), ("tls.key", key.as_bytes())];
        world.ns.secret("bank-tls", &entries).await;
    };
    let stranger = Sim::start(SimConfig::default()).await.unwrap();
    let (certificate, key) = stranger.client_certificate("busbar", jiff::civil::date(2031, 1, 1)).unwrap();
    put(&certificate, &key).await;
    let spec = json!({
        "endpoint": {"insecure": null},
        "tls": {"certSecretRef": {"name": "bank-tls"}, "minVersion": "TLS13"},
    });
    world.put(&connection("bank", &bank.https_url(), spec)).await;
    let expires = |o: &Value, at: &str| o["status"]["credential"]["expirationTime"] == at;
    let unverified = |o: &Value| is(o, "Ready", "True", "Unverified") && expires(o, "2031-01-01T00:00:00Z");
    world.until("bank", "no verdict with a stranger's certificate", unverified).await;
    assert_eq!(arrivals(&bank, "/"), 0);

    for (year, at) in [(2032, "2032-01-01T00:00:00Z"), (2033, "2033-01-01T00:00:00Z")] {
        let (certificate, key) = world.sim.client_certificate("busbar", jiff::civil::date(year, 1, 1)).unwrap();
        put(&certificate, &key).await;
        let taken = |o: &Value| verified(o) && expires(o, at);
        world.until("bank", "verified with the rotated certificate", taken).await;
        further(&bank, "/health", 1).await;
    }
    assert!(is(&world.now("bank"), "Authenticated", "True", "CredentialAccepted"));
    let metric = world.operator.metric("busbar_credential_expiry_timestamp_seconds", &[("connection", "bank")]).await;
    assert_eq!(metric, Some(1_988_150_400.0));
    world.finish().await;
}

#[tokio::test]
async fn an_outage_of_the_token_endpoint_is_told_as_such_and_leaves_the_circuit_alone() {
    let world = world("token-outage", |_| Vec::new()).await;
    world.quick_policy("default", "5m").await;
    let secret = world.ns.canary("secret");
    let client =
        RequiredAuth::OAuth2 { client_id: "busbar".into(), client_secret: secret.clone(), expires_in_seconds: 3600 };
    let bank = world.bank("oauth", client).await;
    let failing = Rule::on("/oauth/token", [ScriptStep::from(Behaviour::status(503))]);
    bank.set_script(Script { rules: vec![failing] }).await.unwrap();
    world.ns.secret("oauth", &[("client-id", b"busbar"), ("client-secret", secret.as_bytes())]).await;
    let auth = json!({"oauth2ClientCredentials": {"tokenURL": bank.token_url(), "secretRef": {"name": "oauth"}}});
    world.put(&connection("oauth", &bank.base_url(), json!({"auth": auth}))).await;
    let told = |o: &Value| {
        is(o, "Authenticated", "Unknown", "TokenUnavailable") && is(o, "Healthy", "Unknown", "TokenUnavailable")
    };
    let object = world.until("oauth", "no token is to be had", told).await;
    assert!(is(&object, "Ready", "True", "Unverified"), "an outage fails no rollout");
    further(&bank, "/oauth", 3).await;
    assert!(circuit(&world.now("oauth"), "Closed"));
    assert_eq!(arrivals(&bank, "/health"), 0);
    bank.recover().await;
    world.until("oauth", "verified", verified).await;
    world.finish().await;
}
