//! Which transaction answers which method of deliveries.

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::query;
use uuid::Uuid;

use super::{pending, read, requeue};
use crate::ledger::delivery::{
    ConfirmOutcome, ConfirmStatus, Deliveries, DeliveryFilter, DeliveryUsage, EventSignal, PendingPage, PendingQuery,
    PublishResult, Requeue, RequeueCount, StoredDelivery,
};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::postgres::database::PostgresLedger;
use crate::ledger::postgres::failure::OperationName;
use crate::ledger::postgres::lease::assert_held;
use crate::ledger::postgres::outbox;
use crate::ledger::postgres::transaction::{Transaction, read_tx, write_tx};

const PENDING: OperationName = OperationName("reading pending deliveries");
const RECORD: OperationName = OperationName("recording publications");
const READ: OperationName = OperationName("reading deliveries");
const CONFIRM: OperationName = OperationName("recording what a consumer confirms");
const REQUEUE: OperationName = OperationName("requeueing deliveries");
const PRUNE: OperationName = OperationName("pruning deliveries");

impl Deliveries for PostgresLedger {
    fn pending_deliveries<'a>(&'a self, query: &'a PendingQuery) -> LedgerFuture<'a, PendingPage> {
        async move { read_tx!(self, PENDING, |tx| pending::page(tx, query).await) }.boxed()
    }

    fn record_publishes<'a>(
        &'a self,
        lease: &'a Lease,
        results: &'a [PublishResult],
        now: Timestamp,
    ) -> LedgerFuture<'a, ()> {
        async move {
            write_tx!(self, RECORD, |tx| {
                assert_held(tx, lease).await?;
                pending::record(tx, results, now).await
            })
        }
        .boxed()
    }

    fn delivery_usage(&self) -> LedgerFuture<'_, Vec<DeliveryUsage>> {
        async move { read_tx!(self, READ, |tx| pending::usage(tx).await) }.boxed()
    }

    fn list_deliveries<'a>(&'a self, filter: &'a DeliveryFilter, limit: u32) -> LedgerFuture<'a, Vec<StoredDelivery>> {
        async move {
            let horizon = read_tx!(self, READ, |tx| outbox::horizon(tx).await)?;
            read_tx!(self, READ, |tx| read::list(tx, filter, limit, horizon).await)
        }
        .boxed()
    }

    fn delivery(&self, consumer_id: i64, event_id: Uuid) -> LedgerFuture<'_, Option<StoredDelivery>> {
        async move { read_tx!(self, READ, |tx| read::one(tx, consumer_id, event_id).await) }.boxed()
    }

    fn event_deliveries(&self, event_id: Uuid) -> LedgerFuture<'_, Vec<StoredDelivery>> {
        async move { read_tx!(self, READ, |tx| read::of_event(tx, event_id).await) }.boxed()
    }

    fn confirm_delivery(
        &self,
        consumer_id: i64,
        event_id: Uuid,
        status: ConfirmStatus,
        now: Timestamp,
    ) -> LedgerFuture<'_, ConfirmOutcome> {
        async move { write_tx!(self, CONFIRM, |tx| read::confirm(tx, consumer_id, event_id, status, now).await) }
            .boxed()
    }

    fn requeue_deliveries<'a>(&'a self, requeue: &'a Requeue) -> LedgerFuture<'a, Vec<RequeueCount>> {
        async move { write_tx!(self, REQUEUE, |tx| requeue::requeue(tx, requeue).await) }.boxed()
    }

    fn prune_deliveries<'a>(&'a self, lease: &'a Lease, limit: u32) -> LedgerFuture<'a, u64> {
        async move {
            write_tx!(self, PRUNE, |tx| {
                assert_held(tx, lease).await?;
                prune(tx, limit).await
            })
        }
        .boxed()
    }

    fn events_appended(&self) -> EventSignal {
        self.server().events.subscribe()
    }
}

/// Deletes deliveries of removed consumers, and the consumers that have neither these nor queues.
async fn prune(tx: &mut Transaction, limit: u32) -> Result<u64, LedgerError> {
    let deliveries = query(
        "DELETE FROM outbox_delivery o USING (
             SELECT d.event_seq, d.consumer_id FROM consumers c JOIN outbox_delivery d ON d.consumer_id = c.id
             WHERE c.removed_ms IS NOT NULL LIMIT $1
         ) AS old WHERE o.event_seq = old.event_seq AND o.consumer_id = old.consumer_id",
    );
    let deleted = tx.execute(deliveries.bind(i64::from(limit))).await?;
    // A transaction that began before the removal may still store deliveries: they stay unread, and go with their events.
    let consumers = query(
        "DELETE FROM consumers c WHERE c.removed_ms IS NOT NULL AND c.queues_gone_ms IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM outbox_delivery d WHERE d.consumer_id = c.id)",
    );
    tx.execute(consumers).await?;
    Ok(deleted)
}
