//! The durable inbox of webhooks: one row for each connection, which counts what came in and what was acted on.
//!
//! A webhook says only that something changed at the provider; what it carries is never stored. So any number of them is
//! one row, and one run of each job.

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::key::ObjectKey;
use crate::ledger::error::LedgerFuture;
use crate::ledger::lease::Lease;

/// How long the row of a connection without open webhooks is kept, in milliseconds.
pub(crate) const KEPT_MS: i64 = 24 * 60 * 60 * 1_000;

/// What makes a webhook known again within its replay window.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ReplayMark {
    /// SHA-256 of the signed content.
    pub digest: [u8; 32],
    /// When its time is outside the window, so that it is refused without being known.
    pub expires: Timestamp,
}

/// A webhook whose signature is right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewWebhook {
    /// The connection that it is for.
    pub connection: ObjectKey,
    /// The request's ID.
    pub correlation_id: Uuid,
    /// For one whose signed content has a time; `None`: repeats are not told apart, they coalesce.
    pub replay: Option<ReplayMark>,
}

/// What became of a webhook. It is stored in every case.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum WebhookOutcome {
    /// It is the first that is not acted on.
    Accepted,
    /// Another one waits already: both are one run.
    Coalesced,
    /// It came before, within its replay window: nothing is to be done.
    Repeated,
}

/// Webhooks of a connection that are not acted on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenWebhook {
    /// The connection.
    pub connection: ObjectKey,
    /// The number of the last one.
    pub through: u64,
    /// How many they are.
    pub unhandled: u64,
    /// When the first of them came.
    pub first: Timestamp,
    /// When the last of them came.
    pub last: Timestamp,
    /// The request ID of the first of them.
    pub correlation_id: Uuid,
}

/// Webhooks of a connection that were acted on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClosedWebhook {
    /// The connection.
    pub connection: ObjectKey,
    /// The number of the last one that was acted on.
    pub through: u64,
}

/// Access to the inbox.
pub trait Webhooks {
    /// Stores webhooks, in one transaction; their outcomes in the same order.
    fn accept_webhooks<'a>(
        &'a self,
        webhooks: &'a [NewWebhook],
        now: Timestamp,
    ) -> LedgerFuture<'a, Vec<WebhookOutcome>>;

    /// At most `limit` connections with webhooks that are not acted on, the longest waiting first.
    fn open_webhooks(&self, limit: u32) -> LedgerFuture<'_, Vec<OpenWebhook>>;

    /// Records what was acted on. A webhook that came meanwhile stays open.
    ///
    /// # Errors
    /// [`Fenced`](crate::ledger::error::LedgerError::Fenced): another process acts on them; nothing is recorded.
    fn close_webhooks<'a>(&'a self, lease: &'a Lease, closed: &'a [ClosedWebhook]) -> LedgerFuture<'a, ()>;

    /// Deletes at most `limit` marks whose window is over, and rows of connections that got nothing for a day; returns the
    /// number deleted.
    ///
    /// # Errors
    /// [`Fenced`](crate::ledger::error::LedgerError::Fenced): another process prunes; nothing is deleted.
    fn prune_webhooks<'a>(&'a self, lease: &'a Lease, limit: u32, now: Timestamp) -> LedgerFuture<'a, u64>;
}
