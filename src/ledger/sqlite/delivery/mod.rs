//! Consumers, deliveries, webhooks and rate limits in the file.

mod consumers;
mod history;
mod pending;
mod rate;
mod read;
mod requeue;
mod store;
mod webhooks;
