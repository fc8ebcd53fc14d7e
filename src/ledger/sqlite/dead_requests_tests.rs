use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::SqliteLedger;
use crate::domain::key::ObjectKey;
use crate::ledger::audit::{Audit as _, AuditEntry, AuditKind, Usage as _, UsageKey};
use crate::ledger::dead_requests::{DeadCounts, DeadFilter, DeadRequests as _, DeadState, NewDeadRequest, Settled};
use crate::ledger::{Lease, Ledger as _, LedgerError};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

async fn ledger() -> (SqliteLedger, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (SqliteLedger::open(dir.path().join("l.db")).await.unwrap(), dir)
}

async fn lease(ledger: &SqliteLedger, holder: &str) -> Lease {
    let ttl = Duration::from_secs(1);
    // Each taking is later than the last one's end, so that it succeeds.
    let now = at(1_000_000) + SignedDuration::from_secs(i64::try_from(holder.len()).unwrap() * 10);
    ledger.acquire_lease("dead-requests", holder, ttl, now, None).await.unwrap().unwrap()
}

fn request(fingerprint: &str, next: i64) -> NewDeadRequest {
    NewDeadRequest {
        id: Uuid::new_v4(),
        connection: ObjectKey::new("ns", "fmp"),
        provider: "fmp".into(),
        operation: "quote".into(),
        parameters: br#"{"symbol":"ACME"}"#.to_vec(),
        sealed: false,
        fingerprint: fingerprint.into(),
        caller: "{}".into(),
        subject: "ann".into(),
        reason: "timeout".into(),
        status: None,
        request_id: Some(Uuid::new_v4()),
        at: at(0),
        next: at(next),
    }
}

fn entry(action: &str, second: i64) -> AuditEntry {
    AuditEntry {
        at: at(second),
        kind: AuditKind::DeadRequest,
        action: action.into(),
        subject: "busbar".into(),
        rights_profile: None,
        allowed: true,
        namespace: "ns".into(),
        connection: "fmp".into(),
        provider: Some("fmp".into()),
        purpose: None,
        reason: Some("timeout".into()),
        request_id: None,
    }
}

#[tokio::test]
async fn the_same_request_failing_again_is_one_row_until_it_is_settled() {
    let (ledger, _dir) = ledger().await;
    let first = request("a", 1);
    assert_eq!(ledger.add_dead_request(&first, 10).await.unwrap(), Some(first.id));
    assert_eq!(ledger.add_dead_request(&request("a", 2), 10).await.unwrap(), Some(first.id));
    let other = request("b", 2);
    assert_eq!(ledger.add_dead_request(&other, 10).await.unwrap(), Some(other.id));
    assert_eq!(ledger.get_dead_request(first.id).await.unwrap().unwrap().seen, 2);
    let lease = lease(&ledger, "x").await;
    assert!(ledger.settle_dead_request(&lease, first.id, &Settled::Done, at(3)).await.unwrap());
    assert!(!ledger.settle_dead_request(&lease, first.id, &Settled::Done, at(3)).await.unwrap(), "not pending");
    let again = request("a", 4);
    assert_eq!(ledger.add_dead_request(&again, 10).await.unwrap(), Some(again.id));
}

#[tokio::test]
async fn when_as_many_are_kept_as_may_be_no_more_are_stored_but_known_ones_are_counted() {
    let (ledger, _dir) = ledger().await;
    let first = request("a", 1);
    ledger.add_dead_request(&first, 1).await.unwrap();
    assert_eq!(ledger.add_dead_request(&request("b", 1), 1).await.unwrap(), None);
    assert_eq!(ledger.add_dead_request(&request("a", 1), 1).await.unwrap(), Some(first.id));
}

