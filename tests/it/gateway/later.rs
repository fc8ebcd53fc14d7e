//! Dead requests: stored, retried, parked, listed and replayed.

use std::sync::Arc;

use busbar::clock::Clock;
use busbar::ledger::dead_requests::DeadRequestState;
use busbar::ledger::encryption::Keyring;
use busbar::ledger::outbox::EventFilter;
use busbar::profile::Profile;
use busbar::testbed::sim::Behaviour;
use uuid::Uuid;

use super::QUOTE;
use super::harness::{GatewayHarness, Plan};
use crate::kit::wait::eventually;

pub(super) async fn fail(harness: &GatewayHarness, path: &str) -> Uuid {
    let said = harness.get(path).await;
    let id = said.body["data"]["dead_request_id"].as_str().unwrap_or_else(|| panic!("not stored: {said:?}"));
    Uuid::parse_str(id).unwrap()
}

pub(super) async fn state(harness: &GatewayHarness, id: Uuid) -> DeadRequestState {
    harness.ledger.get_dead_request(id).await.unwrap().unwrap().state
}

#[tokio::test]
async fn a_failed_read_is_retried_until_the_provider_has_recovered() {
    let harness = GatewayHarness::new().await;
    // An open circuit would delay the retries.
    harness.connect("fmp", &harness.fmp, |draft| draft.breaker.consecutive_failures = 0);
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let refused = harness.get(QUOTE).await;
    assert_eq!((refused.status, refused.error()), (502, "provider_failed"));
    assert_eq!(refused.body["data"]["details"]["status_code"], 503);
    let id = fail(&harness, QUOTE).await;
    assert_eq!(id, fail(&harness, QUOTE).await, "the same request is stored once");
    let seen = harness.fmp.arrivals().next;
    harness.fmp.recover().await;
    let (stop, worker) = harness.worker("a");
    eventually("the request is done", async || state(&harness, id).await == DeadRequestState::Done).await;
    assert_eq!(harness.fmp.arrivals_since(seen).entries.len(), 1);
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn a_request_is_parked_after_three_retries_and_can_be_replayed() {
    let harness = GatewayHarness::new().await;
    // An open circuit would delay the retries.
    harness.connect("fmp", &harness.fmp, |draft| draft.breaker.consecutive_failures = 0);
    harness.fmp.fail_with(Behaviour::status(500)).await.unwrap();
    let began = Clock::system();
    let id = fail(&harness, QUOTE).await;
    let (stop, worker) = harness.worker("a");
    let other = harness.worker("b");
    eventually("the request is parked", async || state(&harness, id).await == DeadRequestState::Parked).await;
    let took = began.mono().seconds();
    assert!((6.9..12.0).contains(&took), "1 + 2 + 4 s, but it took {took} s");
    let tries = harness.fmp.arrivals().entries;
    assert_eq!(tries.len(), 4, "one try each, by one worker");
    for (pair, wait) in tries.windows(2).zip([1.0, 2.0, 4.0]) {
        let gap = std::time::Duration::from_nanos(pair[1].at_ns - pair[0].at_ns).as_secs_f64();
        // The ledger's times have milliseconds; the next longer delay is twice as long.
        assert!((wait - 0.01..wait * 2.0).contains(&gap), "{wait} s, but it took {gap} s");
    }
    let audit = harness.ledger.list_audit(None, None, 10).await.unwrap();
    let failed: Vec<_> = audit.iter().filter(|stored| stored.entry.action == "dlq_failed").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].entry.reason.as_deref(), Some("provider_error"));
    let events = harness.ledger.list_events(&EventFilter::default(), 10).await.unwrap();
    let parked = events.iter().find(|event| event.event_type == "dlq.failed").expect("the event is stored");
    assert!(parked.payload.contains("provider_error") && parked.payload.contains(&id.to_string()), "{parked:?}");
    assert!(!parked.payload.contains("ACME"), "no parameters");

    let listed = harness.get("/api/dead-requests?namespace=treasury&state=parked").await;
    let item = &listed.body["data"]["items"][0];
    assert_eq!((item["id"].as_str().unwrap(), &item["tries"]), (&*id.to_string(), &3.into()), "{listed:?}");
    assert!(!listed.body.to_string().contains("ACME"), "parameters are not returned");
    let path = format!("/api/dead-requests/{id}/replay");
    assert_eq!(harness.ask("POST", &path, "token-caller", &[]).await.status, 403);
    harness.fmp.recover().await;
    let replayed = harness.ask("POST", &path, "token-ann", &[]).await;
    assert_eq!((replayed.status, replayed.body["data"]["state"].as_str().unwrap()), (202, "pending"));
    eventually("the request is done", async || state(&harness, id).await == DeadRequestState::Done).await;
    let again = harness.ask("POST", &path, "token-ann", &[]).await;
    assert_eq!((again.status, again.error()), (409, "conflict"));
    for (stop, worker) in [(stop, worker), other] {
        stop.cancel();
        worker.await.unwrap();
    }
}

