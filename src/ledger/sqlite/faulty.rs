//! Ledgers that fail on demand, for tests of what uses them.

use super::database::SqliteLedger;
use super::faults::{Fault, Manner};

impl SqliteLedger {
    /// From now on each write fails with `code`.
    pub(crate) fn fail_writes(&self, code: i32) {
        self.faults.inject(Fault { steps: 0..usize::MAX, code, manner: Manner::Refused });
    }

    /// From now on each read fails with `code`.
    pub(crate) fn fail_reads(&self, code: i32) {
        self.read_faults.inject(Fault { steps: 0..usize::MAX, code, manner: Manner::Refused });
    }

    /// Ends all faults.
    pub(crate) fn recover(&self) {
        self.faults.clear();
        self.read_faults.clear();
    }
}
