//! Totals of balances and collaterals.

use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::query;

use super::codec::get;
use super::failure::OperationName;
use super::transaction::Transaction;
use crate::ledger::error::LedgerError;
use crate::ledger::money_totals::{BalanceRow, MoneyTotal, MoneyTotals, Owner};

pub(super) const TOTALS: OperationName = OperationName("adding up balances and collaterals");

const BALANCES: &str = "SELECT t.namespace, t.connection, x.stream_id, x.account_token, x.kind, x.currency, \
     x.amount::text AS amount, coalesce(x.as_of_ms, x.updated_ms) AS as_of_ms \
     FROM balances x JOIN streams t ON t.id = x.stream_id WHERE x.deleted_ms IS NULL";
const COLLATERALS: &str = "SELECT t.namespace, t.connection, coalesce(x.currency, 'unknown') AS currency, \
     coalesce(x.amount, x.net_amount, x.discounted_amount)::text AS amount \
     FROM collaterals x JOIN streams t ON t.id = x.stream_id WHERE x.deleted_ms IS NULL \
     AND coalesce(x.amount, x.net_amount, x.discounted_amount) IS NOT NULL";

/// Adds them up row by row: which balance of an account counts is decided once, for every engine.
pub(super) async fn totals(tx: &mut Transaction) -> Result<Vec<MoneyTotal>, LedgerError> {
    let mut totals = MoneyTotals::default();
    for row in tx.fetch_all(query(BALANCES)).await? {
        totals.add_balance(BalanceRow {
            owner: owner(&row)?,
            account: (get(&row, "stream_id")?, get(&row, "account_token")?),
            kind: get(&row, "kind")?,
            currency: get(&row, "currency")?,
            amount: decimal(&row)?,
            at: get(&row, "as_of_ms")?,
        });
    }
    for row in tx.fetch_all(query(COLLATERALS)).await? {
        totals.add_collateral(owner(&row)?, get(&row, "currency")?, decimal(&row)?);
    }
    Ok(totals.finish())
}

fn owner(row: &PgRow) -> Result<Owner, LedgerError> {
    Ok(Owner { namespace: get(row, "namespace")?, connection: get(row, "connection")? })
}

fn decimal(row: &PgRow) -> Result<Decimal, LedgerError> {
    get::<String>(row, "amount")?.parse().map_err(|_| LedgerError::Corrupt { column: "amount" })
}
