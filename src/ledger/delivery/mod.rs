//! Who is told of events, and what became of each delivery; webhooks that came in; buckets of rate limits.
//!
//! - [`consumer`], [`key`]: consumers and their API keys, [`Consumers`].
//! - [`status`], [`stored`], [`store`]: one row for each event and consumer, [`Deliveries`].
//! - [`pending`]: what the relay publishes next.
//! - [`requeue`]: what is published again.
//! - [`webhook`]: the durable inbox of webhooks, [`Webhooks`].
//! - [`rate`]: token buckets that replicas share, [`RateBuckets`].
//!
//! The rows of an event are made by a trigger, in the transaction that stores the event: docs/adr/0031 says why.

pub mod consumer;
pub mod key;
pub mod pending;
pub mod rate;
pub mod requeue;
pub(super) mod scope;
pub mod status;
pub mod store;
pub mod stored;
pub mod webhook;

pub use self::consumer::{
    Consumer, ConsumerKey, Consumers, CreateOutcome, NewConsumer, RemovedConsumer, RenameOutcome, RetiredName,
};
pub use self::key::NewKey;
pub use self::pending::{PendingDelivery, PendingPage, PendingQuery, PublishOutcome, PublishResult};
pub use self::rate::{BucketCharge, RateBuckets};
pub use self::requeue::{Requeue, RequeueCount, RequeueKind};
pub use self::status::{ConfirmOutcome, ConfirmStatus, DeliverStatus, PublishFailure, PublishStatus};
pub use self::store::{Deliveries, EventSignal};
pub use self::stored::{DeliveryFilter, DeliveryUsage, StoredDelivery};
pub use self::webhook::{ClosedWebhook, NewWebhook, OpenWebhook, ReplayMark, WebhookOutcome, Webhooks};