#[tokio::test]
async fn a_rate_limited_request_is_stored_and_retried_after_its_retry_after() {
    let harness = GatewayHarness::new().await;
    harness.fmp.fail_with(Behaviour::rate_limited("30")).await.unwrap();
    let said = harness.get(QUOTE).await;
    assert_eq!((said.status, said.error()), (503, "quota_exhausted"), "{said:?}");
    assert_eq!(said.header("retry-after"), Some("30"));
    let id = Uuid::parse_str(said.body["data"]["dead_request_id"].as_str().unwrap()).unwrap();
    let kept = harness.ledger.get_dead_request(id).await.unwrap().unwrap().request;
    let wait = kept.next.duration_since(kept.at).as_secs();
    assert!((29..=31).contains(&wait), "{wait} s");
}

#[tokio::test]
async fn a_longer_retry_after_delays_the_next_retry() {
    let harness = GatewayHarness::new().await;
    harness.connect("fmp", &harness.fmp, |draft| draft.breaker.consecutive_failures = 0);
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&harness, QUOTE).await;
    harness.fmp.fail_with(Behaviour::rate_limited("5")).await.unwrap();
    let (stop, worker) = harness.worker("a");
    let kept = async || harness.ledger.get_dead_request(id).await.unwrap().unwrap();
    eventually("the request is retried", async || kept().await.tries == 1).await;
    let now = kept().await;
    assert_eq!(
        (now.state, &*now.request.reason, now.request.status),
        (DeadRequestState::Pending, "rate_limited", Some(429))
    );
    let wait = now.request.next.duration_since(now.updated).as_secs_f64();
    assert!((4.5..=5.1).contains(&wait), "the delay would be 2 s, the provider requires 5 s: {wait} s");
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn the_metrics_count_pending_and_parked_requests() {
    let harness = GatewayHarness::new().await;
    harness.polygon.fail_with(Behaviour::status(503)).await.unwrap();
    fail(&harness, "/api/providers/treasury/polygon/quote?symbol=ACME").await;
    harness.polygon.fail_with(Behaviour::status(403)).await.unwrap();
    harness.fmp.fail_with(Behaviour::rate_limited("300")).await.unwrap();
    for symbol in ["A", "B"] {
        fail(&harness, &format!("/api/providers/treasury/fmp/quote?symbol={symbol}")).await;
    }
    let (stop, worker) = harness.worker_in("a", &harness.metrics);
    eventually("two are pending and one is parked", async || {
        let scrape = harness.metrics.render().unwrap();
        ["pending\"} 2\n", "parked\"} 1\n"]
            .iter()
            .all(|gauge| scrape.contains(&format!("busbar_dead_requests{{state=\"{gauge}")))
    })
    .await;
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn without_a_key_only_requests_with_public_parameters_are_stored() {
    let harness = GatewayHarness::new().await;
    harness.finastra.fail_with(Behaviour::status(503)).await.unwrap();
    let said = harness.get("/finastra/b2b/collaterals/COL-00000001").await;
    assert_eq!(said.status, 502);
    assert!(said.body["data"].get("dead_request_id").is_none(), "an ID can name an account: {said:?}");
    harness.fmp.fail_with(Behaviour::status(403)).await.unwrap();
    let said = harness.get(QUOTE).await;
    assert_eq!((said.status, said.body["data"]["details"]["reason"].as_str()), (502, Some("not_in_plan")));
    assert!(said.body["data"].get("dead_request_id").is_none());
    harness.fmp.fail_with(Behaviour::status(422)).await.unwrap();
    let said = harness.get(QUOTE).await;
    assert_eq!((said.status, said.error()), (422, "provider_refused"));
}

#[tokio::test]
async fn a_list_continues_at_the_cursor_of_the_last_page() {
    let harness = GatewayHarness::new().await;
    harness.connect("fmp", &harness.fmp, |draft| draft.breaker.consecutive_failures = 0);
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(fail(&harness, &format!("/api/providers/treasury/fmp/quote?symbol=S{n}")).await.to_string());
    }
    ids.reverse();
    let (mut found, mut cursor) = (Vec::new(), String::new());
    for _ in 0..3 {
        let page = harness.get(&format!("/api/dead-requests?limit=2{cursor}")).await;
        let items = page.body["data"]["items"].as_array().unwrap().clone();
        found.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page.body["data"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, ids);
}

#[tokio::test]
async fn writes_need_post_and_are_never_stored_and_money_is_not_callable() {
    let harness = GatewayHarness::new().await;
    let operation =
        |name: &str, class: &str| format!("  {name}:\n    path: /quote\n    method: POST\n    class: {class}\n");
    let text = format!(
        "id: own\ntitle: Own\nbreaker: Api\nhealthCheck: {{path: /}}\noperations:\n{}{}",
        operation("rename", "Write"),
        operation("pay", "Money"),
    );
    let profile = Arc::new(Profile::parse("own.yaml", &text).unwrap());
    harness.replace("own", "uid-own", profile, &harness.fmp, |_| ());
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    for (method, operation, expected) in [
        ("GET", "rename", (422, "not_callable")),
        ("GET", "pay", (422, "not_callable")),
        ("POST", "pay", (422, "not_callable")),
        ("POST", "rename", (502, "provider_failed")),
    ] {
        let said = harness.ask(method, &format!("/api/providers/treasury/own/{operation}"), "token-ann", &[]).await;
        assert_eq!((said.status, said.error()), expected, "{method} {operation}");
        assert!(said.body["data"].get("dead_request_id").is_none(), "{method} {operation}");
    }
    assert_eq!(harness.fmp.arrivals().entries.len(), 1, "one write, sent once");
}

#[tokio::test]
async fn a_cancellation_of_payouts_is_callable_on_their_own_path_only() {
    let harness = GatewayHarness::new().await;
    let text = include_str!("../../../hack/demo/profiles/payout-bank.yaml");
    let profile = Arc::new(Profile::parse("payout-bank.yaml", text).unwrap());
    harness.replace("own", "uid-own", profile, &harness.fmp, |_| ());
    for method in ["GET", "POST"] {
        let path = "/api/providers/treasury/own/payout-cancel?endToEndId=BB1&recallKey=k";
        let said = harness.ask(method, path, "token-ann", &[]).await;
        assert_eq!((said.status, said.error()), (422, "not_callable"), "{method}");
    }
    assert!(harness.fmp.arrivals().entries.is_empty(), "nothing is sent");
}

trait Seconds {
    fn seconds(self) -> f64;
}

impl Seconds for busbar::domain::time::Mono {
    fn seconds(self) -> f64 {
        self.since(Self::ZERO).as_secs_f64()
    }
}

#[tokio::test]
async fn with_a_key_parameters_are_encrypted_and_the_retry_decrypts_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1"), [7; 32]).unwrap();
    let keys = Keyring::open(folder.path()).unwrap();
    let harness = GatewayHarness::with(Plan { keys, ..Plan::default() }).await;
    harness.finastra.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&harness, "/finastra/b2b/collaterals/COL-00000007").await;
    let kept = harness.ledger.get_dead_request(id).await.unwrap().unwrap().request;
    assert!(kept.encrypted && !String::from_utf8_lossy(&kept.parameters).contains("COL"), "encrypted");
    harness.finastra.recover().await;
    let seen = harness.finastra.arrivals().next;
    let (stop, worker) = harness.worker("a");
    eventually("the request is done", async || state(&harness, id).await == DeadRequestState::Done).await;
    let sent = harness.finastra.arrivals_since(seen).entries;
    assert!(sent.len() == 1 && sent[0].path.ends_with("/COL-00000007"), "{sent:?}");
    stop.cancel();
    worker.await.unwrap();
}
