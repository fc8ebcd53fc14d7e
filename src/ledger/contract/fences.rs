//! Writes and deletions under a lease: the ledger refuses them to a process that has lost it.

use super::OpenLedger;
use super::dead_requests::worker;
use super::fixtures::{at, take_named};
use super::writes::{Write, prepare};
use crate::ledger::error::LedgerError;
use crate::ledger::record::TransactionFilter;

pub(crate) async fn every_write_under_a_lease_is_refused_after_its_loss(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let frozen = prepare(&*ledger).await;
    take_named(&*ledger, "job", "another", at(60)).await;
    worker(&*ledger, 1).await;
    let transactions = async || ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
    let before = transactions().await;
    for write in [
        Write::CommitPage,
        Write::StartRun,
        Write::AdoptSource,
        Write::DeleteJob,
        Write::SettleDeadRequest,
        Write::DeleteOrphanedDeadRequests,
        Write::PruneDeadRequests,
    ] {
        let refused = frozen.make(&*ledger, write).await;
        assert!(matches!(refused, Err(LedgerError::Fenced { .. })), "{write:?}: {refused:?}");
    }
    assert_eq!(transactions().await, before);
    assert_eq!(ledger.count_dead_requests().await.unwrap().pending, 1);
}
