//! Rows into SQLite while events cannot be published.

use std::path::Path;
use std::sync::Arc;

use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::testbed::control_plane::RunDir;

use super::workload::{Extras, Workload};
use crate::outbox::DownRelay;
use crate::stats::Sample;

const ROWS: u64 = 100_000;
const RUNS: usize = 5;

/// The rate of a sync with an event for each page and three consumers whose broker is down, over that without a relay.
pub(crate) async fn ratio_without_broker() -> f64 {
    let directory = Arc::new(RunDir::create("busbar-bench-").expect("a directory"));
    let work = Workload::start(&directory, ROWS).await;
    let mut ratios = Vec::new();
    for n in 0..RUNS {
        let without = took(&work, &directory.path().join(format!("plain-{n}.db")), false).await;
        let with = took(&work, &directory.path().join(format!("down-{n}.db")), true).await;
        ratios.push(without / with);
    }
    Sample::new(ratios).median()
}

/// Seconds of a run into a new ledger.
async fn took(work: &Workload, file: &Path, is_down: bool) -> f64 {
    let ledger = ledger::open(&LedgerUrl::Sqlite(file.to_owned()), OpenMode::Migrate).await.expect("a ledger");
    let relay = if is_down { Some(DownRelay::start(&ledger).await) } else { None };
    let took = work.run(&ledger, Extras::PLAIN).await;
    if let Some(relay) = relay {
        relay.end().await;
    }
    ledger.close().await;
    took.as_secs_f64()
}
