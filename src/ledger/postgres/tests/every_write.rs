//! Every write of the ledger's traits, with a COMMIT that does not arrive and with one whose answer does not.

use super::cutting_proxy::{Cut, CuttingProxy};
use super::store::{migrated_url, open_url};
use crate::ledger::contract::writes::{Write, prepare};
use crate::ledger::store::OpenMode;
use crate::testbed::postgres::PostgresServer;

/// Makes the write on a store of its own, with a cut; then once more.
async fn make_twice(cut: Cut, write: Write) -> (bool, bool) {
    let server = PostgresServer::shared().await.unwrap();
    let proxy = CuttingProxy::start(server, cut).await;
    let direct = migrated_url().await;
    let url = proxy.url(&direct) + "&max_connections=4";
    let ledger = open_url(&url, OpenMode::Migrate).await.unwrap();
    let prepared = prepare(&*ledger).await;
    proxy.arm();
    let first = prepared.make(&*ledger, write).await;
    assert!(proxy.has_cut(), "{write:?} has no transaction");
    let second = prepared.make(&*ledger, write).await;
    ledger.ping().await.unwrap();
    assert!(ledger.health().borrow().is_writable());
    ledger.close().await;
    server.drop_database(&direct);
    (first.is_ok(), second.is_ok())
}

#[tokio::test]
async fn a_write_whose_commit_does_not_arrive_fails_or_is_repeated_and_works_afterwards() {
    for write in Write::ALL {
        let (first, second) = make_twice(Cut::Message, write).await;
        // A page is repeated by the engine: the same page once more is a conflict.
        let is_repeated =
            matches!(write, Write::CommitPage | Write::CommitPages | Write::StagePage | Write::MergeWindow);
        assert!(!first || is_repeated || write.is_optional(), "{write:?} did not fail");
        assert!(second != is_repeated, "{write:?} does not work afterwards");
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_leaves_a_ledger_that_works() {
    for write in Write::ALL {
        let (first, _) = make_twice(Cut::Answer, write).await;
        let is_resolved = matches!(write, Write::CommitPage | Write::CommitPages | Write::StartRun);
        assert!(first || !is_resolved, "{write:?} is read back");
    }
}
