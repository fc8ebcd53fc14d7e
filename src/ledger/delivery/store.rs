//! The interface of deliveries.

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use super::pending::{PendingPage, PendingQuery, PublishResult};
use super::requeue::{Requeue, RequeueCount};
use super::status::{ConfirmOutcome, ConfirmStatus};
use super::stored::{DeliveryFilter, DeliveryUsage, StoredDelivery};
use crate::ledger::error::LedgerFuture;
use crate::ledger::lease::Lease;

/// Changes after each commit of this process that stored an event or made a delivery pending.
pub type EventSignal = watch::Receiver<u64>;

/// Access to deliveries.
pub trait Deliveries {
    /// What is pending for a consumer. Empty while its history is being filled.
    fn pending_deliveries<'a>(&'a self, query: &'a PendingQuery) -> LedgerFuture<'a, PendingPage>;

    /// Records what became of tries. A delivery that is published, or gone, is not changed.
    ///
    /// # Errors
    /// [`Fenced`](crate::ledger::error::LedgerError::Fenced): another process relays; nothing is recorded.
    fn record_publishes<'a>(
        &'a self,
        lease: &'a Lease,
        results: &'a [PublishResult],
        now: Timestamp,
    ) -> LedgerFuture<'a, ()>;

    /// How much is pending, for each consumer.
    fn delivery_usage(&self) -> LedgerFuture<'_, Vec<DeliveryUsage>>;

    /// The first `limit` matching deliveries, in the order of [`list_events`](crate::ledger::outbox::Outbox::list_events).
    fn list_deliveries<'a>(&'a self, filter: &'a DeliveryFilter, limit: u32) -> LedgerFuture<'a, Vec<StoredDelivery>>;

    /// An event for a consumer; `None` if it does not exist, or is not for it.
    fn delivery(&self, consumer_id: i64, event_id: Uuid) -> LedgerFuture<'_, Option<StoredDelivery>>;

    /// The deliveries of an event, by consumer.
    fn event_deliveries(&self, event_id: Uuid) -> LedgerFuture<'_, Vec<StoredDelivery>>;

    /// Records what a consumer says of an event.
    fn confirm_delivery(
        &self,
        consumer_id: i64,
        event_id: Uuid,
        status: ConfirmStatus,
        now: Timestamp,
    ) -> LedgerFuture<'_, ConfirmOutcome>;

    /// Makes deliveries pending, or only counts them; at most 100 000, the oldest first.
    fn requeue_deliveries<'a>(&'a self, requeue: &'a Requeue) -> LedgerFuture<'a, Vec<RequeueCount>>;

    /// Deletes at most `limit` deliveries of consumers that were removed, and then the consumers whose queues are gone; returns
    /// the number of deliveries deleted. Those of other consumers go with their events.
    ///
    /// # Errors
    /// [`Fenced`](crate::ledger::error::LedgerError::Fenced): another process prunes; nothing is deleted.
    fn prune_deliveries<'a>(&'a self, lease: &'a Lease, limit: u32) -> LedgerFuture<'a, u64>;

    /// Says when there may be something to publish. Commits of other replicas are not seen: poll as well.
    fn events_appended(&self) -> EventSignal;
}
