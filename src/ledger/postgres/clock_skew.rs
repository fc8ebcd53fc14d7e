//! Corrects rows that were written while the wall clock was ahead: their instants become `now`.
//!
//! Made once, in the store, by whatever reads or changes the rows next (docs/adr/0009).

use jiff::{SignedDuration, Timestamp};
use sqlx::query;

use super::codec::{millis, to_i64};
use super::transaction::Transaction;
use crate::domain::clock_skew::TOLERANCE;
use crate::domain::key::ObjectKey;
use crate::ledger::dead_requests::MAX_RETRY_DELAY;
use crate::ledger::error::LedgerError;
use crate::ledger::runs::RunStart;

/// The latest instant, in milliseconds, that a correct clock could have written.
pub(super) fn latest_millis(now: Timestamp) -> i64 {
    millis(now.checked_add(TOLERANCE).unwrap_or(Timestamp::MAX))
}

/// Corrects a job and its runs.
pub(super) async fn correct_job(tx: &mut Transaction, job: &ObjectKey, now: Timestamp) -> Result<(), LedgerError> {
    correct(tx, job, now, now).await
}

/// Corrects the job of a run that is about to be recorded. A slot of the future says nothing about the run's own.
pub(super) async fn correct_job_of(tx: &mut Transaction, run: &RunStart) -> Result<(), LedgerError> {
    let before = run.slot.and_then(|slot| slot.checked_sub(SignedDuration::from_millis(1)).ok());
    correct(tx, &run.job, run.at, before.map_or(run.at, |before| before.min(run.at))).await
}

async fn correct(
    tx: &mut Transaction,
    job: &ObjectKey,
    now: Timestamp,
    last_slot: Timestamp,
) -> Result<(), LedgerError> {
    // NULL is neither above nor below: it stays.
    let statement = query(
        "UPDATE sync_jobs SET last_slot_ms = CASE WHEN last_slot_ms > $4 THEN $5 ELSE last_slot_ms END,
             last_success_ms = CASE WHEN last_success_ms > $3 THEN $3 ELSE last_success_ms END
         WHERE namespace = $1 AND job = $2 AND (last_slot_ms > $4 OR last_success_ms > $4)",
    );
    let (namespace, name, latest) = (&*job.namespace, &*job.name, latest_millis(now));
    let statement = statement.bind(namespace).bind(name).bind(millis(now)).bind(latest).bind(millis(last_slot));
    tx.execute(statement).await?;
    let statement = query(
        "UPDATE sync_runs SET slot_ms = CASE WHEN slot_ms > $3 THEN $3 ELSE slot_ms END,
             started_ms = CASE WHEN started_ms > $3 THEN $3 ELSE started_ms END,
             ended_ms = CASE WHEN ended_ms > $3 THEN $3 ELSE ended_ms END
         WHERE namespace = $1 AND job = $2 AND (slot_ms > $4 OR started_ms > $4 OR ended_ms > $4)",
    );
    tx.execute(statement.bind(namespace).bind(name).bind(millis(now)).bind(latest)).await.map(drop)
}

/// Whether a dead request must be corrected. Each condition is one search of an index.
pub(super) async fn dead_requests_are_ahead(tx: &mut Transaction, now: Timestamp) -> Result<bool, LedgerError> {
    let statement = query(
        "SELECT EXISTS (SELECT 1 FROM dead_requests WHERE state = 'pending' AND updated_ms > $1)
             OR EXISTS (SELECT 1 FROM dead_requests WHERE state = 'parked' AND updated_ms > $1)
             OR EXISTS (SELECT 1 FROM dead_requests WHERE state = 'done' AND updated_ms > $1)
             OR EXISTS (SELECT 1 FROM dead_requests WHERE state = 'pending' AND next_ms > $1 + $2)",
    );
    tx.scalar(statement.bind(latest_millis(now)).bind(max_retry_delay())).await
}

/// Corrects all dead requests. A retry keeps its distance from the last change.
pub(super) async fn correct_dead_requests(tx: &mut Transaction, now: Timestamp) -> Result<(), LedgerError> {
    let statement = query(
        "UPDATE dead_requests SET
             next_ms = CASE WHEN next_ms IS NOT NULL
                 THEN least(next_ms - greatest(updated_ms - $1, 0), $1 + $3) END,
             created_ms = least(created_ms, $1), reviewed_ms = least(reviewed_ms, $1),
             updated_ms = least(updated_ms, $1)
         WHERE updated_ms > $2 OR created_ms > $2 OR reviewed_ms > $2 OR next_ms > $2 + $3",
    );
    tx.execute(statement.bind(millis(now)).bind(latest_millis(now)).bind(max_retry_delay())).await.map(drop)
}

fn max_retry_delay() -> i64 {
    to_i64(u64::try_from(MAX_RETRY_DELAY.as_millis()).unwrap_or(u64::MAX))
}
