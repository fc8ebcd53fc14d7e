//! The epoch: one row.

use futures::FutureExt as _;

use super::codec::{OperationName, get};
use super::database::SqliteLedger;
use crate::ledger::epoch::{EpochStore, LedgerEpoch};
use crate::ledger::error::{LedgerError, LedgerFuture};

const READ: OperationName = OperationName("reading the epoch");
const RAISE: OperationName = OperationName("raising the epoch");
const ACCEPT: OperationName = OperationName("accepting the loss of data");

impl EpochStore for SqliteLedger {
    fn epoch(&self) -> LedgerFuture<'_, LedgerEpoch> {
        self.read_in_order(READ, |tx| {
            let stored = tx.query_opt("SELECT epoch, loss_accepted FROM ledger_epoch", [], |row| {
                Ok(LedgerEpoch { number: get(row, "epoch")?, loss_accepted: get(row, "loss_accepted")? })
            })?;
            stored.ok_or(LedgerError::Corrupt { column: "ledger_epoch.epoch" })
        })
        .boxed()
    }

    fn raise_epoch(&self, lease: i64) -> LedgerFuture<'_, Option<i64>> {
        // One statement: whether the ledger is admitted and the new number are decided together.
        self.write(RAISE, move |tx| {
            tx.scalar_opt(
                "UPDATE ledger_epoch SET epoch = max(epoch, ?1) + 1, loss_accepted = 0
                 WHERE epoch >= ?1 OR loss_accepted RETURNING epoch",
                [lease],
            )
        })
        .boxed()
    }

    fn accept_loss(&self) -> LedgerFuture<'_, ()> {
        self.write(ACCEPT, |tx| {
            tx.execute("UPDATE ledger_epoch SET loss_accepted = 1, restores = restores + 1, payouts_suspended = 1", [])
                .map(drop)
        })
        .boxed()
    }
}
