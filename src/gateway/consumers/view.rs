//! What is answered about consumers and deliveries.

use serde::Serialize;
use utoipa::ToSchema;

use crate::ledger::delivery::{Consumer, RequeueCount};
use crate::provider::event_queues::{DeadCount, DeadEvent};

/// A consumer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConsumerView {
    /// Its name: its queue is named after it.
    pub name: String,
    /// Its former name, if it was renamed: the queue of that name may still hold messages.
    pub previous_name: Option<String>,
    /// The namespaces whose events it gets; null: all.
    pub namespaces: Option<Vec<String>>,
    /// The types of events that it gets; empty: all.
    pub event_types: Vec<String>,
    /// When it was created.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Who created it.
    pub created_by: String,
}

impl From<Consumer> for ConsumerView {
    fn from(consumer: Consumer) -> Self {
        Self {
            name: consumer.name,
            previous_name: consumer.previous_name,
            namespaces: consumer.namespaces,
            event_types: consumer.event_types,
            created_at: consumer.created.to_string(),
            created_by: consumer.created_by,
        }
    }
}

/// All consumers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConsumerList {
    /// By name.
    pub items: Vec<ConsumerView>,
}

/// A consumer and its new key.
#[derive(Clone, Serialize, ToSchema)]
pub struct IssuedConsumer {
    /// The consumer.
    pub consumer: ConsumerView,
    /// The key, for the header `X-API-Key`. It is shown here and never again.
    pub api_key: String,
}

/// A consumer that was removed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RemovedConsumerView {
    /// Its name, which is free now.
    pub name: String,
    /// Deliveries that will not be published any more.
    #[schema(minimum = 0)]
    pub cancelled: u64,
}

/// What became of a confirmation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Confirmed {
    /// The event.
    #[schema(format = "uuid")]
    pub event_id: String,
    /// The status of the delivery now: `received`, `processed` or `failed`.
    #[schema(value_type = String)]
    pub status: &'static str,
    /// Whether the confirmation applies. False if the event was confirmed as `processed` before: what was said is recorded,
    /// and the status stays.
    pub applied: bool,
}

/// Deliveries of one type that are sent again.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TypeCount {
    /// The type of the events.
    pub event_type: String,
    /// Their number.
    #[schema(minimum = 0)]
    pub count: u64,
}

/// What is sent again, or would be.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Requeued {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The number of deliveries. One call changes at most 100000, the oldest first.
    #[schema(minimum = 0)]
    pub count: u64,
    /// By type.
    pub event_types: Vec<TypeCount>,
}

impl Requeued {
    /// The sum over consumers.
    pub fn new(dry_run: bool, counts: Vec<RequeueCount>) -> Self {
        let mut types = std::collections::BTreeMap::<String, u64>::new();
        for RequeueCount { event_type, count, .. } in counts {
            *types.entry(event_type).or_default() += count;
        }
        let count = types.values().sum();
        let event_types = types.into_iter().map(|(event_type, count)| TypeCount { event_type, count }).collect();
        Self { dry_run, count, event_types }
    }
}

/// A message of a dead-letter queue.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadMessageView {
    /// The event; null for a message that is not one of Busbar's.
    #[schema(format = "uuid")]
    pub event_id: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Why the broker moved it: `rejected`, `expired`, `maxlen` or `delivery_limit`.
    pub reason: String,
    /// When it was moved.
    #[schema(format = DateTime)]
    pub dead_at: Option<String>,
}

impl From<DeadEvent> for DeadMessageView {
    fn from(dead: DeadEvent) -> Self {
        Self {
            event_id: dead.event_id.map(|id| id.to_string()),
            event_type: dead.event_type,
            reason: dead.reason,
            dead_at: dead.dead_at.map(|at| at.to_string()),
        }
    }
}

/// Messages of a dead-letter queue.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadLetterList {
    /// Oldest first.
    pub items: Vec<DeadMessageView>,
}

/// Messages that were purged or replayed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadLettersMoved {
    /// Their number.
    #[schema(minimum = 0)]
    pub count: u64,
    /// By type.
    pub event_types: Vec<TypeCount>,
}

impl From<Vec<DeadCount>> for DeadLettersMoved {
    fn from(counts: Vec<DeadCount>) -> Self {
        let event_types: Vec<TypeCount> =
            counts.into_iter().map(|DeadCount { event_type, count }| TypeCount { event_type, count }).collect();
        Self { count: event_types.iter().map(|of_type| of_type.count).sum(), event_types }
    }
}
