//! The audit log and licence usage counters.

use super::OpenLedger;
use super::fixtures::{at, audit_entry};
use crate::ledger::audit::{AuditEntry, AuditKind, UsageKey};

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
        ..audit_entry("b", 2)
    };
    let other = AuditEntry { namespace: "other".into(), ..audit_entry("c", 3) };
    ledger.append_audit(&[audit_entry("a", 1), full.clone(), other.clone()]).await.unwrap();
    let all = ledger.list_audit(None, None, 2).await.unwrap();
    assert_eq!(all.iter().map(|stored| &stored.entry).collect::<Vec<_>>(), [&other, &full]);
    let rest = ledger.list_audit(Some("ns"), Some(all[1].seq), 9).await.unwrap();
    assert_eq!(rest.iter().map(|stored| stored.entry.action.as_str()).collect::<Vec<_>>(), ["a"]);
}

pub(crate) async fn old_entries_are_pruned(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    ledger.append_audit(&[audit_entry("a", 1), audit_entry("b", 2)]).await.unwrap();
    assert_eq!(ledger.prune_audit(at(2)).await.unwrap(), 1);
    let left = ledger.list_audit(None, None, 9).await.unwrap();
    assert_eq!(left.iter().map(|stored| stored.entry.action.as_str()).collect::<Vec<_>>(), ["b"]);
}

pub(crate) async fn daily_licence_usage_is_granted_up_to_the_limit(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    assert_eq!(ledger.take_usage(&usage(22), 3, 5).await.unwrap(), 3);
    assert_eq!(ledger.take_usage(&usage(22), 3, 5).await.unwrap(), 2);
    assert_eq!(ledger.take_usage(&usage(22), 3, 5).await.unwrap(), 0);
    assert_eq!(ledger.take_usage(&usage(23), 3, 5).await.unwrap(), 3);
    // 23 November 2026, 00:00 UTC: the days before are pruned with the audit log.
    ledger.prune_audit("2026-11-23T00:00:00Z".parse().unwrap()).await.unwrap();
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
