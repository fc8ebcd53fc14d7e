//! Trips of a circuit while decisions go on.

use std::sync::Arc;

use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};

use crate::kit::decision_server::RunningDecisions;
use crate::kit::late_choices::late_choices;

/// As the figure `failover.late_choices`.
const TRIPS: u64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn no_decision_that_starts_after_a_trip_chooses_the_bank() {
    let folder = tempfile::tempdir().unwrap();
    let url = LedgerUrl::Sqlite(folder.path().join("ledger.db"));
    let ledger: Arc<dyn Ledger> = ledger::open(&url, OpenMode::Migrate).await.unwrap();
    let service = RunningDecisions::start(&ledger);
    let found = tokio::task::block_in_place(|| late_choices(&service, TRIPS));
    assert_eq!((found.trips, found.late), (TRIPS, 0), "{found:?}");
    assert!(found.decisions >= 2 * TRIPS, "each thread decides after each trip: {found:?}");
    service.stop.cancel();
    service.tasks.wait().await;
    ledger.close().await;
}
