//! Appends the events of reconciles to the outbox: failovers of routes and changes of circuits.
//!
//! An event is stored before the status that shows its cause, so that a crash between the two loses nothing; its ID is
//! derived from its content, so that the reconcile that is repeated then stores nothing twice. A ledger that fails or
//! is slow must not delay the status: after a moment the events wait in memory, in their order, and are retried until
//! they are stored.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::event::OutboxEvent;
use crate::ledger::Ledger;
use crate::metrics::{Metrics, MetricsError};

/// How long a reconcile waits for the ledger.
const APPEND_TIMEOUT: Duration = Duration::from_millis(250);
/// Delay between two tries while the ledger fails: it grows to the second one.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Events that wait at most; about half a kilobyte each.
const MAX_WAITING: usize = 10_000;
/// Events appended at once.
const BATCH: usize = 100;

/// Appends events. Cloning shares the queue.
#[derive(Clone)]
pub struct EventOutbox {
    shared: Arc<Shared>,
}

/// The task that stores what [`EventOutbox::append`] could not.
pub struct EventOutboxWriter {
    shared: Arc<Shared>,
}

struct Shared {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    waiting: Mutex<VecDeque<OutboxEvent>>,
    added: Notify,
    depth: IntGauge,
    dropped: IntCounter,
}

impl EventOutbox {
    /// An outbox in `ledger`, and its task. Registers its metrics.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        metrics: &Metrics,
    ) -> Result<(Self, EventOutboxWriter), MetricsError> {
        let help = "Events of routes and circuits that wait in memory because the ledger failed or was slow.";
        let depth = metrics.int_gauge("busbar_outbox_waiting", help, &[])?.with_label_values::<&str>(&[]);
        let help = "Events of routes and circuits that were dropped because too many waited for the ledger.";
        let dropped = metrics.counter("busbar_outbox_dropped_total", help, &[])?.with_label_values::<&str>(&[]);
        let shared =
            Arc::new(Shared { ledger, clock, waiting: Mutex::default(), added: Notify::new(), depth, dropped });
        Ok((Self { shared: Arc::clone(&shared) }, EventOutboxWriter { shared }))
    }

    /// Appends `events`; returns when they are stored, or wait to be.
    pub async fn append(&self, events: Vec<OutboxEvent>) {
        if events.is_empty() {
            return;
        }
        // After those that wait: the events of an aggregate keep their order.
        if self.shared.waiting().is_empty() {
            let now = self.shared.clock.now().wall;
            let stored = tokio::time::timeout(APPEND_TIMEOUT, self.shared.ledger.append_events(&events, now)).await;
            match stored {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "events not stored; retrying with backoff"),
                Err(_) => tracing::warn!("events not stored: the ledger did not respond in time; retrying"),
            }
        }
        self.shared.add(events);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<OutboxEvent>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, events: Vec<OutboxEvent>) {
        let mut waiting = self.waiting();
        let room = MAX_WAITING.saturating_sub(waiting.len());
        let over = events.len().saturating_sub(room);
        if over > 0 {
            self.dropped.inc_by(over as u64);
            tracing::error!(events = over, "events dropped: too many wait for the ledger; the statuses show the same");
        }
        waiting.extend(events.into_iter().take(room));
        self.show(&waiting);
        drop(waiting);
        self.added.notify_one();
    }

    fn show(&self, waiting: &VecDeque<OutboxEvent>) {
        self.depth.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
    }

    /// Stores the oldest events that wait; whether none is left. A repetition is harmless: an event whose ID is stored
    /// is skipped.
    async fn store_batch(&self) -> Result<bool, crate::ledger::LedgerError> {
        let batch: Vec<OutboxEvent> = self.waiting().iter().take(BATCH).cloned().collect();
        if batch.is_empty() {
            return Ok(true);
        }
        self.ledger.append_events(&batch, self.clock.now().wall).await?;
        let mut waiting = self.waiting();
        waiting.drain(..batch.len());
        self.show(&waiting);
        Ok(waiting.is_empty())
    }
}

