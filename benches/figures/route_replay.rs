//! The audit's replay: recorded decisions, read from the ledger and made again on all cores.

use std::num::NonZeroUsize;
use std::path::Path;

use busbar::clock::Clock;
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::routing::audit::{replay_all, verify};
use busbar::tasks::TaskGroup;

use crate::Figures;
use crate::machine::Bill;
use crate::stats::{Sample, float};

const RUNS: usize = 3;

/// Replays the decisions that the HTTP figure left behind in the ledger `file`.
pub(crate) async fn run(figures: &mut Figures, file: &Path) {
    let ledger = ledger::open(&LedgerUrl::Sqlite(file.to_owned()), OpenMode::Migrate).await.expect("the ledger");
    let (clock, threads) = (Clock::system(), std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
    let bill = Bill::now();
    let (mut rates, mut mismatches, mut decisions) = (Vec::new(), 0, 0);
    for _ in 0..RUNS {
        let began = clock.mono();
        let report = replay_all(&*ledger, threads, &TaskGroup::default()).await.expect("the ledger is read");
        let took = clock.mono().since(began);
        if let Some(first) = report.first {
            println!("the first mismatch: {first:?}");
        }
        mismatches += report.mismatches;
        decisions = report.decisions;
        rates.push(float(usize::try_from(report.decisions).unwrap_or(usize::MAX)) / took.as_secs_f64());
    }
    let rates = Sample::new(rates);
    println!("replayed per second on {threads} threads: {rates} runs of {decisions} decisions; {}", bill.since());
    figures.figure("route.replay_per_s", format_args!("{:.0}", rates.median()), "1/s");
    figures.figure("route.replay_mismatches", mismatches, "decisions");

    let began = clock.mono();
    let verdict = verify(&*ledger).await.expect("the ledger is read");
    let took = clock.mono().since(began).as_secs_f64();
    assert_eq!(verdict.broken, None, "the chain verifies");
    println!("the chain of {} records was verified in {took:.1} s", verdict.entries);
    ledger.close().await;
}
