//! The log of health checks.

use std::time::Duration;

use super::OpenLedger;
use super::fixtures::{at, take_named};
use crate::domain::key::ObjectKey;
use crate::ledger::probes::ProbeResult;
use crate::ledger::store::{Ledger, OpenMode};

const HOUR: i64 = 3600;

fn result(name: &str, seconds: i64, status: Option<u16>) -> ProbeResult {
    ProbeResult {
        connection: ObjectKey::new("team", name),
        at: at(seconds),
        elapsed: Duration::from_micros(1_234),
        success: status == Some(200),
        slow: name == "b",
        status,
        error: status.is_none().then_some("timeout"),
    }
}

async fn stored(ledger: &dyn Ledger, name: &str) -> usize {
    ledger.last_probes(&ObjectKey::new("team", name), 1_000).await.unwrap().len()
}

pub(crate) async fn results_are_listed_newest_first_per_connection(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let first = [result("a", 1, Some(200)), result("b", 1, Some(503)), result("a", 31, None)];
    ledger.record_probes(&first).await.unwrap();
    ledger.record_probes(&[result("a", 61, Some(200))]).await.unwrap();
    ledger.record_probes(&[]).await.unwrap();
    ledger.close().await;
    let ledger = store.open(OpenMode::ReadOnly).await.unwrap();
    let last = ledger.last_probes(&ObjectKey::new("team", "a"), 2).await.unwrap();
    let seen: Vec<_> = last.iter().map(|p| (p.at, p.success, p.status, p.error.as_deref())).collect();
    assert_eq!(seen, [(at(61), true, Some(200), None), (at(31), false, None, Some("timeout"))]);
    assert_eq!(last[0].elapsed, Duration::from_micros(1_234));
    let last = ledger.last_probes(&ObjectKey::new("team", "b"), 9).await.unwrap();
    assert_eq!((last.len(), last[0].slow, last[0].status), (1, true, Some(503)));
    assert_eq!(ledger.last_probes(&ObjectKey::new("team", "c"), 9).await.unwrap(), []);
    assert_eq!(ledger.last_probes(&ObjectKey::new("other", "a"), 9).await.unwrap(), []);
}

pub(crate) async fn old_results_are_pruned_in_batches(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let old: Vec<_> = (0..250).map(|n| result("idle", n, Some(200))).collect();
    ledger.record_probes(&old).await.unwrap();
    let new: Vec<_> = (0..50).map(|n| result("a", 24 * HOUR + n, Some(200))).collect();
    ledger.record_probes(&new).await.unwrap();
    let lease = take_named(&*ledger, "probe-pruning", "me", at(0)).await;
    for (deleted, remaining) in [(100, 150), (100, 50), (50, 0), (0, 0)] {
        assert_eq!(ledger.prune_probes(&lease, at(23 * HOUR), 100, at(25 * HOUR)).await.unwrap(), deleted);
        assert_eq!((stored(&*ledger, "idle").await, stored(&*ledger, "a").await), (remaining, 50));
    }
}

pub(crate) async fn a_connection_with_regular_checks_keeps_its_newest_result(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    for hour in 24..30 {
        ledger.record_probes(&[result("a", hour * HOUR, Some(200))]).await.unwrap();
    }
    let lease = take_named(&*ledger, "probe-pruning", "me", at(0)).await;
    ledger.prune_probes(&lease, at(29 * HOUR), 100, at(30 * HOUR)).await.unwrap();
    assert_eq!(stored(&*ledger, "a").await, 1);
}
