//! Payouts in virtual time: how many were simulated, and how many the banks' own books show twice.

use std::thread::available_parallelism;
use std::time::Instant;

use busbar::testbed::payouts::simulate_in_memory;

use crate::Figures;

/// Payouts of a run.
const PAYOUTS: u64 = 200_000;

/// The seed of the figure; the tests draw one of their own in each run.
const SEED: u64 = 20_261_130;

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
pub(crate) fn run(figures: &mut Figures) {
    let threads = available_parallelism().map_or(1, |threads| u64::try_from(threads.get()).unwrap_or(1));
    let started = Instant::now();
    let totals = simulate_in_memory(SEED, PAYOUTS, threads);
    println!("seed {SEED}, {threads} threads, {:.1} s: {totals}", started.elapsed().as_secs_f64());
    assert!(totals.lost.is_empty() && totals.misjudged.is_empty(), "a payout was lost or misjudged: {totals:?}");
    figures.figure("payouts.simulated", totals.payouts, "payouts");
    figures.figure("payouts.paid_twice", totals.paid_twice.len(), "payouts");
}
