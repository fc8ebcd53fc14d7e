//! The deliveries of one consumer: read from the ledger, published, recorded.
//!
//! Of each aggregate one event is under way at a time, so that a refusal cannot let the next one overtake it. What is under
//! way at once are events of different aggregates, at most [`AGGREGATES`] of them: the window of confirmations.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::amqp_publisher::CONFIRM_TIMEOUT;
use super::broker::{BrokerError, BrokerSession, Publisher, Verdict};
use super::message::message;
use super::shared::Relay;
use crate::domain::backoff::Backoff;
use crate::domain::clock_skew::after;
use crate::ledger::delivery::{
    Consumer, EventSignal, PendingDelivery, PendingQuery, PublishFailure, PublishOutcome, PublishResult,
};
use crate::ledger::{HeldLease, LedgerError};

/// Aggregates of one read, and events under way at once.
const AGGREGATES: u32 = 256;
/// Events of each of them, of one read.
const PER_AGGREGATE: u32 = 8;
/// How long a lane that found nothing waits for a commit of this process; those of others are seen then.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Delay of an event that the broker did not take, and of a consumer of whose events it took none.
const REFUSED: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30) };
/// Delay after a failure of the ledger.
const LEDGER_RETRY: Duration = Duration::from_secs(1);
/// A batch begins only if the lease outlasts it.
const MIN_LEASE: Duration = CONFIRM_TIMEOUT.saturating_add(Duration::from_secs(2));

/// Why a lane ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum LaneEnd {
    /// It was asked to.
    Stopped,
    /// Another process relays.
    Fenced,
    /// The connection is of no use any more.
    Lost,
}

/// What a read came to.
enum PageEnd {
    /// There may be more to do at once.
    More,
    /// Nothing is due.
    Idle,
    /// The broker took none of the events.
    Refused,
    /// The broker answered nothing for a part of the events.
    Unanswered,
    /// The connection is lost.
    Lost,
}

/// The publishing of one consumer's deliveries on one connection.
pub(super) struct Lane<'a> {
    pub(super) relay: &'a Relay,
    pub(super) held: &'a HeldLease,
    pub(super) session: &'a dyn BrokerSession,
    pub(super) consumer: &'a Consumer,
    /// Notified when a message was returned: a binding may be gone.
    pub(super) redeclare: &'a Notify,
    /// Set when an event was published.
    pub(super) was_useful: &'a AtomicBool,
}

