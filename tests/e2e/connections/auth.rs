//! Every way to authenticate: with the right credential, with a wrong one, and the change from one to the other.

use busbar::testbed::sim::{BankConfig, RequiredAuth};
use futures::future::join_all;
use serde_json::{Value, json};

use super::{ConnectionEnv, has_circuit, is, is_verified, message};
use crate::cluster::namespace::condition;
use crate::kit::banks::{arrivals_at, further_arrivals};
use crate::kit::objects::connection;

/// One way: what the bank requires, what the spec says, what the Secret holds.
struct AuthCase {
    name: &'static str,
    bank: RequiredAuth,
    path: &'static str,
    spec: Value,
    secret: Vec<(&'static str, String)>,
}

fn auth_cases(env: &ConnectionEnv) -> Vec<AuthCase> {
    let canary = |label| env.ns.canary(label);
    let with_secret = |kind: &str, name: &str| json!({"auth": {kind: {"secretRef": {"name": name}}}});
    let (token, renamed, user, password) = (canary("token"), canary("renamed"), canary("user"), canary("password"));
    let (header, query, mono) = (canary("header-key"), canary("query-key"), canary("mono-key"));
    let (id, secret, f_id, f_secret) = (canary("id"), canary("secret"), canary("f-id"), canary("f-secret"));
    let oauth = |client_id: &str, client_secret: &str| RequiredAuth::OAuth2 {
        client_id: client_id.to_owned(),
        client_secret: client_secret.to_owned(),
        expires_in_seconds: 3600,
    };
    vec![
        AuthCase { name: "none", bank: RequiredAuth::None, path: "", spec: json!({}), secret: vec![] },
        AuthCase {
            name: "bearer",
            bank: RequiredAuth::Bearer { token: token.clone() },
            path: "",
            spec: with_secret("bearer", "bearer"),
            secret: vec![("token", token)],
        },
        AuthCase {
            name: "renamed",
            bank: RequiredAuth::Bearer { token: renamed.clone() },
            path: "",
            spec: json!({"auth": {"bearer": {"secretRef": {"name": "renamed", "key": "my-token"}}}}),
            secret: vec![("my-token", renamed), ("token", "another".to_owned())],
        },
        AuthCase {
            name: "basic",
            bank: RequiredAuth::Basic { username: user.clone(), password: password.clone() },
            path: "",
            spec: with_secret("basic", "basic"),
            secret: vec![("username", user), ("password", password)],
        },
        AuthCase {
            name: "header",
            bank: RequiredAuth::ApiKeyHeader { name: "x-api-key".into(), value: format!("Key {header}") },
            path: "",
            spec: json!({"auth": {"apiKey": {
                "placement": "Header", "name": "x-api-key", "prefix": "Key ", "secretRef": {"name": "header"},
            }}}),
            secret: vec![("api-key", header)],
        },
        AuthCase {
            name: "query",
            bank: RequiredAuth::ApiKeyQuery { name: "apikey".into(), value: query.clone() },
            path: "",
            spec: json!({"auth": {"apiKey": {
                "placement": "Query", "name": "apikey", "secretRef": {"name": "query"},
            }}}),
            secret: vec![("api-key", query)],
        },
        AuthCase {
            name: "oauth",
            bank: oauth(&id, &secret),
            path: "",
            // The address is known once the bank listens.
            spec: json!({"auth": {"oauth2ClientCredentials": {"tokenURL": "", "secretRef": {"name": "oauth"}}}}),
            secret: vec![("client-id", id), ("client-secret", secret)],
        },
        AuthCase {
            name: "mono",
            bank: RequiredAuth::mono(mono.clone()),
            path: "/v2",
            spec: json!({
                "provider": "mono",
                "auth": {"profile": {"secretRef": {"name": "mono"}}},
                "healthCheck": {"path": null},
            }),
            secret: vec![("api-key", mono)],
        },
        AuthCase {
            name: "finastra",
            bank: oauth(&f_id, &f_secret),
            path: "",
            spec: json!({
                "provider": "finastra",
                "endpoint": {"parameters": {"tenant": "sandbox"}},
                "auth": {"profile": {"secretRef": {"name": "finastra"}}},
                "healthCheck": {"path": null},
            }),
            secret: vec![("client-id", f_id), ("client-secret", f_secret)],
        },
    ]
}

#[tokio::test]
async fn every_way_to_authenticate_is_verified_with_one_status_write() {
    let env = ConnectionEnv::new("auth").await;
    let mut banks = Vec::new();
    for AuthCase { name, bank, path, mut spec, secret } in auth_cases(&env) {
        let bank = env.add_bank(name, bank).await;
        if name == "oauth" {
            spec["auth"]["oauth2ClientCredentials"]["tokenURL"] = json!(bank.token_url());
        }
        let entries: Vec<(&str, &[u8])> = secret.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
        if !entries.is_empty() {
            env.ns.secret(name, &entries).await;
        }
        env.put(&connection(name, &format!("{}{path}", bank.base_url()), spec)).await;
        banks.push(bank);
    }
    for bank in &banks {
        let name = bank.name();
        let object = env.until_connection(name, "Ready, Verified", is_verified).await;
        let accepted = if name == "none" {
            is(&object, "Authenticated", "Unknown", "CredentialNotRequired")
        } else {
            is(&object, "Authenticated", "True", "CredentialAccepted")
        };
        assert!(accepted, "{:#}", object["status"]);
        assert!(
            is(&object, "Healthy", "True", "ChecksPassing") && has_circuit(&object, "Closed"),
            "{:#}",
            object["status"]
        );
        assert_eq!(object["status"]["host"], bank.address().to_string());
        let credential = &object["status"]["credential"];
        assert_eq!(credential["verifiedTime"].is_string(), name != "none", "{credential}");
        env.until_connection_event(name, "ConnectionVerified").await;
    }
    join_all(banks.iter().map(|bank| further_arrivals(bank, "/", 2))).await;
    for bank in &banks {
        let rejected: Vec<_> = bank.arrivals().entries.into_iter().filter(|a| a.status != Some(200)).collect();
        assert!(rejected.is_empty(), "{rejected:?}");
        assert_eq!(env.status_writes(bank.name()), 1, "status writes of {}", bank.name());
    }
    env.finish().await;
}

#[tokio::test]
async fn a_corrected_credential_is_verified_without_a_restart() {
    let env = ConnectionEnv::new("refused").await;
    let (token, key, secret) = (env.ns.canary("token"), env.ns.canary("key"), env.ns.canary("secret"));
    let wrong = env.ns.canary("wrong");
    let bearer = env.add_bank("bearer", RequiredAuth::Bearer { token: token.clone() }).await;
    let api_key = env.add_bank("api-key", RequiredAuth::mono(key.clone())).await;
    let client =
        RequiredAuth::OAuth2 { client_id: "busbar".into(), client_secret: secret.clone(), expires_in_seconds: 3600 };
    let oauth = env.add_bank("oauth", client).await;
    let right = [
        ("bearer", vec![("token", token.as_str())]),
        ("api-key", vec![("api-key", key.as_str())]),
        ("oauth", vec![("client-id", "busbar"), ("client-secret", secret.as_str())]),
    ];
    for (name, entries) in &right {
        let entries: Vec<_> = entries.iter().map(|(key, _)| (*key, wrong.as_bytes())).collect();
        env.ns.secret(name, &entries).await;
    }
    let of = |name: &str| json!({"name": name});
    let specs = [
        (&bearer, json!({"auth": {"bearer": {"secretRef": of("bearer")}}})),
        (
            &api_key,
            json!({"auth": {"apiKey": {"placement": "Header", "name": "mono-sec-key", "secretRef": of("api-key")}}}),
        ),
        (
            &oauth,
            json!({"auth": {"oauth2ClientCredentials": {"tokenURL": oauth.token_url(), "secretRef": of("oauth")}}}),
        ),
    ];
    for (bank, spec) in specs {
        env.put(&connection(bank.name(), &bank.base_url(), spec)).await;
    }
    for (name, _) in &right {
        let rejected = |o: &Value| {
            is(o, "Ready", "False", "AuthenticationFailed")
                && is(o, "Reconciling", "True", "AuthenticationFailed")
                && is(o, "Authenticated", "False", "AuthenticationFailed")
        };
        let object = env.until_connection(name, "AuthenticationFailed", rejected).await;
        assert!(condition(&object, "Stalled").is_none());
        assert!(message(&object, "Ready").contains("Secret"), "no remedy: {}", message(&object, "Ready"));
        env.until_connection_event(name, "AuthenticationFailed").await;
    }
    // Rejected credentials do not open the circuit, however many.
    further_arrivals(&bearer, "/health", 2).await;
    assert!(has_circuit(&env.latest("bearer"), "Closed"));
    assert_eq!(arrivals_at(&oauth, "/health"), 0, "no call without a token");

    for (name, entries) in &right {
        let entries: Vec<_> = entries.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
        env.ns.secret(name, &entries).await;
    }
    for (name, _) in &right {
        let object = env.until_connection(name, "verified with the new Secret", is_verified).await;
        assert!(condition(&object, "Reconciling").is_none());
    }

    // A verified connection stays Ready when the bank rejects its credential; only Authenticated changes.
    let newer = env.ns.canary("newer");
    bearer.set_auth(&RequiredAuth::Bearer { token: newer.clone() }).unwrap();
    let rejected = |o: &Value| is(o, "Authenticated", "False", "AuthenticationFailed");
    let object = env.until_connection("bearer", "the credential is rejected", rejected).await;
    assert!(is_verified(&object), "{:#}", object["status"]);
    let before = object["status"]["credential"].clone();
    env.ns.secret("bearer", &[("token", newer.as_bytes())]).await;
    let accepted = |o: &Value| is(o, "Authenticated", "True", "CredentialAccepted");
    let object = env.until_connection("bearer", "the new credential is accepted", accepted).await;
    assert_ne!(object["status"]["credential"]["secretResourceVersion"], before["secretResourceVersion"]);
    env.until_connection_event("bearer", "CredentialRotated").await;
    env.finish().await;
}

#[tokio::test]
async fn a_revoked_token_is_replaced_without_a_status_write() {
    let env = ConnectionEnv::new("token").await;
    let secret = env.ns.canary("secret");
    let client =
        RequiredAuth::OAuth2 { client_id: "busbar".into(), client_secret: secret.clone(), expires_in_seconds: 3600 };
    let bank = env.sim.add_bank(BankConfig::new("oauth").auth(client)).await.unwrap();
    env.ns.secret("oauth", &[("client-id", b"busbar"), ("client-secret", secret.as_bytes())]).await;
    let spec = json!({"auth": {"oauth2ClientCredentials": {
        "tokenURL": bank.token_url(), "secretRef": {"name": "oauth"},
    }}});
    env.put(&connection("oauth", &bank.base_url(), spec)).await;
    env.until_verified("oauth").await;
    further_arrivals(&bank, "/health", 1).await;
    assert_eq!(arrivals_at(&bank, "/oauth"), 1, "one token serves many calls");
    bank.revoke_tokens();
    further_arrivals(&bank, "/health", 2).await;
    assert_eq!(arrivals_at(&bank, "/oauth"), 2);
    assert!(is(&env.latest("oauth"), "Authenticated", "True", "CredentialAccepted"));
    assert_eq!(env.status_writes("oauth"), 1, "a replaced token changes no status");
    env.finish().await;
}
