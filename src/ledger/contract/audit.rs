//! The audit log and licence usage counters.

use super::OpenLedger;
use jiff::Timestamp;

use super::fixtures::{at, audit_entry, take_named};
use crate::ledger::audit::{AuditBatch, AuditEntry, AuditKind, AuditPruning, PrunedAudit, Repeats, UsageKey};

/// Deletes by age alone, all in one piece.
pub(crate) fn by_age(before: Timestamp, now: Timestamp) -> AuditPruning {
    AuditPruning { before: Some(before), now, max_call_bytes: u64::MAX, max_rows: 1_000 }
}

fn usage(day: i8) -> UsageKey {
    UsageKey {
        namespace: "ns".into(),
        connection: "bank-b".into(),
        profile: "trading".into(),
        day: jiff::civil::date(2026, 11, day),
    }
}

pub(crate) async fn entries_are_listed_newest_first_by_namespace(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let full = AuditEntry {
        kind: AuditKind::Call,
        rights_profile: Some("trading".into()),
        allowed: false,
        purpose: Some("export_pdf".into()),
        request_id: Some(uuid::Uuid::from_u128(7)),
        repeats: Some(Repeats { count: 3, last: at(9) }),
        ..audit_entry("b", 2)
    };
    let other = AuditEntry { namespace: "other".into(), ..audit_entry("c", 3) };
    ledger.append_audit(&[audit_entry("a", 1), full.clone(), other.clone()]).await.unwrap();
    let all = ledger.list_audit(None, None, 2).await.unwrap();
    assert_eq!(all.iter().map(|stored| &stored.entry).collect::<Vec<_>>(), [&other, &full]);
    let rest = ledger.list_audit(Some("ns"), Some(all[1].seq), 9).await.unwrap();
    assert_eq!(rest.iter().map(|stored| stored.entry.action.as_str()).collect::<Vec<_>>(), ["a"]);
}

pub(crate) async fn a_batch_that_is_appended_again_is_stored_once(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "audit-pruning", "me", at(0)).await;
    let append = async |writer: u128, number: u64, second: i64| {
        let entries = [audit_entry(&format!("{writer}-{number}"), second), audit_entry("b", second)];
        let writer = uuid::Uuid::from_u128(writer);
        ledger.append_audit_batch(AuditBatch { writer, number, at: at(second), entries: &entries }).await.unwrap();
        ledger.list_audit(None, None, 99).await.unwrap().len()
    };
    assert_eq!(append(1, 1, 1).await, 2);
    assert_eq!(append(1, 1, 2).await, 2, "again");
    assert_eq!(append(2, 1, 3).await, 4, "another writer");
    assert_eq!(append(1, 2, 4).await, 6, "the next batch");
    assert_eq!(append(1, 1, 5).await, 6, "a late one");
    ledger.prune_audit(&lease, by_age(at(4), at(9))).await.unwrap();
    assert_eq!(append(1, 2, 9).await, 2, "the last batch is remembered as long as its entries");
}

pub(crate) async fn old_entries_are_pruned(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "audit-pruning", "me", at(0)).await;
    ledger.append_audit(&[audit_entry("a", 1), audit_entry("b", 2)]).await.unwrap();
    assert_eq!(ledger.prune_audit(&lease, by_age(at(2), at(3))).await.unwrap().expired, 1);
    let left = ledger.list_audit(None, None, 9).await.unwrap();
    assert_eq!(left.iter().map(|stored| stored.entry.action.as_str()).collect::<Vec<_>>(), ["b"]);
}

fn call(number: usize, second: i64) -> AuditEntry {
    AuditEntry { kind: AuditKind::Call, ..audit_entry(&format!("call-{number:04}"), second) }
}

pub(crate) async fn the_oldest_calls_are_pruned_by_size_and_other_entries_by_age_alone(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "audit-pruning", "me", at(0)).await;
    let entries: Vec<AuditEntry> =
        (0..100).flat_map(|n| [call(n, 1), audit_entry(&format!("discard-{n:04}"), 1)]).collect();
    ledger.append_audit(&entries).await.unwrap();
    let pruning = AuditPruning { before: None, now: at(2), max_call_bytes: u64::MAX, max_rows: 1_000 };
    let all = ledger.prune_audit(&lease, pruning).await.unwrap();
    assert_eq!((all.expired, all.oversize, all.more), (0, 0, false));
    let each = all.call_bytes / 100;
    assert_eq!(all.call_bytes, each * 100, "equal entries have equal sizes");
    // Room for ten of them.
    let pruning = AuditPruning { max_call_bytes: each * 10, ..pruning };
    let done = PrunedAudit { expired: 0, oversize: 90, call_bytes: each * 10, more: false };
    let mut total = 0;
    loop {
        let piece = ledger.prune_audit(&lease, pruning).await.unwrap();
        total += piece.oversize;
        if !piece.more {
            assert_eq!(PrunedAudit { oversize: total, ..piece }, done);
            break;
        }
    }
    let left = ledger.list_audit(None, None, 1_000).await.unwrap();
    let calls: Vec<_> = left.iter().filter(|stored| stored.entry.kind == AuditKind::Call).collect();
    assert_eq!((left.len(), calls.len()), (110, 10));
    assert_eq!(calls[9].entry.action, "call-0090", "the newest are left");
}

