//! Leases and their fences.

use futures::future::join_all;

use super::OpenLedger;
use super::fixtures::{TTL, at, take, take_named};
use crate::ledger::lease::{LeaseOutcome, StoredLease};
use crate::ledger::store::Ledger;

/// The lease `job` as seen by `holder`, who must not get it.
async fn held_by_other(ledger: &dyn Ledger, holder: &str, seconds: i64) -> StoredLease {
    match ledger.acquire_lease("job", holder, TTL, at(seconds), None).await.unwrap() {
        LeaseOutcome::HeldBy(stored) => stored,
        LeaseOutcome::Acquired(lease) => panic!("acquired: {lease:?}"),
    }
}

pub(crate) async fn a_lease_is_acquired_once_until_it_expires(store: &impl OpenLedger) {
    let (one, two) = (store.writer().await, store.writer().await);
    let held = take(&*one, "one", at(0)).await;
    assert_eq!((held.name.as_str(), held.holder.as_str(), held.expires), ("job", "one", at(15)));
    let seen = held_by_other(&*two, "two", 14).await;
    assert_eq!(seen, StoredLease { holder: "one".into(), fence: held.fence, expires: at(15) });
    take(&*two, "two", at(15)).await;
    assert_eq!(held_by_other(&*one, "one", 16).await.holder, "two");
    take_named(&*one, "another job", "one", at(16)).await;
}

pub(crate) async fn each_acquisition_increments_the_fence(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let first = take(&*ledger, "one", at(0)).await;
    ledger.release_lease(&first).await.unwrap();
    let second = take(&*ledger, "two", at(1)).await;
    assert_eq!((first.fence, second.fence), (1, 2), "a fence is never issued twice");
}

pub(crate) async fn a_renewed_lease_outlives_its_first_expiry(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "one", at(0)).await;
    assert!(ledger.renew_lease(&held, TTL, at(10)).await.unwrap());
    let seen = held_by_other(&*ledger, "two", 24).await;
    assert_eq!((seen.fence, seen.expires), (held.fence, at(25)), "a renewal keeps the fence");
}

pub(crate) async fn a_lost_lease_is_neither_renewed_nor_released(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lost = take(&*ledger, "one", at(0)).await;
    take(&*ledger, "two", at(15)).await;
    assert!(!ledger.renew_lease(&lost, TTL, at(16)).await.unwrap());
    ledger.release_lease(&lost).await.unwrap();
    assert_eq!(held_by_other(&*ledger, "one", 17).await.holder, "two");
}

pub(crate) async fn a_holder_takes_its_own_lease_again(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let before = take(&*ledger, "one", at(0)).await;
    let again = take(&*ledger, "one", at(1)).await;
    assert_eq!(again.fence, before.fence + 1);
    assert!(!ledger.renew_lease(&before, TTL, at(2)).await.unwrap(), "the earlier one is lost");
}

pub(crate) async fn a_stale_lease_can_be_acquired_after_the_wall_clock_went_back(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    take(&*ledger, "one", at(3600)).await;
    let seen = held_by_other(&*ledger, "two", 0).await;
    let taken = ledger.acquire_lease("job", "two", TTL, at(20), Some(seen.clone())).await.unwrap();
    let taken = taken.acquired().unwrap();
    assert_eq!(taken.fence, seen.fence + 1);
    let late = ledger.acquire_lease("job", "three", TTL, at(21), Some(seen)).await.unwrap();
    assert!(late.acquired().is_none(), "the observed lease is no longer the stored one");
}

pub(crate) async fn concurrent_attempts_acquire_a_lease_once(store: &impl OpenLedger) {
    let handles = [store.writer().await, store.writer().await];
    let attempts = (0..8).map(|n| {
        let ledger = &handles[n % 2];
        async move { ledger.acquire_lease("job", &format!("holder {n}"), TTL, at(0), None).await.unwrap().acquired() }
    });
    let acquired: Vec<_> = join_all(attempts).await.into_iter().flatten().collect();
    assert_eq!(acquired.len(), 1, "{acquired:?}");
}
