//! Every way to authenticate, the right credential, the wrong one, and the change from one to the other.

use busbar::testbed::sim::{BankConfig, RequiredAuth};
use futures::future::join_all;
use serde_json::{Value, json};

use super::{World, arrivals, circuit, connection, further, is, message, verified};
use crate::support::namespace::condition;

/// One way: what the bank wants, what the spec says, what the Secret holds.
struct Way {
    name: &'static str,
    bank: RequiredAuth,
    path: &'static str,
    spec: Value,
    secret: Vec<(&'static str, String)>,
}

fn ways(world: &World) -> Vec<Way> {
    let canary = |label| world.ns.canary(label);
    let of = |kind: &str, name: &str| json!({"auth": {kind: {"secretRef": {"name": name}}}});
    let (token, renamed, user, password) = (canary("token"), canary("renamed"), canary("user"), canary("password"));
    let (header, query, mono) = (canary("header-key"), canary("query-key"), canary("mono-key"));
    let (id, secret, f_id, f_secret) = (canary("id"), canary("secret"), canary("f-id"), canary("f-secret"));
    let oauth = |client_id: &str, client_secret: &str| RequiredAuth::OAuth2 {
        client_id: client_id.to_owned(),
        client_secret: client_secret.to_owned(),
        expires_in_seconds: 3600,
    };
    vec![
        Way { name: "none", bank: RequiredAuth::None, path: "", spec: json!({}), secret: vec![] },
        Way {
            name: "bearer",
            bank: RequiredAuth::Bearer { token: token.clone() },
            path: "",
            spec: of("bearer", "bearer"),
            secret: vec![("token", token)],
        },
        Way {
            name: "renamed",
            bank: RequiredAuth::Bearer { token: renamed.clone() },
            path: "",
            spec: json!({"auth": {"bearer": {"secretRef": {"name": "renamed", "key": "my-token"}}}}),
            secret: vec![("my-token", renamed), ("token", "another".to_owned())],
        },
        Way {
            name: "basic",
            bank: RequiredAuth::Basic { username: user.clone(), password: password.clone() },
            path: "",
            spec: of("basic", "basic"),
            secret: vec![("username", user), ("password", password)],
        },
        Way {
            name: "header",
            bank: RequiredAuth::ApiKeyHeader { name: "x-api-key".into(), value: format!("Key {header}") },
            path: "",
            spec: json!({"auth": {"apiKey": {
                "placement": "Header", "name": "x-api-key", "prefix": "Key ", "secretRef": {"name": "header"},
            }}}),
            secret: vec![("api-key", header)],
        },
        Way {
            name: "query",
            bank: RequiredAuth::ApiKeyQuery { name: "apikey".into(), value: query.clone() },
            path: "",
            spec: json!({"auth": {"apiKey": {
                "placement": "Query", "name": "apikey", "secretRef": {"name": "query"},
            }}}),
            secret: vec![("api-key", query)],
        },
        Way {
            name: "oauth",
            bank: oauth(&id, &secret),
            path: "",
            // The address is known once the bank listens.
            spec: json!({"auth": {"oauth2ClientCredentials": {"tokenURL": "", "secretRef": {"name": "oauth"}}}}),
            secret: vec![("client-id", id), ("client-secret", secret)],
        },
        Way {
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
        Way {
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
async fn every_way_to_authenticate_is_verified_with_a_single_status_write() {
    let world = World::new("auth").await;
    let mut banks = Vec::new();
    for Way { name, bank, path, mut spec, secret } in ways(&world) {
        let bank = world.bank(name, bank).await;
        if name == "oauth" {
            spec["auth"]["oauth2ClientCredentials"]["tokenURL"] = json!(bank.token_url());
        }
        let entries: Vec<(&str, &[u8])> = secret.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
        if !entries.is_empty() {
            world.ns.secret(name, &entries).await;
        }
        world.put(&connection(name, &format!("{}{path}", bank.base_url()), spec)).await;
        banks.push(bank);
    }
    for bank in &banks {
        let name = bank.name();
        let object = world.until(name, "Ready, Verified", verified).await;
        let accepted = if name == "none" {
            is(&object, "Authenticated", "Unknown", "CredentialNotRequired")
        } else {
            is(&object, "Authenticated", "True", "CredentialAccepted")
        };
        assert!(accepted, "{:#}", object["status"]);
        assert!(
            is(&object, "Healthy", "True", "ChecksPassing") && circuit(&object, "Closed"),
            "{:#}",
            object["status"]
        );
        assert_eq!(object["status"]["host"], bank.address().to_string());
        let credential = &object["status"]["credential"];
        assert_eq!(credential["verifiedTime"].is_string(), name != "none", "{credential}");
        world.event(name, "ConnectionVerified").await;
    }
    join_all(banks.iter().map(|bank| further(bank, "/", 2))).await;
    for bank in &banks {
        let refused: Vec<_> = bank.arrivals().entries.into_iter().filter(|a| a.status != Some(200)).collect();
        assert!(refused.is_empty(), "{refused:?}");
        assert_eq!(world.writes(bank.name()), 1, "status writes of {}", bank.name());
    }
    world.finish().await;
}

#[tokio::test]
async fn a_refused_credential_is_told_and_its_correction_is_noticed_without_a_restart() {
    let world = World::new("refused").await;
    let (token, key, secret) = (world.ns.canary("token"), world.ns.canary("key"), world.ns.canary("secret"));
    let wrong = world.ns.canary("wrong");
    let bearer = world.bank("bearer", RequiredAuth::Bearer { token: token.clone() }).await;
    let api_key = world.bank("api-key", RequiredAuth::mono(key.clone())).await;
    let client =
        RequiredAuth::OAuth2 { client_id: "busbar".into(), client_secret: secret.clone(), expires_in_seconds: 3600 };
    let oauth = world.bank("oauth", client).await;
    let right = [
        ("bearer", vec![("token", token.as_str())]),
        ("api-key", vec![("api-key", key.as_str())]),
        ("oauth", vec![("client-id", "busbar"), ("client-secret", secret.as_str())]),
    ];
    for (name, entries) in &right {
        let entries: Vec<_> = entries.iter().map(|(key, _)| (*key, wrong.as_bytes())).collect();
        world.ns.secret(name, &entries).await;
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
        world.put(&connection(bank.name(), &bank.base_url(), spec)).await;
    }
    for (name, _) in &right {
        let refused = |o: &Value| {
            is(o, "Ready", "False", "AuthenticationFailed")
                && is(o, "Reconciling", "True", "AuthenticationFailed")
                && is(o, "Authenticated", "False", "AuthenticationFailed")
        };
        let object = world.until(name, "AuthenticationFailed", refused).await;
        assert!(condition(&object, "Stalled").is_none());
        assert!(message(&object, "Ready").contains("Secret"), "no remedy: {}", message(&object, "Ready"));
        world.event(name, "AuthenticationFailed").await;
    }
    // Refusals do not open a circuit, however many.
    further(&bearer, "/health", 2).await;
    assert!(circuit(&world.now("bearer"), "Closed"));
    assert_eq!(arrivals(&oauth, "/health"), 0, "a call without a token is not made");

    for (name, entries) in &right {
        let entries: Vec<_> = entries.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
        world.ns.secret(name, &entries).await;
    }
    for (name, _) in &right {
        let object = world.until(name, "verified with the new Secret", verified).await;
        assert!(condition(&object, "Reconciling").is_none());
    }

    // What was verified stays Ready when the bank changes its mind; only Authenticated tells.
    let newer = world.ns.canary("newer");
    bearer.set_auth(&RequiredAuth::Bearer { token: newer.clone() }).unwrap();
    let refused = |o: &Value| is(o, "Authenticated", "False", "AuthenticationFailed");
    let object = world.until("bearer", "the credential is refused", refused).await;
    assert!(verified(&object), "{:#}", object["status"]);
    let before = object["status"]["credential"].clone();
    world.ns.secret("bearer", &[("token", newer.as_bytes())]).await;
    let accepted = |o: &Value| is(o, "Authenticated", "True", "CredentialAccepted");
    let object = world.until("bearer", "the new credential is accepted", accepted).await;
    assert_ne!(object["status"]["credential"]["secretResourceVersion"], before["secretResourceVersion"]);
    world.event("bearer", "CredentialRotated").await;
    world.finish().await;
}

#[tokio::test]
async fn a_bank_that_stops_taking_tokens_is_asked_for_a_new_one() {
    let world = World::new("token").await;
    let secret = world.ns.canary("secret");
    let client =
        RequiredAuth::OAuth2 { client_id: "busbar".into(), client_secret: secret.clone(), expires_in_seconds: 3600 };
    let bank = world.sim.add_bank(BankConfig::new("oauth").auth(client)).await.unwrap();
    world.ns.secret("oauth", &[("client-id", b"busbar"), ("client-secret", secret.as_bytes())]).await;
    let spec = json!({"auth": {"oauth2ClientCredentials": {
        "tokenURL": bank.token_url(), "secretRef": {"name": "oauth"},
    }}});
    world.put(&connection("oauth", &bank.base_url(), spec)).await;
    world.until("oauth", "verified", verified).await;
    further(&bank, "/health", 1).await;
    assert_eq!(arrivals(&bank, "/oauth"), 1, "one token serves many calls");
    bank.revoke_tokens();
    further(&bank, "/health", 2).await;
    assert_eq!(arrivals(&bank, "/oauth"), 2);
    assert!(is(&world.now("oauth"), "Authenticated", "True", "CredentialAccepted"));
    assert_eq!(world.writes("oauth"), 1, "a token that was renewed in passing is no news");
    world.finish().await;
}
