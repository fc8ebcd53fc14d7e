//! The simulation of payouts at its full length, on SQLite files as the operator has them.

use futures::{StreamExt as _, stream};

use super::SqliteStore;
use crate::ledger::contract::OpenLedger as _;
use crate::ledger::contract::decision_fixtures::verify;
use crate::ledger::contract::payout_simulation::{simulated, variable};
use crate::testbed::payouts::Totals;
use crate::testbed::shown::show;

/// Payouts of `make ci`.
const PAYOUTS: u64 = 100_000;
/// Payouts of one file.
const SHARE: u64 = 10_000;
/// Files at a time.
const FILES: usize = 2;

/// Simulates these payouts on a file of their own, whose chain is verified at the end where `is_verified`.
async fn on_a_file(seed: u64, payouts: std::ops::Range<u64>, is_verified: bool) -> Totals {
    let store = SqliteStore::create().await;
    let ledger = store.writer().await;
    let totals = simulated(ledger.clone(), seed, payouts).await;
    // Each payout has two entries at least: its decision with its registration, and an act.
    assert!(!is_verified || verify(&*ledger).await > 2 * totals.payouts);
    totals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_payout_is_paid_twice_or_lost_on_files() {
    let payouts = variable("PAYOUTS_SQLITE").unwrap_or(PAYOUTS);
    let seed = variable("PAYOUTS_SEED").unwrap_or_else(rand::random);
    show(format_args!("payouts: seed {seed}; to reproduce: PAYOUTS_SQLITE={payouts} PAYOUTS_SEED={seed}"));
    let files = (0..payouts).step_by(usize::try_from(SHARE).unwrap());
    let parts = files.map(|start| on_a_file(seed, start..payouts.min(start + SHARE), start == 0));
    let mut parts = stream::iter(parts).buffer_unordered(FILES);
    let mut totals = Totals::default();
    while let Some(part) = parts.next().await {
        totals.add(part);
    }
    show(format_args!("payouts: {totals}"));
    assert!(totals.is_sound() && totals.payouts == payouts, "seed {seed}: {totals:?}");
    assert!(totals.conflicts > payouts / 100 && totals.crashes > payouts / 100, "seed {seed}: {totals}");
    assert!(totals.rerouted > payouts / 100, "seed {seed}: too little was re-routed: {totals}");
}
