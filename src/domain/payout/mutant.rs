//! Faults that tests plant in the rules, to show that the tests of payouts find them. No other build has any.

#[cfg(test)]
use std::cell::Cell;

use super::state::AttemptState;

/// A fault in the rules.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// The gate takes a time-out for a proof.
    TimeOutIsProof,
    /// One "not found" is a proof.
    OneNotFoundIsProof,
    /// An attempt may be sent again after the bank has forgotten its key.
    KeyNeverExpires,
}

#[cfg(test)]
thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Runs `test` with a fault planted in this thread.
#[cfg(test)]
pub(crate) fn with<T>(mutant: Mutant, test: impl FnOnce() -> T) -> T {
    PLANTED.set(Some(mutant));
    let result = test();
    PLANTED.set(None);
    result
}

#[cfg(test)]
fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

#[cfg(not(test))]
const fn is_planted(_: Mutant) -> bool {
    false
}

/// Whether the gate lets an attempt pass that timed out: never.
pub(super) fn is_time_out_proof(state: AttemptState) -> bool {
    use AttemptState::{Inquiring, Stuck, Unknown};
    is_planted(Mutant::TimeOutIsProof) && matches!(state, Unknown | Stuck | Inquiring)
}

/// Whether one "not found" is a proof: never.
pub(super) fn is_one_not_found_proof() -> bool {
    is_planted(Mutant::OneNotFoundIsProof)
}

/// Whether the bank never forgets a key: never.
pub(super) fn is_key_eternal() -> bool {
    is_planted(Mutant::KeyNeverExpires)
}
