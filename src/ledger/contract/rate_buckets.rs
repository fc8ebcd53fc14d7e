//! Token buckets that replicas share.

use std::time::Duration;

use super::OpenLedger;
use super::fixtures::{at, take_named};
use crate::ledger::delivery::BucketCharge;
use crate::ledger::error::LedgerError;

/// A bucket of ten, with a token for each second.
fn charge(key: &str, tokens: u32) -> BucketCharge {
    BucketCharge { key: key.into(), tokens, interval: Duration::from_secs(1), burst: 10 }
}

pub(crate) async fn two_replicas_share_a_bucket(store: &impl OpenLedger) {
    let (one, two) = (store.writer().await, store.writer().await);
    assert_eq!(one.charge_buckets(&[charge("a", 3)], at(0)).await.unwrap(), [at(3)]);
    assert_eq!(two.charge_buckets(&[charge("a", 2), charge("b", 1)], at(0)).await.unwrap(), [at(5), at(1)]);
    assert_eq!(one.charge_buckets(&[charge("a", 0)], at(1)).await.unwrap(), [at(5)], "only read");
    assert_eq!(one.charge_buckets(&[charge("a", 1)], at(20)).await.unwrap(), [at(21)], "it was full again");
    let both = [charge("b", 1), charge("a", 1), charge("b", 2)];
    assert_eq!(two.charge_buckets(&both, at(20)).await.unwrap(), [at(23), at(22), at(23)]);
    assert_eq!(one.charge_buckets(&[charge("new", 0)], at(30)).await.unwrap(), [at(30)], "full");
    assert!(one.charge_buckets(&[], at(30)).await.unwrap().is_empty());
    let (left, right) = (charge("c", 2), charge("c", 3));
    let (left, right) = ([left], [right]);
    let charged = futures::future::join(one.charge_buckets(&left, at(40)), two.charge_buckets(&right, at(40))).await;
    charged.0.unwrap();
    charged.1.unwrap();
    assert_eq!(one.charge_buckets(&[charge("c", 0)], at(40)).await.unwrap(), [at(45)], "neither is lost");
}

pub(crate) async fn a_bucket_is_never_more_than_empty(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    assert_eq!(ledger.charge_buckets(&[charge("a", 500)], at(0)).await.unwrap(), [at(10)]);
    assert_eq!(ledger.charge_buckets(&[charge("a", 1)], at(0)).await.unwrap(), [at(10)]);
    // A clock that was an hour ahead.
    ledger.charge_buckets(&[charge("a", 5)], at(3_600)).await.unwrap();
    assert_eq!(ledger.charge_buckets(&[charge("a", 0)], at(1)).await.unwrap(), [at(11)]);
}

pub(crate) async fn full_buckets_are_pruned_by_the_holder_of_the_lease(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let former = take_named(&*ledger, "retention", "a", at(0)).await;
    let lease = take_named(&*ledger, "retention", "b", at(60)).await;
    ledger.charge_buckets(&[charge("a", 1), charge("b", 2), charge("c", 9)], at(0)).await.unwrap();
    let fenced = ledger.prune_buckets(&former, 10, at(5)).await;
    assert!(matches!(fenced, Err(LedgerError::Fenced { .. })), "{fenced:?}");
    assert_eq!(ledger.prune_buckets(&lease, 1, at(5)).await.unwrap(), 1);
    assert_eq!(ledger.prune_buckets(&lease, 10, at(5)).await.unwrap(), 1);
    assert_eq!(ledger.prune_buckets(&lease, 10, at(5)).await.unwrap(), 0);
    assert_eq!(ledger.charge_buckets(&[charge("c", 0)], at(5)).await.unwrap(), [at(9)]);
}
