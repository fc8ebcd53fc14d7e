//! Removal of dead requests: by a user, by age, or with their connection.

use super::OpenLedger;
use super::dead_requests::{limits, parked, request, worker};
use super::fixtures::{at, audit_entry};
use crate::domain::key::ObjectKey;
use crate::ledger::dead_requests::{
    DeadRequestCounts, DeadRequestOwner, DeadRequestState, NewDeadRequest, RetryOutcome,
};
use crate::ledger::error::LedgerError;

fn owner(uid: &str) -> DeadRequestOwner {
    DeadRequestOwner { connection: ObjectKey::new("ns", "bank-b"), uid: uid.to_owned() }
}

pub(crate) async fn discarded_and_purged_requests_are_deleted_with_audit_entries(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = worker(&*ledger, 0).await;
    let kept: Vec<_> = (0..4).map(|n| request(&n.to_string(), 1)).collect();
    for request in &kept {
        ledger.add_dead_request(request, limits(10)).await.unwrap();
    }
    assert!(ledger.discard_dead_request(kept[0].id, &audit_entry("discard", 1)).await.unwrap());
    assert!(!ledger.discard_dead_request(kept[0].id, &audit_entry("discard", 2)).await.unwrap());
    let parked = parked(3);
    ledger.settle_dead_request(&lease, kept[1].id, &parked, at(3)).await.unwrap();
    let of = ObjectKey::new("ns", "bank-b");
    assert_eq!(ledger.purge_dead_requests(&of, DeadRequestState::Parked, &audit_entry("purge", 4)).await.unwrap(), 1);
    assert_eq!(ledger.purge_dead_requests(&of, DeadRequestState::Parked, &audit_entry("purge", 5)).await.unwrap(), 0);
    let audit: Vec<_> = ledger.list_audit(None, None, 10).await.unwrap().into_iter().map(|s| s.entry.action).collect();
    assert_eq!(audit, ["purge", "dlq_failed", "discard"]);
    assert_eq!(ledger.count_dead_requests().await.unwrap(), DeadRequestCounts { pending: 2, parked: 0 });
}

pub(crate) async fn a_request_that_a_user_deletes_during_its_retry_stays_deleted(store: &impl OpenLedger) {
    let (user, worker_of_another) = (store.writer().await, store.writer().await);
    let lease = worker(&*worker_of_another, 0).await;
    let retry = RetryOutcome::Retry { next: at(60), reason: "timeout".into(), status: None };
    for outcome in [RetryOutcome::Done, retry, RetryOutcome::Postponed { next: at(60) }, parked(3)] {
        let request = request("a", 1);
        user.add_dead_request(&request, limits(10)).await.unwrap();
        assert!(user.discard_dead_request(request.id, &audit_entry("discard", 2)).await.unwrap());
        assert!(!worker_of_another.settle_dead_request(&lease, request.id, &outcome, at(3)).await.unwrap());
        assert!(user.get_dead_request(request.id).await.unwrap().is_none(), "{outcome:?}");
    }
    let audit = user.list_audit(None, None, 10).await.unwrap();
    assert!(audit.iter().all(|stored| stored.entry.action == "discard"), "nothing was parked");
}

pub(crate) async fn a_request_that_was_replayed_is_not_purged_as_parked(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = worker(&*ledger, 0).await;
    let request = request("a", 1);
    ledger.add_dead_request(&request, limits(10)).await.unwrap();
    ledger.settle_dead_request(&lease, request.id, &parked(2), at(2)).await.unwrap();
    assert!(ledger.replay_dead_request(request.id, "{}", &audit_entry("replay", 3), at(3)).await.unwrap());
    let of = ObjectKey::new("ns", "bank-b");
    assert_eq!(ledger.purge_dead_requests(&of, DeadRequestState::Parked, &audit_entry("purge", 4)).await.unwrap(), 0);
    assert_eq!(ledger.count_dead_requests().await.unwrap(), DeadRequestCounts { pending: 1, parked: 0 });
}

pub(crate) async fn orphaned_requests_are_deleted_by_the_connections_uid(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = worker(&*ledger, 0).await;
    ledger.add_dead_request(&request("a", 1), limits(10)).await.unwrap();
    let newer = NewDeadRequest { uid: "uid-2".into(), ..request("b", 1) };
    ledger.add_dead_request(&newer, limits(10)).await.unwrap();
    let mut owners = ledger.dead_request_owners().await.unwrap();
    owners.sort();
    assert_eq!(owners, [owner("uid-1"), owner("uid-2")]);
    let entry = audit_entry("discard", 9);
    for (before, deleted) in [(0, 0), (9, 1), (9, 0)] {
        let count = ledger.delete_orphaned_dead_requests(&lease, &owner("uid-1"), at(before), &entry).await.unwrap();
        assert_eq!(count, deleted, "last changed before {before}");
    }
    assert!(ledger.get_dead_request(newer.id).await.unwrap().is_some());
    assert_eq!(ledger.list_audit(None, None, 9).await.unwrap().len(), 1, "one entry for one deletion");
}

pub(crate) async fn a_worker_that_lost_its_lease_cannot_delete_orphans(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    ledger.add_dead_request(&request("a", 1), limits(10)).await.unwrap();
    let (old, _new) = (worker(&*ledger, 0).await, worker(&*ledger, 1).await);
    let entry = audit_entry("discard", 9);
    let deleted = ledger.delete_orphaned_dead_requests(&old, &owner("uid-1"), at(9), &entry).await;
    assert!(matches!(deleted, Err(LedgerError::Fenced { .. })), "{deleted:?}");
    assert_eq!(ledger.count_dead_requests().await.unwrap(), DeadRequestCounts { pending: 1, parked: 0 });
}

pub(crate) async fn settled_and_parked_requests_are_pruned_by_age(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = worker(&*ledger, 0).await;
    let [done, left, pending] = ["a", "b", "c"].map(|fingerprint| request(fingerprint, 1));
    for request in [&done, &left, &pending] {
        ledger.add_dead_request(request, limits(10)).await.unwrap();
    }
    ledger.settle_dead_request(&lease, done.id, &RetryOutcome::Done, at(10)).await.unwrap();
    ledger.settle_dead_request(&lease, left.id, &parked(20), at(20)).await.unwrap();
    for (before_done, before_parked, deleted) in [(10, 20, 0), (11, 20, 1), (11, 21, 1), (99, 99, 0)] {
        let count = ledger.prune_dead_requests(&lease, at(before_done), at(before_parked)).await.unwrap();
        assert_eq!(count, deleted, "{before_done} and {before_parked}");
    }
    assert!(ledger.get_dead_request(pending.id).await.unwrap().is_some(), "a pending one is never pruned");
}
