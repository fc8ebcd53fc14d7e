//! Ledgers that fail on demand, for tests of what uses them.

use super::codec::OperationName;
use super::database::SqliteLedger;
use super::faults::{Fault, Manner};
use crate::ledger::error::LedgerError;

impl SqliteLedger {
    /// From now on each write fails with `code`.
    pub(crate) fn fail_writes(&self, code: i32) {
        self.faults.inject(Fault { steps: 0..usize::MAX, code, manner: Manner::Refused });
    }

    /// From now on each read fails with `code`.
    pub(crate) fn fail_reads(&self, code: i32) {
        self.read_faults.inject(Fault { steps: 0..usize::MAX, code, manner: Manner::Refused });
    }

    /// Damages the stored form of a payout.
    pub(crate) async fn damage_payout(&self, payout_id: &str) -> Result<(), LedgerError> {
        let payout_id = payout_id.to_owned();
        self.write(OperationName("damaging a payout"), move |tx| {
            tx.execute("UPDATE payouts SET body = x'00' WHERE payout_id = ?1", [payout_id]).map(drop)
        })
        .await
    }

    /// Ends all faults.
    pub(crate) fn recover(&self) {
        self.faults.clear();
        self.read_faults.clear();
    }
}
