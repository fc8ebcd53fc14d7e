//! What a commit of a payout depends on, read in its transaction, which holds the head of the chain: no other one commits
//! payouts meanwhile.

use sqlx::{AssertSqlSafe, query};

use super::codec::{PAYOUT, payout};
use crate::ledger::decisions::needs::Needs;
use crate::ledger::decisions::state::{BatchState, Restores};
use crate::ledger::error::LedgerError;
use crate::ledger::payouts::StoredPayout;
use crate::ledger::postgres::codec::get;
use crate::ledger::postgres::transaction::Transaction;

/// A payout `p` that is not under review: `$1` is the number of the last restore.
pub(super) const UNREVIEWED: &str = "p.reviewed < $1 AND p.state <> 'confirmed'";

/// Adds what a batch depends on.
pub(in crate::ledger::postgres) async fn state(
    tx: &mut Transaction,
    needs: &Needs<'_>,
    state: &mut BatchState<'_>,
) -> Result<(), LedgerError> {
    state.restores = restores(tx).await?;
    if needs.unreviewed {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM payouts p WHERE {UNREVIEWED})");
        state.restores.unreviewed = tx.scalar(query(AssertSqlSafe(sql)).bind(state.restores.count)).await?;
    }
    let wanted: Vec<(String, String)> = needs.followed.iter().map(|one| (one.0.to_owned(), one.1.to_owned())).collect();
    followed(tx, &wanted, state).await?;
    for (namespace, key) in &needs.keys {
        let statement = query("SELECT payout_id FROM payouts WHERE namespace = $1 AND idempotency_key = $2");
        if let Some(payout_id) = tx.scalar_opt(statement.bind(*namespace).bind(*key)).await? {
            state.keys.insert(((*namespace).to_owned(), (*key).to_owned()), payout_id);
        }
    }
    for lease in &needs.leases {
        // Kept so until the end of the transaction.
        let statement = query("SELECT holder, fence FROM leases WHERE name = $1 FOR SHARE");
        if let Some(row) = tx.fetch_optional(statement.bind(*lease)).await? {
            state.fences.insert((*lease).to_owned(), (get(&row, "holder")?, get(&row, "fence")?));
        }
    }
    Ok(())
}

/// Adds those of the payouts that are followed.
pub(in crate::ledger::postgres) async fn followed(
    tx: &mut Transaction,
    wanted: &[(String, String)],
    state: &mut BatchState<'_>,
) -> Result<(), LedgerError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT {PAYOUT} FROM unnest($1::text[], $2::text[]) AS n (namespace, payout_id)
         JOIN payouts p ON p.namespace = n.namespace AND p.payout_id = n.payout_id"
    );
    let statement = query(AssertSqlSafe(sql))
        .bind(wanted.iter().map(|(namespace, _)| namespace.clone()).collect::<Vec<_>>())
        .bind(wanted.iter().map(|(_, payout_id)| payout_id.clone()).collect::<Vec<_>>());
    for row in &tx.fetch_all(statement).await? {
        let stored = payout(row)?;
        let key = (stored.payout.namespace.clone(), stored.payout.payout_id.clone());
        state.payouts.insert(key, stored);
    }
    Ok(())
}

/// A payout.
pub(super) async fn one(
    tx: &mut Transaction,
    namespace: &str,
    payout_id: &str,
) -> Result<Option<StoredPayout>, LedgerError> {
    let sql = format!("SELECT {PAYOUT} FROM payouts p WHERE p.namespace = $1 AND p.payout_id = $2");
    let row = tx.fetch_optional(query(AssertSqlSafe(sql)).bind(namespace).bind(payout_id)).await?;
    row.map(|row| payout(&row)).transpose()
}

/// Whether newer entries were lost.
pub(super) async fn restores(tx: &mut Transaction) -> Result<Restores, LedgerError> {
    let row = tx.fetch_optional(query("SELECT restores, payouts_suspended FROM ledger_epoch")).await?;
    let row = row.ok_or(LedgerError::Corrupt { column: "ledger_epoch.restores" })?;
    Ok(Restores { count: get(&row, "restores")?, suspended: get(&row, "payouts_suspended")?, unreviewed: false })
}
