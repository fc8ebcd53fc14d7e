//! Where a simulation keeps its payouts.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::domain::payout::{Applied, Payout, PayoutInput};

/// A payout to store.
#[derive(Clone, Debug)]
pub struct SimulatedCommit<'a> {
    /// What is to be stored.
    pub applied: &'a Applied,
    /// The version that it was applied to; 0 = the payout is registered.
    pub expected: u64,
    /// What happened to it; `None`: it is registered.
    pub input: Option<&'a PayoutInput>,
    /// When.
    pub now: Timestamp,
}

/// Where a simulation keeps its payouts: memory, or a real ledger.
pub trait SimulatedStore {
    /// The payout and its version.
    fn load(&mut self, payout_id: &str) -> Option<(Payout, u64)>;

    /// Stores a payout if its version is still the expected one; returns whether it is stored.
    fn commit(&mut self, commit: &SimulatedCommit<'_>) -> bool;

    /// The payout is at its end, and is not loaded any more.
    fn finish(&mut self, payout_id: &str);
}

/// Payouts in memory, with the versions of a ledger.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    payouts: HashMap<String, (Payout, u64)>,
}

impl SimulatedStore for MemoryStore {
    fn load(&mut self, payout_id: &str) -> Option<(Payout, u64)> {
        self.payouts.get(payout_id).cloned()
    }

    fn commit(&mut self, commit: &SimulatedCommit<'_>) -> bool {
        let payout = &commit.applied.payout;
        let stored = self.payouts.get(&payout.payout_id).map_or(0, |(_, version)| *version);
        if stored != commit.expected {
            return false;
        }
        self.payouts.insert(payout.payout_id.clone(), (payout.clone(), stored + 1));
        true
    }

    fn finish(&mut self, payout_id: &str) {
        self.payouts.remove(payout_id);
    }
}
