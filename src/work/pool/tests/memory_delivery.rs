//! The ledger in memory: consumers, deliveries, webhooks and rate limits, which the pool never asks for.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::memory_ledger::{MemoryLedger, unused};
use crate::ledger::delivery::{
    BucketCharge, ClosedWebhook, ConfirmOutcome, ConfirmStatus, Consumer, ConsumerKey, Consumers, CreateOutcome,
    Deliveries, DeliveryFilter, DeliveryUsage, EventSignal, NewConsumer, NewKey, NewWebhook, OpenWebhook, PendingPage,
    PendingQuery, PublishResult, RateBuckets, RemovedConsumer, RenameOutcome, Requeue, RequeueCount, RetiredName,
    StoredDelivery, WebhookOutcome, Webhooks,
};
use crate::ledger::{Lease, LedgerFuture};

impl Consumers for MemoryLedger {
    fn create_consumer<'a>(&'a self, _: &'a NewConsumer, _: Timestamp) -> LedgerFuture<'a, CreateOutcome> {
        unused()
    }

    fn list_consumers(&self) -> LedgerFuture<'_, Vec<Consumer>> {
        unused()
    }

    fn consumer<'a>(&'a self, _: &'a str) -> LedgerFuture<'a, Option<Consumer>> {
        unused()
    }

    fn rename_consumer<'a>(&'a self, _: &'a str, _: &'a str, _: Timestamp) -> LedgerFuture<'a, RenameOutcome> {
        unused()
    }

    fn remove_consumer<'a>(&'a self, _: &'a str, _: Timestamp) -> LedgerFuture<'a, Option<RemovedConsumer>> {
        unused()
    }

    fn retired_names(&self) -> LedgerFuture<'_, Vec<RetiredName>> {
        unused()
    }

    fn forget_names<'a>(&'a self, _: &'a Lease, _: &'a [i64], _: Timestamp) -> LedgerFuture<'a, ()> {
        unused()
    }

    fn rotate_key<'a>(
        &'a self,
        _: &'a str,
        _: &'a NewKey,
        _: Duration,
        _: Timestamp,
    ) -> LedgerFuture<'a, Option<Consumer>> {
        unused()
    }

    fn consumer_key<'a>(&'a self, _: &'a str) -> LedgerFuture<'a, Option<ConsumerKey>> {
        unused()
    }

    fn consumers_version(&self) -> LedgerFuture<'_, u64> {
        unused()
    }

    fn fill_history<'a>(&'a self, _: &'a Lease, _: u32) -> LedgerFuture<'a, u64> {
        unused()
    }
}

impl Deliveries for MemoryLedger {
    fn pending_deliveries<'a>(&'a self, _: &'a PendingQuery) -> LedgerFuture<'a, PendingPage> {
        unused()
    }

    fn record_publishes<'a>(&'a self, _: &'a Lease, _: &'a [PublishResult], _: Timestamp) -> LedgerFuture<'a, ()> {
        unused()
    }

    fn delivery_usage(&self) -> LedgerFuture<'_, Vec<DeliveryUsage>> {
        unused()
    }

    fn list_deliveries<'a>(&'a self, _: &'a DeliveryFilter, _: u32) -> LedgerFuture<'a, Vec<StoredDelivery>> {
        unused()
    }

    fn delivery(&self, _: i64, _: Uuid) -> LedgerFuture<'_, Option<StoredDelivery>> {
        unused()
    }

    fn event_deliveries(&self, _: Uuid) -> LedgerFuture<'_, Vec<StoredDelivery>> {
        unused()
    }

    fn confirm_delivery(&self, _: i64, _: Uuid, _: ConfirmStatus, _: Timestamp) -> LedgerFuture<'_, ConfirmOutcome> {
        unused()
    }

    fn requeue_deliveries<'a>(&'a self, _: &'a Requeue) -> LedgerFuture<'a, Vec<RequeueCount>> {
        unused()
    }

    fn prune_deliveries<'a>(&'a self, _: &'a Lease, _: u32) -> LedgerFuture<'a, u64> {
        unused()
    }

    fn events_appended(&self) -> EventSignal {
        tokio::sync::watch::channel(0).1
    }
}

impl Webhooks for MemoryLedger {
    fn accept_webhooks<'a>(&'a self, _: &'a [NewWebhook], _: Timestamp) -> LedgerFuture<'a, Vec<WebhookOutcome>> {
        unused()
    }

    fn open_webhooks(&self, _: u32) -> LedgerFuture<'_, Vec<OpenWebhook>> {
        unused()
    }

    fn close_webhooks<'a>(&'a self, _: &'a Lease, _: &'a [ClosedWebhook]) -> LedgerFuture<'a, ()> {
        unused()
    }

    fn prune_webhooks<'a>(&'a self, _: &'a Lease, _: u32, _: Timestamp) -> LedgerFuture<'a, u64> {
        unused()
    }
}

impl RateBuckets for MemoryLedger {
    fn charge_buckets<'a>(&'a self, _: &'a [BucketCharge], _: Timestamp) -> LedgerFuture<'a, Vec<Timestamp>> {
        unused()
    }

    fn prune_buckets<'a>(&'a self, _: &'a Lease, _: u32, _: Timestamp) -> LedgerFuture<'a, u64> {
        unused()
    }
}
