//! Which transaction answers which method of deliveries.

use futures::FutureExt as _;
use jiff::Timestamp;
use uuid::Uuid;

use super::{pending, read, requeue};
use crate::ledger::delivery::{
    ConfirmOutcome, ConfirmStatus, Deliveries, DeliveryFilter, DeliveryUsage, EventSignal, PendingPage, PendingQuery,
    PublishResult, Requeue, RequeueCount, StoredDelivery,
};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::sqlite::codec::OperationName;
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::database::SqliteLedger;
use crate::ledger::sqlite::lease::assert_held;

const PENDING: OperationName = OperationName("reading pending deliveries");
const RECORD: OperationName = OperationName("recording publications");
const READ: OperationName = OperationName("reading deliveries");
const CONFIRM: OperationName = OperationName("recording what a consumer confirms");
const REQUEUE: OperationName = OperationName("requeueing deliveries");
const PRUNE: OperationName = OperationName("pruning deliveries");

impl Deliveries for SqliteLedger {
    fn pending_deliveries<'a>(&'a self, query: &'a PendingQuery) -> LedgerFuture<'a, PendingPage> {
        let query = query.clone();
        self.read(PENDING, move |tx| pending::page(tx, &query)).boxed()
    }

    fn record_publishes<'a>(
        &'a self,
        lease: &'a Lease,
        results: &'a [PublishResult],
        now: Timestamp,
    ) -> LedgerFuture<'a, ()> {
        let (lease, results) = (lease.clone(), results.to_vec());
        self.write(RECORD, move |tx| {
            assert_held(tx, &lease)?;
            pending::record(tx, &results, now)
        })
        .boxed()
    }

    fn delivery_usage(&self) -> LedgerFuture<'_, Vec<DeliveryUsage>> {
        self.read(READ, pending::usage).boxed()
    }

    fn list_deliveries<'a>(&'a self, filter: &'a DeliveryFilter, limit: u32) -> LedgerFuture<'a, Vec<StoredDelivery>> {
        let filter = filter.clone();
        self.read(READ, move |tx| read::list(tx, &filter, limit)).boxed()
    }

    fn delivery(&self, consumer_id: i64, event_id: Uuid) -> LedgerFuture<'_, Option<StoredDelivery>> {
        self.read(READ, move |tx| read::one(tx, consumer_id, event_id)).boxed()
    }

    fn event_deliveries(&self, event_id: Uuid) -> LedgerFuture<'_, Vec<StoredDelivery>> {
        self.read(READ, move |tx| read::of_event(tx, event_id)).boxed()
    }

    fn confirm_delivery(
        &self,
        consumer_id: i64,
        event_id: Uuid,
        status: ConfirmStatus,
        now: Timestamp,
    ) -> LedgerFuture<'_, ConfirmOutcome> {
        self.write(CONFIRM, move |tx| read::confirm(tx, consumer_id, event_id, status, now)).boxed()
    }

    fn requeue_deliveries<'a>(&'a self, requeue: &'a Requeue) -> LedgerFuture<'a, Vec<RequeueCount>> {
        let requeue = requeue.clone();
        self.write(REQUEUE, move |tx| requeue::requeue(tx, &requeue)).boxed()
    }

    fn prune_deliveries<'a>(&'a self, lease: &'a Lease, limit: u32) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(PRUNE, move |tx| {
            assert_held(tx, &lease)?;
            prune(tx, limit)
        })
        .boxed()
    }

    fn events_appended(&self) -> EventSignal {
        self.events.subscribe()
    }
}

/// Deletes deliveries of removed consumers, and the consumers that have neither these nor queues.
fn prune(tx: &Transaction<'_>, limit: u32) -> Result<u64, LedgerError> {
    // CROSS JOIN: the few consumers first, not all deliveries.
    let deleted = tx.execute(
        "DELETE FROM outbox_delivery WHERE (event_seq, consumer_id) IN (
             SELECT d.event_seq, d.consumer_id FROM consumers AS c
             CROSS JOIN outbox_delivery AS d ON d.consumer_id = c.id
             WHERE c.removed_ms IS NOT NULL LIMIT ?1)",
        [limit],
    )?;
    tx.execute(
        "DELETE FROM consumers WHERE removed_ms IS NOT NULL AND queues_gone_ms IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM outbox_delivery AS d WHERE d.consumer_id = consumers.id)",
        [],
    )?;
    Ok(deleted)
}
