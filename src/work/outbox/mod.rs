//! The outbox relay: publishes stored events to a message broker, each at least once to every consumer that it is for.
//!
//! - [`broker`]: what the relay needs of a broker; [`amqp`]: RabbitMQ; `amqp_publisher`: a channel that publishes.
//! - [`topology`]: exchanges, queues and bindings. [`url`]: where the broker is.
//! - [`relay`]: the lease, the connection and its backoff; `session`: what is done while a connection lasts; `lane`:
//!   the deliveries of one consumer; `housekeeping`: what goes on without a broker.
//! - [`dead_letters`]: the dead-letter queues, for the gateway.
//!
//! The ledger is the queue: a delivery is pending until the broker has confirmed its event, and whatever happens between
//! is repeated with the same message ID. No write of an event waits for any of this (docs/adr/0031, docs/adr/0032).

pub mod amqp;
mod amqp_publisher;
mod amqp_refusal;
pub mod broker;
pub mod dead_letters;
mod housekeeping;
mod lane;
mod message;
mod metrics;
pub mod relay;
mod session;
mod shared;
#[cfg(test)]
mod tests;
pub mod topology;
pub mod url;

pub use self::amqp::{AmqpBroker, BrokerCredentials};
pub use self::dead_letters::AmqpQueues;
pub use self::relay::{OutboxRelay, RelayDeps};
pub use self::topology::{QueueType, TopologyOptions, TopologyStatus};
pub use self::url::AmqpUrl;
