//! The interface of the message broker's dead-letter queues, for those who may not know the broker.

use futures::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

/// Which messages of a dead-letter queue are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadSelection {
    /// Only events of these types; empty: all.
    pub event_types: Vec<String>,
    /// Most messages to look at, from the oldest on.
    pub limit: u32,
}

/// A message of a dead-letter queue, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadEvent {
    /// The ID of the event, if the message has one.
    pub event_id: Option<Uuid>,
    /// The type of the event.
    pub event_type: String,
    /// Why the broker moved it: `rejected`, `expired`, `maxlen` or `delivery_limit`.
    pub reason: String,
    /// When it was moved.
    pub dead_at: Option<Timestamp>,
}

/// Messages of one type that were purged or replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadCount {
    /// The type of the events.
    pub event_type: String,
    /// How many.
    pub count: u64,
}

/// Why nothing could be done with a queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The broker does not answer, or refuses; the cause, without credentials.
    #[error("the message broker is unavailable: {0}")]
    Unavailable(String),
}

/// Result of an action on a queue.
pub type QueueFuture<'a, T> = BoxFuture<'a, Result<T, QueueError>>;

/// Access to the dead-letter queues of consumers.
pub trait EventQueues: Send + Sync {
    /// The messages, oldest first; they stay in the queue.
    fn list_dead<'a>(&'a self, consumer: &'a str, selection: &'a DeadSelection) -> QueueFuture<'a, Vec<DeadEvent>>;

    /// Deletes the messages.
    fn purge_dead<'a>(&'a self, consumer: &'a str, selection: &'a DeadSelection) -> QueueFuture<'a, Vec<DeadCount>>;

    /// Moves the messages back to the consumer's queue; each is removed only once the broker has confirmed its copy.
    fn replay_dead<'a>(&'a self, consumer: &'a str, selection: &'a DeadSelection) -> QueueFuture<'a, Vec<DeadCount>>;
}
