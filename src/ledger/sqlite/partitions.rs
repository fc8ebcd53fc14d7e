//! Streaks of a job's partitions, and the resyncs that were completed.

use rusqlite::params;

use super::codec::{OperationName, get, millis};
use super::connection::Transaction;
use super::database::SqliteLedger;
use crate::domain::key::ObjectKey;
use crate::ledger::error::LedgerError;
use crate::ledger::runs::{MAX_STREAKS, PartitionEnd, PartitionStreak, ResyncEnd, RunEnd, RunResult};

const RESYNC: OperationName = OperationName("reading whether a resync is done");

impl SqliteLedger {
    pub(super) async fn resync_is_done(&self, job: &ObjectKey, id: &str) -> Result<bool, LedgerError> {
        let (job, id) = (job.clone(), id.to_owned());
        self.read(RESYNC, move |tx| {
            tx.scalar(
                "SELECT EXISTS (SELECT 1 FROM sync_resyncs WHERE namespace = ?1 AND job = ?2 AND resync_id = ?3)",
                params![&*job.namespace, &*job.name, id],
            )
        })
        .await
    }
}

/// Counts the ends of a run's partitions. After a run that read all of them, others are no partitions of the job any
/// more, and their streaks end.
pub(super) fn count(tx: &Transaction<'_>, end: &RunEnd) -> Result<(), LedgerError> {
    for partition in &end.partitions {
        count_one(tx, end, partition)?;
    }
    if end.result == RunResult::Succeeded {
        let names: Vec<&str> = end.partitions.iter().map(|partition| partition.name.as_str()).collect();
        let names = serde_json::to_string(&names);
        let names = names.map_err(|_| LedgerError::Corrupt { column: "sync_partitions.partition" })?;
        tx.execute(
            "DELETE FROM sync_partitions WHERE namespace = ?1 AND job = ?2
                 AND partition NOT IN (SELECT value FROM json_each(?3))",
            params![&*end.job.namespace, &*end.job.name, names],
        )?;
    }
    Ok(())
}

fn count_one(tx: &Transaction<'_>, end: &RunEnd, partition: &PartitionEnd) -> Result<(), LedgerError> {
    let key = params![&*end.job.namespace, &*end.job.name, partition.name];
    let stored = tx.query_opt(
        "SELECT partition, failure_streak, empty_streak FROM sync_partitions
         WHERE namespace = ?1 AND job = ?2 AND partition = ?3",
        key,
        streak,
    )?;
    let was_stored = stored.is_some();
    let next = stored.unwrap_or_default().after(partition);
    if next.failure_streak == 0 && next.empty_streak == 0 {
        if was_stored {
            tx.execute("DELETE FROM sync_partitions WHERE namespace = ?1 AND job = ?2 AND partition = ?3", key)?;
        }
        return Ok(());
    }
    tx.execute(
        "INSERT INTO sync_partitions (namespace, job, partition, failure_streak, empty_streak, updated_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (namespace, job, partition) DO UPDATE SET failure_streak = excluded.failure_streak,
             empty_streak = excluded.empty_streak, updated_ms = excluded.updated_ms",
        params![
            &*end.job.namespace,
            &*end.job.name,
            partition.name,
            next.failure_streak,
            next.empty_streak,
            millis(end.at)
        ],
    )?;
    Ok(())
}

/// Records a resync that was completed.
pub(super) fn resync_done(tx: &Transaction<'_>, end: &RunEnd, resync: &ResyncEnd) -> Result<(), LedgerError> {
    if resync.done {
        tx.execute(
            "INSERT INTO sync_resyncs (namespace, job, resync_id, run_id, done_ms) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (namespace, job, resync_id) DO NOTHING",
            params![&*end.job.namespace, &*end.job.name, resync.id, end.id.to_string(), millis(end.at)],
        )?;
    }
    Ok(())
}

/// The partitions with a streak, the longest failure streak first.
pub(super) fn streaks(tx: &Transaction<'_>, job: &ObjectKey) -> Result<Vec<PartitionStreak>, LedgerError> {
    tx.query_all(
        "SELECT partition, failure_streak, empty_streak FROM sync_partitions WHERE namespace = ?1 AND job = ?2
         ORDER BY failure_streak DESC, empty_streak DESC, partition LIMIT ?3",
        params![&*job.namespace, &*job.name, MAX_STREAKS],
        streak,
    )
}

/// The resync that was completed last.
pub(super) fn last_resync(tx: &Transaction<'_>, job: &ObjectKey) -> Result<Option<String>, LedgerError> {
    tx.query_opt(
        "SELECT resync_id FROM sync_resyncs WHERE namespace = ?1 AND job = ?2 ORDER BY done_ms DESC, resync_id LIMIT 1",
        params![&*job.namespace, &*job.name],
        |row| get(row, "resync_id"),
    )
}

fn streak(row: &rusqlite::Row<'_>) -> Result<PartitionStreak, LedgerError> {
    Ok(PartitionStreak {
        name: get(row, "partition")?,
        failure_streak: get(row, "failure_streak")?,
        empty_streak: get(row, "empty_streak")?,
    })
}
