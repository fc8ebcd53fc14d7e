//! Dead requests: storage, retries, replay and lists.

use futures::future::join;
use uuid::Uuid;

use super::OpenLedger;
use super::fixtures::{at, audit_entry, take_named};
use crate::domain::event::{EventType, OutboxEvent};
use crate::domain::key::ObjectKey;
use crate::ledger::dead_requests::{
    DeadRequest, DeadRequestCounts, DeadRequestFilter, DeadRequestLimits, DeadRequestState, NewDeadRequest,
    RetryOutcome,
};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::outbox::EventFilter;
use crate::ledger::store::Ledger;

/// The lease of the worker with this number; each takes it from the one before.
pub(super) async fn worker(ledger: &dyn Ledger, number: i64) -> Lease {
    take_named(ledger, "dead-requests", &format!("worker {number}"), at(1_000_000 + number * 60)).await
}

pub(super) fn limits(total: u64) -> DeadRequestLimits {
    DeadRequestLimits { total, connection: total }
}

pub(super) fn request(fingerprint: &str, next: i64) -> NewDeadRequest {
    NewDeadRequest {
        id: Uuid::new_v4(),
        connection: ObjectKey::new("ns", "bank-b"),
        uid: "uid-1".into(),
        provider: "bank-b".into(),
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

pub(super) fn parked(second: i64) -> RetryOutcome {
    let id = Uuid::from_u128(10_000 + u128::try_from(second).unwrap());
    let event = OutboxEvent {
        id,
        event_type: EventType::DeadRequestParked,
        namespace: "ns".into(),
        aggregate: "providerconnection/ns/bank-b".into(),
        payload: "{}".into(),
        correlation_id: id,
    };
    let audit = Box::new(audit_entry("dlq_failed", second));
    RetryOutcome::Parked { reason: "timeout".into(), status: None, audit, event: Box::new(event) }
}

pub(crate) async fn a_repeated_failure_is_one_row_until_it_is_settled(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let first = request("a", 1);
    assert_eq!(ledger.add_dead_request(&first, limits(10)).await.unwrap(), Some(first.id));
    assert_eq!(ledger.add_dead_request(&request("a", 2), limits(10)).await.unwrap(), Some(first.id));
    let other = request("b", 2);
    assert_eq!(ledger.add_dead_request(&other, limits(10)).await.unwrap(), Some(other.id));
    assert_eq!(ledger.get_dead_request(first.id).await.unwrap().unwrap().seen, 2);
    let lease = worker(&*ledger, 0).await;
    assert!(ledger.settle_dead_request(&lease, first.id, &RetryOutcome::Done, at(3)).await.unwrap());
    assert!(!ledger.settle_dead_request(&lease, first.id, &RetryOutcome::Done, at(3)).await.unwrap(), "not pending");
    let again = request("a", 4);
    assert_eq!(ledger.add_dead_request(&again, limits(10)).await.unwrap(), Some(again.id));
}

pub(crate) async fn failures_of_two_processes_are_counted_in_one_row(store: &impl OpenLedger) {
    let (one, two) = (store.writer().await, store.writer().await);
    for n in 0..5 {
        let (a, b) = (request(&n.to_string(), 1), request(&n.to_string(), 1));
        let ids = join(one.add_dead_request(&a, limits(10)), two.add_dead_request(&b, limits(10))).await;
        let (first, second) = (ids.0.unwrap().unwrap(), ids.1.unwrap().unwrap());
        assert_eq!(first, second);
        assert_eq!(one.get_dead_request(first).await.unwrap().unwrap().seen, 2);
    }
}

pub(crate) async fn at_the_limit_new_requests_are_rejected_and_known_ones_counted(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let first = request("a", 1);
    ledger.add_dead_request(&first, limits(1)).await.unwrap();
    assert_eq!(ledger.add_dead_request(&request("b", 1), limits(1)).await.unwrap(), None);
    assert_eq!(ledger.add_dead_request(&request("a", 1), limits(1)).await.unwrap(), Some(first.id));
}

pub(crate) async fn one_connection_cannot_use_up_the_limit_or_the_retries(store: &impl OpenLedger) {
    let ledger = store.writer().await;
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

pub(crate) async fn connections_that_used_up_the_total_leave_another_its_part(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let limits = DeadRequestLimits { total: 40, connection: 20 };
    let failed = |connection: &str, n: usize| NewDeadRequest {
        connection: ObjectKey::new("ns", connection),
        ..request(&format!("{connection}-{n}"), 1)
    };
    for (connection, kept) in [("bad-1", 20), ("bad-2", 20), ("good", 2)] {
        let mut stored = 0;
        for n in 0..30 {
            stored += usize::from(ledger.add_dead_request(&failed(connection, n), limits).await.unwrap().is_some());
        }
        assert_eq!(stored, kept, "{connection}");
    }
}

pub(crate) async fn namespaces_have_their_turns_with_due_requests(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    for n in 0..50 {
        let connection = ObjectKey::new("busy", format!("bank-{n}"));
        let dead = NewDeadRequest { connection, ..request(&n.to_string(), 1) };
        ledger.add_dead_request(&dead, limits(100)).await.unwrap();
    }
    let other = NewDeadRequest { connection: ObjectKey::new("other", "bank"), ..request("o", 5) };
    ledger.add_dead_request(&other, limits(100)).await.unwrap();
    let due = ledger.due_dead_requests(at(9), 10, 2).await.unwrap();
    assert_eq!((due.len(), due[1].request.id), (10, other.id), "the second, although it is the newest");
}

pub(crate) async fn a_request_is_retried_parked_with_an_audit_entry_and_replayed(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let kept = request("a", 1);
    ledger.add_dead_request(&kept, limits(10)).await.unwrap();
    assert!(ledger.due_dead_requests(at(0), 10, 10).await.unwrap().is_empty());
    assert_eq!(ledger.next_dead_request(at(0)).await.unwrap(), Some(at(1)));
    let due = ledger.due_dead_requests(at(1), 10, 10).await.unwrap();
    assert_eq!((due.len(), due[0].tries), (1, 0));
    assert_eq!(due[0].request.parameters, kept.parameters);

    let lease = worker(&*ledger, 0).await;
    let retry = RetryOutcome::Retry { next: at(3), reason: "http_503".into(), status: Some(503) };
    assert!(ledger.settle_dead_request(&lease, kept.id, &retry, at(1)).await.unwrap());
    let postponed = RetryOutcome::Postponed { next: at(5) };
    assert!(ledger.settle_dead_request(&lease, kept.id, &postponed, at(3)).await.unwrap());
    let now = ledger.get_dead_request(kept.id).await.unwrap().unwrap();
    assert_eq!((now.tries, now.request.status, now.request.reason.as_str()), (1, Some(503), "http_503"));
    let parked = parked(5);
    assert!(ledger.settle_dead_request(&lease, kept.id, &parked, at(5)).await.unwrap());
    assert_eq!(ledger.count_dead_requests().await.unwrap(), DeadRequestCounts { pending: 0, parked: 1 });
    assert_eq!(ledger.next_dead_request(at(0)).await.unwrap(), None);
    let audit = ledger.list_audit(Some("ns"), None, 10).await.unwrap();
    assert_eq!(audit[0].entry, audit_entry("dlq_failed", 5));
    let events = ledger.list_events(&EventFilter::default(), 10).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| (event.event_type.as_str(), event.created)).collect();
    assert_eq!(told, [("dlq.failed", at(5))], "with the audit entry");

    assert!(ledger.replay_dead_request(kept.id, "{\"user\":\"ops\"}", &audit_entry("replay", 6), at(6)).await.unwrap());
    assert!(
        !ledger.replay_dead_request(kept.id, "{\"user\":\"ops\"}", &audit_entry("replay", 6), at(6)).await.unwrap(),
        "it is pending"
    );
    let due = ledger.due_dead_requests(at(6), 10, 10).await.unwrap();
    assert_eq!((due.len(), due[0].tries, due[0].reviewed), (1, 0, at(6)));
    assert_eq!((&*due[0].request.caller, &*due[0].request.subject), ("{\"user\":\"ops\"}", "ann"));
    assert_eq!(ledger.list_audit(None, None, 10).await.unwrap().len(), 2);
}

pub(crate) async fn a_failure_equal_to_a_parked_request_is_counted_there(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let first = request("a", 1);
    ledger.add_dead_request(&first, limits(10)).await.unwrap();
    let lease = worker(&*ledger, 0).await;
    let parked = parked(5);
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

pub(crate) async fn a_worker_that_lost_its_lease_cannot_settle(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let kept = request("a", 1);
    ledger.add_dead_request(&kept, limits(10)).await.unwrap();
    let (old, _new) = (worker(&*ledger, 0).await, worker(&*ledger, 1).await);
    let parked = parked(5);
    let error = ledger.settle_dead_request(&old, kept.id, &parked, at(2)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    assert_eq!(ledger.get_dead_request(kept.id).await.unwrap().unwrap().state, DeadRequestState::Pending);
    assert!(ledger.list_audit(None, None, 10).await.unwrap().is_empty());
}

pub(crate) async fn lists_are_newest_first_filtered_and_paged_by_seq(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    for n in 0..5 {
        let mut kept = request(&n.to_string(), 1);
        if n == 2 {
            kept.connection = ObjectKey::new("other", "bank-b");
        }
        ledger.add_dead_request(&kept, limits(10)).await.unwrap();
    }
    let filter = DeadRequestFilter { namespace: Some("ns".into()), ..DeadRequestFilter::default() };
    let page = ledger.list_dead_requests(&filter, 3).await.unwrap();
    let names = |page: &[DeadRequest]| page.iter().map(|d| d.request.fingerprint.clone()).collect::<Vec<_>>();
    assert_eq!(names(&page), ["4", "3", "1"]);
    let rest = DeadRequestFilter { before: Some(page[2].seq), ..filter.clone() };
    assert_eq!(names(&ledger.list_dead_requests(&rest, 3).await.unwrap()), ["0"]);
    let parked = DeadRequestFilter { state: Some(DeadRequestState::Parked), ..filter };
    assert!(ledger.list_dead_requests(&parked, 3).await.unwrap().is_empty());
}