#[tokio::test]
async fn a_request_goes_through_its_tries_is_parked_with_an_entry_in_the_audit_and_can_be_replayed() {
    let (ledger, _dir) = ledger().await;
    let kept = request("a", 1);
    ledger.add_dead_request(&kept, 10).await.unwrap();
    assert!(ledger.due_dead_requests(at(0), 10).await.unwrap().is_empty());
    assert_eq!(ledger.next_dead_request().await.unwrap(), Some(at(1)));
    let due = ledger.due_dead_requests(at(1), 10).await.unwrap();
    assert_eq!((due.len(), due[0].tries), (1, 0));
    assert_eq!(due[0].request.parameters, kept.parameters);

    let lease = lease(&ledger, "x").await;
    let again = Settled::Again { next: at(3), reason: "http_503".into(), status: Some(503) };
    assert!(ledger.settle_dead_request(&lease, kept.id, &again, at(1)).await.unwrap());
    let later = Settled::Later { next: at(5) };
    assert!(ledger.settle_dead_request(&lease, kept.id, &later, at(3)).await.unwrap());
    let now = ledger.get_dead_request(kept.id).await.unwrap().unwrap();
    assert_eq!((now.tries, now.request.status, now.request.reason.as_str()), (1, Some(503), "http_503"));
    let parked = Settled::Parked { reason: "timeout".into(), status: None, audit: Box::new(entry("dlq_failed", 5)) };
    assert!(ledger.settle_dead_request(&lease, kept.id, &parked, at(5)).await.unwrap());
    assert_eq!(ledger.count_dead_requests().await.unwrap(), DeadCounts { pending: 0, parked: 1 });
    assert_eq!(ledger.next_dead_request().await.unwrap(), None);
    let audit = ledger.list_audit(Some("ns"), None, 10).await.unwrap();
    assert_eq!(audit[0].entry, entry("dlq_failed", 5));

    assert!(ledger.replay_dead_request(kept.id, &entry("replay", 6), at(6)).await.unwrap());
    assert!(!ledger.replay_dead_request(kept.id, &entry("replay", 6), at(6)).await.unwrap(), "it is pending");
    let due = ledger.due_dead_requests(at(6), 10).await.unwrap();
    assert_eq!((due.len(), due[0].tries), (1, 0));
    assert_eq!(ledger.list_audit(None, None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_worker_whose_lease_was_taken_settles_nothing() {
    let (ledger, _dir) = ledger().await;
    let kept = request("a", 1);
    ledger.add_dead_request(&kept, 10).await.unwrap();
    let (old, _new) = (lease(&ledger, "x").await, lease(&ledger, "yyyy").await);
    let parked = Settled::Parked { reason: "x".into(), status: None, audit: Box::new(entry("dlq_failed", 5)) };
    let error = ledger.settle_dead_request(&old, kept.id, &parked, at(2)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    assert_eq!(ledger.get_dead_request(kept.id).await.unwrap().unwrap().state, DeadState::Pending);
    assert!(ledger.list_audit(None, None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn lists_are_newest_first_filtered_and_go_on_after_the_last() {
    let (ledger, _dir) = ledger().await;
    for n in 0..5 {
        let mut kept = request(&n.to_string(), 1);
        if n == 2 {
            kept.connection = ObjectKey::new("other", "fmp");
        }
        ledger.add_dead_request(&kept, 10).await.unwrap();
    }
    let filter = DeadFilter { namespace: Some("ns".into()), ..DeadFilter::default() };
    let page = ledger.list_dead_requests(&filter, 3).await.unwrap();
    let names = |page: &[crate::ledger::dead_requests::DeadRequest]| {
        page.iter().map(|d| d.request.fingerprint.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&page), ["4", "3", "1"]);
    let rest = DeadFilter { before: Some(page[2].seq), ..filter.clone() };
    assert_eq!(names(&ledger.list_dead_requests(&rest, 3).await.unwrap()), ["0"]);
    let parked = DeadFilter { state: Some(DeadState::Parked), ..filter };
    assert!(ledger.list_dead_requests(&parked, 3).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_old_goes_by_age_and_the_audit_cannot_be_rewritten() {
    let (ledger, _dir) = ledger().await;
    let kept = request("a", 1);
    ledger.add_dead_request(&kept, 10).await.unwrap();
    let lease = lease(&ledger, "x").await;
    ledger.settle_dead_request(&lease, kept.id, &Settled::Done, at(10)).await.unwrap();
    assert_eq!(ledger.prune_dead_requests(at(10), at(10)).await.unwrap(), 0);
    assert_eq!(ledger.prune_dead_requests(at(11), at(10)).await.unwrap(), 1);
    ledger.append_audit(&[entry("a", 1), entry("b", 2)]).await.unwrap();
    assert_eq!(ledger.prune_audit(at(2)).await.unwrap(), 1);
    let changed = sqlx::query("UPDATE audit SET allowed = 0").execute(&ledger.writer).await.unwrap_err();
    assert!(changed.to_string().contains("append-only"), "{changed}");
}

#[tokio::test]
async fn a_days_licence_is_granted_once_over_all_who_take_from_it() {
    let (ledger, _dir) = ledger().await;
    let key = |day| UsageKey {
        namespace: "ns".into(),
        connection: "fmp".into(),
        profile: "desk".into(),
        day: jiff::civil::date(2026, 11, day),
    };
    assert_eq!(ledger.take_usage(&key(22), 3, 5).await.unwrap(), 3);
    assert_eq!(ledger.take_usage(&key(22), 3, 5).await.unwrap(), 2);
    assert_eq!(ledger.take_usage(&key(22), 3, 5).await.unwrap(), 0);
    assert_eq!(ledger.take_usage(&key(23), 3, 5).await.unwrap(), 3);
}
