//! `/api/syncs` and `/api/events` over real sockets: rights, requests, lists and waits.

use std::sync::Mutex;

use busbar::domain::event::{EventType, OutboxEvent};
use busbar::domain::key::ObjectKey;
use busbar::gateway::syncs::operations::{OperationError, Planned, SyncOperations};
use busbar::ledger::RunId;
use busbar::ledger::audit::{AuditEntry, AuditKind};
use busbar::ledger::raw::{JobDeadLetter, ReplayOutcome, ReplayedLetter};
use busbar::ledger::requests::{RequestState, RequestedRun};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use uuid::Uuid;

use super::harness::{GatewayHarness, Said, key, said};
use crate::kit::wait::eventually;

const JOB: &str = "/api/syncs/treasury/books";

/// The jobs of a process: one, `books`, whose runs, plans and replays are noted.
#[derive(Debug, Default)]
pub(crate) struct FakeSyncs {
    notified: Mutex<Vec<ObjectKey>>,
}

impl SyncOperations for FakeSyncs {
    fn connection_of(&self, job: &ObjectKey) -> Option<ObjectKey> {
        (*job == key("books") || *job == key("busy")).then(|| key("fmp"))
    }

    fn notify(&self, job: &ObjectKey) {
        self.notified.lock().unwrap().push(job.clone());
    }

    fn plan<'a>(&'a self, job: &'a ObjectKey, _: RunId, _: u32) -> BoxFuture<'a, Result<Planned, OperationError>> {
        let busy = *job == key("busy");
        let planned = Planned {
            result: "Succeeded".into(),
            inserted: 2,
            samples: vec![json!({"key": "a"})],
            ..Planned::default()
        };
        Box::pin(async move { if busy { Err(OperationError::Busy) } else { Ok(planned) } })
    }

    fn replay<'a>(
        &'a self,
        _: &'a ObjectKey,
        letters: &'a [JobDeadLetter],
        _: &'a AuditEntry,
    ) -> BoxFuture<'a, Result<Vec<ReplayedLetter>, OperationError>> {
        let outcomes =
            letters.iter().map(|l| ReplayedLetter { id: l.id, outcome: ReplayOutcome::RawExpired }).collect();
        Box::pin(async move { Ok(outcomes) })
    }
}

