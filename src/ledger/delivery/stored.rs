//! What is read of deliveries.

use jiff::Timestamp;

use super::status::{DeliverStatus, PublishStatus};
use crate::ledger::outbox::{EventFilter, StoredEvent};

/// Filter for the deliveries of one consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Whose.
    pub consumer_id: i64,
    /// Of which events; `after` is the place to go on at.
    pub events: EventFilter,
    /// Only those with this status; `None`: all.
    pub publish: Option<PublishStatus>,
    /// Only those of which the consumer said this; `None`: all.
    pub deliver: Option<DeliverStatus>,
}

/// An event for a consumer, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// The event.
    pub event: StoredEvent,
    /// Whose delivery it is.
    pub consumer_id: i64,
    /// Whether the broker has it.
    pub publish: PublishStatus,
    /// How often it was sent to the broker.
    pub publish_tries: u32,
    /// When the broker confirmed it last.
    pub published: Option<Timestamp>,
    /// Why the last try failed.
    pub failure: Option<String>,
    /// When the next try is due, if the last one failed.
    pub next_try: Option<Timestamp>,
    /// What the consumer said of it.
    pub deliver: DeliverStatus,
    /// How often the broker got it.
    pub deliver_tries: u32,
    /// When the consumer confirmed it.
    pub delivered: Option<Timestamp>,
}

/// How much of a consumer's deliveries is not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryUsage {
    /// Which consumer.
    pub consumer_id: i64,
    /// Its name.
    pub consumer: String,
    /// Deliveries that are not published.
    pub pending: u64,
    /// Those of them that were tried in vain.
    pub failing: u64,
    /// When the oldest pending event was stored.
    pub oldest_pending: Option<Timestamp>,
}
