//! COMMIT, and an answer that does not arrive.

use super::cutting_proxy::{Cut, CuttingProxy};
use super::store::{migrated_url, open_url};
use crate::ledger::contract::{at, books, commit, count, cursor_key, row, run_id, state, take};
use crate::ledger::runs::{RunStart, RunTrigger};
use crate::ledger::store::OpenMode;
use crate::testbed::postgres::PostgresServer;

fn run() -> RunStart {
    RunStart {
        id: run_id(7),
        job: books(),
        trigger: RunTrigger::Schedule,
        slot: Some(at(5)),
        dry_run: false,
        events: Vec::new(),
        at: at(5),
    }
}

#[tokio::test]
async fn a_page_whose_commit_lost_its_answer_is_known_to_be_committed() {
    let server = PostgresServer::shared().await.unwrap();
    let proxy = CuttingProxy::start(server, Cut::Answer).await;
    let ledger = open_url(&proxy.url(&migrated_url().await), OpenMode::Migrate).await.unwrap();
    let held = take(&*ledger, "me", at(0)).await;
    for version in 0..3 {
        proxy.arm();
        let rows: Vec<_> = (0..50).map(|n| row(&format!("k{version}-{n}"), n)).collect();
        let outcome = commit(&*ledger, &held, &state(version, "next"), &rows).await.unwrap();
        assert!(proxy.has_cut());
        assert_eq!((outcome.version, outcome.counts.inserted), (version + 1, 50));
    }
    assert_eq!(count(&*ledger).await, 150, "nothing twice, nothing missing");
}

#[tokio::test]
async fn a_page_whose_commit_did_not_arrive_is_committed_by_its_repetition() {
    let server = PostgresServer::shared().await.unwrap();
    let proxy = CuttingProxy::start(server, Cut::Message).await;
    let ledger = open_url(&proxy.url(&migrated_url().await), OpenMode::Migrate).await.unwrap();
    let held = take(&*ledger, "me", at(0)).await;
    proxy.arm();
    let outcome = commit(&*ledger, &held, &state(0, "next"), &[row("a", 1)]).await.unwrap();
    assert!(proxy.has_cut());
    assert_eq!((outcome.version, outcome.counts.inserted, count(&*ledger).await), (1, 1, 1));
    let cursor = ledger.load_cursor(&cursor_key("books", "")).await.unwrap().unwrap();
    assert_eq!(cursor.version, 1, "once");
}

#[tokio::test]
async fn a_run_whose_start_lost_its_answer_is_made_and_its_slot_not_lost() {
    let server = PostgresServer::shared().await.unwrap();
    for (cut, started) in [(Cut::Answer, true), (Cut::Message, false)] {
        let proxy = CuttingProxy::start(server, cut).await;
        let ledger = open_url(&proxy.url(&migrated_url().await), OpenMode::Migrate).await.unwrap();
        let held = take(&*ledger, "me", at(0)).await;
        proxy.arm();
        let outcome = ledger.start_run(&run(), &held).await;
        assert!(proxy.has_cut());
        assert_eq!(outcome.is_ok_and(|made| made), started, "{cut:?}");
        // The slot is free exactly if the run is not made.
        assert_eq!(ledger.start_run(&run(), &held).await.unwrap(), !started, "{cut:?}");
    }
}
