//! Closes rows: transactions that a booked one replaced, and records that the provider withdrew. No row vanishes.

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};

use super::codec::get;
use super::rows::{PageStamp, stored_rows};
use super::transaction::Transaction;
use crate::domain::event::{ChangedRow, RowChange};
use crate::domain::record::RowStatus;
use crate::domain::records::{PendingSnapshot, RemovedKey, Table};
use crate::domain::row_batch::{RowBatch, TRANSACTIONS, tables};
use crate::ledger::error::LedgerError;

/// Remembers which records were withdrawn, while a dead letter of the stream may be replayed: there may be no row that says
/// it.
const REMEMBER: &str = "INSERT INTO withdrawn_records (stream_id, record_key, account_token, withdrawn_ms)
     SELECT DISTINCT $1::bigint, p.key, p.account, $4::bigint FROM unnest($2::text[], $3::text[]) AS p (account, key)
     WHERE EXISTS (SELECT 1 FROM dead_letters WHERE stream_id = $1 AND resolved_ms IS NULL)
     ON CONFLICT (stream_id, record_key, account_token) DO UPDATE SET withdrawn_ms = excluded.withdrawn_ms";

/// Closed rows, as they are stored now.
#[derive(Default)]
pub(super) struct Closed(Vec<ClosedRow>);

struct ClosedRow {
    batch: RowBatch,
    change: RowChange,
    revision: i64,
}

/// A row to close.
struct OpenRow {
    id: i64,
    revision: i64,
    hash: Vec<u8>,
}

