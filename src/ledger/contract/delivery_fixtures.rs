//! Consumers, events and tries that the rules of deliveries share.

use uuid::Uuid;

use super::fixtures::at;
use crate::domain::event::{EventType, OutboxEvent};
use crate::ledger::delivery::{
    Consumer, CreateOutcome, DeliveryFilter, NewConsumer, NewKey, PendingQuery, PublishFailure, PublishOutcome,
    PublishResult, StoredDelivery,
};
use crate::ledger::lease::Lease;
use crate::ledger::outbox::EventFilter;
use crate::ledger::store::Ledger;

/// An event of `team` about `aggregate`.
pub(crate) fn event(n: u128, aggregate: &str) -> OutboxEvent {
    OutboxEvent {
        id: Uuid::from_u128(n),
        event_type: EventType::FetchStarted,
        namespace: "team".into(),
        aggregate: aggregate.into(),
        payload: format!("{{\"n\":{n}}}"),
        correlation_id: Uuid::from_u128(1),
    }
}

/// Appends an event for each number, about `aggregate`.
pub(crate) async fn append(ledger: &dyn Ledger, numbers: std::ops::RangeInclusive<u128>, aggregate: &str) {
    let events: Vec<_> = numbers.map(|n| event(n, aggregate)).collect();
    ledger.append_events(&events, at(i64::try_from(events[0].id.as_u128()).unwrap())).await.unwrap();
}

pub(crate) fn key(name: &str, number: u32) -> NewKey {
    NewKey { key_id: format!("{name}{number}"), hash: format!("$argon2id$v=19${name}${number}") }
}

/// A consumer of all events from now on.
pub(crate) fn new_consumer(name: &str) -> NewConsumer {
    NewConsumer {
        name: name.into(),
        namespaces: None,
        event_types: Vec::new(),
        created_by: "ann".into(),
        key: key(name, 1),
        history_from: None,
        events: Vec::new(),
    }
}

pub(crate) async fn create(ledger: &dyn Ledger, consumer: &NewConsumer) -> Consumer {
    match ledger.create_consumer(consumer, at(0)).await.unwrap() {
        CreateOutcome::Created(consumer) => consumer,
        CreateOutcome::Exists => panic!("the name is free"),
    }
}

pub(crate) fn query(consumer_id: i64) -> PendingQuery {
    PendingQuery { consumer_id, after: None, now: at(100), limit: 100, per_aggregate: 100 }
}

/// The numbers of the events that are pending and due, by aggregate.
pub(crate) async fn pending(ledger: &dyn Ledger, query: &PendingQuery) -> Vec<u128> {
    let page = ledger.pending_deliveries(query).await.unwrap();
    page.deliveries.iter().map(|delivery| delivery.event.id.as_u128()).collect()
}

/// Records what became of a try of the event with this number.
pub(crate) async fn record(ledger: &dyn Ledger, lease: &Lease, consumer_id: i64, n: u128, outcome: PublishOutcome) {
    let seq = seq(ledger, n).await;
    ledger.record_publishes(lease, &[PublishResult { consumer_id, seq, outcome }], at(90)).await.unwrap();
}

pub(crate) fn failed(next_try: i64) -> PublishOutcome {
    PublishOutcome::Failed { reason: PublishFailure::Nacked, next_try: at(next_try) }
}

pub(crate) async fn seq(ledger: &dyn Ledger, n: u128) -> i64 {
    let events = ledger.list_events(&EventFilter::default(), 10_000).await.unwrap();
    events.iter().find(|event| event.id.as_u128() == n).unwrap().position.seq
}

pub(crate) fn of(consumer_id: i64) -> DeliveryFilter {
    DeliveryFilter { consumer_id, events: EventFilter::default(), publish: None, deliver: None }
}

/// All deliveries of a consumer.
pub(crate) async fn deliveries(ledger: &dyn Ledger, consumer_id: i64) -> Vec<StoredDelivery> {
    ledger.list_deliveries(&of(consumer_id), 10_000).await.unwrap()
}

/// The numbers of the events that a consumer has.
pub(crate) async fn numbers(ledger: &dyn Ledger, consumer_id: i64) -> Vec<u128> {
    deliveries(ledger, consumer_id).await.iter().map(|delivery| delivery.event.id.as_u128()).collect()
}
