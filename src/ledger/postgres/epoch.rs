//! The epoch: one row.

use futures::FutureExt as _;

use super::codec::get;
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::transaction::{read_tx, write_tx};
use crate::ledger::epoch::{EpochStore, LedgerEpoch};
use crate::ledger::error::{LedgerError, LedgerFuture};

const READ: OperationName = OperationName("reading the epoch");
const RAISE: OperationName = OperationName("raising the epoch");
const ACCEPT: OperationName = OperationName("accepting the loss of data");

impl EpochStore for PostgresLedger {
    fn epoch(&self) -> LedgerFuture<'_, LedgerEpoch> {
        async move {
            let row = read_tx!(self, READ, |tx| {
                tx.fetch_optional(sqlx::query("SELECT epoch, loss_accepted FROM ledger_epoch")).await
            })?;
            let row = row.ok_or(LedgerError::Corrupt { column: "ledger_epoch.epoch" })?;
            Ok(LedgerEpoch { number: get(&row, "epoch")?, loss_accepted: get(&row, "loss_accepted")? })
        }
        .boxed()
    }

    fn raise_epoch(&self, lease: i64) -> LedgerFuture<'_, Option<i64>> {
        // One statement: whether the ledger is admitted and the new number are decided together.
        async move {
            write_tx!(self, RAISE, |tx| {
                tx.scalar_opt(
                    sqlx::query(
                        "UPDATE ledger_epoch SET epoch = GREATEST(epoch, $1) + 1, loss_accepted = FALSE
                         WHERE epoch >= $1 OR loss_accepted RETURNING epoch",
                    )
                    .bind(lease),
                )
                .await
            })
        }
        .boxed()
    }

    fn accept_loss(&self) -> LedgerFuture<'_, ()> {
        async move {
            write_tx!(self, ACCEPT, |tx| {
                let statement = sqlx::query(
                    "UPDATE ledger_epoch SET loss_accepted = TRUE, restores = restores + 1, payouts_suspended = TRUE",
                );
                tx.execute(statement).await.map(drop)
            })
        }
        .boxed()
    }
}
