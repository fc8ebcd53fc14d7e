//! The engine behind [`Ledger`]: the methods that are in no file of their own.

use super::codec::OperationName;
use super::database::SqliteLedger;
use crate::ledger::engine::forward_ledger;
use crate::ledger::error::LedgerError;

const PING: OperationName = OperationName("checking that it accepts writes");

impl SqliteLedger {
    async fn write_check(&self) -> Result<(), LedgerError> {
        self.write(PING, |tx| tx.execute("UPDATE write_checks SET number = number + 1", []).map(drop)).await
    }

    fn health_receiver(&self) -> HealthReceiver {
        self.health.subscribe()
    }
}

forward_ledger!(SqliteLedger);
