//! The epoch of a ledger: how often a replica has begun to lead with it.
//!
//! The leader lease holds the same number as an annotation, outside the ledger. A ledger that is behind it lacks what a
//! leader has already written and acted upon: it is an older copy, or empty. Leading with it would fetch again, announce
//! again and issue fences again, so a replica refuses to, until the loss is accepted explicitly (docs/adr/0025).

use super::error::LedgerFuture;

/// The epoch as stored.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerEpoch {
    /// The number; 0 in a new ledger.
    pub number: i64,
    /// The next leader may take the ledger although it is behind.
    pub loss_accepted: bool,
}

impl LedgerEpoch {
    /// Whether a replica may lead with the ledger while the leader lease says `lease`.
    pub const fn admits(self, lease: i64) -> bool {
        self.number >= lease || self.loss_accepted
    }
}

/// Access to the epoch.
pub trait EpochStore: Send + Sync + 'static {
    /// The epoch.
    fn epoch(&self) -> LedgerFuture<'_, LedgerEpoch>;

    /// Raises the epoch above itself and above `lease`, the number in the leader lease, and returns it. An accepted loss
    /// is used up. `None`, and nothing is written, if the ledger is behind and no loss was accepted.
    fn raise_epoch(&self, lease: i64) -> LedgerFuture<'_, Option<i64>>;

    /// Lets the next leader take the ledger although it may be behind. Payouts are suspended until a person resumes them
    /// ([`payouts_suspended`](super::payouts::Payouts::payouts_suspended)): attempts may be missing.
    fn accept_loss(&self) -> LedgerFuture<'_, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_admitted_unless_it_is_behind_and_no_loss_was_accepted() {
        let epoch = |number, loss_accepted| LedgerEpoch { number, loss_accepted };
        for (epoch, lease, admitted) in [
            (epoch(0, false), 0, true),
            (epoch(3, false), 2, true),
            (epoch(3, false), 3, true),
            (epoch(3, false), 4, false),
            (epoch(0, false), 1, false),
            (epoch(0, true), 9, true),
        ] {
            assert_eq!(epoch.admits(lease), admitted, "{epoch:?} and {lease} in the lease");
        }
    }
}
