//! Outcomes whose callers were not answered: they may be stored, and then the bank's health was not told of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// Outcomes that are remembered; health is an estimate, and more than these are lost only while the ledger is.
const MAX_UNTOLD: usize = 4_096;

/// The IDs of outcomes that no bank was told of: their commit failed, or their caller has gone. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Untold {
    ids: Arc<Mutex<VecDeque<Uuid>>>,
}

/// An outcome that is awaited. Dropped before [`told`](Self::told), it is remembered.
pub(crate) struct Awaited {
    untold: Untold,
    id: Uuid,
    is_told: bool,
}

impl Untold {
    /// Awaits the outcome with this ID.
    pub(crate) fn awaiting(&self, id: Uuid) -> Awaited {
        Awaited { untold: self.clone(), id, is_told: false }
    }

    fn ids(&self) -> MutexGuard<'_, VecDeque<Uuid>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    /// Whether an earlier report of the outcome was not told; no other report of it is answered so.
    pub(crate) fn take_untold(&self) -> bool {
        let mut ids = self.untold.ids();
        let place = ids.iter().position(|id| *id == self.id);
        place.and_then(|place| ids.remove(place)).is_some()
    }

    /// The outcome was told of.
    pub(crate) fn told(mut self) {
        self.is_told = true;
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if self.is_told {
            return;
        }
        let mut ids = self.untold.ids();
        if ids.contains(&self.id) {
            return;
        }
        if ids.len() >= MAX_UNTOLD {
            ids.pop_front();
        }
        ids.push_back(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_before_it_is_told_is_found_once() {
        let (untold, id) = (Untold::default(), Uuid::from_u128(1));
        assert!(!untold.awaiting(id).take_untold());
        // The line above dropped it.
        let again = untold.awaiting(id);
        assert_eq!((again.take_untold(), again.take_untold()), (true, false));
        again.told();
        let later = untold.awaiting(id);
        assert!(!later.take_untold());
        later.told();
    }

    #[test]
    fn only_the_latest_are_remembered() {
        let untold = Untold::default();
        for id in 0..=MAX_UNTOLD as u128 {
            drop(untold.awaiting(Uuid::from_u128(id)));
        }
        let forgotten = untold.awaiting(Uuid::from_u128(0));
        assert!(!forgotten.take_untold());
        forgotten.told();
        assert!(untold.awaiting(Uuid::from_u128(1)).take_untold());
    }
}
