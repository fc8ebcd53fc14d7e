//! The writes of consumers, deliveries, webhooks and rate limits, on a store that holds something for each of them.

use std::time::Duration;

use uuid::Uuid;

use super::delivery_fixtures::{append, create, failed, key, new_consumer, record, seq};
use super::fixtures::at;
use super::guard::Guard;
use crate::domain::key::ObjectKey;
use crate::ledger::delivery::{
    BucketCharge, ClosedWebhook, ConfirmStatus, NewConsumer, NewWebhook, PublishOutcome, PublishResult, ReplayMark,
    Requeue, RequeueKind,
};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::store::Ledger;

/// The number of the event that is tried.
const TRIED: u128 = 77;

/// One write.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryWrite {
    CreateConsumer,
    RotateKey,
    RemoveConsumer,
    FillHistory,
    RecordPublishes,
    ConfirmDelivery,
    Requeue,
    PruneDeliveries,
    AcceptWebhooks,
    CloseWebhooks,
    PruneWebhooks,
    ChargeBuckets,
    PruneBuckets,
}

impl DeliveryWrite {
    /// What guards it.
    pub(crate) const fn guard(self) -> Guard {
        match self {
            Self::FillHistory
            | Self::RecordPublishes
            | Self::PruneDeliveries
            | Self::CloseWebhooks
            | Self::PruneWebhooks
            | Self::PruneBuckets => Guard::Lease,
            Self::CreateConsumer | Self::RotateKey | Self::RemoveConsumer | Self::ConfirmDelivery | Self::Requeue => {
                Guard::State
            }
            Self::AcceptWebhooks | Self::ChargeBuckets => Guard::Addition,
        }
    }
}

/// What the writes refer to.
#[derive(Clone)]
pub(crate) struct DeliveryPrepared {
    consumer_id: i64,
    seq: i64,
}

fn webhook(n: u8) -> NewWebhook {
    NewWebhook {
        connection: ObjectKey::new("team", "bank-a"),
        correlation_id: Uuid::from_u128(n.into()),
        replay: Some(ReplayMark { digest: [n; 32], expires: at(5) }),
    }
}

fn charge(key: &str) -> BucketCharge {
    BucketCharge { key: key.into(), tokens: 1, interval: Duration::from_secs(1), burst: 10 }
}

impl DeliveryPrepared {
    /// Fills a store.
    pub(crate) async fn prepare(ledger: &dyn Ledger, lease: &Lease) -> Self {
        let consumer = create(ledger, &new_consumer("ops")).await;
        create(ledger, &new_consumer("gone")).await;
        append(ledger, TRIED..=TRIED, "syncjob/team/books").await;
        ledger.remove_consumer("gone", at(1)).await.unwrap().unwrap();
        create(ledger, &NewConsumer { history_from: Some(at(0)), ..new_consumer("late") }).await;
        record(ledger, lease, consumer.id, TRIED, failed(50)).await;
        ledger.accept_webhooks(&[webhook(1)], at(1)).await.unwrap();
        ledger.charge_buckets(&[charge("old")], at(0)).await.unwrap();
        Self { consumer_id: consumer.id, seq: seq(ledger, TRIED).await }
    }

    /// Makes one write.
    pub(crate) async fn make(
        &self,
        ledger: &dyn Ledger,
        lease: &Lease,
        write: DeliveryWrite,
    ) -> Result<(), LedgerError> {
        match write {
            DeliveryWrite::CreateConsumer => {
                let consumer = NewConsumer { history_from: Some(at(0)), ..new_consumer("new") };
                ledger.create_consumer(&consumer, at(20)).await.map(drop)
            }
            DeliveryWrite::RotateKey => {
                ledger.rotate_key("ops", &key("ops", 2), Duration::from_mins(1), at(20)).await.map(drop)
            }
            DeliveryWrite::RemoveConsumer => ledger.remove_consumer("ops", at(20)).await.map(drop),
            DeliveryWrite::FillHistory => ledger.fill_history(lease, 10).await.map(drop),
            DeliveryWrite::RecordPublishes => {
                let (consumer_id, outcome) = (self.consumer_id, PublishOutcome::Published);
                ledger.record_publishes(lease, &[PublishResult { consumer_id, seq: self.seq, outcome }], at(20)).await
            }
            DeliveryWrite::ConfirmDelivery => {
                let (id, status) = (Uuid::from_u128(TRIED), ConfirmStatus::Received);
                ledger.confirm_delivery(self.consumer_id, id, status, at(20)).await.map(drop)
            }
            DeliveryWrite::Requeue => {
                let requeue = Requeue {
                    kind: RequeueKind::Resend,
                    consumer_id: None,
                    namespaces: None,
                    from: None,
                    max_tries: None,
                    event_types: Vec::new(),
                    event_ids: Vec::new(),
                    dry_run: false,
                };
                ledger.requeue_deliveries(&requeue).await.map(drop)
            }
            DeliveryWrite::PruneDeliveries => ledger.prune_deliveries(lease, 10).await.map(drop),
            DeliveryWrite::AcceptWebhooks => ledger.accept_webhooks(&[webhook(2)], at(2)).await.map(drop),
            DeliveryWrite::CloseWebhooks => {
                let closed = ClosedWebhook { connection: ObjectKey::new("team", "bank-a"), through: 1 };
                ledger.close_webhooks(lease, &[closed]).await
            }
            DeliveryWrite::PruneWebhooks => ledger.prune_webhooks(lease, 10, at(20)).await.map(drop),
            DeliveryWrite::ChargeBuckets => ledger.charge_buckets(&[charge("new")], at(20)).await.map(drop),
            DeliveryWrite::PruneBuckets => ledger.prune_buckets(lease, 10, at(20)).await.map(drop),
        }
    }
}
