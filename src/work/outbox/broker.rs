//! What the relay needs of a message broker.

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

use crate::ledger::delivery::PublishFailure;

/// Why the broker cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Its credentials, or the certificates to verify it with, cannot be read.
    #[error("{file} cannot be read: {cause}")]
    File {
        /// The flag and its value.
        file: String,
        /// Why.
        cause: String,
    },
    /// It does not answer in time.
    #[error("no response within {seconds} s")]
    TimedOut {
        /// How long was waited.
        seconds: u64,
    },
    /// It refuses this one request, such as for a right that the user does not have; the connection goes on.
    #[error("refused: {0}")]
    Refused(String),
    /// It refuses, or the connection ended.
    #[error("{0}")]
    Failed(String),
}

/// Result of an exchange with the broker.
pub type BrokerFuture<'a, T> = BoxFuture<'a, Result<T, BrokerError>>;

/// A message to publish. It is persistent, and must reach a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The event's ID: the same however often it is published.
    pub id: Uuid,
    /// The event's type.
    pub event_type: String,
    /// The correlation ID.
    pub correlation_id: Uuid,
    /// When the event was stored.
    pub timestamp: Timestamp,
    /// What it is routed by.
    pub routing_key: String,
    /// JSON.
    pub body: Vec<u8>,
}

/// What became of a message: the broker has it, in a queue and on disk, or why not.
pub type Verdict = Result<(), PublishFailure>;

/// The value of a queue's argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// Something that must exist in the broker. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declaration {
    /// An exchange.
    Exchange {
        /// Its name.
        name: String,
        /// Whether it routes by patterns, else by equal keys.
        is_topic: bool,
    },
    /// A queue.
    Queue {
        /// Its name.
        name: String,
        /// Its arguments, by name.
        arguments: Vec<(&'static str, Argument)>,
    },
    /// What a queue gets of an exchange.
    Binding {
        /// The queue.
        queue: String,
        /// The exchange.
        exchange: String,
        /// The key, or the pattern.
        key: String,
    },
}

/// A declaration that the broker refuses, because what it has differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The exchange, queue or binding.
    pub subject: String,
    /// What the broker says.
    pub cause: String,
}

/// How full a queue is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that no consumer has.
    pub messages: u32,
    /// Consumers that are connected.
    pub consumers: u32,
}

/// Connects to a broker.
pub trait Broker: Send + Sync {
    /// A new connection. Credentials are read again each time.
    fn connect(&self) -> BrokerFuture<'_, Arc<dyn BrokerSession>>;
}

/// A connection.
pub trait BrokerSession: Send + Sync {
    /// Declares what must exist, in this order; returns what the broker refuses. A refusal ends nothing.
    fn declare<'a>(&'a self, declarations: &'a [Declaration]) -> BrokerFuture<'a, Vec<Mismatch>>;

    /// How full a queue is; `None` if it does not exist.
    fn depth<'a>(&'a self, queue: &'a str) -> BrokerFuture<'a, Option<QueueDepth>>;

    /// Deletes a queue with what it holds; one that does not exist is deleted already.
    ///
    /// # Errors
    /// [`Refused`](BrokerError::Refused): the queue is still there, and the connection goes on.
    fn delete_queue<'a>(&'a self, queue: &'a str) -> BrokerFuture<'a, ()>;

    /// Publishes to an exchange, on a channel of its own.
    fn publisher<'a>(&'a self, exchange: &'a str) -> BrokerFuture<'a, Box<dyn Publisher>>;

    /// Whether the broker has blocked the connection (`connection.blocked`): it reads nothing until it has memory or disk.
    fn is_blocked(&self) -> bool;

    /// Whether the connection is up, as far as is known.
    fn is_open(&self) -> bool;

    /// Ends the connection in order.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A channel that publishes.
pub trait Publisher: Send + Sync {
    /// Publishes all of the messages and waits for the broker's word on each; the verdicts are in their order. A connection
    /// that is blocked is waited for. After [`TimedOut`](PublishFailure::TimedOut) the channel is of no use any more, after
    /// [`ConnectionLost`](PublishFailure::ConnectionLost) the connection.
    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Vec<Verdict>>;
}
