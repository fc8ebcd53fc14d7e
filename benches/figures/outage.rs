//! Decisions and syncs while events cannot be published: with a relay whose broker is down, over those without a relay.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::testbed::control_plane::RunDir;

use crate::Figures;
use crate::decision_server::{self, DECIDE, TOKEN};
use crate::load::{NUMBER, Template};
use crate::outbox::DownRelay;
use crate::route_http::{self, GATEWAY, Subject};
use crate::stats::Sample;
use crate::sync;

/// Marks a run of this program as the gateway beside such a relay; the ledger's file and the announce file follow.
pub(crate) const FLAG: &str = "--decision-gateway-without-broker";

const ROUNDS: usize = 5;
const WARM_UP: Duration = Duration::from_secs(1);
const ROUND: Duration = Duration::from_secs(3);

pub(crate) fn run(figures: &mut Figures) {
    // One thread for the load generator.
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ratio = single.block_on(decide_ratio());
    figures.figure("outbox.down_decide_ratio", format_args!("{ratio:.2}"), "ratio");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ratio = runtime.block_on(sync::ratio_without_broker());
    figures.figure("outbox.down_sync_ratio", format_args!("{ratio:.2}"), "ratio");
}

async fn decide_ratio() -> f64 {
    let run = Arc::new(RunDir::create("outage").expect("a folder for the run"));
    let body = decision_server::body(&format!("bench-{NUMBER}")).to_string();
    let (template, numbers) = (Template::post(DECIDE, TOKEN, &body), AtomicU64::new(1));
    let mut up = Subject::start(&run, "gateway", GATEWAY, &run.path().join("plain.db")).await;
    let mut down = Subject::start(&run, "gateway-down", FLAG, &run.path().join("down.db")).await;
    for subject in [&mut up, &mut down] {
        subject.round(&template, &numbers, WARM_UP).await;
        subject.forget_warm_up();
    }
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let floor = up.round(&template, &numbers, ROUND).await;
        ratios.push(down.round(&template, &numbers, ROUND).await.rate() / floor.rate());
    }
    up.print("decide, no relay");
    down.print("decide, the broker is down");
    Sample::new(ratios).median()
}

/// The gateway beside a relay whose broker is down; runs until it is killed.
pub(crate) fn serve(file: &Path, announce: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let ledger = ledger::open(&LedgerUrl::Sqlite(file.to_owned()), OpenMode::Migrate).await.expect("a ledger");
        let _relay = DownRelay::start(&ledger).await;
        route_http::serve_over(&ledger, announce).await;
    });
    ExitCode::SUCCESS
}