impl Closed {
    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = ChangedRow<'_>> {
        self.0.iter().flat_map(|closed| {
            let change = |row| ChangedRow { change: closed.change, revision: closed.revision, row };
            closed.batch.rows().map(change)
        })
    }

    /// Closes the pending transactions that these rows name as replaced, and those of these rows that a stored booked one
    /// names: it may have been listed on an earlier page.
    pub(super) async fn supersede(
        &mut self,
        tx: &mut Transaction,
        stamp: &PageStamp,
        batches: &[RowBatch],
    ) -> Result<(), LedgerError> {
        let (mut accounts, mut keys) = (Vec::new(), Vec::new());
        let (mut pending_accounts, mut pending_keys) = (Vec::new(), Vec::new());
        let transactions = batches.iter().filter(|batch| batch.table().name == TRANSACTIONS.name);
        for row in transactions.flat_map(RowBatch::rows) {
            if row.get("status").as_text() == Some(RowStatus::Pending.as_str()) {
                pending_accounts.push(row.account_token());
                pending_keys.push(row.key());
            } else if let Some(replaced) = row.get("supersedes").as_text() {
                accounts.push(row.account_token());
                keys.push(replaced);
            }
        }
        self.supersede_named(tx, stamp, accounts, keys).await?;
        if pending_keys.is_empty() {
            return Ok(());
        }
        let statement = query(
            "SELECT t.id, t.revision, t.content_hash FROM unnest($2::text[], $3::text[]) AS p (account, key)
             CROSS JOIN LATERAL (
                 SELECT x.id, x.revision, x.content_hash, x.status FROM transactions x
                 WHERE x.stream_id = $1 AND x.account_token = p.account AND x.record_key = p.key LIMIT 1) t
             WHERE t.status = 'pending' AND EXISTS (
                 SELECT 1 FROM transactions b WHERE b.stream_id = $1 AND b.account_token = p.account
                     AND b.supersedes = p.key AND b.status = 'booked')",
        );
        let open = tx.fetch_all(statement.bind(stamp.stream_id).bind(pending_accounts).bind(pending_keys)).await?;
        self.close(tx, stamp, &TRANSACTIONS, &open, RowChange::Updated).await
    }

    async fn supersede_named(
        &mut self,
        tx: &mut Transaction,
        stamp: &PageStamp,
        accounts: Vec<&str>,
        keys: Vec<&str>,
    ) -> Result<(), LedgerError> {
        if keys.is_empty() {
            return Ok(());
        }
        let statement = query(
            "SELECT DISTINCT t.id, t.revision, t.content_hash FROM unnest($2::text[], $3::text[]) AS p (account, key)
             CROSS JOIN LATERAL (
                 SELECT x.id, x.revision, x.content_hash, x.status FROM transactions x
                 WHERE x.stream_id = $1 AND x.account_token = p.account AND x.record_key = p.key LIMIT 1) t
             WHERE t.status = 'pending'",
        );
        let open = tx.fetch_all(statement.bind(stamp.stream_id).bind(accounts).bind(keys)).await?;
        self.close(tx, stamp, &TRANSACTIONS, &open, RowChange::Updated).await
    }

    /// Closes the pending transactions of an account that are not in the snapshot.
    pub(super) async fn keep_pending(
        &mut self,
        tx: &mut Transaction,
        stamp: &PageStamp,
        snapshot: &PendingSnapshot,
    ) -> Result<(), LedgerError> {
        let statement = query(
            "SELECT id, revision, content_hash FROM transactions
             WHERE stream_id = $1 AND account_token = $2 AND status = 'pending' AND record_key <> ALL ($3)",
        );
        let statement = statement.bind(stamp.stream_id).bind(&snapshot.account_token).bind(&snapshot.keys);
        let open = tx.fetch_all(statement).await?;
        self.close(tx, stamp, &TRANSACTIONS, &open, RowChange::Updated).await
    }

    /// Closes what the provider withdrew, of whatever kind it is.
    pub(super) async fn withdraw(
        &mut self,
        tx: &mut Transaction,
        stamp: &PageStamp,
        removed: &[RemovedKey],
    ) -> Result<(), LedgerError> {
        if removed.is_empty() {
            return Ok(());
        }
        let of_any_account: Vec<&str> =
            removed.iter().filter(|key| key.account_token.is_none()).map(|key| key.key.as_str()).collect();
        let (accounts, keys): (Vec<&str>, Vec<&str>) =
            removed.iter().filter_map(|key| Some((key.account_token.as_deref()?, key.key.as_str()))).unzip();
        let of_account = vec![""; of_any_account.len()];
        for (accounts, keys) in [(&of_account, &of_any_account), (&accounts, &keys)] {
            let statement = query(REMEMBER).bind(stamp.stream_id).bind(accounts).bind(keys).bind(stamp.now);
            tx.execute(statement).await?;
        }
        for table in tables() {
            let name = table.name;
            let is_open = if name == TRANSACTIONS.name { "status <> 'superseded'" } else { "deleted_ms IS NULL" };
            let sql = format!(
                "SELECT id, revision, content_hash FROM {name} x WHERE x.stream_id = $1 AND {is_open} AND
                     (x.record_key = ANY ($2) OR EXISTS (
                         SELECT 1 FROM unnest($3::text[], $4::text[]) AS p (account, key)
                         WHERE x.account_token = p.account AND x.record_key = p.key))"
            );
            let statement = query(AssertSqlSafe(sql)).bind(stamp.stream_id).bind(&of_any_account);
            let open = tx.fetch_all(statement.bind(&accounts).bind(&keys)).await?;
            self.close(tx, stamp, table, &open, RowChange::Removed).await?;
        }
        Ok(())
    }

    /// Closes rows. Their hashes become ones that no content has, so that the same record opens a row again.
    async fn close(
        &mut self,
        tx: &mut Transaction,
        stamp: &PageStamp,
        table: &'static Table,
        open: &[PgRow],
        change: RowChange,
    ) -> Result<(), LedgerError> {
        let status = if table.name == TRANSACTIONS.name { ", status = 'superseded'" } else { "" };
        let sql = format!(
            "UPDATE {} SET revision = $2, run_id = $3, updated_ms = $4, content_hash = $5, deleted_ms = $6{status}
             WHERE id = $1",
            table.name
        );
        let withdrawn = (change == RowChange::Removed).then_some(stamp.now);
        for open in open {
            let open = decode(open)?;
            let revision = open.revision + 1;
            let hash =
                Sha256::new().chain_update(b"closed").chain_update(&open.hash).chain_update(revision.to_be_bytes());
            let statement = query(AssertSqlSafe(sql.clone())).bind(open.id).bind(revision).bind(&stamp.run);
            let statement = statement.bind(stamp.now).bind(hash.finalize().to_vec()).bind(withdrawn);
            tx.execute(statement).await?;
            self.0.push(ClosedRow { batch: stored_rows(tx, table, &[open.id]).await?.batch, change, revision });
        }
        Ok(())
    }
}

fn decode(row: &PgRow) -> Result<OpenRow, LedgerError> {
    Ok(OpenRow { id: get(row, "id")?, revision: get(row, "revision")?, hash: get(row, "content_hash")? })
}
