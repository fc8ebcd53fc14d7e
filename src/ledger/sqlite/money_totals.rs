//! Totals of balances and collaterals.

use rusqlite::Row;
use rust_decimal::Decimal;

use super::codec::{OperationName, get};
use super::connection::Transaction;
use crate::ledger::error::LedgerError;
use crate::ledger::money_totals::{BalanceRow, MoneyTotal, MoneyTotals, Owner};

pub(super) const TOTALS: OperationName = OperationName("adding up balances and collaterals");

const BALANCES: &str = "SELECT t.namespace, t.connection, x.stream_id, x.account_token, x.kind, x.currency, x.amount, \
                        coalesce(x.as_of_ms, x.updated_ms) AS as_of_ms FROM balances x JOIN streams t ON t.id = x.stream_id \
                        WHERE x.deleted_ms IS NULL";
const COLLATERALS: &str = "SELECT t.namespace, t.connection, coalesce(x.currency, 'unknown') AS currency, \
                           coalesce(x.amount, x.net_amount, x.discounted_amount) AS amount \
                           FROM collaterals x JOIN streams t ON t.id = x.stream_id \
                           WHERE x.deleted_ms IS NULL \
                           AND coalesce(x.amount, x.net_amount, x.discounted_amount) IS NOT NULL";

/// Adds them up row by row: SQLite itself would add texts as floats.
pub(super) fn totals(tx: &Transaction<'_>) -> Result<Vec<MoneyTotal>, LedgerError> {
    let mut totals = MoneyTotals::default();
    tx.query_all(BALANCES, (), |row| {
        totals.add_balance(BalanceRow {
            owner: owner(row)?,
            account: (get(row, "stream_id")?, get(row, "account_token")?),
            kind: get(row, "kind")?,
            currency: get(row, "currency")?,
            amount: decimal(row)?,
            at: get(row, "as_of_ms")?,
        });
        Ok(())
    })?;
    tx.query_all(COLLATERALS, (), |row| {
        totals.add_collateral(owner(row)?, get(row, "currency")?, decimal(row)?);
        Ok(())
    })?;
    Ok(totals.finish())
}

fn owner(row: &Row<'_>) -> Result<Owner, LedgerError> {
    Ok(Owner { namespace: get(row, "namespace")?, connection: get(row, "connection")? })
}

fn decimal(row: &Row<'_>) -> Result<Decimal, LedgerError> {
    get::<String>(row, "amount")?.parse().map_err(|_| LedgerError::Corrupt { column: "amount" })
}