impl EventOutboxWriter {
    /// Stores what waits until `stop` is cancelled, then once more.
    pub async fn run(self, stop: CancellationToken) {
        let shared = &*self.shared;
        let mut delay = RETRY_DELAY.0;
        loop {
            match stop.run_until_cancelled(shared.store_batch()).await {
                None => break,
                Some(Ok(false)) => delay = RETRY_DELAY.0,
                Some(Ok(true)) => {
                    delay = RETRY_DELAY.0;
                    if stop.run_until_cancelled(shared.added.notified()).await.is_none() {
                        break;
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "events not stored; retrying with backoff");
                    let next = shared.clock.mono() + delay;
                    delay = (delay * 2).min(RETRY_DELAY.1);
                    if stop.run_until_cancelled(shared.clock.sleep_until(next)).await.is_none() {
                        break;
                    }
                }
            }
        }
        while let Ok(false) = shared.store_batch().await {}
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::event::EventType;
    use crate::ledger::faulty::FaultyLedger;
    use crate::ledger::outbox::EventFilter;

    fn event(n: u128) -> OutboxEvent {
        OutboxEvent {
            id: Uuid::from_u128(n),
            event_type: EventType::BankFailover,
            namespace: "team".to_owned(),
            aggregate: "bankroute/team/r".to_owned(),
            payload: "{}".to_owned(),
            correlation_id: Uuid::nil(),
        }
    }

    async fn stored(ledger: &Arc<dyn Ledger>) -> Vec<u128> {
        let events = ledger.list_events(&EventFilter::default(), 100).await.unwrap();
        events.iter().map(|event| event.id.as_u128()).collect()
    }

    #[tokio::test]
    async fn an_event_is_stored_at_once_and_a_repetition_is_not_stored_again() {
        let disk = FaultyLedger::new().await;
        let (outbox, _writer) = EventOutbox::new(Arc::clone(&disk.ledger), Clock::system(), &Metrics::new()).unwrap();
        outbox.append(vec![event(1), event(2)]).await;
        outbox.append(vec![event(2), event(3)]).await;
        outbox.append(Vec::new()).await;
        assert_eq!(stored(&disk.ledger).await, [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn events_wait_for_a_failing_ledger_in_their_order() {
        let (disk, metrics) = (FaultyLedger::new().await, Metrics::new());
        let (outbox, writer) = EventOutbox::new(Arc::clone(&disk.ledger), Clock::system(), &metrics).unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(writer.run(stop.clone()));
        disk.fail_writes();
        outbox.append(vec![event(1)]).await;
        outbox.append(vec![event(2), event(3)]).await;
        assert!(metrics.render().unwrap().contains("busbar_outbox_waiting 3"), "none is lost");
        disk.recover();
        outbox.append(vec![event(4)]).await;
        for _ in 0..10_000 {
            if metrics.render().unwrap().contains("busbar_outbox_waiting 0") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(stored(&disk.ledger).await, [1, 2, 3, 4]);
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_stored_at_the_shutdown() {
        let disk = FaultyLedger::new().await;
        let (outbox, writer) = EventOutbox::new(Arc::clone(&disk.ledger), Clock::system(), &Metrics::new()).unwrap();
        disk.fail_writes();
        outbox.append(vec![event(1)]).await;
        disk.recover();
        let stop = CancellationToken::new();
        stop.cancel();
        writer.run(stop).await;
        assert_eq!(stored(&disk.ledger).await, [1]);
    }

    #[tokio::test]
    async fn a_full_queue_drops_the_newest_and_counts_them() {
        let (disk, metrics) = (FaultyLedger::new().await, Metrics::new());
        let (outbox, _writer) = EventOutbox::new(Arc::clone(&disk.ledger), Clock::system(), &metrics).unwrap();
        outbox.shared.add((0..MAX_WAITING as u128 - 1).map(event).collect());
        outbox.append(vec![event(20_001), event(20_002)]).await;
        assert_eq!(outbox.shared.waiting().back().map(|event| event.id.as_u128()), Some(20_001));
        assert!(metrics.render().unwrap().contains("busbar_outbox_dropped_total 1"));
    }
}
