//! Dead request, audit and licence usage tests on a real file.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::SqliteLedger;
use crate::domain::key::ObjectKey;
use crate::ledger::audit::{Audit as _, AuditEntry, AuditKind, Usage as _, UsageKey};
use crate::ledger::dead_requests::{
    DeadRequestCounts, DeadRequestFilter, DeadRequestLimits, DeadRequestState, DeadRequests as _, NewDeadRequest,
    RetryOutcome,
};
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
    // Each acquisition is later than the previous expiry, so that it succeeds.
    let now = at(1_000_000) + SignedDuration::from_secs(i64::try_from(holder.len()).unwrap() * 10);
    ledger.acquire_lease("dead-requests", holder, ttl, now, None).await.unwrap().unwrap()
}

fn limits(total: u64) -> DeadRequestLimits {
    DeadRequestLimits { total, connection: total }
}

fn request(fingerprint: &str, next: i64) -> NewDeadRequest {
    NewDeadRequest {
        id: Uuid::new_v4(),
        connection: ObjectKey::new("ns", "fmp"),
        uid: "uid-1".into(),
        provider: "fmp".into(),
        operation: "quote".into(),
        parameters: br#"{"symbol":"ACME"}"#.to_vec(),
        encrypted: false,
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
async fn a_repeated_failure_is_one_row_until_it_is_settled() {
    let (ledger, _dir) = ledger().await;
    let first = request("a", 1);
    assert_eq!(ledger.add_dead_request(&first, limits(10)).await.unwrap(), Some(first.id));
    assert_eq!(ledger.add_dead_request(&request("a", 2), limits(10)).await.unwrap(), Some(first.id));
    let other = request("b", 2);
    assert_eq!(ledger.add_dead_request(&other, limits(10)).await.unwrap(), Some(other.id));
    assert_eq!(ledger.get_dead_request(first.id).await.unwrap().unwrap().seen, 2);
    let lease = lease(&ledger, "x").await;
    assert!(ledger.settle_dead_request(&lease, first.id, &RetryOutcome::Done, at(3)).await.unwrap());
    assert!(!ledger.settle_dead_request(&lease, first.id, &RetryOutcome::Done, at(3)).await.unwrap(), "not pending");
    let again = request("a", 4);
    assert_eq!(ledger.add_dead_request(&again, limits(10)).await.unwrap(), Some(again.id));
}

#[tokio::test]
async fn at_the_limit_new_requests_are_rejected_and_known_ones_counted() {
    let (ledger, _dir) = ledger().await;
    let first = request("a", 1);
    ledger.add_dead_request(&first, limits(1)).await.unwrap();
    assert_eq!(ledger.add_dead_request(&request("b", 1), limits(1)).await.unwrap(), None);
    assert_eq!(ledger.add_dead_request(&request("a", 1), limits(1)).await.unwrap(), Some(first.id));
}

#[tokio::test]
async fn a_request_is_retried_parked_with_an_audit_entry_and_replayed() {
    let (ledger, _dir) = ledger().await;
    let kept = request("a", 1);
    ledger.add_dead_request(&kept, limits(10)).await.unwrap();
    assert!(ledger.due_dead_requests(at(0), 10, 10).await.unwrap().is_empty());
    assert_eq!(ledger.next_dead_request(at(0)).await.unwrap(), Some(at(1)));
    let due = ledger.due_dead_requests(at(1), 10, 10).await.unwrap();
    assert_eq!((due.len(), due[0].tries), (1, 0));
    assert_eq!(due[0].request.parameters, kept.parameters);

    let lease = lease(&ledger, "x").await;
    let retry = RetryOutcome::Retry { next: at(3), reason: "http_503".into(), status: Some(503) };
    assert!(ledger.settle_dead_request(&lease, kept.id, &retry, at(1)).await.unwrap());
    let postponed = RetryOutcome::Postponed { next: at(5) };
    assert!(ledger.settle_dead_request(&lease, kept.id, &postponed, at(3)).await.unwrap());
    let now = ledger.get_dead_request(kept.id).await.unwrap().unwrap();
    assert_eq!((now.tries, now.request.status, now.request.reason.as_str()), (1, Some(503), "http_503"));
    let parked =
        RetryOutcome::Parked { reason: "timeout".into(), status: None, audit: Box::new(entry("dlq_failed", 5)) };
    assert!(ledger.settle_dead_request(&lease, kept.id, &parked, at(5)).await.unwrap());
    assert_eq!(ledger.count_dead_requests().await.unwrap(), DeadRequestCounts { pending: 0, parked: 1 });
    assert_eq!(ledger.next_dead_request(at(0)).await.unwrap(), None);
    let audit = ledger.list_audit(Some("ns"), None, 10).await.unwrap();
    assert_eq!(audit[0].entry, entry("dlq_failed", 5));

    assert!(ledger.replay_dead_request(kept.id, "{\"user\":\"ops\"}", &entry("replay", 6), at(6)).await.unwrap());
    assert!(
        !ledger.replay_dead_request(kept.id, "{\"user\":\"ops\"}", &entry("replay", 6), at(6)).await.unwrap(),
        "it is pending"
    );
    let due = ledger.due_dead_requests(at(6), 10, 10).await.unwrap();
    assert_eq!((due.len(), due[0].tries, due[0].reviewed), (1, 0, at(6)));
    assert_eq!((&*due[0].request.caller, &*due[0].request.subject), ("{\"user\":\"ops\"}", "ann"));
    assert_eq!(ledger.list_audit(None, None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_failure_equal_to_a_parked_request_is_counted_there() {
    let (ledger, _dir) = ledger().await;
    let first = request("a", 1);
    ledger.add_dead_request(&first, limits(10)).await.unwrap();
    let lease = lease(&ledger, "x").await;
    let parked =
        RetryOutcome::Parked { reason: "timeout".into(), status: None, audit: Box::new(entry("dlq_failed", 5)) };
    ledger.settle_dead_request(&lease, first.id, &parked, at(5)).await.unwrap();
    for second in 6..9 {
        let again = NewDeadRequest { at: at(second), reason: "http_503".into(), status: Some(503), ..request("a", 9) };
        assert_eq!(ledger.add_dead_request(&again, limits(1)).await.unwrap(), Some(first.id));
    }
    let now = ledger.get_dead_request(first.id).await.unwrap().unwrap();
    assert_eq!((now.state, now.seen, now.updated), (DeadRequestState::Parked, 4, at(8)));
    assert_eq!((now.request.reason.as_str(), now.request.status, now.request.at), ("http_503", Some(503), at(0)));
    assert_eq!(ledger.count_dead_requests().await.unwrap(), DeadRequestCounts { pending: 0, parked: 1 });
}

#[tokio::test]
async fn one_connection_cannot_use_up_the_limit_or_the_retries() {
    let (ledger, _dir) = ledger().await;
    let limits = DeadRequestLimits { total: 10, connection: 3 };
    for n in 0..5 {
        let kept = ledger.add_dead_request(&request(&n.to_string(), 1), limits).await.unwrap();
        assert_eq!(kept.is_some(), n < 3, "{n}");
    }
    let other = NewDeadRequest { connection: ObjectKey::new("ns", "other"), ..request("o", 2) };
    assert_eq!(ledger.add_dead_request(&other, limits).await.unwrap(), Some(other.id));
    let due = ledger.due_dead_requests(at(9), 10, 2).await.unwrap();
    let names: Vec<_> = due.iter().map(|dead| dead.request.fingerprint.as_str()).collect();
    assert_eq!(names, ["0", "1", "o"]);
    assert_eq!(ledger.next_dead_request(at(1)).await.unwrap(), Some(at(2)), "requests already due are not included");
}

#[tokio::test]
async fn discarded_and_purged_requests_are_deleted_with_audit_entries() {
    let (ledger, _dir) = ledger().await;
    let lease = lease(&ledger, "x").await;
    let kept: Vec<_> = (0..4).map(|n| request(&n.to_string(), 1)).collect();
    for request in &kept {
        ledger.add_dead_request(request, limits(10)).await.unwrap();
    }
    assert!(ledger.discard_dead_request(kept[0].id, &entry("discard", 1)).await.unwrap());
    assert!(!ledger.discard_dead_request(kept[0].id, &entry("discard", 2)).await.unwrap());
    let parked = RetryOutcome::Parked { reason: "x".into(), status: None, audit: Box::new(entry("dlq_failed", 3)) };
    ledger.settle_dead_request(&lease, kept[1].id, &parked, at(3)).await.unwrap();
    let of = ObjectKey::new("ns", "fmp");
    assert_eq!(ledger.purge_dead_requests(&of, DeadRequestState::Parked, &entry("purge", 4)).await.unwrap(), 1);
    assert_eq!(ledger.purge_dead_requests(&of, DeadRequestState::Parked, &entry("purge", 5)).await.unwrap(), 0);
    let audit: Vec<_> = ledger.list_audit(None, None, 10).await.unwrap().into_iter().map(|s| s.entry.action).collect();
    assert_eq!(audit, ["purge", "dlq_failed", "discard"]);
    assert_eq!(ledger.count_dead_requests().await.unwrap(), DeadRequestCounts { pending: 2, parked: 0 });
}

#[tokio::test]
async fn orphaned_requests_are_deleted_by_the_connections_uid() {
    let (ledger, _dir) = ledger().await;
    let lease = lease(&ledger, "x").await;
    ledger.add_dead_request(&request("a", 1), limits(10)).await.unwrap();
    let newer = NewDeadRequest { uid: "uid-2".into(), ..request("b", 1) };
    ledger.add_dead_request(&newer, limits(10)).await.unwrap();
    let of = ObjectKey::new("ns", "fmp");
    let mut owners = ledger.dead_request_owners().await.unwrap();
    owners.sort();
    assert_eq!(owners, [(of.clone(), "uid-1".to_owned()), (of.clone(), "uid-2".to_owned())]);
    let gone = entry("discard", 9);
    assert_eq!(
        ledger.delete_orphaned_dead_requests(&lease, (&of, "uid-1"), at(0), &gone).await.unwrap(),
        0,
        "changed too recently"
    );
    assert_eq!(ledger.delete_orphaned_dead_requests(&lease, (&of, "uid-1"), at(9), &gone).await.unwrap(), 1);
    assert!(ledger.get_dead_request(newer.id).await.unwrap().is_some());
    self::lease(&ledger, "yyyy").await;
    let error = ledger.delete_orphaned_dead_requests(&lease, (&of, "uid-2"), at(9), &gone).await.unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_cannot_settle() {
    let (ledger, _dir) = ledger().await;
    let kept = request("a", 1);
    ledger.add_dead_request(&kept, limits(10)).await.unwrap();
    let (old, _new) = (lease(&ledger, "x").await, lease(&ledger, "yyyy").await);
    let parked = RetryOutcome::Parked { reason: "x".into(), status: None, audit: Box::new(entry("dlq_failed", 5)) };
    let error = ledger.settle_dead_request(&old, kept.id, &parked, at(2)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    assert_eq!(ledger.get_dead_request(kept.id).await.unwrap().unwrap().state, DeadRequestState::Pending);
    assert!(ledger.list_audit(None, None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn lists_are_newest_first_filtered_and_paged_by_seq() {
    let (ledger, _dir) = ledger().await;
    for n in 0..5 {
        let mut kept = request(&n.to_string(), 1);
        if n == 2 {
            kept.connection = ObjectKey::new("other", "fmp");
        }
        ledger.add_dead_request(&kept, limits(10)).await.unwrap();
    }
    let filter = DeadRequestFilter { namespace: Some("ns".into()), ..DeadRequestFilter::default() };
    let page = ledger.list_dead_requests(&filter, 3).await.unwrap();
    let names = |page: &[crate::ledger::dead_requests::DeadRequest]| {
        page.iter().map(|d| d.request.fingerprint.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&page), ["4", "3", "1"]);
    let rest = DeadRequestFilter { before: Some(page[2].seq), ..filter.clone() };
    assert_eq!(names(&ledger.list_dead_requests(&rest, 3).await.unwrap()), ["0"]);
    let parked = DeadRequestFilter { state: Some(DeadRequestState::Parked), ..filter };
    assert!(ledger.list_dead_requests(&parked, 3).await.unwrap().is_empty());
}

#[tokio::test]
async fn old_entries_are_pruned_and_the_audit_log_is_append_only() {
    let (ledger, _dir) = ledger().await;
    let kept = request("a", 1);
    ledger.add_dead_request(&kept, limits(10)).await.unwrap();
    let lease = lease(&ledger, "x").await;
    ledger.settle_dead_request(&lease, kept.id, &RetryOutcome::Done, at(10)).await.unwrap();
    assert_eq!(ledger.prune_dead_requests(at(10), at(10)).await.unwrap(), 0);
    assert_eq!(ledger.prune_dead_requests(at(11), at(10)).await.unwrap(), 1);
    ledger.append_audit(&[entry("a", 1), entry("b", 2)]).await.unwrap();
    assert_eq!(ledger.prune_audit(at(2), at(3)).await.unwrap(), 1);
    let changed = sqlx::query("UPDATE audit SET allowed = 0").execute(&ledger.writer).await.unwrap_err();
    assert!(changed.to_string().contains("append-only"), "{changed}");
}

#[tokio::test]
async fn daily_licence_usage_is_granted_up_to_the_limit() {
    let (ledger, _dir) = ledger().await;
    let key = |day| UsageKey {
        namespace: "ns".into(),
        connection: "fmp".into(),
        profile: "trading".into(),
        day: jiff::civil::date(2026, 11, day),
    };
    assert_eq!(ledger.take_usage(&key(22), 3, 5).await.unwrap(), 3);
    assert_eq!(ledger.take_usage(&key(22), 3, 5).await.unwrap(), 2);
    assert_eq!(ledger.take_usage(&key(22), 3, 5).await.unwrap(), 0);
    assert_eq!(ledger.take_usage(&key(23), 3, 5).await.unwrap(), 3);
}
