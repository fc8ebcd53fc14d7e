//! Crashes: a run that is dropped after any number of its steps, again and again, ends in the same table as one that
//! never was.

use std::task::Poll;

use proptest::prelude::*;

use super::*;

/// Drops the run after its `steps`th wake-up: between two pages, in a fetch, in the middle of a transaction.
/// Returns whether it ended before.
async fn crashed(world: &World, plan: &SyncPlan, mut steps: usize) -> bool {
    let mut running = Box::pin(world.run(plan));
    // Polled only when something happened, so that each step is one.
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

async fn exact(world: &World, plan: &SyncPlan) {
    assert_eq!(world.table().await, world.bank.table());
    let rows = world.rows().await;
    assert!(rows.iter().all(|row| row.revision == 1), "a page read twice changed no row");
    let history = world.ledger.job_history(&plan.job, 1000).await.unwrap();
    let inserted: u64 = history.last.iter().map(|run| run.counts.inserted).sum();
    assert_eq!(inserted, rows.len() as u64, "killed runs count exactly what they committed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_crashes_yields_the_table_of_no_crash(
        rows in 1usize..90,
        size in 1u64..25,
        crashes in prop::collection::vec(0usize..60, 0..12),
    ) {
        in_runtime(async {
            let world = World::new(Bank::with(rows)).await;
            let plan = plan(size);
            for steps in crashes {
                crashed(&world, &plan, steps).await;
            }
            assert_eq!(world.run(&plan).await.result, RunResult::Succeeded);
            exact(&world, &plan).await;
        });
    }

    #[test]
    fn new_rows_between_crashes_are_neither_lost_nor_doubled(
        size in 1u64..9,
        crashes in prop::collection::vec((0usize..60, 0usize..4), 1..8),
    ) {
        in_runtime(async {
            let world = World::new(Bank::with(40)).await;
            let plan = plan(size);
            for (steps, new) in crashes {
                crashed(&world, &plan, steps).await;
                world.bank.add(new);
            }
            assert_eq!(world.run(&plan).await.result, RunResult::Succeeded);
            exact(&world, &plan).await;
        });
    }
}

#[tokio::test]
async fn a_writer_that_was_frozen_past_its_lease_cannot_write_when_it_wakes() {
    let world = World::new(Bank::with(50)).await;
    let plan = plan(10);
    let thaw = Arc::new(tokio::sync::Notify::new());
    world.bank.configure(|config| config.stall = Some((4, thaw.clone())));
    let mut frozen = Box::pin(world.run(&plan));
    // Until it waits for its fourth page.
    while world.rows().await.len() < 30 {
        let ended = futures::future::poll_fn(|cx| Poll::Ready(frozen.as_mut().poll(cx).is_ready())).await;
        assert!(!ended);
        tokio::task::yield_now().await;
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
        assert!(futures::future::poll_fn(|cx| Poll::Ready(frozen.as_mut().poll(cx).is_pending())).await);
    }
    let other = world.run(&plan).await;
    assert_eq!(other.result, RunResult::Succeeded);
    let before = world.ledger.load_state(&plan.job_key(&plan.partitions[0])).await.unwrap();
    thaw.notify_one();
    let woken = frozen.await;
    assert_eq!((woken.result, woken.reason.unwrap().as_str()), (RunResult::Cancelled, "LeaseLost"));
    assert_eq!(world.ledger.load_state(&plan.job_key(&plan.partitions[0])).await.unwrap(), before);
    assert_eq!(world.table().await, world.bank.table());
}
