//! What a commit of a payout depends on, read in its transaction.

use super::codec::payout;
use crate::ledger::decisions::needs::Needs;
use crate::ledger::decisions::state::{BatchState, Restores};
use crate::ledger::error::LedgerError;
use crate::ledger::payouts::StoredPayout;
use crate::ledger::sqlite::codec::get;
use crate::ledger::sqlite::connection::Transaction;

/// Run for every decision, so not put together each time.
const ONE: &str =
    "SELECT seq, version, updated_ms, request_hash, body FROM payouts WHERE namespace = ?1 AND payout_id = ?2";

/// A payout that is not under review: `?1` is the number of the last restore.
pub(super) const UNREVIEWED: &str = "reviewed < ?1 AND state <> 'confirmed'";

/// Adds what a batch depends on.
pub(in crate::ledger::sqlite) fn state(
    tx: &Transaction<'_>,
    needs: &Needs<'_>,
    state: &mut BatchState<'_>,
) -> Result<(), LedgerError> {
    state.restores = restores(tx)?;
    if needs.unreviewed {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM payouts WHERE {UNREVIEWED})");
        state.restores.unreviewed = tx.scalar(&sql, [state.restores.count])?;
    }
    for (namespace, payout_id) in &needs.followed {
        followed(tx, namespace, payout_id, state)?;
    }
    for (namespace, key) in &needs.keys {
        let sql = "SELECT payout_id FROM payouts WHERE namespace = ?1 AND idempotency_key = ?2";
        if let Some(payout_id) = tx.scalar_opt(sql, [namespace, key])? {
            state.keys.insert(((*namespace).to_owned(), (*key).to_owned()), payout_id);
        }
    }
    for lease in &needs.leases {
        let held = tx.query_opt("SELECT holder, fence FROM leases WHERE name = ?1", [lease], |row| {
            Ok((get::<String>(row, "holder")?, get::<i64>(row, "fence")?))
        })?;
        if let Some(held) = held {
            state.fences.insert((*lease).to_owned(), held);
        }
    }
    Ok(())
}

/// Adds a payout, if it is followed.
pub(in crate::ledger::sqlite) fn followed(
    tx: &Transaction<'_>,
    namespace: &str,
    payout_id: &str,
    state: &mut BatchState<'_>,
) -> Result<(), LedgerError> {
    if let Some(stored) = one(tx, namespace, payout_id)? {
        state.payouts.insert((namespace.to_owned(), payout_id.to_owned()), stored);
    }
    Ok(())
}

/// A payout.
pub(super) fn one(tx: &Transaction<'_>, namespace: &str, payout_id: &str) -> Result<Option<StoredPayout>, LedgerError> {
    tx.query_opt(ONE, [namespace, payout_id], payout)
}

/// Whether newer entries were lost.
pub(super) fn restores(tx: &Transaction<'_>) -> Result<Restores, LedgerError> {
    let found = tx.query_opt("SELECT restores, payouts_suspended FROM ledger_epoch", [], |row| {
        Ok(Restores { count: get(row, "restores")?, suspended: get(row, "payouts_suspended")?, unreviewed: false })
    })?;
    found.ok_or(LedgerError::Corrupt { column: "ledger_epoch.restores" })
}
