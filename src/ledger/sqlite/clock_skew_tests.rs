//! Runs that an older version recorded, by times that may have been ahead.

use super::database::SqliteLedger;
use super::migrations::MIGRATIONS;
use super::tests::{execute, new_ledger};
use crate::domain::run_failure::RunFailure;
use crate::ledger::contract::{TTL, at, books, run_id};
use crate::ledger::lease::{Lease, LeaseStore as _};
use crate::ledger::runs::{RunCounts, RunEnd, RunResult, RunStart, RunTrigger};
use crate::ledger::store::Ledger as _;

/// The lease, if it is free.
async fn take(ledger: &SqliteLedger, name: &str, holder: &str, now: i64) -> Option<Lease> {
    ledger.acquire_lease(name, holder, TTL, at(now), None).await.unwrap().acquired()
}

async fn run(ledger: &SqliteLedger, n: u128, now: i64, result: RunResult) -> bool {
    let lease = take(ledger, "books", "me", now).await.unwrap();
    let (id, job, slot) = (run_id(n), books(), Some(at(now)));
    let (trigger, events) = (RunTrigger::Schedule, Vec::new());
    let start = RunStart { id, job: job.clone(), trigger, slot, dry_run: false, events, at: at(now) };
    let started = ledger.start_run(&start, &lease).await.unwrap();
    let (failure, counts) = (RunFailure::default(), RunCounts::default());
    let (partitions, events) = (Vec::new(), Vec::new());
    let end = RunEnd { id, job, result, reason: None, failure, counts, partitions, resync: None, events, at: at(now) };
    ledger.finish_run(&end).await.unwrap();
    started
}

#[tokio::test]
async fn runs_of_an_older_schema_are_numbered_in_the_order_of_their_starts() {
    let (_store, ledger) = new_ledger().await;
    for (n, now) in [(4, 10), (2, 20), (6, 30)] {
        assert!(run(&ledger, n, now, RunResult::Succeeded).await);
    }
    // As the version before wrote them, and as the migration numbers them.
    execute(&ledger, "UPDATE sync_runs SET seq = 0").await.unwrap();
    let migration = MIGRATIONS.iter().find(|m| m.description == "run order").unwrap();
    let numbering = migration.sql.split(';').find(|sql| sql.trim().starts_with("UPDATE")).unwrap();
    execute(&ledger, numbering).await.unwrap();
    assert!(run(&ledger, 1, 40, RunResult::Succeeded).await);
    let history = ledger.job_history(&books(), 10, at(50)).await.unwrap();
    assert_eq!(history.last.iter().map(|run| run.id).collect::<Vec<_>>(), [1, 6, 2, 4].map(run_id));
}
