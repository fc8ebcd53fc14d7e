//! Metrics of the relay. All of them are series of the replica that publishes.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use super::broker::QueueDepth;
use crate::ledger::delivery::{DeliveryUsage, PublishFailure};
use crate::metrics::{Metrics, MetricsError};

/// Metrics of the relay. Clones share them.
#[derive(Clone)]
pub(super) struct RelayMetrics {
    published: IntCounterVec,
    failures: IntCounterVec,
    pending: IntGaugeVec,
    failing: IntGaugeVec,
    oldest_pending: IntGaugeVec,
    queue_messages: IntGaugeVec,
    dead_letters: IntGaugeVec,
    broker_up: IntGauge,
    broker_blocked: IntGauge,
    topology_mismatches: IntGauge,
}

impl RelayMetrics {
    /// Registers them.
    pub(super) fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let gauge = |name: &str, help: &str| -> Result<IntGauge, MetricsError> {
            Ok(metrics.int_gauge(name, help, &[])?.with_label_values::<&str>(&[]))
        };
        let of_consumer = |name: &str, help: &str| metrics.int_gauge(name, help, &["consumer"]);
        Ok(Self {
            published: metrics.counter(
                "busbar_outbox_published_total",
                "Events that the broker confirmed, by consumer. An event that is published again counts again.",
                &["consumer"],
            )?,
            failures: metrics.counter(
                "busbar_outbox_publish_failures_total",
                "Events that the broker did not take, by consumer and reason; published again with backoff. returned: \
                 no queue is bound for the routing key.",
                &["consumer", "reason"],
            )?,
            pending: of_consumer(
                "busbar_outbox_pending",
                "Events that are not published, by consumer. Of the replica that publishes.",
            )?,
            failing: of_consumer(
                "busbar_outbox_failing",
                "Events of those pending that were tried in vain, by consumer.",
            )?,
            oldest_pending: of_consumer(
                "busbar_outbox_oldest_pending_seconds",
                "Age of the oldest event that is not published, by consumer. 0 if all are.",
            )?,
            queue_messages: of_consumer(
                "busbar_outbox_queue_messages",
                "Messages in the consumer's queue that it has not fetched.",
            )?,
            dead_letters: of_consumer("busbar_outbox_dead_letters", "Messages in the consumer's dead-letter queue.")?,
            broker_up: gauge("busbar_outbox_broker_up", "1 while this replica has a connection to the broker.")?,
            broker_blocked: gauge(
                "busbar_outbox_broker_blocked",
                "1 while the broker blocks the connection, as it does when its memory or disk is full.",
            )?,
            topology_mismatches: gauge(
                "busbar_outbox_topology_mismatches",
                "Exchanges, queues and bindings of the broker that differ from the declared ones.",
            )?,
        })
    }

    pub(super) fn published(&self, consumer: &str) {
        self.published.with_label_values(&[consumer]).inc();
    }

    pub(super) fn failed(&self, consumer: &str, reason: PublishFailure) {
        self.failures.with_label_values(&[consumer, reason.as_str()]).inc();
    }

    /// How much is pending. Consumers that are gone lose their series.
    pub(super) fn usage(&self, usage: &[DeliveryUsage], now: jiff::Timestamp) {
        for gauge in [&self.pending, &self.failing, &self.oldest_pending] {
            gauge.reset();
        }
        for each in usage {
            let age = each.oldest_pending.map_or(0, |oldest| now.as_second().saturating_sub(oldest.as_second()).max(0));
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            self.pending.with_label_values(&[&each.consumer]).set(number(each.pending));
            self.failing.with_label_values(&[&each.consumer]).set(number(each.failing));
            self.oldest_pending.with_label_values(&[&each.consumer]).set(age);
            // There before the first event and the first failure, so that rates have a beginning.
            self.published.with_label_values(&[&each.consumer]);
            for reason in PublishFailure::ALL {
                self.failures.with_label_values(&[&*each.consumer, reason.as_str()]);
            }
        }
    }

    /// How full the queues of a consumer are; `None`: there is no such queue.
    pub(super) fn depth(&self, consumer: &str, queue: Option<QueueDepth>, dead: Option<QueueDepth>) {
        let messages = |depth: Option<QueueDepth>| depth.map_or(0, |depth| i64::from(depth.messages));
        self.queue_messages.with_label_values(&[consumer]).set(messages(queue));
        self.dead_letters.with_label_values(&[consumer]).set(messages(dead));
    }

    /// Forgets the queues: those of other consumers, or of a broker that is not connected.
    pub(super) fn forget_depths(&self) {
        self.queue_messages.reset();
        self.dead_letters.reset();
    }

    pub(super) fn connected(&self, is_up: bool, is_blocked: bool) {
        self.broker_up.set(is_up.into());
        self.broker_blocked.set((is_up && is_blocked).into());
    }

    pub(super) fn topology_mismatches(&self) -> IntGauge {
        self.topology_mismatches.clone()
    }
}
