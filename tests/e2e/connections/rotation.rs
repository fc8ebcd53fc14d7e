//! Rotation: the bank takes a new credential, somebody writes it into the Secret, and at most the one call that reveals
//! it fails. Copies of Secrets live a whole minute here, as they do by default.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::sim::{BankHandle, RequiredAuth};
use futures::future::join_all;
use serde_json::{Value, json};

use super::{World, connection, further, is, verified};
use crate::support::plane::tell;
use crate::support::{Operator, TestNs};

/// A minute, as by default: what is noticed sooner was noticed by the refusal.
const REFRESH: &str = "--secret-refresh=60s";

/// One way to authenticate, with what the bank and the Secret hold before and after.
struct Way {
    bank: BankHandle,
    next: RequiredAuth,
    entries: Vec<(&'static str, String)>,
}

async fn world(topic: &str, refresh: &str) -> World {
    let ns = TestNs::new(topic).await;
    let sim = busbar::testbed::sim::Sim::start(busbar::testbed::sim::SimConfig::default()).await.unwrap();
    let operator = Operator::ready(&ns, &[refresh]).await;
    World { ns, sim, operator }
}

async fn secret(world: &World, name: &str, entries: &[(&'static str, String)]) {
    let entries: Vec<(&str, &[u8])> = entries.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
    world.ns.secret(name, &entries).await;
}

/// What a bank wants, and what the Secret must hold for it, for a pair of made-up values.
fn pair(name: &str, user: &str, value: &str) -> (RequiredAuth, Vec<(&'static str, String)>) {
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

async fn ways(world: &World) -> Vec<Way> {
    let mut ways = Vec::new();
    for name in ["bearer", "api-key", "basic", "oauth"] {
        let (old, new) = (world.ns.canary("old"), world.ns.canary("new"));
        let (auth, entries) = pair(name, "busbar", &old);
        let bank = world.bank(name, auth).await;
        secret(world, name, &entries).await;
        let reference = json!({"name": name});
        let spec = match name {
            "bearer" => json!({"bearer": {"secretRef": reference}}),
            "api-key" => {
                json!({"apiKey": {"placement": "Header", "name": "x-api-key", "secretRef": reference}})
            }
            "basic" => json!({"basic": {"secretRef": reference}}),
            _ => json!({"oauth2ClientCredentials": {"tokenURL": bank.token_url(), "secretRef": reference}}),
        };
        world.put(&connection(name, &bank.base_url(), json!({"auth": spec}))).await;
        let (next, entries) = pair(name, "busbar", &new);
        ways.push(Way { bank, next, entries });
    }
    ways
}

#[tokio::test]
async fn a_rotation_costs_the_one_call_that_reveals_it() {
    let world = world("rotation", REFRESH).await;
    let ways = ways(&world).await;
    let mut versions = Vec::new();
    for way in &ways {
        let object = world.until(way.bank.name(), "verified", verified).await;
        versions.push(object["status"]["credential"]["secretResourceVersion"].clone());
    }
    join_all(ways.iter().map(|way| further(&way.bank, "/health", 1))).await;
    // The Secret first, then the bank, as one who wants no gap would; the operator's copy is seconds old.
    let clock = Clock::system();
    for way in &ways {
        secret(&world, way.bank.name(), &way.entries).await;
        way.bank.clear_arrivals();
        way.bank.set_auth(&way.next).unwrap();
        way.bank.revoke_tokens();
    }
    let rotated = clock.mono();
    for (way, before) in ways.iter().zip(&versions) {
        let name = way.bank.name();
        let taken = |o: &Value| {
            is(o, "Authenticated", "True", "CredentialAccepted")
                && o["status"]["credential"]["secretResourceVersion"] != *before
        };
        let object = world.until(name, "the new credential is accepted", taken).await;
        assert!(verified(&object), "a rotation takes no Ready away: {:#}", object["status"]);
        world.event(name, "CredentialRotated").await;
    }
    let took = clock.mono().since(rotated);
    assert!(took < Duration::from_secs(30), "not by the refresh of a minute, but after {took:?}");
    join_all(ways.iter().map(|way| further(&way.bank, "/health", 3))).await;
    for way in &ways {
        let (name, all) = (way.bank.name(), way.bank.arrivals().entries);
        let failed =
            |path: &str| all.iter().filter(|a| a.path.starts_with(path) && a.status.is_none_or(|s| s >= 400)).count();
        // A call that finds its token refused asks for another with the client secret it has: both are that one call.
        let token = usize::from(name == "oauth");
        assert_eq!((failed("/health"), failed("/oauth")), (1, token), "failed at {name}: {all:#?}");
    }
    tell(&format!("four rotated credentials were in use {took:.1?} after the banks had changed their minds"));
    world.finish().await;
}

#[tokio::test]
async fn a_credential_that_stays_wrong_is_not_read_at_every_probe() {
    let world = world("wrong", REFRESH).await;
    let (auth, _) = pair("bearer", "", &world.ns.canary("right"));
    let bank = world.bank("bearer", auth).await;
    secret(&world, "bearer", &[("token", world.ns.canary("wrong"))]).await;
    let spec = json!({
        "auth": {"bearer": {"secretRef": {"name": "bearer"}}},
        "healthCheck": {"interval": "5s"},
    });
    world.put(&connection("bearer", &bank.base_url(), spec)).await;
    world.until("bearer", "refused", |o| is(o, "Authenticated", "False", "AuthenticationFailed")).await;
    for _ in 0..8 {
        // Asked for as well: reconciles and probes come as often as somebody likes.
        world.annotate("bearer", "busbar.dev/requestedAt", &uuid::Uuid::new_v4().to_string()).await;
        further(&bank, "/health", 1).await;
    }
    let reads = AuditQuery { verb: Some("get"), resource: Some("secrets"), ..world.operator.requests() };
    let reads = world.operator.audit().requests(&reads).unwrap().len();
    let probes = super::arrivals(&bank, "/health");
    assert!(probes >= 9, "{probes}");
    // The first reading, the one at the refusal, and those 2, 4, 8, 16 and 32 seconds after it.
    assert!((2..=7).contains(&reads), "{reads} readings over {probes} probes");
    world.finish().await;
}

#[tokio::test]
async fn a_new_secret_is_taken_up_in_time_however_often_the_object_is_looked_at() {
    let world = world("in-time", "--secret-refresh=10s").await;
    let bank = world.bank("bearer", RequiredAuth::None).await;
    secret(&world, "bearer", &[("token", world.ns.canary("one"))]).await;
    let spec = json!({"auth": {"bearer": {"secretRef": {"name": "bearer"}}}});
    world.put(&connection("bearer", &bank.base_url(), spec)).await;
    let first = world.until("bearer", "verified", verified).await;
    let clock = Clock::system();
    secret(&world, "bearer", &[("token", world.ns.canary("two"))]).await;
    let rotated = clock.mono();
    let version = |o: &Value| o["status"]["credential"]["secretResourceVersion"].clone();
    // Each of these makes the operator look at the object with a copy that is still good.
    while version(&world.now("bearer")) == version(&first) {
        assert!(clock.mono().since(rotated) < Duration::from_secs(15), "not within the refresh time");
        world.annotate("bearer", "busbar.dev/requestedAt", &uuid::Uuid::new_v4().to_string()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(bank.arrivals().entries.iter().all(|a| a.status == Some(200)), "no call failed");
    world.finish().await;
}
