//! Consumers of events: keys, what each sees, confirmations, events that are sent again, rate limits.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use busbar::domain::event::{EventType, OutboxEvent, event_id};
use busbar::domain::rights::{LicenceProfile, LicenceSubject, Rights};
use busbar::domain::token_buckets::BucketLimit;
use busbar::ledger::audit::AuditKind;
use serde_json::{Value, json};
use uuid::Uuid;

use super::harness::{GatewayHarness, Plan, Said, said};
use crate::kit::time::now;
use crate::kit::wait::eventually;

/// Posts a body as ann.
async fn post(harness: &GatewayHarness, path: &str, body: &Value) -> Said {
    said(
        harness
            .http
            .post(harness.url(path))
            .bearer_auth("token-ann")
            .header("content-type", "application/json")
            .body(body.to_string()),
    )
    .await
}

/// Sends a request with a key.
pub(super) async fn keyed(harness: &GatewayHarness, method: &str, path: &str, key: &str, body: Option<&Value>) -> Said {
    let request = harness.http.request(method.parse().unwrap(), harness.url(path)).header("X-API-Key", key);
    said(match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    })
    .await
}

/// Creates a consumer; its key.
pub(super) async fn create(harness: &GatewayHarness, body: &Value) -> String {
    let created = post(harness, "/api/consumers", body).await;
    assert_eq!(created.status, 200, "{created:?}");
    created.body["data"]["api_key"].as_str().unwrap().to_owned()
}

fn event(namespace: &str, number: u32) -> OutboxEvent {
    let aggregate = format!("syncjob/{namespace}/books");
    OutboxEvent {
        id: event_id(EventType::FetchFailed, &aggregate, &[&number.to_be_bytes()]),
        event_type: EventType::FetchFailed,
        namespace: namespace.to_owned(),
        payload: json!({"marker": format!("{namespace}-{number}")}).to_string(),
        aggregate,
        correlation_id: Uuid::from_u128(u128::from(number) + 1),
    }
}

async fn append(harness: &GatewayHarness, events: &[OutboxEvent]) {
    harness.ledger.append_events(events, now()).await.unwrap();
}

