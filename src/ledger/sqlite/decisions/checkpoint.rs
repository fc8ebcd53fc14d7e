//! Retention: the beginning of the chain is replaced by a checkpoint.

use jiff::Timestamp;
use rusqlite::params;

use super::codec::{hash, number};
use super::{commit, load};
use crate::domain::decision::EntryKind;
use crate::ledger::decisions::expired::{ExpiredPrefix, checkpoint_row, last_limit_day};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::sqlite::clock_skew::latest_millis;
use crate::ledger::sqlite::codec::{get, millis, stored_enum, to_i64};
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::lease::assert_held;

/// Deletes at most `limit` entries, in the caller's transaction, if `lease` still holds.
pub(super) fn checkpoint(
    tx: &Transaction<'_>,
    lease: &Lease,
    before: Timestamp,
    limit: u32,
    now: Timestamp,
) -> Result<u64, LedgerError> {
    assert_held(tx, lease)?;
    let mut head = load::head(tx)?;
    let mut prefix = ExpiredPrefix::new(millis(before), latest_millis(now));
    tx.query_all(
        "SELECT seq, kind, at_ms, hash FROM decision_log WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        params![to_i64(head.base_seq), limit],
        |row| {
            let kind: String = get(row, "kind")?;
            let kind = stored_enum(&EntryKind::ALL, EntryKind::as_str, &kind, "decision_log.kind")?;
            prefix.push(kind, number(row, "seq")?, get(row, "at_ms")?, hash(row, "hash")?);
            Ok(())
        },
    )?;
    let mut deleted = 0;
    if let Some(found) = prefix.found() {
        deleted = tx.execute("DELETE FROM decision_log WHERE seq <= ?1", [to_i64(found.seq)])?;
        (head.base_seq, head.base_hash) = (found.seq, found.hash);
        let row = checkpoint_row(&mut head, &found, now);
        commit::append(tx, &row)?;
        commit::set_head(tx, head)?;
    }
    tx.execute(
        "DELETE FROM decision_snapshots WHERE id IN (SELECT id FROM decision_snapshots WHERE last_seq <= ?1 LIMIT ?2)",
        params![to_i64(head.base_seq), limit],
    )?;
    prune_beside(tx, before, limit)?;
    Ok(deleted)
}

/// Deletes what is as old beside the chain.
fn prune_beside(tx: &Transaction<'_>, before: Timestamp, limit: u32) -> Result<(), LedgerError> {
    tx.execute(
        "DELETE FROM decision_usage WHERE (namespace, route, candidate, day) IN (
             SELECT namespace, route, candidate, day FROM decision_usage WHERE day <= ?1 LIMIT ?2)",
        params![last_limit_day(before), limit],
    )?;
    tx.execute(
        "DELETE FROM route_adjustments WHERE id IN (
             SELECT id FROM route_adjustments WHERE expires_ms < ?1 LIMIT ?2)",
        params![millis(before), limit],
    )?;
    tx.execute(
        "DELETE FROM route_proposals WHERE id IN (
             SELECT id FROM route_proposals WHERE created_ms < ?1 AND expires_ms < ?1 LIMIT ?2)",
        params![millis(before), limit],
    )?;
    tx.execute("DELETE FROM route_scores WHERE updated_ms < ?1", [millis(before)])?;
    Ok(())
}