async fn post(harness: &GatewayHarness, path: &str, headers: &[(&str, &str)], body: Value) -> Said {
    let mut request = harness.http.post(harness.url(path)).bearer_auth("token-ann");
    request = request.header("content-type", "application/json").body(body.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    said(request).await
}

#[tokio::test]
async fn a_run_is_asked_for_once_however_often_its_request_is_sent() {
    let mut harness = GatewayHarness::new().await;
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let path = format!("{JOB}/run");
    let first = harness.ask("POST", &path, "token-ann", &[("x-request-id", id)]).await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!((&first.body["data"]["run_id"], &first.body["data"]["state"]), (&json!(id), &json!("open")));
    let again = harness.ask("POST", &path, "token-ann", &[("x-request-id", id)]).await;
    assert_eq!(again.body["data"], first.body["data"]);
    let keyed = [("idempotency-key", "tuesday")];
    let one = harness.ask("POST", &path, "token-ann", &keyed).await;
    let two = harness.ask("POST", &path, "token-ann", &keyed).await;
    assert_eq!((one.status, &one.body["data"]["run_id"]), (202, &two.body["data"]["run_id"]));
    let of_bob = harness.ask("POST", &path, "token-bob", &keyed).await;
    assert_ne!(of_bob.body["data"]["id"], one.body["data"]["id"], "the key of another caller");
    let open = harness.ledger.open_requests(Some(&key("books"))).await.unwrap();
    assert_eq!(open.len(), 3);
    let stored = open.iter().find(|stored| stored.request.run.to_string() == id).unwrap();
    assert_eq!((stored.request.subject.as_str(), &stored.request.requested), ("ann", &RequestedRun::Run));
    harness
        .ledger
        .close_request(stored.request.id, RequestState::Done, "Succeeded", crate::kit::time::now())
        .await
        .unwrap();
    let done = harness.ask("POST", &path, "token-ann", &[("x-request-id", id)]).await;
    assert_eq!((&done.body["data"]["state"], &done.body["data"]["outcome"]), (&json!("done"), &json!("Succeeded")));
    let conflict = post(&harness, &format!("{JOB}/resync"), &keyed, resync("may")).await;
    assert_eq!((conflict.status, conflict.error()), (409, "idempotency_conflict"));
    let audit = harness.audit().await;
    let runs: Vec<_> = audit.iter().filter(|entry| entry.kind == AuditKind::Sync).collect();
    assert_eq!(runs.len(), 3, "one row for each request");
    assert_eq!((runs[0].action.as_str(), runs[0].request_id), ("run", Some(Uuid::parse_str(id).unwrap())));
}

fn resync(id: &str) -> Value {
    json!({"id": id, "from_time": "2029-05-01T00:00:00Z", "to_time": "2029-06-01T00:00:00Z", "reason": "late refunds"})
}

#[tokio::test]
async fn a_resync_is_stored_with_its_range_and_an_invalid_one_is_refused() {
    let harness = GatewayHarness::new().await;
    let path = format!("{JOB}/resync");
    let stored = post(&harness, &path, &[], resync("may")).await;
    assert_eq!(stored.status, 202, "{stored:?}");
    let open = harness.ledger.open_requests(None).await.unwrap();
    let RequestedRun::Resync { id, from, .. } = &open[0].request.requested else { panic!("{open:?}") };
    assert_eq!((id.as_str(), from.to_string().as_str()), ("may", "2029-05-01T00:00:00Z"));
    let again = post(&harness, &path, &[], resync("may")).await;
    assert_eq!((again.status, again.error()), (409, "idempotency_conflict"), "its ID is used up");
    let with = |name: &str, value: Value| {
        let mut body = resync("june");
        body[name] = value;
        body
    };
    for (body, parameter) in [
        (with("from_time", json!("2029-07-01T00:00:00Z")), "from_time"),
        (with("to_time", json!("tomorrow")), "to_time"),
        (with("id", json!("")), "id"),
        (with("partitions", json!([""])), "partitions"),
        (with("reason", json!("x".repeat(300))), "reason"),
    ] {
        let refused = post(&harness, &path, &[], body).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"));
        assert_eq!(refused.body["data"]["details"]["parameter"], json!(parameter));
    }
    for body in [json!({}), json!([]), with("unknown", json!(1))] {
        assert_eq!(post(&harness, &path, &[], body).await.status, 400);
    }
}

#[tokio::test]
async fn every_action_needs_its_own_right_and_a_job() {
    let harness = GatewayHarness::new().await;
    for (method, path) in [
        ("POST", "run"),
        ("POST", "plan"),
        ("POST", "resync"),
        ("GET", "runs"),
        ("GET", "dead-letters"),
        ("POST", "dead-letters/replay"),
        ("POST", "dead-letters/resolve"),
    ] {
        let denied = harness.ask(method, &format!("{JOB}/{path}"), "token-outsider", &[]).await;
        assert_eq!((denied.status, denied.error()), (403, "forbidden"), "{path}");
        assert!(denied.body["data"]["details"]["resource"].as_str().unwrap().starts_with("syncjobs/"));
        let unknown = harness.ask(method, &format!("/api/syncs/treasury/nothing/{path}"), "token-ann", &[]).await;
        assert_eq!((unknown.status, unknown.error()), (404, "job_not_found"), "{path}");
        let invalid = harness.ask(method, &format!("/api/syncs/treasury/No_Name/{path}"), "token-ann", &[]).await;
        assert_eq!((invalid.status, invalid.error()), (404, "job_not_found"), "{path}");
        assert_eq!(harness.ask(method, &format!("{JOB}/{path}"), "", &[]).await.status, 401);
    }
    let denied = harness.ask("GET", "/api/events", "token-outsider", &[]).await;
    assert_eq!((denied.status, &denied.body["data"]["details"]["resource"]), (403, &json!("events")));
}

#[tokio::test]
async fn a_plan_is_answered_with_its_counts_and_a_concurrent_one_waits() {
    let harness = GatewayHarness::new().await;
    let planned = harness.ask("POST", &format!("{JOB}/plan"), "token-ann", &[]).await;
    assert_eq!((planned.status, &planned.body["data"]["inserted"]), (200, &json!(2)), "{planned:?}");
    assert_eq!(planned.body["data"]["samples"], json!([{"key": "a"}]));
    let busy = harness.ask("POST", "/api/syncs/treasury/busy/plan", "token-ann", &[]).await;
    assert_eq!((busy.status, busy.error()), (503, "unavailable"));
    assert!(busy.header("retry-after").is_some());
}

#[tokio::test]
async fn a_replay_of_unknown_dead_letters_is_not_found_and_of_none_does_nothing() {
    let harness = GatewayHarness::new().await;
    let path = format!("{JOB}/dead-letters/replay");
    let unknown = post(&harness, &path, &[], json!({"ids": [7]})).await;
    assert_eq!((unknown.status, unknown.error()), (404, "not_found"));
    let none = post(&harness, &path, &[], json!({})).await;
    assert_eq!((none.status, &none.body["data"]), (200, &json!({"resolved": 0, "items": []})));
    for body in [json!({"ids": [0]}), json!({"ids": ["7"]}), json!({"ids": vec![1; 501]})] {
        assert_eq!(post(&harness, &path, &[], body).await.status, 400);
    }
    let empty = post(&harness, &format!("{JOB}/dead-letters/resolve"), &[], json!({"ids": []})).await;
    assert_eq!(empty.status, 400);
    let listed = harness.get(&format!("{JOB}/dead-letters?resolved=true&limit=500")).await;
    assert_eq!(listed.body["data"], json!({"items": [], "next_cursor": null}));
    assert_eq!(harness.get(&format!("{JOB}/dead-letters?limit=501")).await.status, 400);
    assert_eq!(harness.get(&format!("{JOB}/runs?cursor=nonsense")).await.status, 400);
    assert_eq!(harness.get(&format!("{JOB}/runs")).await.body["data"]["items"], json!([]));
}

fn event(n: u128, event_type: EventType) -> OutboxEvent {
    OutboxEvent {
        id: Uuid::from_u128(n),
        event_type,
        namespace: "treasury".into(),
        aggregate: "syncjob/treasury/books".into(),
        payload: format!("{{\"n\":{n}}}"),
        correlation_id: Uuid::from_u128(1),
    }
}

#[tokio::test]
async fn events_are_paged_filtered_and_named_as_before() {
    let harness = GatewayHarness::new().await;
    let types = [EventType::FetchStarted, EventType::TransactionsIngested, EventType::FetchFailed];
    let all: Vec<_> = (1..=7).map(|n| event(n, types[usize::try_from(n % 3).unwrap()])).collect();
    harness.ledger.append_events(&all, crate::kit::time::now()).await.unwrap();
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = harness.get(&format!("/api/events?namespace=treasury&limit=3{cursor}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let items = page.body["data"]["items"].as_array().unwrap().clone();
        cursor = format!("&cursor={}", page.body["data"]["next_cursor"].as_str().unwrap());
        if items.is_empty() {
            break;
        }
        seen.extend(items);
    }
    assert_eq!(seen.iter().map(|event| &event["payload"]["n"]).collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
    assert_eq!(
        (&seen[0]["type"], &seen[0]["legacy_type"]),
        (&json!("bank.transactions.ingested"), &json!("mono.transactions.ingested"))
    );
    let failed = harness.get("/api/events?type=fetch.failed,pipeline.completed&wait=1").await;
    assert_eq!(failed.body["data"]["items"].as_array().unwrap().len(), 2);
    let later = harness.get("/api/events?from_time=2199-01-01T00:00:00Z").await;
    assert_eq!(later.body["data"]["items"], json!([]));
    for wrong in
        ["limit=0", "limit=501", "wait=31", "type=none", "cursor=7", "from_time=soon", "correlation_id=7", "x=1"]
    {
        assert_eq!(harness.get(&format!("/api/events?{wrong}")).await.error(), "invalid_request", "{wrong}");
    }
}

/// Waits until the gateway is at a request.
async fn in_flight(harness: &GatewayHarness) {
    eventually("a request in flight", async || {
        harness.metrics.render().unwrap().contains("busbar_gateway_requests_in_flight 1")
    })
    .await;
}

#[tokio::test]
async fn a_waiting_client_is_answered_when_an_event_is_stored_or_the_process_stops() {
    let harness = GatewayHarness::new().await;
    let storing = async {
        in_flight(&harness).await;
        harness.ledger.append_events(&[event(1, EventType::FetchStarted)], crate::kit::time::now()).await.unwrap();
    };
    // The client of the harness gives up after 30 s.
    let (answer, ()) = tokio::join!(harness.get("/api/events?wait=30"), storing);
    assert_eq!(answer.body["data"]["items"].as_array().unwrap().len(), 1);
    let cursor = answer.body["data"]["next_cursor"].as_str().unwrap().to_owned();
    let stopping = async {
        in_flight(&harness).await;
        harness.stop.cancel();
    };
    let path = format!("/api/events?wait=30&cursor={cursor}");
    let (ended, ()) = tokio::join!(harness.get(&path), stopping);
    assert_eq!((ended.status, &ended.body["data"]["next_cursor"]), (200, &json!(cursor)));
}
