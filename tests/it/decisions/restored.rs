//! Copies of a ledger with followed payouts: whatever the way, attempts may be missing, and a person must look.

use busbar::domain::payout::{HoldReason, PayoutState};
use busbar::ledger::{self, LedgerUrl, OpenMode};

use super::env::{Engine, decide_into, follow};
use crate::kit::binary::{busbar, run_async};
use crate::kit::decision_server::NAMESPACE;

/// Whether payouts of the ledger are suspended, and how the followed one is held.
async fn standing(url: &str) -> (bool, PayoutState, Option<HoldReason>) {
    let ledger = ledger::open(&url.parse::<LedgerUrl>().unwrap(), OpenMode::ReadOnly).await.unwrap();
    let suspended = ledger.payouts_suspended().await.unwrap();
    let payout = ledger.payout(NAMESPACE, "payout-1").await.unwrap().expect("copied").payout;
    ledger.close().await;
    (suspended, payout.state(), payout.hold())
}

async fn suspends_payouts(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let original = engine.create(folder.path()).await;
    decide_into(&original, 2).await;
    follow(&original, "payout-1").await;
    let backup = folder.path().join("backup.db").display().to_string();
    run_async(busbar(&["ledger", "backup", "--ledger", &original, "--to", &backup])).await.ok();
    assert_eq!(standing(&original).await, (false, PayoutState::Open, None), "a backup changes nothing");
    let held = (true, PayoutState::Held, Some(HoldReason::RestoredWithLoss));
    for (name, accepts) in [("plain.db", false), ("accepted.db", true)] {
        let target = format!("sqlite:{}", folder.path().join(name).display());
        let mut restore = vec!["ledger", "restore", "--from", &backup, "--ledger", &target];
        if accepts {
            restore.push("--accept-loss");
        }
        let said = run_async(busbar(&restore)).await.ok();
        assert!(said.contains("payouts suspended: ") && said.contains("1 put under review"), "{said}");
        assert_eq!(standing(&target).await, held, "{name}");
    }
    let said = run_async(busbar(&["ledger", "accept-loss", "--ledger", &original])).await.ok();
    assert!(said.contains("1 put under review"), "{said}");
    assert_eq!(standing(&original).await, held, "its loss was accepted where it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_go_on_with_an_older_sqlite_ledger_suspends_payouts() {
    suspends_payouts(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_go_on_with_an_older_postgresql_ledger_suspends_payouts() {
    suspends_payouts(Engine::Postgres).await;
}
