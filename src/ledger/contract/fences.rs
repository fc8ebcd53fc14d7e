//! Writes and deletions under a lease: the ledger refuses them to a process that has lost it.

use super::OpenLedger;
use super::dead_requests::worker;
use super::fixtures::{at, take_named};
use super::writes::{Guard, Write, prepare};
use crate::domain::key::ObjectKey;
use crate::ledger::error::LedgerError;
use crate::ledger::record::TransactionFilter;
use crate::ledger::store::Ledger;

/// What the writes under a lease would delete.
async fn stored(ledger: &dyn Ledger) -> (usize, usize, usize, u64) {
    let transactions = ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
    let audit = ledger.list_audit(None, None, 10).await.unwrap();
    let probes = ledger.last_probes(&ObjectKey::new("ns", "bank-b"), 10).await.unwrap();
    (transactions.len(), audit.len(), probes.len(), ledger.count_dead_requests().await.unwrap().pending)
}

pub(crate) async fn every_write_under_a_lease_is_refused_after_its_loss(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let frozen = prepare(&*ledger).await;
    for name in ["job", "pruning"] {
        take_named(&*ledger, name, "another", at(60)).await;
    }
    worker(&*ledger, 1).await;
    let before = stored(&*ledger).await;
    assert_eq!(before, (2, 3, 3, 1));
    for write in Write::ALL.into_iter().filter(|write| write.guard() == Guard::Lease) {
        let refused = frozen.make(&*ledger, write).await;
        assert!(matches!(refused, Err(LedgerError::Fenced { .. })), "{write:?}: {refused:?}");
    }
    assert_eq!(stored(&*ledger).await, before);
}

pub(crate) async fn the_holder_of_the_lease_prunes_what_a_former_holder_may_not(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let holder = prepare(&*ledger).await;
    for write in [Write::PruneProbes, Write::PruneAudit] {
        holder.make(&*ledger, write).await.unwrap();
    }
    let (_, audit, probes, _) = stored(&*ledger).await;
    assert_eq!((audit, probes), (1, 1));
}
