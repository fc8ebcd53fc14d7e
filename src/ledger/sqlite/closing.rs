//! Closes rows: transactions that a booked one replaced, and records that the provider withdrew. No row vanishes.

use std::collections::BTreeSet;

use rusqlite::params;
use sha2::{Digest as _, Sha256};

use super::codec::get;
use super::connection::Transaction;
use super::rows::{PageStamp, stored_row};
use crate::domain::event::{ChangedRow, RowChange};
use crate::domain::record::RowStatus;
use crate::domain::records::{PendingSnapshot, RemovedKey, Table};
use crate::domain::row_batch::{RowBatch, TRANSACTIONS, tables};
use crate::ledger::error::LedgerError;

const FIND_PENDING: &str = "SELECT id, revision, content_hash FROM transactions \
     WHERE stream_id = ?1 AND account_token = ?2 AND record_key = ?3 AND status = 'pending'";
/// A pending transaction that a booked one names as replaced.
const FIND_REPLACED: &str = "SELECT id, revision, content_hash FROM transactions \
     WHERE stream_id = ?1 AND account_token = ?2 AND record_key = ?3 AND status = 'pending' AND EXISTS ( \
         SELECT 1 FROM transactions b WHERE b.stream_id = ?1 AND b.account_token = ?2 AND b.supersedes = ?3 \
             AND b.status = 'booked')";

/// Remembers that a record was withdrawn, while a dead letter of the stream may be replayed: there may be no row that says it.
const REMEMBER: &str = "INSERT INTO withdrawn_records (stream_id, record_key, account_token, withdrawn_ms) \
     SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM dead_letters WHERE stream_id = ?1 AND resolved_ms IS NULL) \
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
            let change = move |row| ChangedRow { change: closed.change, revision: closed.revision, row };
            closed.batch.rows().map(change)
        })
    }

    /// Closes the pending transactions that these rows name as replaced, and those of these rows that a stored booked one
    /// names: it may have been listed on an earlier page.
    pub(super) fn supersede(
        &mut self,
        tx: &Transaction<'_>,
        stamp: &PageStamp,
        batches: &[RowBatch],
    ) -> Result<(), LedgerError> {
        let transactions = batches.iter().filter(|batch| batch.table().name == TRANSACTIONS.name);
        for row in transactions.flat_map(RowBatch::rows) {
            let (sql, key) = if row.get("status").as_text() == Some(RowStatus::Pending.as_str()) {
                (FIND_REPLACED, row.key())
            } else if let Some(replaced) = row.get("supersedes").as_text() {
                (FIND_PENDING, replaced)
            } else {
                continue;
            };
            if let Some(open) = tx.query_opt(sql, params![stamp.stream_id, row.account_token(), key], open_row)? {
                self.close(tx, stamp, &TRANSACTIONS, &open, RowChange::Updated)?;
            }
        }
        Ok(())
    }

    /// Closes the pending transactions of an account that are not in the snapshot.
    pub(super) fn keep_pending(
        &mut self,
        tx: &Transaction<'_>,
        stamp: &PageStamp,
        snapshot: &PendingSnapshot,
    ) -> Result<(), LedgerError> {
        let listed: BTreeSet<&str> = snapshot.keys.iter().map(String::as_str).collect();
        let pending = tx.query_all(
            "SELECT id, revision, content_hash, record_key FROM transactions
             WHERE stream_id = ?1 AND account_token = ?2 AND status = 'pending'",
            params![stamp.stream_id, snapshot.account_token],
            |row| Ok((get::<String>(row, "record_key")?, open_row(row)?)),
        )?;
        for (key, open) in pending {
            if !listed.contains(key.as_str()) {
                self.close(tx, stamp, &TRANSACTIONS, &open, RowChange::Updated)?;
            }
        }
        Ok(())
    }

    /// Closes what the provider withdrew, of whatever kind it is.
    pub(super) fn withdraw(
        &mut self,
        tx: &Transaction<'_>,
        stamp: &PageStamp,
        removed: &[RemovedKey],
    ) -> Result<(), LedgerError> {
        if removed.is_empty() {
            return Ok(());
        }
        for RemovedKey { account_token, key } in removed {
            let account = account_token.as_deref().unwrap_or_default();
            tx.execute(REMEMBER, params![stamp.stream_id, key, account, stamp.now])?;
        }
        // Keys without an account are looked up together: each look-up alone would read the keys of the whole stream.
        let of_any_account: Vec<&str> =
            removed.iter().filter(|key| key.account_token.is_none()).map(|key| key.key.as_str()).collect();
        let of_any_account = serde_json::Value::from(of_any_account).to_string();
        for table in tables() {
            let name = table.name;
            let is_open = if name == TRANSACTIONS.name { "status <> 'superseded'" } else { "deleted_ms IS NULL" };
            let sql = format!(
                "SELECT id, revision, content_hash FROM {name} WHERE stream_id = ?1 AND {is_open} AND record_key IN \
                 (SELECT value FROM json_each(?2))"
            );
            let mut open = tx.query_all(&sql, params![stamp.stream_id, of_any_account], open_row)?;
            let sql = format!(
                "SELECT id, revision, content_hash FROM {name} WHERE stream_id = ?1 AND {is_open} \
                 AND account_token = ?2 AND record_key = ?3"
            );
            for key in removed {
                if let Some(account) = &key.account_token {
                    open.extend(tx.query_opt(&sql, params![stamp.stream_id, account, key.key], open_row)?);
                }
            }
            // One row may be named with its account and without it; it is closed once.
            open.sort_by_key(|row| row.id);
            open.dedup_by_key(|row| row.id);
            for row in open {
                self.close(tx, stamp, table, &row, RowChange::Removed)?;
            }
        }
        Ok(())
    }

    /// Closes a row. Its hash becomes one that no content has, so that the same record opens it again.
    fn close(
        &mut self,
        tx: &Transaction<'_>,
        stamp: &PageStamp,
        table: &'static Table,
        open: &OpenRow,
        change: RowChange,
    ) -> Result<(), LedgerError> {
        let revision = open.revision + 1;
        let hash = Sha256::new().chain_update(b"closed").chain_update(&open.hash).chain_update(revision.to_be_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let status = if table.name == TRANSACTIONS.name { ", status = 'superseded'" } else { "" };
        let withdrawn = (change == RowChange::Removed).then_some(stamp.now);
        tx.execute(
            &format!(
                "UPDATE {} SET revision = ?2, run_id = ?3, updated_ms = ?4, content_hash = ?5, deleted_ms = ?6{status} \
                 WHERE id = ?1",
                table.name
            ),
            params![open.id, revision, stamp.run, stamp.now, hash, withdrawn],
        )?;
        self.0.push(ClosedRow { batch: stored_row(tx, table, open.id)?, change, revision });
        Ok(())
    }
}

fn open_row(row: &rusqlite::Row<'_>) -> Result<OpenRow, LedgerError> {
    Ok(OpenRow { id: get(row, "id")?, revision: get(row, "revision")?, hash: get(row, "content_hash")? })
}