pub(crate) async fn calls_of_one_namespace_do_not_displace_those_of_another(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "audit-pruning", "me", at(0)).await;
    let quiet = |n| AuditEntry { namespace: "quiet".into(), ..call(n, 1) };
    ledger.append_audit(&(0..10).map(quiet).collect::<Vec<_>>()).await.unwrap();
    ledger.append_audit(&(0..500).map(|n| call(n, 2)).collect::<Vec<_>>()).await.unwrap();
    let all = AuditPruning { before: None, now: at(3), max_call_bytes: u64::MAX, max_rows: 100 };
    let total = ledger.prune_audit(&lease, all).await.unwrap().call_bytes;
    let pruning = AuditPruning { max_call_bytes: total / 10, ..all };
    while ledger.prune_audit(&lease, pruning).await.unwrap().more {}
    let left = ledger.list_audit(Some("quiet"), None, 1_000).await.unwrap();
    assert_eq!(left.len(), 10, "although they are the oldest");
    let left = ledger.list_audit(Some("ns"), None, 1_000).await.unwrap().len();
    assert!((30..50).contains(&left), "{left}");
}

pub(crate) async fn pruning_deletes_a_bounded_number_of_rows_at_a_time(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "audit-pruning", "me", at(0)).await;
    let entries: Vec<AuditEntry> = (0..250).map(|n| call(n, 1)).collect();
    ledger.append_audit(&entries).await.unwrap();
    for day in 1..=25 {
        ledger.take_usage(&usage(day), 1, 5).await.unwrap();
    }
    let later = "2026-12-24T00:00:00Z".parse().unwrap();
    let pruning = AuditPruning { max_rows: 100, ..by_age(later, later) };
    let mut pieces = Vec::new();
    loop {
        let piece = ledger.prune_audit(&lease, pruning).await.unwrap();
        pieces.push(piece.expired);
        assert_eq!(piece.call_bytes == 0, pieces.len() >= 3);
        if !piece.more {
            break;
        }
    }
    assert_eq!(pieces, [100, 100, 50]);
    let pruning = AuditPruning { before: None, max_call_bytes: 0, ..pruning };
    ledger.append_audit(&entries).await.unwrap();
    let mut deleted = 0;
    while deleted < 250 {
        let piece = ledger.prune_audit(&lease, pruning).await.unwrap();
        deleted += piece.oversize;
        assert!((1..=100).contains(&piece.oversize), "{piece:?}");
        assert_eq!(piece.more, deleted < 250);
    }
}

pub(crate) async fn daily_licence_usage_is_granted_up_to_the_limit(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "audit-pruning", "me", at(0)).await;
    assert_eq!(ledger.take_usage(&usage(22), 3, 5).await.unwrap(), 3);
    assert_eq!(ledger.take_usage(&usage(22), 3, 5).await.unwrap(), 2);
    assert_eq!(ledger.take_usage(&usage(22), 3, 5).await.unwrap(), 0);
    assert_eq!(ledger.take_usage(&usage(23), 3, 5).await.unwrap(), 3);
    // 23 November 2026, 00:00 UTC: the days before are pruned with the audit log.
    let midnight = "2026-11-23T00:00:00Z".parse().unwrap();
    ledger.prune_audit(&lease, by_age(midnight, midnight)).await.unwrap();
    assert_eq!(ledger.take_usage(&usage(22), 3, 5).await.unwrap(), 3);
    assert_eq!(ledger.take_usage(&usage(23), 3, 5).await.unwrap(), 2);
}

pub(crate) async fn two_processes_share_the_days_limit(store: &impl OpenLedger) {
    let handles = [store.writer().await, store.writer().await];
    let key = usage(22);
    let takes = (0..10).map(|n| handles[n % 2].take_usage(&key, 3, 20));
    let granted: u64 = futures::future::join_all(takes).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(granted, 20);
}
