//! HTTPS to a bank whose certificate nobody but its users trusts.

use busbar::testbed::sim::{BankConfig, CertificateKind, RequiredAuth};
use serde_json::{Value, json};

use super::{World, arrivals, circuit, connection, is, verified};

#[tokio::test]
async fn a_bank_is_trusted_by_its_ca_and_its_name_and_by_nothing_less() {
    let world = World::new("tls").await;
    world.quick_policy("default", "5m").await;
    let token = world.ns.canary("token");
    let bank = world.bank("bank", RequiredAuth::Bearer { token: token.clone() }).await;
    let expired = world
        .sim
        .add_bank(BankConfig { certificate: CertificateKind::Expired, ..BankConfig::new("expired") })
        .await
        .unwrap();
    world.ns.secret("token", &[("token", token.as_bytes())]).await;
    world.ns.secret("trust", &[("ca.crt", bank.ca_pem().as_bytes())]).await;
    let trust = json!({"name": "trust"});
    let auth = json!({"bearer": {"secretRef": {"name": "token"}}});
    let url = |label: &str| format!("{}/c/{label}", bank.https_url());
    for (name, tls) in [
        ("trusted", json!({"certSecretRef": trust})),
        ("named", json!({"certSecretRef": trust, "serverName": "bank.sim.test"})),
        ("no-ca", Value::Null),
        ("wrong-name", json!({"certSecretRef": trust, "serverName": "other.sim.test"})),
    ] {
        let spec = json!({"endpoint": {"insecure": null}, "auth": auth, "tls": tls});
        world.put(&connection(name, &url(name), spec)).await;
    }
    let spec = json!({"endpoint": {"insecure": null}, "tls": {"certSecretRef": trust}});
    world.put(&connection("expired", &expired.https_url(), spec)).await;

    for name in ["trusted", "named"] {
        world.until(name, "verified over TLS", verified).await;
    }
    assert!(bank.arrivals().entries.iter().all(|a| a.tls && a.status == Some(200)));
    for name in ["no-ca", "wrong-name", "expired"] {
        let untrusted = |o: &Value| is(o, "Ready", "True", "Unverified");
        let object = world.until(name, "Ready without a verdict", untrusted).await;
        assert!(!is(&object, "Healthy", "True", "ChecksPassing"), "{name}: {:#}", object["status"]);
        let open = |o: &Value| circuit(o, "Open") && is(o, "Ready", "True", "Unverified");
        world.until(name, "Open", open).await;
        assert_eq!(arrivals(&bank, &format!("/c/{name}/")), 0, "{name}: the credential was sent to a stranger");
    }
    assert_eq!(arrivals(&expired, "/"), 0);

    // The remedy works without a restart; the trial of the open circuit is what finds out, so another policy first.
    world.quick_policy("brief", "5s").await;
    let spec = json!({
        "endpoint": {"insecure": null}, "auth": auth, "tls": {"certSecretRef": trust},
        "breakerPolicyRef": {"name": "brief"},
    });
    world.put(&connection("no-ca", &url("no-ca"), spec)).await;
    world.until("no-ca", "verified with the CA", verified).await;
    world.finish().await;
}
