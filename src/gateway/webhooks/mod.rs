//! Webhooks of providers: each says that something changed there, and triggers the syncs of its connection. What it carries is
//! never stored.
//!
//! - [`rule`]: how a webhook is verified, and which events count.
//! - [`inbox`]: stores webhooks, many in one transaction.
//! - [`receive`]: `POST /webhooks/{namespace}/{connection}`.

pub mod inbox;
pub mod receive;
pub mod rule;

pub use self::inbox::{WebhookInbox, WebhookWriter, webhook_inbox};
