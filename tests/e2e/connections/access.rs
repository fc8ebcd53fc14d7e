//! What the configuration of the operator allows a connection: which addresses it may call, which tokens it may store; and
//! client certificates, which a bank may require.

use std::fs;
use std::sync::Arc;

use busbar::testbed::control_plane::ControlPlane;
use busbar::testbed::sim::{BankConfig, BankHandle, RequiredAuth, Rule, Script, ScriptStep};
use serde_json::{Value, json};

use super::{ConnectionEnv, has_circuit, is, is_verified, message};
use crate::cluster::namespace::condition;
use crate::kit::banks::{arrivals_at, further_arrivals, simulator, unavailable};
use crate::kit::objects::connection;

/// A folder with one key, as a mounted Secret has it.
pub(super) fn key_folder(plane: &Arc<ControlPlane>, namespace: &str) -> String {
    let folder = plane.run_dir().path().join(format!("keys-{namespace}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("2026-11-22"), [5; 32]).unwrap();
    format!("--key-secret={}", folder.display())
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_not_called() {
    let flag = "--allow-provider-addresses=127.0.0.2";
    let env = ConnectionEnv::with_flags("addresses", |_| vec![flag.to_owned()]).await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    let port = bank.address().port();
    // What the spec spells out can only be corrected there, or by the flag.
    env.put(&connection("literal", &bank.base_url(), json!({}))).await;
    let token_url = format!("http://169.254.169.254:{port}/token");
    env.ns.secret("oauth", &[("client-id", b"busbar"), ("client-secret", b"not-a-real-secret")]).await;
    let auth = json!({"oauth2ClientCredentials": {"tokenURL": token_url, "secretRef": {"name": "oauth"}}});
    env.put(&connection("token", "http://bank.invalid", json!({"auth": auth}))).await;
    // The address of a name may change by itself.
    env.put(&connection("name", &format!("http://localhost:{port}"), json!({}))).await;

    let stalled = |o: &Value| is(o, "Stalled", "True", "AddressNotAllowed");
    for (name, part) in
        [("literal", "the provider's host has a loopback"), ("token", "the token endpoint's host has a cloud metadata")]
    {
        let object = env.until_connection(name, "Stalled for its address", stalled).await;
        let text = message(&object, "Ready");
        assert!(text.contains(part) && text.contains("--allow-provider-addresses"), "{text}");
        assert!(is(&object, "Ready", "False", "AddressNotAllowed"));
    }
    let waiting = |o: &Value| is(o, "Reconciling", "True", "AddressNotAllowed");
    let object = env.until_connection("name", "Reconciling for its address", waiting).await;
    assert!(is(&object, "Ready", "False", "AddressNotAllowed") && condition(&object, "Stalled").is_none());
    assert!(!message(&object, "Ready").contains("127."), "{}", message(&object, "Ready"));
    assert_eq!(bank.counters().connections, 0);
    env.finish().await;
}

/// A bank with refresh tokens that it rotates, the Secret with the first one, and the connection `bank` to it.
async fn refresh_token_bank(env: &ConnectionEnv) -> BankHandle {
    let (client_secret, refresh_token) = (env.ns.canary("client"), env.ns.canary("refresh"));
    let entries = [
        ("client-id", "busbar".as_bytes()),
        ("client-secret", client_secret.as_bytes()),
        ("refresh-token", refresh_token.as_bytes()),
    ];
    env.ns.secret("grant", &entries).await;
    let required = RequiredAuth::RefreshToken {
        client_id: "busbar".to_owned(),
        client_secret: client_secret.clone(),
        refresh_token: refresh_token.clone(),
        expires_in_seconds: 6,
    };
    let bank = env.add_bank("bank", required).await;
    let auth = json!({"oauth2RefreshToken": {"tokenURL": bank.token_url(), "secretRef": {"name": "grant"}}});
    // The lock of a refresh that a restart interrupts expires with the timeout of its requests: sooner than a test waits.
    let timeout = json!({"connect": "1s", "request": "3s", "total": "10s"});
    env.put(&connection("bank", &bank.base_url(), json!({"auth": auth, "timeout": timeout}))).await;
    bank
}

#[tokio::test]
async fn without_a_key_no_refresh_token_is_sent() {
    let env = ConnectionEnv::new("refresh-keyless").await;
    let bank = refresh_token_bank(&env).await;
    let stalled = |o: &Value| is(o, "Stalled", "True", "KeyMissing");
    let object = env.until_connection("bank", "Stalled without a key", stalled).await;
    assert!(message(&object, "Ready").contains("--key-secret"));
    assert_eq!(bank.counters().connections, 0, "a token that cannot be stored is not spent");
    env.finish().await;
}

#[tokio::test]
async fn a_rotated_refresh_token_survives_a_restart_of_the_operator() {
    let mut env = ConnectionEnv::with_flags("refresh", |ns| vec![key_folder(ns.plane(), ns.name())]).await;
    let bank = refresh_token_bank(&env).await;
    env.until_verified("bank").await;
    further_arrivals(&bank, "/oauth", 2).await;
    env.operator.restart().await;
    further_arrivals(&bank, "/oauth", 2).await;
    further_arrivals(&bank, "/health", 1).await;
    assert_eq!(bank.counters().tokens_refused, 0, "no spent token was ever sent");
    assert!(is(&env.latest("bank"), "Authenticated", "True", "CredentialAccepted"));
    env.finish().await;
}

#[tokio::test]
async fn a_rotated_client_certificate_is_presented_without_a_restart() {
    let env = ConnectionEnv::new("mtls").await;
    let bank = BankConfig { demands_certificate: true, ..BankConfig::new("bank") };
    let bank = env.sim.add_bank(bank).await.unwrap();
    let ca = bank.ca_pem().to_owned();
    let put = async |certificate: &str, key: &str| {
        let entries = [("ca.crt", ca.as_bytes()), ("tls.crt", certificate.as_bytes()), ("tls.key", key.as_bytes())];
        env.ns.secret("bank-tls", &entries).await;
    };
    let other_sim = simulator().await;
    let (certificate, key) = other_sim.client_certificate("busbar", jiff::civil::date(2031, 1, 1)).unwrap();
    put(&certificate, &key).await;
    let spec = json!({
        "endpoint": {"insecure": null},
        "tls": {"certSecretRef": {"name": "bank-tls"}, "minVersion": "TLS13"},
    });
    env.put(&connection("bank", &bank.https_url(), spec)).await;
    let expires = |o: &Value, at: &str| o["status"]["credential"]["expirationTime"] == at;
    let unverified = |o: &Value| is(o, "Ready", "True", "Unverified") && expires(o, "2031-01-01T00:00:00Z");
    env.until_connection("bank", "unverified with a certificate of another CA", unverified).await;
    assert_eq!(arrivals_at(&bank, "/"), 0);

    for (year, at) in [(2032, "2032-01-01T00:00:00Z"), (2033, "2033-01-01T00:00:00Z")] {
        let (certificate, key) = env.sim.client_certificate("busbar", jiff::civil::date(year, 1, 1)).unwrap();
        put(&certificate, &key).await;
        let rotated = |o: &Value| is_verified(o) && expires(o, at);
        env.until_connection("bank", "verified with the rotated certificate", rotated).await;
        further_arrivals(&bank, "/health", 1).await;
    }
    assert!(is(&env.latest("bank"), "Authenticated", "True", "CredentialAccepted"));
    let metric = env.operator.metric("busbar_credential_expiry_timestamp_seconds", &[("connection", "bank")]).await;
    assert_eq!(metric, Some(1_988_150_400.0));
    env.finish().await;
}

#[tokio::test]
async fn an_outage_of_the_token_endpoint_does_not_open_the_circuit() {
    let env = ConnectionEnv::new("token-outage").await;
    env.put_quick_policy("default", "5m").await;
    let secret = env.ns.canary("secret");
    let client =
        RequiredAuth::OAuth2 { client_id: "busbar".into(), client_secret: secret.clone(), expires_in_seconds: 3600 };
    let bank = env.add_bank("oauth", client).await;
    let failing = Rule::on("/oauth/token", [ScriptStep::from(unavailable())]);
    bank.set_script(Script { rules: vec![failing] }).await.unwrap();
    env.ns.secret("oauth", &[("client-id", b"busbar"), ("client-secret", secret.as_bytes())]).await;
    let auth = json!({"oauth2ClientCredentials": {"tokenURL": bank.token_url(), "secretRef": {"name": "oauth"}}});
    env.put(&connection("oauth", &bank.base_url(), json!({"auth": auth}))).await;
    let unavailable_token = |o: &Value| {
        is(o, "Authenticated", "Unknown", "TokenUnavailable") && is(o, "Healthy", "Unknown", "TokenUnavailable")
    };
    let object = env.until_connection("oauth", "no access token available", unavailable_token).await;
    assert!(is(&object, "Ready", "True", "Unverified"), "an outage blocks no rollout");
    further_arrivals(&bank, "/oauth", 3).await;
    assert!(has_circuit(&env.latest("oauth"), "Closed"));
    assert_eq!(arrivals_at(&bank, "/health"), 0);
    bank.recover().await;
    env.until_verified("oauth").await;
    env.finish().await;
}
