//! Rotation: the bank requires a new credential, a user writes it into the Secret, and at most the one call that reveals it
//! fails. Copies of Secrets are a whole minute old here, as by default.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::sim::{BankHandle, RequiredAuth};
use futures::future::join_all;
use serde_json::{Value, json};

use super::{ConnectionEnv, is, is_verified};
use crate::cluster::control_planes::report;
use crate::kit::banks::{arrivals_at, further_arrivals};
use crate::kit::objects::{bearer_auth, connection};

/// A minute, as by default: what is noticed earlier was noticed by a rejected call.
const REFRESH: &str = "--secret-refresh=60s";

/// A bank, and the credential that it requires next.
struct RotationCase {
    bank: BankHandle,
    next: RequiredAuth,
    entries: Vec<(&'static str, String)>,
}

async fn secret(env: &ConnectionEnv, name: &str, entries: &[(&'static str, String)]) {
    let entries: Vec<(&str, &[u8])> = entries.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
    env.ns.secret(name, &entries).await;
}

/// What a bank requires, and what the Secret must hold for it, with these values.
fn credential(name: &str, user: &str, value: &str) -> (RequiredAuth, Vec<(&'static str, String)>) {
    let (user, value) = (user.to_owned(), value.to_owned());
    match name {
        "bearer" => (RequiredAuth::Bearer { token: value.clone() }, vec![("token", value)]),
        "api-key" => {
            (RequiredAuth::ApiKeyHeader { name: "x-api-key".into(), value: value.clone() }, vec![("api-key", value)])
        }
        "basic" => (
            RequiredAuth::Basic { username: user.clone(), password: value.clone() },
            vec![("username", user), ("password", value)],
        ),
        _ => (
            RequiredAuth::OAuth2 { client_id: user.clone(), client_secret: value.clone(), expires_in_seconds: 3600 },
            vec![("client-id", user), ("client-secret", value)],
        ),
    }
}

async fn rotation_cases(env: &ConnectionEnv) -> Vec<RotationCase> {
    let mut cases = Vec::new();
    for name in ["bearer", "api-key", "basic", "oauth"] {
        let (old, new) = (env.ns.canary("old"), env.ns.canary("new"));
        let (auth, entries) = credential(name, "busbar", &old);
        let bank = env.add_bank(name, auth).await;
        secret(env, name, &entries).await;
        let reference = json!({"name": name});
        let spec = match name {
            "bearer" => json!({"bearer": {"secretRef": reference}}),
            "api-key" => {
                json!({"apiKey": {"placement": "Header", "name": "x-api-key", "secretRef": reference}})
            }
            "basic" => json!({"basic": {"secretRef": reference}}),
            _ => json!({"oauth2ClientCredentials": {"tokenURL": bank.token_url(), "secretRef": reference}}),
        };
        env.put(&connection(name, &bank.base_url(), json!({"auth": spec}))).await;
        let (next, entries) = credential(name, "busbar", &new);
        cases.push(RotationCase { bank, next, entries });
    }
    cases
}

#[tokio::test]
async fn a_rotation_fails_only_the_call_that_reveals_it() {
    let env = ConnectionEnv::with_flags("rotation", |_| vec![REFRESH.to_owned()]).await;
    let cases = rotation_cases(&env).await;
    let mut versions = Vec::new();
    for case in &cases {
        let object = env.until_verified(case.bank.name()).await;
        versions.push(object["status"]["credential"]["secretResourceVersion"].clone());
    }
    join_all(cases.iter().map(|case| further_arrivals(&case.bank, "/health", 1))).await;
    // The Secret first, then the bank, to avoid a gap; the operator's copy is seconds old.
    let clock = Clock::system();
    for case in &cases {
        secret(&env, case.bank.name(), &case.entries).await;
        case.bank.clear_arrivals();
        case.bank.set_auth(&case.next).unwrap();
        case.bank.revoke_tokens();
    }
    let rotated = clock.mono();
    for (case, before) in cases.iter().zip(&versions) {
        let name = case.bank.name();
        let accepted = |o: &Value| {
            is(o, "Authenticated", "True", "CredentialAccepted")
                && o["status"]["credential"]["secretResourceVersion"] != *before
        };
        let object = env.until_connection(name, "the new credential is accepted", accepted).await;
        assert!(is_verified(&object), "a rotation leaves it Ready: {:#}", object["status"]);
        env.until_connection_event(name, "CredentialRotated").await;
    }
    let took = clock.mono().since(rotated);
    assert!(took < Duration::from_secs(30), "after {took:?}, which is the refresh interval and not the rejected call");
    join_all(cases.iter().map(|case| further_arrivals(&case.bank, "/health", 3))).await;
    for case in &cases {
        let (name, all) = (case.bank.name(), case.bank.arrivals().entries);
        let failed =
            |path: &str| all.iter().filter(|a| a.path.starts_with(path) && a.status.is_none_or(|s| s >= 400)).count();
        // A call whose token is rejected asks for another with the old client secret: both belong to that one call.
        let token = usize::from(name == "oauth");
        assert_eq!((failed("/health"), failed("/oauth")), (1, token), "failed at {name}: {all:#?}");
    }
    report(&format!("four rotated credentials were in use {took:.1?} after the rotation"));
    env.finish().await;
}

#[tokio::test]
async fn a_wrong_credential_does_not_read_the_secret_at_every_probe() {
    let env = ConnectionEnv::with_flags("wrong", |_| vec![REFRESH.to_owned()]).await;
    let (auth, _) = credential("bearer", "", &env.ns.canary("right"));
    let bank = env.add_bank("bearer", auth).await;
    secret(&env, "bearer", &[("token", env.ns.canary("wrong"))]).await;
    let spec = json!({
        "auth": {"bearer": {"secretRef": {"name": "bearer"}}},
        "healthCheck": {"interval": "5s"},
    });
    env.put(&connection("bearer", &bank.base_url(), spec)).await;
    env.until_connection("bearer", "rejected", |o| is(o, "Authenticated", "False", "AuthenticationFailed")).await;
    for _ in 0..8 {
        // Requested by a user: reconciles and probes may be as frequent as that.
        env.annotate_connection("bearer", "busbar.dev/requestedAt", &uuid::Uuid::new_v4().to_string()).await;
        further_arrivals(&bank, "/health", 1).await;
    }
    let reads = AuditQuery { verb: Some("get"), resource: Some("secrets"), ..env.operator.requests() };
    let reads = env.operator.audit().requests(&reads).unwrap().len();
    let probes = arrivals_at(&bank, "/health");
    assert!(probes >= 9, "{probes}");
    // The first read, the one at the rejection, those 2, 4, 8, 16 and 32 seconds after it, and one of each request.
    assert!((2..=15).contains(&reads), "{reads} reads during {probes} probes");
    env.finish().await;
}

#[tokio::test]
async fn a_new_secret_is_used_in_time_despite_frequent_reconciles() {
    let env = ConnectionEnv::with_flags("in-time", |_| vec!["--secret-refresh=10s".to_owned()]).await;
    let bank = env.add_bank("bearer", RequiredAuth::None).await;
    secret(&env, "bearer", &[("token", env.ns.canary("one"))]).await;
    let spec = bearer_auth("bearer");
    env.put(&connection("bearer", &bank.base_url(), spec)).await;
    let first = env.until_verified("bearer").await;
    let clock = Clock::system();
    secret(&env, "bearer", &[("token", env.ns.canary("two"))]).await;
    let rotated = clock.mono();
    let version = |o: &Value| o["status"]["credential"]["secretResourceVersion"].clone();
    // Each of these makes the operator reconcile the object with a copy that is still fresh.
    while version(&env.latest("bearer")) == version(&first) {
        assert!(clock.mono().since(rotated) < Duration::from_secs(15), "not within the refresh interval");
        env.annotate_connection("bearer", "busbar.dev/requestedAt", &uuid::Uuid::new_v4().to_string()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(bank.arrivals().entries.iter().all(|a| a.status == Some(200)), "no call failed");
    env.finish().await;
}
