//! Retention: the beginning of the chain is replaced by a checkpoint.

use jiff::Timestamp;
use sqlx::query;

use super::codec::hash;
use super::{commit, load};
use crate::domain::decision::EntryKind;
use crate::ledger::decisions::expired::{ExpiredPrefix, checkpoint_row, last_limit_day};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::postgres::clock_skew::latest_millis;
use crate::ledger::postgres::codec::{count, get, millis, stored_enum, to_i64};
use crate::ledger::postgres::lease::assert_held;
use crate::ledger::postgres::transaction::Transaction;

/// Deletes at most `limit` entries, in the caller's transaction, if `lease` still holds.
pub(super) async fn checkpoint(
    tx: &mut Transaction,
    lease: &Lease,
    before: Timestamp,
    limit: u32,
    now: Timestamp,
) -> Result<u64, LedgerError> {
    assert_held(tx, lease).await?;
    let mut head = load::locked_head(tx).await?;
    let mut prefix = ExpiredPrefix::new(millis(before), latest_millis(now));
    let oldest = query("SELECT seq, kind, at_ms, hash FROM decision_log WHERE seq > $1 ORDER BY seq LIMIT $2");
    for row in &tx.fetch_all(oldest.bind(to_i64(head.base_seq)).bind(i64::from(limit))).await? {
        let kind: String = get(row, "kind")?;
        let kind = stored_enum(&EntryKind::ALL, EntryKind::as_str, &kind, "decision_log.kind")?;
        prefix.push(kind, count(row, "seq")?, get(row, "at_ms")?, hash(row, "hash")?);
    }
    let mut deleted = 0;
    if let Some(found) = prefix.found() {
        deleted = tx.execute(query("DELETE FROM decision_log WHERE seq <= $1").bind(to_i64(found.seq))).await?;
        (head.base_seq, head.base_hash) = (found.seq, found.hash);
        let row = checkpoint_row(&mut head, &found, now);
        commit::append(tx, &[row]).await?;
        commit::set_head(tx, head).await?;
    }
    let unnamed = query(
        "DELETE FROM decision_snapshots WHERE id = ANY (ARRAY(
             SELECT id FROM decision_snapshots WHERE last_seq <= $1 LIMIT $2))",
    );
    tx.execute(unnamed.bind(to_i64(head.base_seq)).bind(i64::from(limit))).await?;
    prune_beside(tx, before, limit).await?;
    Ok(deleted)
}

/// Deletes what is as old beside the chain.
async fn prune_beside(tx: &mut Transaction, before: Timestamp, limit: u32) -> Result<(), LedgerError> {
    let statement = query(
        "DELETE FROM decision_usage WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM decision_usage WHERE day <= $1 LIMIT $2))",
    );
    tx.execute(statement.bind(last_limit_day(before)).bind(i64::from(limit))).await?;
    let statement = query(
        "DELETE FROM route_adjustments WHERE id = ANY (ARRAY(
             SELECT id FROM route_adjustments WHERE expires_ms < $1 LIMIT $2))",
    );
    tx.execute(statement.bind(millis(before)).bind(i64::from(limit))).await?;
    let statement = query(
        "DELETE FROM route_proposals WHERE id = ANY (ARRAY(
             SELECT id FROM route_proposals WHERE created_ms < $1 AND expires_ms < $1 LIMIT $2))",
    );
    tx.execute(statement.bind(millis(before)).bind(i64::from(limit))).await?;
    tx.execute(query("DELETE FROM route_scores WHERE updated_ms < $1").bind(millis(before))).await.map(drop)
}
