//! The engine behind [`Ledger`]: the methods that are in no file of their own.

use sqlx::query;

use super::database::PostgresLedger;
use super::failure::OperationName;
use super::transaction::write_tx;
use crate::ledger::engine::forward_ledger;
use crate::ledger::error::LedgerError;

const PING: OperationName = OperationName("checking that it accepts writes");

impl PostgresLedger {
    async fn write_check(&self) -> Result<(), LedgerError> {
        let check = "UPDATE write_checks SET number = number + 1";
        write_tx!(self, PING, |tx| tx.execute(query(check)).await.map(drop))
    }

    fn health_receiver(&self) -> HealthReceiver {
        self.server().health.subscribe()
    }
}

forward_ledger!(PostgresLedger);
