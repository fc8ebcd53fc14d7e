//! The limit on the calls of one connection's callers that are in flight: see [`crate::provider::bulkhead`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Default limit of one connection: more than a provider with a rate limit has in flight while it answers, and an eighth
/// of the gateway's concurrent requests.
pub const DEFAULT_LIMIT: u16 = 128;

/// The calls of one connection that are in flight.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    limit: usize,
    held: Mutex<Held>,
}

/// The permits that are held.
#[derive(Debug, Default)]
struct Held {
    total: usize,
    /// By name. Callers without a call are not in it.
    callers: HashMap<String, usize>,
}

impl Bulkhead {
    /// A bulkhead of at most `limit` calls, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), held: Mutex::default() }
    }

    /// The calls in flight.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        self.lock().total
    }

    /// Takes a permit for a call of `caller`; `false` if the limit is reached. One caller holds seven eighths at most.
    pub(crate) fn try_acquire(&self, caller: &str) -> bool {
        let mut held = self.lock();
        let own = held.callers.get(caller).copied().unwrap_or(0);
        if held.total >= self.limit || own >= self.per_caller() {
            return false;
        }
        held.total += 1;
        match held.callers.get_mut(caller) {
            Some(own) => *own += 1,
            None => drop(held.callers.insert(caller.to_owned(), 1)),
        }
        true
    }

    /// What one caller may hold: the rest is for others. At least one.
    fn per_caller(&self) -> usize {
        (self.limit - self.limit.div_ceil(8)).max(1)
    }

    /// Gives the permit of a call of `caller` back.
    pub(crate) fn release(&self, caller: &str) {
        let mut held = self.lock();
        held.total -= 1;
        if let Some(own) = held.callers.get_mut(caller) {
            *own -= 1;
            if *own == 0 {
                held.callers.remove(caller);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_leaves_a_rest_to_others_and_permits_are_released() {
        let bulkhead = Bulkhead::new(8);
        let taken = |caller: &str, times: usize| (0..times).filter(|_| bulkhead.try_acquire(caller)).count();
        assert_eq!(taken("ann", 99), 7);
        assert_eq!(taken("bob", 99), 1, "the rest is for others");
        bulkhead.release("bob");
        assert_eq!((taken("ann", 99), taken("eve", 99)), (0, 1));
        for caller in ["ann"; 7].into_iter().chain(["eve"]) {
            bulkhead.release(caller);
        }
        assert_eq!((bulkhead.in_use(), bulkhead.lock().callers.len()), (0, 0));
        assert!(Bulkhead::new(1).try_acquire("ann") && Bulkhead::new(0).try_acquire("ann"), "the smallest admits one");
    }
}