async fn ids(harness: &GatewayHarness, key: &str) -> Vec<String> {
    let page = keyed(harness, "GET", "/api/events?limit=500", key, None).await;
    assert_eq!(page.status, 200, "{page:?}");
    let items = page.body["data"]["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_key_is_shown_once_and_stored_as_a_hash_alone() {
    let mut harness = GatewayHarness::new().await;
    let key = create(&harness, &json!({"name": "ledger_team"})).await;
    let secret = key.rsplit('_').next().unwrap().to_owned();
    let listed = harness.get("/api/consumers").await;
    assert_eq!(listed.body["data"]["items"][0]["name"], "ledger_team");
    assert!(!listed.body.to_string().contains(&secret));
    let stored = harness.ledger.consumer_key(key.split('_').nth(1).unwrap()).await.unwrap().unwrap();
    assert!(stored.hash.starts_with("$argon2id$") && !stored.hash.contains(&secret));
    let again = post(&harness, "/api/consumers", &json!({"name": "ledger_team"})).await;
    assert_eq!((again.status, again.error()), (409, "conflict"));
    for bad in ["", "Ledger", "a-b", "a.b", &"x".repeat(64)] {
        let refused = post(&harness, "/api/consumers", &json!({"name": bad})).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{bad}");
    }
    let outsider = harness.ask("GET", "/api/consumers", "token-outsider", &[]).await;
    assert_eq!(outsider.status, 403);
    let acts = harness.audit().await.into_iter().filter(|entry| entry.kind == AuditKind::Consumer);
    let (acts, refusals): (Vec<_>, Vec<_>) = acts.partition(|entry| entry.allowed);
    let refused: Vec<_> = refusals.iter().map(|entry| (entry.subject.as_str(), entry.action.as_str())).collect();
    assert_eq!(refused, [("outsider", "list consumers")], "a refused act is audited");
    assert_eq!(
        (acts[0].action.as_str(), acts[0].connection.as_str(), acts[0].subject.as_str()),
        ("create", "ledger_team", "ann")
    );
}

#[tokio::test]
async fn a_wrong_key_an_unknown_one_and_no_key_at_all_are_the_same_error() {
    let harness = GatewayHarness::new().await;
    let key = create(&harness, &json!({"name": "a"})).await;
    let (head, secret) = key.rsplit_once('_').unwrap();
    let wrong = format!("{head}_{}", "0".repeat(secret.len()));
    let unknown = format!("bbk_{}_{secret}", "0".repeat(16));
    let mut bodies = Vec::new();
    for bad in [wrong.as_str(), &unknown, "bbk_", "x", ""] {
        let refused = keyed(&harness, "GET", "/api/events", bad, None).await;
        assert_eq!((refused.status, refused.error()), (401, "unauthenticated"), "{bad}");
        bodies.push(refused.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    let both = harness.ask("GET", "/api/events", "token-ann", &[("X-API-Key", &key)]).await;
    assert_eq!(both.status, 400, "two callers at once");
}

#[tokio::test]
async fn a_rotated_key_ends_at_once_or_after_its_overlap() {
    let harness = GatewayHarness::new().await;
    let first = create(&harness, &json!({"name": "a"})).await;
    let status = async |key: &str| keyed(&harness, "GET", "/api/events", key, None).await.status;
    assert_eq!((status(&first).await, status(&first).await), (200, 200), "verified, then known");
    let rotate = async |body: Value| {
        let rotated = post(&harness, "/api/consumers/a/rotate-key", &body).await;
        rotated.body["data"]["api_key"].as_str().unwrap().to_owned()
    };
    let second = rotate(json!({})).await;
    assert_eq!((status(&first).await, status(&second).await), (401, 200));
    let third = rotate(json!({"overlap_seconds": 600})).await;
    assert_eq!((status(&second).await, status(&third).await), (200, 200), "both within the overlap");
    let fourth = rotate(json!({"overlap_seconds": 600})).await;
    assert_eq!(
        (status(&second).await, status(&third).await, status(&fourth).await),
        (401, 200, 200),
        "one retires at a time"
    );
    let removed = harness.ask("DELETE", "/api/consumers/a", "token-ann", &[]).await;
    assert_eq!(removed.status, 200);
    assert_eq!((status(&third).await, status(&fourth).await), (401, 401));
    assert_eq!(post(&harness, "/api/consumers/a/rotate-key", &json!({})).await.status, 404);
}

#[tokio::test]
async fn another_replica_notices_a_rotated_key() {
    let harness = GatewayHarness::new().await;
    let key = create(&harness, &json!({"name": "a"})).await;
    assert_eq!(keyed(&harness, "GET", "/api/events", &key, None).await.status, 200);
    // As another replica does it: without telling this one.
    let issued = harness.consumers.issue().await.unwrap();
    harness.ledger.rotate_key("a", &issued.stored, Duration::ZERO, now()).await.unwrap();
    let refused = async || keyed(&harness, "GET", "/api/events", &key, None).await.status == 401;
    eventually("the old key is refused", refused).await;
    assert_eq!(keyed(&harness, "GET", "/api/events", &issued.text, None).await.status, 200);
}

#[tokio::test]
async fn a_consumer_reads_its_own_events_and_none_of_before() {
    let harness = GatewayHarness::new().await;
    append(&harness, &[event("team", 1)]).await;
    let team = create(&harness, &json!({"name": "team", "namespaces": ["team"]})).await;
    let other = create(&harness, &json!({"name": "other", "namespaces": ["other"]})).await;
    let typed = create(&harness, &json!({"name": "typed", "event_types": ["fetch.started"]})).await;
    append(&harness, &[event("team", 2), event("other", 3)]).await;
    assert_eq!(ids(&harness, &team).await, [event("team", 2).id.to_string()]);
    assert_eq!(ids(&harness, &other).await, [event("other", 3).id.to_string()]);
    assert!(ids(&harness, &typed).await.is_empty());
    let alias = keyed(&harness, "GET", "/consumer/data?limit=500", &team, None).await;
    assert_eq!(alias.body["data"]["items"].as_array().unwrap().len(), 1);
}

/// Every route that takes a key, with what one consumer might try to learn of another one.
fn probes(event: &str) -> Vec<(&'static str, String, Option<Value>)> {
    let mut probes = Vec::new();
    for base in ["/api/events", "/events"] {
        for status in ["received", "processed", "failed"] {
            let body = json!({"event_id": event, "status": status});
            probes.push(("POST", format!("{base}/confirm-delivery"), Some(body)));
        }
        for act in ["resend", "redeliver"] {
            for body in [json!({"event_ids": [event]}), json!({"event_ids": [event], "dry_run": true})] {
                probes.push(("POST", format!("{base}/{act}"), Some(body)));
            }
        }
    }
    for path in ["/api/events", "/consumer/data"] {
        for filter in ["namespace=other", "aggregate=syncjob/other/books", "type=fetch.failed", "limit=500"] {
            probes.push(("GET", format!("{path}?{filter}"), None));
        }
    }
    probes
}

#[tokio::test]
async fn no_route_tells_one_consumer_of_the_events_of_another() {
    let harness = GatewayHarness::new().await;
    let own = create(&harness, &json!({"name": "own", "namespaces": ["team"]})).await;
    let foreign = create(&harness, &json!({"name": "foreign", "namespaces": ["other"]})).await;
    for number in 0..50 {
        append(&harness, &[event("other", number)]).await;
    }
    for number in [0, 7, 49] {
        let theirs = event("other", number).id.to_string();
        let unknown = Uuid::new_v4().to_string();
        for ((method, path, body), (_, _, control)) in probes(&theirs).into_iter().zip(probes(&unknown)) {
            let answer = keyed(&harness, method, &path, &own, body.as_ref()).await;
            let expected = keyed(&harness, method, &path, &own, control.as_ref()).await;
            assert_eq!((answer.status, &answer.body), (expected.status, &expected.body), "{method} {path} {body:?}");
            let text = answer.body.to_string();
            assert!(!text.contains("other-") && !text.contains(&theirs), "{method} {path}: {text}");
        }
    }
    let untouched = keyed(&harness, "POST", "/api/events/redeliver", &foreign, Some(&json!({"dry_run": true}))).await;
    assert_eq!(untouched.body["data"]["count"], 0, "nothing of the other consumer was changed");
    assert_eq!(ids(&harness, &foreign).await.len(), 50);
}

#[tokio::test]
async fn a_key_opens_no_route_of_staff() {
    let harness = GatewayHarness::new().await;
    let key = create(&harness, &json!({"name": "a"})).await;
    for (method, path) in [
        ("GET", "/api/consumers"),
        ("DELETE", "/api/consumers/a"),
        ("POST", "/api/consumers/a/rotate-key"),
        ("GET", "/api/consumers/a/dead-letters"),
        ("POST", "/api/consumers/a/dead-letters/purge"),
        ("GET", "/api/audit"),
        ("GET", "/api/dead-requests"),
        ("POST", "/api/syncs/treasury/books/run"),
        ("GET", "/api/treasury/routing/decisions?namespace=treasury"),
        ("GET", "/api/providers/treasury/fmp/quote?symbol=ACME"),
        ("GET", "/api/providers/treasury/none/quote?symbol=ACME"),
    ] {
        let body = (method == "POST").then(|| json!({}));
        let refused = keyed(&harness, method, path, &key, body.as_ref()).await;
        assert_eq!((refused.status, refused.error()), (403, "forbidden"), "{method} {path}: {refused:?}");
    }
}

#[tokio::test]
async fn a_consumer_calls_a_connection_whose_licence_profile_names_it() {
    let harness = GatewayHarness::new().await;
    let (key, stranger) =
        (create(&harness, &json!({"name": "a"})).await, create(&harness, &json!({"name": "b"})).await);
    harness.connect("fmp", &harness.fmp, |draft| {
        let subjects = vec![LicenceSubject::consumer("a").unwrap()];
        let actions = ["quote".to_owned()].into();
        let profile = LicenceProfile { name: "feed".into(), subjects, actions, requests_per_day: None };
        draft.rights = Some(std::sync::Arc::new(Rights { profiles: vec![profile] }));
    });
    let quote = "/api/providers/treasury/fmp/quote?symbol=ACME";
    assert_eq!(keyed(&harness, "GET", quote, &key, None).await.status, 200);
    assert_eq!(keyed(&harness, "GET", quote, &stranger, None).await.error(), "forbidden");
    let earnings = keyed(&harness, "GET", "/api/providers/treasury/fmp/earnings?symbol=ACME", &key, None).await;
    assert_eq!((earnings.status, earnings.error()), (403, "rights_denied"));
    let named = harness.ask("GET", quote, "token-busbar:consumer:a", &[]).await;
    assert_eq!(named.status, 401, "a user of that name is no consumer");
}

#[tokio::test]
async fn a_confirmation_is_idempotent_and_processed_is_final() {
    let harness = GatewayHarness::new().await;
    let key = create(&harness, &json!({"name": "a"})).await;
    append(&harness, &[event("team", 1)]).await;
    let id = event("team", 1).id.to_string();
    let confirm = async |status: &str| {
        let body = json!({"event_id": id, "status": status});
        let said = keyed(&harness, "POST", "/events/confirm-delivery", &key, Some(&body)).await;
        assert_eq!(said.status, 200, "{said:?}");
        (said.body["data"]["status"].as_str().unwrap().to_owned(), said.body["data"]["applied"].as_bool().unwrap())
    };
    let same = |status: &str, applied| (status.to_owned(), applied);
    assert_eq!(confirm("failed").await, same("failed", true));
    assert_eq!(confirm("received").await, same("received", true));
    for _ in 0..2 {
        assert_eq!(confirm("processed").await, same("processed", true));
    }
    for _ in 0..2 {
        assert_eq!(confirm("failed").await, same("processed", false), "recorded, not applied");
    }
    let wrong =
        keyed(&harness, "POST", "/events/confirm-delivery", &key, Some(&json!({"event_id": id, "status": "done"})))
            .await;
    assert_eq!((wrong.status, wrong.error()), (400, "invalid_request"));
    let staff = post(&harness, "/api/events/confirm-delivery", &json!({"event_id": id, "status": "received"})).await;
    assert_eq!(staff.status, 403, "staff confirms nothing");
}

#[tokio::test]
async fn events_are_resent_by_filter_and_a_dry_run_only_counts() {
    let harness = GatewayHarness::new().await;
    let key = create(&harness, &json!({"name": "a"})).await;
    let other = create(&harness, &json!({"name": "b"})).await;
    append(&harness, &(0..5).map(|number| event("team", number)).collect::<Vec<_>>()).await;
    let count = async |key: &str, body: Value| {
        keyed(&harness, "POST", "/api/events/resend", key, Some(&body)).await.body["data"]["count"].as_u64()
    };
    assert_eq!(count(&other, json!({"dry_run": true})).await, Some(5), "its own, not those of both");
    let created = json!({"dry_run": true, "event_types": ["consumer.created"]});
    assert_eq!(count(&key, created).await, Some(1), "that the other one was created");
    assert_eq!(count(&other, json!({"dry_run": true, "event_types": ["fetch.started"]})).await, Some(0));
    assert_eq!(count(&other, json!({"dry_run": true, "period_in_days": 1, "max_try_count": 0})).await, Some(5));
    assert_eq!(count(&key, json!({"event_ids": [event("team", 3).id.to_string()]})).await, Some(1));
    for body in [
        json!({"consumer": "b"}),
        json!({"consumer": "none"}),
        json!({"namespace": "team"}),
        json!({"period_in_days": 0}),
    ] {
        let refused = keyed(&harness, "POST", "/api/events/redeliver", &key, Some(&body)).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{body}");
    }
    let staff = post(&harness, "/api/events/resend", &json!({"consumer": "b", "dry_run": true})).await;
    assert_eq!(staff.body["data"]["count"], 5);
    assert_eq!(post(&harness, "/api/events/resend", &json!({"consumer": "none"})).await.status, 404);
}

#[tokio::test]
async fn without_a_broker_there_are_no_dead_letter_queues() {
    let harness = GatewayHarness::new().await;
    create(&harness, &json!({"name": "a"})).await;
    let list = harness.get("/api/consumers/a/dead-letters").await;
    assert_eq!((list.status, &list.body["data"]["details"]["reason"]), (404, &json!("no_broker")), "{list:?}");
    assert_eq!(harness.get("/api/consumers/none/dead-letters").await.status, 404);
}

#[tokio::test]
async fn a_consumer_has_its_burst_and_replicas_share_it() {
    let consumer = BucketLimit { interval: Duration::from_hours(1), burst: 20 };
    let harness = GatewayHarness::with(Plan { consumer, ..Plan::default() }).await;
    let (key, other) = (create(&harness, &json!({"name": "a"})).await, create(&harness, &json!({"name": "b"})).await);
    for _ in 0..20 {
        assert_eq!(keyed(&harness, "GET", "/api/events", &key, None).await.status, 200);
    }
    let limited = keyed(&harness, "GET", "/api/events", &key, None).await;
    assert_eq!((limited.status, limited.error()), (429, "rate_limited"));
    assert!(limited.header("retry-after").is_some());
    assert_eq!(keyed(&harness, "GET", "/api/events", &other, None).await.status, 200, "each has its own");
    // What another replica took is adopted with the next share.
    let id = harness.ledger.consumer("b").await.unwrap().unwrap().id;
    let charge = busbar::ledger::delivery::BucketCharge {
        key: format!("consumer/{id}"),
        tokens: 20,
        interval: consumer.interval,
        burst: consumer.burst,
    };
    harness.ledger.charge_buckets(&[charge], now()).await.unwrap();
    let granted = AtomicU32::new(0);
    let limited = async || {
        let status = keyed(&harness, "GET", "/api/events", &other, None).await.status;
        granted.fetch_add(u32::from(status == 200), Ordering::Relaxed);
        status == 429
    };
    eventually("what the other replica took counts", limited).await;
    assert!(granted.into_inner() < 19, "its own bucket alone would grant all");
}
