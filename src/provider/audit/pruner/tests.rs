//! The pruner beside a writer, on a real ledger.

use super::*;
use crate::ledger::audit::{AuditEntry, AuditKind};
use crate::ledger::{self, LedgerUrl, OpenMode};

fn entry(kind: AuditKind, number: u32, at: Timestamp) -> AuditEntry {
    AuditEntry {
        at,
        kind,
        action: format!("action-{number:05}"),
        subject: "ann".into(),
        rights_profile: None,
        allowed: true,
        namespace: "ns".into(),
        connection: "fmp".into(),
        provider: None,
        purpose: None,
        reason: None,
        request_id: None,
        repeats: None,
    }
}

#[tokio::test]
async fn calls_are_pruned_to_their_size_while_others_write() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
    let (clock, metrics, stop) = (Clock::system(), Metrics::new(), CancellationToken::new());
    let now = clock.now().wall;
    let call = |n| entry(AuditKind::Call, n, now);
    ledger.append_audit(&(0..3_000).map(call).collect::<Vec<_>>()).await.unwrap();
    ledger.append_audit(&(0..50).map(|n| entry(AuditKind::DeadRequest, n, now)).collect::<Vec<_>>()).await.unwrap();

    let limits = AuditLimits { retention: Duration::from_hours(24), max_call_bytes: 50_000 };
    let pruner = AuditPruner::new(ledger.clone(), clock, limits, "me", &metrics).unwrap();
    let size = pruner.call_bytes.clone();
    let pruning = tokio::spawn(pruner.run(stop.clone()));
    let mut written = 3_000;
    let small_enough = async {
        while size.get() == 0 || size.get() > 50_000 {
            // Between two pieces, not after the last.
            ledger.append_audit(&[call(written)]).await.unwrap();
            written += 1;
            // A writer that is faster than the pauses of the pruner would hold the size a little above the limit.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), small_enough).await.expect("the calls are pruned");
    stop.cancel();
    pruning.await.unwrap();
    let left = ledger.list_audit(None, None, 10_000).await.unwrap();
    let (calls, others): (Vec<_>, Vec<_>) = left.iter().partition(|stored| stored.entry.kind == AuditKind::Call);
    assert_eq!(others.len(), 50, "entries of other kinds go by their age alone");
    assert!((100..500).contains(&calls.len()), "{}", calls.len());
    assert_eq!(calls[0].entry.action, format!("action-{:05}", written - 1), "the newest are left");
    assert!(metrics.render().unwrap().contains("busbar_audit_pruned_total{cause=\"size\"}"));
}

#[tokio::test(start_paused = true)]
async fn entries_are_pruned_by_age_once_the_clock_is_steady() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
    let start: Timestamp = "2026-11-29T00:00:00Z".parse().unwrap();
    let (clock, stop) = (Clock::starting_at(start), CancellationToken::new());
    let old = start - SignedDuration::from_hours(25);
    let entries: Vec<_> = (0..2_000).map(|n| entry(AuditKind::DeadRequest, n, old)).collect();
    ledger.append_audit(&entries).await.unwrap();
    ledger.append_audit(&[entry(AuditKind::Call, 1, start)]).await.unwrap();
    let limits = AuditLimits { retention: Duration::from_hours(24), max_call_bytes: u64::MAX };
    let pruner = AuditPruner::new(ledger.clone(), clock, limits, "me", &Metrics::new()).unwrap();
    let removed = pruner.pruned.with_label_values(&["age"]);
    let pruning = tokio::spawn(pruner.run(stop.clone()));
    for _ in 0..10_000 {
        // Waits for the ledger's writer, as the pruner does: time, which is stopped, does not outrun it.
        ledger.ping().await.unwrap();
        if removed.get() == 2_000 {
            break;
        }
        assert!(removed.get() == 0 || clock.mono().since(Mono::ZERO) >= Duration::from_mins(10), "not before");
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    let left = ledger.list_audit(None, None, 10_000).await.unwrap();
    assert_eq!(left.iter().map(|stored| stored.entry.kind).collect::<Vec<_>>(), [AuditKind::Call]);
    stop.cancel();
    pruning.await.unwrap();
}

#[tokio::test]
async fn a_replica_without_the_lease_prunes_nothing_until_the_holder_has_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
    let start: Timestamp = "2026-11-29T00:00:00Z".parse().unwrap();
    let clock = Clock::starting_at(start);
    let old = start - SignedDuration::from_hours(25);
    let entries = [entry(AuditKind::DeadRequest, 1, old), entry(AuditKind::Call, 2, old)];
    ledger.append_audit(&entries).await.unwrap();
    let mut other = PruningLease::new(&ledger, clock, LEASE, "other");
    assert!(other.current().await.unwrap().is_some());
    let limits = AuditLimits { retention: Duration::from_hours(24), max_call_bytes: 0 };
    let mut pruner = AuditPruner::new(ledger.clone(), clock, limits, "me", &Metrics::new()).unwrap();
    let before = pruner.oldest(start);
    assert!(before.is_some_and(|before| old < before));
    for _ in 0..3 {
        assert!(!pruner.prune(before, start).await);
        assert_eq!(ledger.list_audit(None, None, 10).await.unwrap().len(), 2, "neither by age nor by size");
    }
    other.release().await;
    assert!(pruner.prune(before, start).await);
    assert!(ledger.list_audit(None, None, 10).await.unwrap().is_empty());
}
