//! Consumers, deliveries, webhooks and rate limits on the server.

mod consumers;
mod history;
mod pending;
mod rate;
mod read;
mod requeue;
mod store;
mod webhooks;
