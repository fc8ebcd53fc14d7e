//! Rows from a bank into both ledgers, beside what each ledger can do at best and beside another tool.
//!
//! Everything is measured in one run on one machine: the bank and the PostgreSQL server are processes of their own, the
//! server's settings are those of the package (`fsync` and `synchronous_commit` on), and the files are on the disk of the
//! temporary directory. A ratio compares two measurements that were made one after the other.

mod memory;
mod outage;
mod peer;
mod postgres;
mod sqlite;
mod workload;

use std::sync::Arc;
use std::time::Duration;

use busbar::testbed::control_plane::RunDir;

use self::peer::Ours;
use self::workload::Workload;
use crate::Figures;
use crate::machine;
use crate::stats::{Sample, float};

pub(crate) use self::outage::ratio_without_broker;

const ROWS: u64 = 200_000;

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        println!("machine: {}", machine::describe());
        let directory = Arc::new(RunDir::create("busbar-bench-").expect("a directory"));
        let work = Workload::start(&directory, ROWS).await;
        let sqlite = sqlite::run(figures, &work, directory.path()).await;
        let postgres = postgres::run(figures, &work).await;
        peer::run(figures, &work, directory.path(), &Ours { postgres, sqlite }).await;
        drop(work);
        let directory = Arc::new(RunDir::create("busbar-bench-").expect("a directory"));
        memory::run(figures, &directory).await;
    });
}

/// Rows per second.
fn per_second(rows: u64, took: Duration) -> f64 {
    float(usize::try_from(rows).unwrap_or(usize::MAX)) / took.as_secs_f64()
}

/// A median rate, as it is printed.
fn rate(sample: &Sample) -> String {
    format!("{:.0}", sample.median())
}
