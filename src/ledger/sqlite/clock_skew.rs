//! Corrects rows that were written while the wall clock was ahead: their instants become `now`.
//!
//! Made once, in the store, by whatever reads or changes the rows next. A correction in memory alone would move with
//! the clock: a run that "has just started" at every look is never followed by another.

use jiff::{SignedDuration, Timestamp};
use rusqlite::params;

use super::codec::{millis, to_i64};
use super::connection::Transaction;
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
pub(super) fn correct_job(tx: &Transaction<'_>, job: &ObjectKey, now: Timestamp) -> Result<(), LedgerError> {
    correct(tx, job, now, now)
}

/// Corrects the job of a run that is about to be recorded. A slot of the future says nothing about the run's own.
pub(super) fn correct_job_of(tx: &Transaction<'_>, run: &RunStart) -> Result<(), LedgerError> {
    let before = run.slot.and_then(|slot| slot.checked_sub(SignedDuration::from_millis(1)).ok());
    correct(tx, &run.job, run.at, before.map_or(run.at, |before| before.min(run.at)))
}

fn correct(tx: &Transaction<'_>, job: &ObjectKey, now: Timestamp, last_slot: Timestamp) -> Result<(), LedgerError> {
    let (namespace, name, latest) = (&*job.namespace, &*job.name, latest_millis(now));
    tx.execute(
        "UPDATE sync_jobs SET last_slot_ms = CASE WHEN last_slot_ms > ?4 THEN ?5 ELSE last_slot_ms END,
             last_success_ms = min(last_success_ms, ?3)
         WHERE namespace = ?1 AND job = ?2 AND (last_slot_ms > ?4 OR last_success_ms > ?4)",
        params![namespace, name, millis(now), latest, millis(last_slot)],
    )?;
    tx.execute(
        "UPDATE sync_runs SET slot_ms = min(slot_ms, ?3), started_ms = min(started_ms, ?3), ended_ms = min(ended_ms, ?3)
         WHERE namespace = ?1 AND job = ?2 AND (slot_ms > ?4 OR started_ms > ?4 OR ended_ms > ?4)",
        params![namespace, name, millis(now), latest],
    )?;
    Ok(())
}

/// Whether a dead request must be corrected. Each condition is one search of an index.
pub(super) fn dead_requests_are_ahead(tx: &Transaction<'_>, now: Timestamp) -> Result<bool, LedgerError> {
    tx.scalar(
        "SELECT EXISTS (SELECT 1 FROM dead_requests WHERE state = 'pending' AND updated_ms > ?1)
             OR EXISTS (SELECT 1 FROM dead_requests WHERE state = 'parked' AND updated_ms > ?1)
             OR EXISTS (SELECT 1 FROM dead_requests WHERE state = 'done' AND updated_ms > ?1)
             OR EXISTS (SELECT 1 FROM dead_requests WHERE state = 'pending' AND next_ms > ?1 + ?2)",
        [latest_millis(now), max_retry_delay()],
    )
}

/// Corrects all dead requests. A retry keeps its distance from the last change.
pub(super) fn correct_dead_requests(tx: &Transaction<'_>, now: Timestamp) -> Result<(), LedgerError> {
    tx.execute(
        "UPDATE dead_requests SET
             next_ms = min(next_ms - max(updated_ms - ?1, 0), ?1 + ?3),
             created_ms = min(created_ms, ?1), reviewed_ms = min(reviewed_ms, ?1), updated_ms = min(updated_ms, ?1)
         WHERE updated_ms > ?2 OR created_ms > ?2 OR reviewed_ms > ?2 OR next_ms > ?2 + ?3",
        [millis(now), latest_millis(now), max_retry_delay()],
    )?;
    Ok(())
}

fn max_retry_delay() -> i64 {
    to_i64(u64::try_from(MAX_RETRY_DELAY.as_millis()).unwrap_or(u64::MAX))
}
