//! The epoch of a ledger.

use super::OpenLedger;
use crate::ledger::epoch::LedgerEpoch;

pub(crate) async fn the_epoch_is_raised_above_itself_and_above_the_lease(store: &impl OpenLedger) {
    let (one, two) = (store.writer().await, store.writer().await);
    assert_eq!(one.epoch().await.unwrap(), LedgerEpoch::default(), "a new ledger");
    assert_eq!(one.raise_epoch(0).await.unwrap(), Some(1));
    assert_eq!(two.raise_epoch(1).await.unwrap(), Some(2), "another process");
    assert_eq!(one.raise_epoch(0).await.unwrap(), Some(3), "a lease without the annotation");
    assert_eq!(two.epoch().await.unwrap(), LedgerEpoch { number: 3, loss_accepted: false });
}

pub(crate) async fn a_ledger_behind_the_lease_is_raised_once_after_its_loss_is_accepted(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    assert_eq!(ledger.raise_epoch(7).await.unwrap(), None);
    assert_eq!(ledger.epoch().await.unwrap(), LedgerEpoch::default(), "nothing is written");
    assert!(!ledger.payouts_suspended().await.unwrap());
    ledger.accept_loss().await.unwrap();
    assert!(ledger.payouts_suspended().await.unwrap(), "attempts may be missing");
    assert!(ledger.epoch().await.unwrap().admits(7));
    assert_eq!(ledger.raise_epoch(7).await.unwrap(), Some(8));
    assert_eq!(ledger.raise_epoch(9).await.unwrap(), None, "the acceptance is used up");
    assert!(ledger.payouts_suspended().await.unwrap(), "until a person resumes them");
}
