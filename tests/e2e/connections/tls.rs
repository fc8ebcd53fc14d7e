//! HTTPS to a bank whose certificate only a configured CA verifies.

use busbar::testbed::sim::{BankConfig, CertificateKind, RequiredAuth};
use serde_json::{Value, json};

use super::{ConnectionEnv, has_circuit, is, is_verified};
use crate::kit::banks::arrivals_at;
use crate::kit::objects::connection;

#[tokio::test]
async fn a_bank_is_trusted_only_by_its_ca_and_its_name() {
    let env = ConnectionEnv::new("tls").await;
    env.put_quick_policy("default", "5m").await;
    let token = env.ns.canary("token");
    let bank = env.add_bank("bank", RequiredAuth::Bearer { token: token.clone() }).await;
    let expired = env
        .sim
        .add_bank(BankConfig { certificate: CertificateKind::Expired, ..BankConfig::new("expired") })
        .await
        .unwrap();
    env.ns.secret("token", &[("token", token.as_bytes())]).await;
    env.ns.secret("trust", &[("ca.crt", bank.ca_pem().as_bytes())]).await;
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
        env.put(&connection(name, &url(name), spec)).await;
    }
    let spec = json!({"endpoint": {"insecure": null}, "tls": {"certSecretRef": trust}});
    env.put(&connection("expired", &expired.https_url(), spec)).await;

    for name in ["trusted", "named"] {
        env.until_connection(name, "verified over TLS", is_verified).await;
    }
    assert!(bank.arrivals().entries.iter().all(|a| a.tls && a.status == Some(200)));
    for name in ["no-ca", "wrong-name", "expired"] {
        let untrusted = |o: &Value| is(o, "Ready", "True", "Unverified");
        let object = env.until_connection(name, "Ready, Unverified", untrusted).await;
        assert!(!is(&object, "Healthy", "True", "ChecksPassing"), "{name}: {:#}", object["status"]);
        let open = |o: &Value| has_circuit(o, "Open") && is(o, "Ready", "True", "Unverified");
        env.until_connection(name, "Open", open).await;
        assert_eq!(
            arrivals_at(&bank, &format!("/c/{name}/")),
            0,
            "{name}: the credential was sent to an unverified server"
        );
    }
    assert_eq!(arrivals_at(&expired, "/"), 0);

    // The fix works without a restart; the trial of the open circuit shows it, so a policy with a short open duration.
    env.put_quick_policy("brief", "5s").await;
    let spec = json!({
        "endpoint": {"insecure": null}, "auth": auth, "tls": {"certSecretRef": trust},
        "breakerPolicyRef": {"name": "brief"},
    });
    env.put(&connection("no-ca", &url("no-ca"), spec)).await;
    env.until_connection("no-ca", "verified with the CA", is_verified).await;
    env.finish().await;
}
