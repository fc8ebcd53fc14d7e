//! Consumers, deliveries, webhooks and rate limits in a copy.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::key::ObjectKey;
use crate::ledger::contract::fixtures::take_named;
use crate::ledger::contract::{at, delivery_fixtures};
use crate::ledger::delivery::{BucketCharge, ConfirmStatus, NewConsumer, NewWebhook, PublishOutcome};
use crate::ledger::lease::Lease;
use crate::ledger::store::Ledger;

/// Two consumers, with a delivery in each state, an open webhook and a bucket that is not full.
pub(super) async fn deliver(ledger: &dyn Ledger, lease: &Lease) {
    let team = NewConsumer { namespaces: Some(vec!["team".into()]), ..delivery_fixtures::new_consumer("ops") };
    let ops = delivery_fixtures::create(ledger, &team).await;
    delivery_fixtures::append(ledger, 1..=3, "syncjob/team/books").await;
    delivery_fixtures::record(ledger, lease, ops.id, 1, PublishOutcome::Published).await;
    delivery_fixtures::record(ledger, lease, ops.id, 2, delivery_fixtures::failed(50)).await;
    ledger.confirm_delivery(ops.id, Uuid::from_u128(1), ConfirmStatus::Processed, at(9)).await.unwrap();
    let late = NewConsumer { history_from: Some(at(0)), ..delivery_fixtures::new_consumer("late") };
    delivery_fixtures::create(ledger, &late).await;
    let (connection, correlation_id) = (ObjectKey::new("team", "bank-a"), Uuid::from_u128(5));
    ledger.accept_webhooks(&[NewWebhook { connection, correlation_id, replay: None }], at(5)).await.unwrap();
    ledger.charge_buckets(&[bucket(3)], at(5)).await.unwrap();
}

fn bucket(tokens: u32) -> BucketCharge {
    BucketCharge { key: "key/ops".into(), tokens, interval: Duration::from_secs(1), burst: 9 }
}

/// What was published, and what was not, with what the copy goes on with.
pub(super) async fn assert_deliveries_copied(copy: &dyn Ledger, original: &dyn Ledger) {
    let consumers = copy.list_consumers().await.unwrap();
    assert_eq!(consumers, original.list_consumers().await.unwrap());
    assert_eq!(copy.consumers_version().await.unwrap(), original.consumers_version().await.unwrap());
    let [late, ops] = &consumers[..] else { panic!("two consumers: {consumers:?}") };
    let stored = async |ledger: &dyn Ledger| {
        let deliveries = delivery_fixtures::deliveries(ledger, ops.id).await;
        // The number of the transaction is the server's own.
        let states = deliveries.into_iter().map(|d| (d.event.id, d.publish, d.failure, d.next_try, d.deliver));
        (states.collect::<Vec<_>>(), ledger.delivery_usage().await.unwrap(), ledger.open_webhooks(9).await.unwrap())
    };
    let copied = stored(copy).await;
    assert_eq!((copied.0.len(), copied.1.len(), copied.2.len()), (3, 2, 1), "made by the original alone");
    assert_eq!(copied, stored(original).await);
    assert_eq!(copy.consumer_key("ops1").await.unwrap(), original.consumer_key("ops1").await.unwrap());
    assert_eq!(copy.charge_buckets(&[bucket(0)], at(5)).await.unwrap(), [at(8)]);
    let relay = take_named(copy, "relay", "me", at(0)).await;
    while copy.fill_history(&relay, 2).await.unwrap() > 0 {}
    delivery_fixtures::append(copy, 900..=900, "syncjob/team/books").await;
    assert_eq!(delivery_fixtures::numbers(copy, late.id).await.last(), Some(&900));
    assert_eq!(delivery_fixtures::pending(copy, &delivery_fixtures::query(ops.id)).await, [2, 3, 900]);
}
