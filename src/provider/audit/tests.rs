//! The queue of audit entries, its refusals and its writer.

use super::*;
use crate::ledger::{self, LedgerUrl, OpenMode};

fn entry(action: &str, allowed: bool) -> AuditEntry {
    AuditEntry {
        at: Clock::system().now().wall,
        kind: AuditKind::Call,
        action: action.into(),
        subject: "ann".into(),
        rights_profile: Some("analysts".into()),
        allowed,
        namespace: "ns".into(),
        connection: "fmp".into(),
        provider: None,
        purpose: None,
        reason: None,
        request_id: None,
        repeats: None,
    }
}

struct Fixture {
    queue: AuditQueue,
    ledger: Arc<dyn Ledger>,
    metrics: Metrics,
    stop: CancellationToken,
    writing: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
        let (stop, metrics) = (CancellationToken::new(), Metrics::new());
        let (queue, writer) = audit_channel(ledger.clone(), Clock::system(), &metrics).unwrap();
        let writing = tokio::spawn(writer.run(stop.clone()));
        Self { queue, ledger, metrics, stop, writing, _dir: dir }
    }

    /// The entries, oldest first, after the writer has ended.
    async fn entries(&mut self) -> Vec<AuditEntry> {
        self.stop.cancel();
        (&mut self.writing).await.unwrap();
        let all = self.ledger.list_audit(None, None, 10_000).await.unwrap();
        all.into_iter().rev().map(|stored| stored.entry).collect()
    }
}

#[tokio::test]
async fn entries_are_written_in_order_and_the_queue_is_drained_at_stop() {
    let mut fixture = Fixture::new().await;
    for n in 0..600 {
        fixture.queue.enqueue(entry(&n.to_string(), true));
    }
    let all = fixture.entries().await;
    assert_eq!(all.len(), 600);
    assert!(all.iter().enumerate().all(|(n, entry)| entry.action == n.to_string()));
}

#[tokio::test]
async fn a_flood_of_refusals_is_a_few_rows_and_drops_no_call_of_others() {
    let mut fixture = Fixture::new().await;
    for n in 0..100_000 {
        fixture.queue.enqueue(entry("quote", false));
        if n % 10_000 == 0 {
            fixture.queue.enqueue(entry("earnings", true));
        }
    }
    let all = fixture.entries().await;
    let (calls, refusals): (Vec<_>, Vec<_>) = all.iter().partition(|entry| entry.allowed);
    assert_eq!((calls.len(), refusals.iter().map(|row| row.count()).sum::<u64>()), (10, 100_000));
    assert!(refusals.len() < 10, "{}", refusals.len());
    let metrics = fixture.metrics.render().unwrap();
    assert!(metrics.contains("busbar_audit_dropped_total 0"), "{metrics}");
}

#[tokio::test]
async fn while_the_ledger_fails_no_namespace_fills_the_queue_for_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
    // Its writer does not run.
    let (queue, writer) = audit_channel(ledger, Clock::system(), &Metrics::new()).unwrap();
    let enqueue = |namespace: usize, connection: usize| {
        let (namespace, connection) = (format!("ns-{namespace}"), format!("bank-{connection}"));
        queue.enqueue(AuditEntry { namespace, connection, ..entry("quote", true) });
    };
    (0..20_000).for_each(|n| enqueue(1, n % 10));
    assert_eq!(queue.dropped.get(), 20_000 - 6_144);
    (0..20_000).for_each(|n| enqueue(2, n % 10));
    let dropped = queue.dropped.get();
    (0..1_000).for_each(|_| enqueue(3, 1));
    assert_eq!(queue.dropped.get(), dropped, "the third has its share of a full queue");
    assert!(writer.receiver.len() <= 2 * QUEUE_LIMITS.total, "{}", writer.receiver.len());
}

#[tokio::test]
async fn a_refusal_is_written_within_its_window_without_a_stop() {
    let mut fixture = Fixture::new().await;
    fixture.queue.enqueue(entry("quote", false));
    let written = async {
        while fixture.ledger.list_audit(None, None, 10).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), written).await.expect("the refusal is written");
    assert_eq!(fixture.entries().await.len(), 1);
}

#[tokio::test]
async fn refusals_beyond_a_callers_rows_are_counted_in_one_row_and_in_the_metric() {
    let mut fixture = Fixture::new().await;
    for n in 0..5_000 {
        fixture.queue.enqueue(entry(&format!("purpose-{n}"), false));
    }
    let all = fixture.entries().await;
    assert!(all.len() < 100, "{}", all.len());
    let others = all.iter().filter(|row| row.action == refusals::OTHER_REFUSALS).map(AuditEntry::count);
    assert_eq!(others.sum::<u64>() + u64::try_from(all.len()).unwrap() - 1, 5_000);
    let metrics = fixture.metrics.render().unwrap();
    assert!(metrics.contains("busbar_audit_refusals_omitted_total{limit=\"caller\"} 49"), "{metrics}");
}

#[tokio::test]
async fn errors_of_an_outage_take_no_rows_of_refusals() {
    let mut fixture = Fixture::new().await;
    let request = |n: usize| AuditEntry {
        kind: AuditKind::Request,
        subject: format!("caller-{n}"),
        namespace: String::new(),
        connection: String::new(),
        ..entry("POST /api/treasury/routing/decide", true)
    };
    // More callers than all errors have rows.
    (0..5_000).for_each(|n| fixture.queue.enqueue(request(n)));
    (0..100)
        .for_each(|n| fixture.queue.enqueue(AuditEntry { subject: format!("caller-{n}"), ..entry("quote", false) }));
    let all = fixture.entries().await;
    let denied: Vec<_> = all.iter().filter(|row| !row.allowed).collect();
    assert_eq!(denied.len(), 100, "each denial has its row");
    assert!(all.len() < 1_000, "{}", all.len());
    let metrics = fixture.metrics.render().unwrap();
    assert!(!metrics.contains("busbar_audit_refusals_omitted_total{limit=\"errors\"} 0"), "{metrics}");
    assert!(metrics.contains("busbar_audit_refusals_omitted_total{limit=\"total\"} 0"), "{metrics}");
}
