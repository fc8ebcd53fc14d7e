//! Stored events: appended in the transaction of the data that they are about, read in order, removed by age alone.

use jiff::Timestamp;

use super::error::LedgerFuture;
use super::lease::Lease;
pub use crate::domain::event::{ChangedRow, EventPosition, EventType, OutboxEvent, PageEvents, RowChange, StoredEvent};

/// Filter for events. Unset fields match all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only events of this namespace.
    pub namespace: Option<String>,
    /// Only events of this aggregate, or of one that begins with it and `/`.
    pub aggregate: Option<String>,
    /// Only events of these types; empty: all.
    pub types: Vec<String>,
    /// Only events with this correlation ID.
    pub correlation_id: Option<uuid::Uuid>,
    /// Only events stored at or after this time.
    pub from: Option<Timestamp>,
    /// Only events stored before this time.
    pub to: Option<Timestamp>,
    /// Only events after this one.
    pub after: EventPosition,
}

/// How much is stored.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxUsage {
    /// Number of events.
    pub events: u64,
    /// When the oldest was stored.
    pub oldest: Option<Timestamp>,
}

/// Access to stored events.
pub trait Outbox {
    /// Appends events that no other write belongs to; one whose ID is stored is skipped. Returns the number appended.
    fn append_events<'a>(&'a self, events: &'a [OutboxEvent], now: Timestamp) -> LedgerFuture<'a, u64>;

    /// The first `limit` matching events after the filter's position, oldest first.
    fn list_events<'a>(&'a self, filter: &'a EventFilter, limit: u32) -> LedgerFuture<'a, Vec<StoredEvent>>;

    /// How much is stored.
    fn outbox_usage(&self) -> LedgerFuture<'_, OutboxUsage>;

    /// Deletes at most `limit` events that were stored before `before`, the oldest first, and those of a time after `now` with
    /// an event that follows them; returns the number deleted.
    ///
    /// # Errors
    /// [`Fenced`](super::error::LedgerError::Fenced): another process prunes; nothing is deleted.
    fn prune_events<'a>(
        &'a self,
        lease: &'a Lease,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> LedgerFuture<'a, u64>;
}
