//! The simulation of many payouts, each with banks and a story of its own.

use std::ops::Range;

use super::run::PayoutRun;
use super::store::{MemoryStore, SimulatedStore};
use super::totals::Totals;

/// Simulates the payouts of these numbers. The same seed and number are the same story, whatever else is simulated.
pub fn simulate<S: SimulatedStore>(store: &mut S, seed: u64, payouts: Range<u64>) -> Totals {
    let mut totals = Totals::default();
    for number in payouts {
        PayoutRun::new(store, &mut totals, seed, number).run();
    }
    totals
}

/// Simulates this many payouts in memory, on this many threads.
pub fn simulate_in_memory(seed: u64, payouts: u64, threads: u64) -> Totals {
    let share = payouts.div_ceil(threads.max(1)).max(1);
    let part =
        |start: u64| simulate(&mut MemoryStore::default(), seed, start..payouts.min(start.saturating_add(share)));
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        let starts = (0..threads.max(1)).map(|thread| thread.saturating_mul(share)).filter(|start| *start < payouts);
        let parts: Vec<_> = starts.map(|start| scope.spawn(move || part(start))).collect();
        for counted in parts.into_iter().filter_map(|part| part.join().ok()) {
            totals.add(counted);
        }
    });
    totals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::payout::mutant::{self, Mutant};
    use crate::testbed::shown::show;

    /// Payouts of `make ci`, and of the soak test with its seed.
    const PAYOUTS: u64 = 100_000;

    #[expect(clippy::disallowed_methods, reason = "number and seed of a soak test are set by environment variables")]
    fn variable(name: &str) -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
    }

    #[test]
    fn no_payout_is_paid_twice_or_lost_by_the_banks_books() {
        let payouts = variable("PAYOUTS").unwrap_or(PAYOUTS);
        let seed = variable("PAYOUTS_SEED").unwrap_or_else(rand::random);
        show(format_args!("payouts: seed {seed}; to reproduce: PAYOUTS={payouts} PAYOUTS_SEED={seed}"));
        let totals = simulate_in_memory(seed, payouts, 2);
        show(format_args!("payouts: {totals}"));
        assert!(totals.is_sound(), "seed {seed}: {totals:?}");
        assert_eq!(totals.payouts, payouts, "seed {seed}: a part of the simulation panicked");
        assert!(totals.rerouted > payouts / 100, "seed {seed}: too little was re-routed: {totals}");
        assert!(totals.held < payouts / 3, "seed {seed}: too much waits for people: {totals}");
        assert!(totals.crashes > payouts / 100 && totals.conflicts > payouts / 100, "seed {seed}: {totals}");
    }

    #[test]
    fn a_seed_is_a_story() {
        assert_eq!(simulate_in_memory(7, 60, 1), simulate_in_memory(7, 60, 1));
        assert_eq!(simulate_in_memory(7, 60, 1).acts, simulate_in_memory(7, 60, 2).acts);
    }

    #[test]
    fn the_simulation_finds_each_planted_fault() {
        for mutant in [Mutant::TimeOutIsProof, Mutant::OneNotFoundIsProof, Mutant::KeyNeverExpires] {
            let found = mutant::with(mutant, || {
                (0..20).any(|round| !simulate(&mut MemoryStore::default(), 11 + round, 0..500).paid_twice.is_empty())
            });
            assert!(found, "{mutant:?} paid no payout twice");
        }
        assert!(simulate(&mut MemoryStore::default(), 11, 0..500).is_sound(), "without a fault none is paid twice");
    }
}
