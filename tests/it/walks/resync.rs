//! Resyncs: a range that is read again once, with a cursor of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use busbar::domain::run_reason::RunReason;
use busbar::ledger::RunResult;
use busbar::sync::{ResyncPlan, SyncPlan};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::complete;
use crate::kit::walk_bank::{Answer, Seen, WalkBank, page, record, status};

const ROWS: &str = "record: document, records: [/data], key: /id, time: {pointer: /at}, order: oldestFirst, window: {from: since, to: until, format: '%Y-%m-%dT%H:%M:%SZ', initial: 87600h, lookback: 0s}, pagination: {kind: token, from: {kind: body, pointers: [/next]}, to: {kind: query, parameter: after}}";

/// The records of the window of the request, one a page.
fn windowed(seen: &Seen, count: u64) -> Answer {
    let (since, until): (Timestamp, Timestamp) =
        (seen.query("since").parse().unwrap(), seen.query("until").parse().unwrap());
    let mut all: Vec<Value> = (0..count).map(record).collect();
    all.retain(|record| (since..=until).contains(&record["at"].as_str().unwrap().parse().unwrap()));
    let n: usize = seen.query("after").parse().unwrap_or(0);
    let next = (n + 1 < all.len()).then(|| (n + 1).to_string());
    page(json!({"data": all.get(n).cloned().into_iter().collect::<Vec<_>>(), "next": next}))
}

fn resync(plan: &SyncPlan, id: &str, from: &str, to: &str) -> SyncPlan {
    let at = |text: &str| text.parse().unwrap();
    let resync = ResyncPlan { id: id.into(), from: at(from), to: at(to), partitions: Vec::new() };
    SyncPlan { resync: Some(resync), ..plan.clone() }
}

async fn mark(bank: &WalkBank) -> Option<String> {
    bank.sync.pool.view(&bank.plan.job, 1).await.unwrap().cursor_preview
}

#[tokio::test]
async fn a_resync_reads_its_range_once_and_leaves_the_mark_where_it_is() {
    let bank = WalkBank::start(ROWS, |seen| windowed(seen, 8)).await;
    assert_eq!(bank.end().await, complete(8));
    let before = mark(&bank).await;
    assert_eq!(before.as_deref(), record(7)["at"].as_str());
    bank.forget();
    let plan = resync(&bank.plan, "fix-1", "2026-09-01T06:00:00Z", "2026-09-01T18:00:00Z");
    let run = bank.record_of(&plan).await;
    assert_eq!((run.result, run.counts.fetched, run.counts.unchanged), (Some(RunResult::Succeeded), 3, 3));
    assert_eq!(bank.requests()[0].query("since"), "2026-09-01T06:00:00Z");
    assert_eq!(bank.requests()[0].query("until"), "2026-09-01T18:00:00Z");
    assert_eq!(mark(&bank).await, before);
    // The same ID again reads nothing, whatever its range says; another one does.
    bank.forget();
    assert_eq!(bank.end_of(&plan).await, complete(8));
    assert_eq!(
        bank.end_of(&resync(&bank.plan, "fix-1", "2026-09-01T00:00:00Z", "2026-09-02T00:00:00Z")).await,
        complete(8)
    );
    assert!(bank.requests().is_empty());
    assert_eq!(
        bank.record_of(&resync(&bank.plan, "fix-2", "2026-09-01T00:00:00Z", "2026-09-02T00:00:00Z"))
            .await
            .counts
            .fetched,
        5
    );
}

#[tokio::test]
async fn a_resync_that_is_interrupted_goes_on_beside_the_incremental_windows() {
    let (broken, count) = (Arc::new(AtomicU64::new(99)), Arc::new(AtomicU64::new(8)));
    let bank = WalkBank::start(ROWS, {
        let (broken, count) = (Arc::clone(&broken), Arc::clone(&count));
        move |seen| {
            let is_resync = seen.query("until") == "2026-09-02T18:00:00Z";
            if is_resync && seen.query("after") == broken.load(Ordering::Relaxed).to_string() {
                return status(503, json!({}));
            }
            windowed(seen, count.load(Ordering::Relaxed))
        }
    })
    .await;
    assert_eq!(bank.end().await, complete(8));
    let plan = resync(&bank.plan, "fix", "2026-09-01T00:00:00Z", "2026-09-02T18:00:00Z");
    broken.store(5, Ordering::Relaxed);
    let run = bank.record_of(&plan).await;
    assert_eq!((run.result, run.reason), (Some(RunResult::Failed), Some(RunReason::ProviderError)));
    assert_eq!(run.failure.resync.as_deref(), Some("fix"), "after a restart, another one need not wait for its pauses");
    // The incremental runs go on meanwhile, each from its own mark.
    count.store(10, Ordering::Relaxed);
    bank.forget();
    assert_eq!(bank.end().await, complete(10));
    assert_eq!(bank.requests()[0].query("since"), record(7)["at"].as_str().unwrap());
    let after_incremental = mark(&bank).await;
    broken.store(99, Ordering::Relaxed);
    bank.forget();
    assert_eq!(bank.end_of(&plan).await, complete(10));
    assert_eq!(bank.requested("after"), ["5", "6", "7"], "it goes on where it was");
    assert_eq!(mark(&bank).await, after_incremental);
}

#[tokio::test]
async fn a_resync_before_the_first_start_and_beyond_today_reads_what_there_is() {
    let bank = WalkBank::start(ROWS, |seen| windowed(seen, 8)).await;
    let mut plan = bank.plan.clone();
    plan.start = Some("2026-09-02T00:00:00Z".parse().unwrap());
    assert_eq!(bank.end_of(&plan).await, complete(4));
    let before = mark(&bank).await;
    bank.forget();
    assert_eq!(bank.end_of(&resync(&plan, "all", "2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z")).await, complete(8));
    assert_eq!(bank.requests()[0].query("since"), "2026-01-01T00:00:00Z");
    let until: Timestamp = bank.requests()[0].query("until").parse().unwrap();
    assert!(until <= crate::kit::time::now());
    assert_eq!(mark(&bank).await, before);
    // An empty or reversed range reads nothing that is not there.
    let reversed = resync(&plan, "reversed", "2026-09-02T00:00:00Z", "2026-09-01T00:00:00Z");
    assert_eq!(bank.end_of(&reversed).await, complete(8));
}

#[tokio::test]
async fn a_resync_of_some_partitions_reads_only_those() {
    let fields = format!(
        "parameters: {{account: {{summary: The account, required: true}}}}, query: {{account: '{{account}}'}}, {ROWS}"
    );
    let mut bank = WalkBank::start(&fields, |seen| windowed(seen, 4)).await;
    let partition = |name: &str| busbar::sync::Partition {
        name: name.into(),
        parameters: [("account".to_owned(), name.to_owned())].into(),
    };
    bank.plan.partitions = ["a", "b", "c"].map(partition).into();
    assert_eq!(bank.end().await, complete(12));
    bank.forget();
    let mut plan = resync(&bank.plan, "two", "2026-09-01T00:00:00Z", "2026-09-01T12:00:00Z");
    plan.resync.as_mut().unwrap().partitions = vec!["a".into(), "c".into()];
    let run = bank.record_of(&plan).await;
    assert_eq!((run.result, run.counts.fetched), (Some(RunResult::Succeeded), 6));
    let accounts: Vec<_> = bank.requested("account");
    assert_eq!(accounts, ["a", "a", "a", "c", "c", "c"]);
}
