//! Decisions that choose a bank although its circuit was open before they started: there must be none.

use std::sync::Arc;

use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};
use busbar::testbed::control_plane::RunDir;

use crate::Figures;
use crate::decision_server::RunningDecisions;
use crate::late_trips::late_choices;

const TRIPS: u64 = 10_000;

pub(crate) async fn run(figures: &mut Figures, run: &Arc<RunDir>) {
    let url = LedgerUrl::Sqlite(run.path().join("late-choices.db"));
    let ledger: Arc<dyn Ledger> = ledger::open(&url, OpenMode::Migrate).await.expect("a ledger");
    let service = RunningDecisions::start(&ledger);
    let found = late_choices(&service, TRIPS);
    println!(
        "{} trips on two threads, {} decisions after them and before the bank's return",
        found.trips, found.decisions
    );
    figures.figure("failover.late_choices", found.late, "decisions");
    service.stop.cancel();
    service.tasks.wait().await;
    ledger.close().await;
}
