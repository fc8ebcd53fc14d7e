//! Crash tests: runs dropped after any number of steps end with the same table as an uninterrupted run.

use std::task::Poll;

use proptest::prelude::*;

use super::*;

/// Runs until wake-up number `steps`, then drops the run: between pages, in a fetch, in the middle of a transaction.
/// Returns whether it ended before.
async fn crash_after(harness: &SyncHarness, plan: &SyncPlan, mut steps: usize) -> bool {
    let mut running = Box::pin(harness.run(plan));
    // Polled only on wake-up, so that each poll is one step.
    futures::future::poll_fn(|cx| match running.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if steps == 0 => Poll::Ready(false),
        Poll::Pending => {
            steps -= 1;
            Poll::Pending
        }
    })
    .await
}

fn in_runtime(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

async fn assert_exact(harness: &SyncHarness, plan: &SyncPlan) {
    assert_eq!(harness.table().await, harness.bank.table());
    let rows = harness.rows().await;
    assert!(rows.iter().all(|row| row.revision == 1), "a page read twice changed no row");
    let history = harness.ledger.job_history(&plan.job, 1000, harness.now()).await.unwrap();
    let inserted: u64 = history.last.iter().map(|run| run.counts.inserted).sum();
    assert_eq!(inserted, rows.len() as u64, "killed runs count exactly what they committed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_crashes_ends_with_the_same_table(
        rows in 1usize..90,
        size in 1u64..25,
        crashes in prop::collection::vec(0usize..60, 0..12),
    ) {
        in_runtime(async {
            let harness = SyncHarness::new(ScriptedBank::with(rows)).await;
            let plan = plan(size);
            for steps in crashes {
                crash_after(&harness, &plan, steps).await;
            }
            assert_eq!(harness.run(&plan).await.result, RunResult::Succeeded);
            assert_exact(&harness, &plan).await;
        });
    }

    #[test]
    fn new_rows_between_crashes_are_neither_lost_nor_duplicated(
        size in 1u64..9,
        crashes in prop::collection::vec((0usize..60, 0usize..4), 1..8),
    ) {
        in_runtime(async {
            let harness = SyncHarness::new(ScriptedBank::with(40)).await;
            let plan = plan(size);
            for (steps, new) in crashes {
                crash_after(&harness, &plan, steps).await;
                harness.bank.add(new);
            }
            assert_eq!(harness.run(&plan).await.result, RunResult::Succeeded);
            assert_exact(&harness, &plan).await;
        });
    }
}

#[tokio::test]
async fn a_crash_costs_at_most_the_pages_of_a_group_and_the_one_in_flight() {
    for served in [1, 5, 15, 16, 17, 18, 29] {
        let harness = SyncHarness::new(ScriptedBank::with(60)).await;
        let plan = plan(2);
        let mut running = Box::pin(harness.run(&plan));
        while harness.bank.pages_served() < served {
            assert!(futures::future::poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx).is_pending())).await);
            tokio::task::yield_now().await;
        }
        drop(running);
        // After a transaction that was begun.
        harness.ledger.ping().await.unwrap();
        let stored = harness.rows().await.len();
        assert_eq!(stored % 2, 0, "whole pages");
        assert!(stored / 2 + 17 >= served, "{served} pages were requested, {stored} rows are stored");
        assert_eq!(harness.run(&plan).await.result, RunResult::Succeeded);
        assert_exact(&harness, &plan).await;
    }
}

#[tokio::test]
async fn a_writer_frozen_past_its_lease_cannot_write_when_it_resumes() {
    let harness = SyncHarness::new(ScriptedBank::with(50)).await;
    let plan = plan(10);
    let resume = Arc::new(tokio::sync::Notify::new());
    harness.bank.configure(|config| config.stall = Some((4, resume.clone())));
    let mut frozen = Box::pin(harness.run(&plan));
    // Until it waits for its fourth page.
    while harness.rows().await.len() < 30 {
        let ended = futures::future::poll_fn(|cx| Poll::Ready(frozen.as_mut().poll(cx).is_ready())).await;
        assert!(!ended);
        tokio::task::yield_now().await;
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
        assert!(futures::future::poll_fn(|cx| Poll::Ready(frozen.as_mut().poll(cx).is_pending())).await);
    }
    let other = harness.run(&plan).await;
    assert_eq!(other.result, RunResult::Succeeded);
    let before = harness.stored_cursor(&plan).await;
    resume.notify_one();
    let resumed = frozen.await;
    assert_eq!((resumed.result, resumed.reason.unwrap().as_str()), (RunResult::Cancelled, "LeaseLost"));
    assert_eq!(harness.stored_cursor(&plan).await, before);
    assert_eq!(harness.table().await, harness.bank.table());
}
