//! Streaks of a job's partitions, and the resyncs that were completed.

use std::collections::HashMap;

use sqlx::postgres::PgRow;

use super::codec::{get, millis, small, text};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::transaction::{Transaction, read_tx};
use crate::domain::key::ObjectKey;
use crate::ledger::error::LedgerError;
use crate::ledger::runs::{MAX_STREAKS, PartitionStreak, ResyncEnd, RunEnd, RunResult};

const RESYNC: OperationName = OperationName("reading whether a resync is done");

impl PostgresLedger {
    pub(super) async fn resync_is_done(&self, job: &ObjectKey, id: &str) -> Result<bool, LedgerError> {
        read_tx!(self, RESYNC, |tx| {
            tx.scalar(
                sqlx::query(
                    "SELECT EXISTS (SELECT 1 FROM sync_resyncs WHERE namespace = $1 AND job = $2 AND resync_id = $3)",
                )
                .bind(&*job.namespace)
                .bind(&*job.name)
                .bind(text(id)),
            )
            .await
        })
    }
}

/// Counts the ends of a run's partitions: all of them in four statements. After a run that read all of them, others are
/// no partitions of the job any more, and their streaks end.
pub(super) async fn count(tx: &mut Transaction, end: &RunEnd) -> Result<(), LedgerError> {
    if end.result == RunResult::Succeeded {
        let names: Vec<String> = end.partitions.iter().map(|partition| text(&partition.name).into_owned()).collect();
        let delete = sqlx::query(
            "DELETE FROM sync_partitions WHERE namespace = $1 AND job = $2 AND partition <> ALL($3::text[])",
        );
        tx.execute(delete.bind(&*end.job.namespace).bind(&*end.job.name).bind(names)).await?;
    }
    if end.partitions.is_empty() {
        return Ok(());
    }
    let (namespace, job) = (&*end.job.namespace, &*end.job.name);
    let stored: HashMap<String, PartitionStreak> = tx
        .fetch_all(
            sqlx::query(
                "SELECT partition, failure_streak, empty_streak FROM sync_partitions WHERE namespace = $1 AND job = $2",
            )
            .bind(namespace)
            .bind(job),
        )
        .await?
        .iter()
        .map(|row| streak(row).map(|streak| (streak.name.clone(), streak)))
        .collect::<Result<_, _>>()?;
    let (mut ended, mut names, mut failures, mut empties) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for partition in &end.partitions {
        let name = text(&partition.name).into_owned();
        let before = stored.get(&name).cloned();
        let was_stored = before.is_some();
        let next = before.unwrap_or_default().after(partition);
        if next.failure_streak > 0 || next.empty_streak > 0 {
            names.push(name);
            failures.push(i64::from(next.failure_streak));
            empties.push(i64::from(next.empty_streak));
        } else if was_stored {
            ended.push(name);
        }
    }
    if !ended.is_empty() {
        let delete =
            sqlx::query("DELETE FROM sync_partitions WHERE namespace = $1 AND job = $2 AND partition = ANY($3)");
        tx.execute(delete.bind(namespace).bind(job).bind(ended)).await?;
    }
    if !names.is_empty() {
        let upsert = sqlx::query(
            "INSERT INTO sync_partitions (namespace, job, partition, failure_streak, empty_streak, updated_ms)
             SELECT $1, $2, n.partition, n.failures, n.empties, $6
             FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS n (partition, failures, empties)
             ON CONFLICT (namespace, job, partition) DO UPDATE SET failure_streak = excluded.failure_streak,
                 empty_streak = excluded.empty_streak, updated_ms = excluded.updated_ms",
        );
        let upsert = upsert.bind(namespace).bind(job).bind(names).bind(failures).bind(empties).bind(millis(end.at));
        tx.execute(upsert).await?;
    }
    Ok(())
}

/// Records a resync that was completed.
pub(super) async fn resync_done(tx: &mut Transaction, end: &RunEnd, resync: &ResyncEnd) -> Result<(), LedgerError> {
    if resync.done {
        let insert = sqlx::query(
            "INSERT INTO sync_resyncs (namespace, job, resync_id, run_id, done_ms) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (namespace, job, resync_id) DO NOTHING",
        );
        let insert = insert.bind(&*end.job.namespace).bind(&*end.job.name).bind(text(&resync.id));
        tx.execute(insert.bind(end.id.to_string()).bind(millis(end.at))).await?;
    }
    Ok(())
}

/// The partitions with a streak, the longest failure streak first.
pub(super) async fn streaks(tx: &mut Transaction, job: &ObjectKey) -> Result<Vec<PartitionStreak>, LedgerError> {
    let select = sqlx::query(
        "SELECT partition, failure_streak, empty_streak FROM sync_partitions WHERE namespace = $1 AND job = $2
         ORDER BY failure_streak DESC, empty_streak DESC, partition LIMIT $3",
    );
    let select = select.bind(&*job.namespace).bind(&*job.name).bind(i64::from(MAX_STREAKS));
    tx.fetch_all(select).await?.iter().map(streak).collect()
}

/// The resync that was completed last.
pub(super) async fn last_resync(tx: &mut Transaction, job: &ObjectKey) -> Result<Option<String>, LedgerError> {
    let select = sqlx::query(
        "SELECT resync_id FROM sync_resyncs WHERE namespace = $1 AND job = $2 ORDER BY done_ms DESC, resync_id LIMIT 1",
    );
    let row = tx.fetch_optional(select.bind(&*job.namespace).bind(&*job.name)).await?;
    row.map(|row| get(&row, "resync_id")).transpose()
}

fn streak(row: &PgRow) -> Result<PartitionStreak, LedgerError> {
    Ok(PartitionStreak {
        name: get(row, "partition")?,
        failure_streak: small(row, "failure_streak")?,
        empty_streak: small(row, "empty_streak")?,
    })
}