impl Lane<'_> {
    /// Publishes until `stop` is cancelled between two reads.
    pub(super) async fn run(self, stop: CancellationToken) -> LaneEnd {
        let Some(mut publisher) = self.open().await else { return LaneEnd::Lost };
        let mut signal = self.relay.ledger.events_appended();
        let (mut after, mut refusals): (Option<String>, u32) = (None, 0);
        while !stop.is_cancelled() {
            // What is appended from here on is seen, by the read or by the signal.
            signal.mark_unchanged();
            let end = {
                // First come, first served among the consumers; it bounds the events in memory, too.
                let Ok(_permit) = self.relay.pages.acquire().await else { return LaneEnd::Stopped };
                self.page(&*publisher, &mut after).await
            };
            let delay = match end {
                Ok(PageEnd::More) => {
                    refusals = 0;
                    continue;
                }
                Ok(PageEnd::Idle) => {
                    self.wait_for_events(&mut signal, &stop).await;
                    continue;
                }
                Ok(PageEnd::Refused) => {
                    refusals = refusals.saturating_add(1);
                    REFUSED.ceiling(refusals - 1)
                }
                Ok(PageEnd::Unanswered) => {
                    // A queue without a majority of its replicas confirms nothing, on a connection that serves the others.
                    // What is still under way must not be confirmed to the next batch: that one has another channel.
                    let Some(next) = self.open().await else { return LaneEnd::Lost };
                    publisher = next;
                    refusals = refusals.saturating_add(1);
                    REFUSED.ceiling(refusals - 1)
                }
                Ok(PageEnd::Lost) => return LaneEnd::Lost,
                Err(LedgerError::Fenced { .. }) => return LaneEnd::Fenced,
                Err(error) => {
                    tracing::warn!(consumer = self.consumer.name, %error, "reading pending events failed; retrying");
                    LEDGER_RETRY
                }
            };
            let until = self.relay.clock.mono() + delay;
            stop.run_until_cancelled(self.relay.clock.sleep_until(until)).await;
        }
        LaneEnd::Stopped
    }

    /// Opens a channel; `None` if the connection is of no use any more.
    async fn open(&self) -> Option<Box<dyn Publisher>> {
        if !self.session.is_open() {
            return None;
        }
        let opened = self.session.publisher(&self.relay.topology.exchange()).await;
        let failed = |error: &BrokerError| {
            tracing::debug!(consumer = self.consumer.name, %error, "opening a channel failed; reconnecting");
        };
        opened.inspect_err(failed).ok()
    }

    async fn wait_for_events(&self, signal: &mut EventSignal, stop: &CancellationToken) {
        let until = self.relay.clock.mono() + POLL_INTERVAL;
        tokio::select! {
            () = stop.cancelled() => {}
            // Without a sender, at the end of the process, the timer is left.
            Ok(()) = signal.changed() => {}
            () = self.relay.clock.sleep_until(until) => {}
        }
    }

    /// Publishes what is due of the next aggregates, and records it.
    async fn page(&self, publisher: &dyn Publisher, after: &mut Option<String>) -> Result<PageEnd, LedgerError> {
        if self.held.remaining() <= MIN_LEASE {
            return Ok(PageEnd::Idle);
        }
        let query = PendingQuery {
            consumer_id: self.consumer.id,
            after: after.take(),
            now: self.relay.clock.now().wall,
            limit: AGGREGATES,
            per_aggregate: PER_AGGREGATE,
        };
        let page = self.relay.ledger.pending_deliveries(&query).await?;
        *after = page.next;
        if page.deliveries.is_empty() {
            return Ok(if after.is_some() { PageEnd::More } else { PageEnd::Idle });
        }
        let results = self.publish(publisher, page.deliveries).await;
        self.record(&results).await?;
        let is_any_published = results.iter().any(|result| result.outcome == PublishOutcome::Published);
        if is_any_published {
            self.was_useful.store(true, Ordering::Relaxed);
        }
        let is_any = |wanted: PublishFailure| {
            let failed = |outcome| matches!(outcome, PublishOutcome::Failed { reason, .. } if reason == wanted);
            results.iter().any(|result| failed(result.outcome))
        };
        if is_any(PublishFailure::ConnectionLost) {
            return Ok(PageEnd::Lost);
        }
        if is_any(PublishFailure::TimedOut) {
            return Ok(PageEnd::Unanswered);
        }
        Ok(if is_any_published { PageEnd::More } else { PageEnd::Refused })
    }

    /// Publishes, one of each aggregate at a time, until one is not answered.
    async fn publish(&self, publisher: &dyn Publisher, deliveries: Vec<PendingDelivery>) -> Vec<PublishResult> {
        let mut results = Vec::with_capacity(deliveries.len());
        let mut queues = by_aggregate(deliveries);
        while self.held.remaining() > MIN_LEASE {
            let mut batch = Vec::with_capacity(queues.len());
            for (index, queue) in queues.iter_mut().enumerate() {
                batch.extend(queue.next().map(|delivery| (index, delivery)));
            }
            if batch.is_empty() {
                break;
            }
            let consumer = &self.consumer.name;
            let domain = &self.relay.topology.domain;
            let messages: Vec<_> = batch.iter().map(|(_, each)| message(&each.event, domain, consumer)).collect();
            let verdicts = publisher.publish(&messages).await;
            let mut is_lost = false;
            for ((index, delivery), verdict) in batch.iter().zip(verdicts) {
                if let Err(reason) = verdict {
                    // Those behind it wait for it.
                    queues[*index] = Vec::new().into_iter();
                    is_lost |= matches!(reason, PublishFailure::ConnectionLost | PublishFailure::TimedOut);
                }
                results.push(self.judge(delivery, verdict));
            }
            if is_lost {
                break;
            }
        }
        results
    }

    /// The result of a try, with the next one.
    fn judge(&self, delivery: &PendingDelivery, verdict: Verdict) -> PublishResult {
        let consumer = &self.consumer.name;
        let outcome = match verdict {
            Ok(()) => {
                self.relay.metrics.published(consumer);
                PublishOutcome::Published
            }
            Err(reason) => {
                self.relay.metrics.failed(consumer, reason);
                if reason == PublishFailure::Returned {
                    self.redeclare.notify_one();
                }
                let now = self.relay.clock.now().wall;
                let next_try = match reason {
                    // Not this event's fault: the backoff is that of the connection.
                    PublishFailure::ConnectionLost | PublishFailure::TimedOut => now,
                    PublishFailure::Nacked | PublishFailure::Returned | PublishFailure::TooLarge => {
                        after(now, REFUSED.delay(delivery.tries, rand::random()))
                    }
                };
                PublishOutcome::Failed { reason, next_try }
            }
        };
        PublishResult { consumer_id: self.consumer.id, seq: delivery.event.position.seq, outcome }
    }

    /// Records the results. A ledger that fails is tried until it works: what is not recorded is published twice.
    async fn record(&self, results: &[PublishResult]) -> Result<(), LedgerError> {
        loop {
            let now = self.relay.clock.now().wall;
            match self.relay.ledger.record_publishes(self.held.lease(), results, now).await {
                Ok(()) => return Ok(()),
                Err(error @ LedgerError::Fenced { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        consumer = self.consumer.name,
                        %error,
                        "recording published events failed; retrying, nothing more is published meanwhile"
                    );
                }
            }
            self.relay.clock.sleep_until(self.relay.clock.mono() + LEDGER_RETRY).await;
        }
    }
}

/// The deliveries of each aggregate, in their order. They come by aggregate.
fn by_aggregate(deliveries: Vec<PendingDelivery>) -> Vec<std::vec::IntoIter<PendingDelivery>> {
    let mut groups: Vec<Vec<PendingDelivery>> = Vec::new();
    for delivery in deliveries {
        match groups.last_mut() {
            Some(group) if group.last().is_some_and(|last| last.event.aggregate == delivery.event.aggregate) => {
                group.push(delivery);
            }
            _ => groups.push(vec![delivery]),
        }
    }
    groups.into_iter().map(Vec::into_iter).collect()
}
