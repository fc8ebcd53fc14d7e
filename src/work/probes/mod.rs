//! The probe driver: runs the health check of every active connection, through the same path as every other call; of a
//! passive one only when its circuit is open and a trial is due.
//!
//! One task holds the schedule of all connections; a bounded number of probes run concurrently in tasks of their own.
//! The driver does not classify results: the call path records them. It also ticks the breakers whose state depends on
//! time, and enqueues a connection for its controller when something changed that its status shows. It never blocks on
//! a probe.

mod log;
mod schedule;
mod timer_queue;

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use prometheus::IntCounterVec;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::breaker::BreakerState;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::domain::window::WindowPosition;
use crate::ledger::ProbeResult;
use crate::metrics::{Metrics, MetricsError};
use crate::provider::changes::ConnectionChange;
use crate::provider::connection::Connection;
use crate::provider::monitor::{CallResult, LastProbe};
use crate::provider::registry::Registry;
use crate::work::reconcile_queue::{KeyQueue, Kind, ReconcileQueue};
pub use log::{ProbeLog, ProbeLogWriter};
use schedule::{ProbeId, ProbeSchedule};
use timer_queue::TimerQueue;

/// Probes in flight at a time. A bank that hangs occupies one for a whole time-out: with 5 s of 30 s, this many carry
/// 1 500 hanging banks before a healthy one is delayed.
const MAX_IN_FLIGHT: usize = 256;

/// Minimum time between two ticks of a breaker.
const MIN_TICK_INTERVAL: Duration = Duration::from_millis(10);

/// Probes the connections of the registry.
pub struct ProbeDriver {
    registry: Registry,
    clock: Clock,
    changed: Arc<KeyQueue>,
    requested: Arc<KeyQueue>,
    schedule: ProbeSchedule,
    ticks: TimerQueue,
    running: JoinSet<(ObjectKey, ProbeId)>,
    in_flight: usize,
    panics: IntCounterVec,
    log: Option<Arc<ProbeLog>>,
}

/// Requests probes outside the schedule. Cloning shares it.
#[derive(Clone)]
pub struct ProbeHandle {
    requested: Arc<KeyQueue>,
}

impl ProbeHandle {
    /// Probes `key` now; if a probe of it is running, again after it. No effect on a connection that is not probed.
    pub fn probe_now(&self, key: &ObjectKey) {
        self.requested.add(key);
    }
}

impl ProbeDriver {
    /// A driver for the present and future connections of `registry`.
    pub fn new(
        registry: Registry,
        reconcile_queue: ReconcileQueue,
        clock: Clock,
        metrics: &Metrics,
    ) -> Result<Self, MetricsError> {
        let panics =
            metrics.counter("busbar_probe_panics_total", "Probes that ended in a panic: always a bug.", &[])?;
        let changed = Arc::new(KeyQueue::default());
        registry.on_change({
            let changed = Arc::clone(&changed);
            move |change| match change {
                ConnectionChange::Applied(key) | ConnectionChange::Removed(key) => changed.add(key),
                ConnectionChange::StatusChanged(key) => {
                    changed.add(key);
                    reconcile_queue.enqueue(Kind::ProviderConnection, key);
                }
            }
        });
        for connection in registry.list() {
            changed.add(connection.key());
        }
        Ok(Self {
            registry,
            clock,
            changed,
            requested: Arc::default(),
            schedule: ProbeSchedule::default(),
            ticks: TimerQueue::default(),
            running: JoinSet::new(),
            in_flight: MAX_IN_FLIGHT,
            panics,
            log: None,
        })
    }

    /// Pushes every result to `log`.
    #[must_use]
    pub fn with_log(self, log: Arc<ProbeLog>) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Limits the number of probes in flight (at least one).
    #[must_use]
    pub fn with_concurrency(self, in_flight: usize) -> Self {
        Self { in_flight: in_flight.max(1), ..self }
    }

    /// A handle that requests probes.
    pub fn handle(&self) -> ProbeHandle {
        ProbeHandle { requested: Arc::clone(&self.requested) }
    }

    /// Runs until `stop` is cancelled. Probes in flight are then dropped and release their permits.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let now = self.clock.mono();
            while let Some(key) = self.changed.try_pop() {
                self.update(&key, now);
            }
            while let Some(key) = self.requested.try_pop() {
                self.schedule.schedule_now(&key, now);
            }
            while let Some(key) = self.ticks.pop_due(now) {
                if let Some(connection) = self.registry.get(&key) {
                    // Never in the past: a breaker that returns `now` again must not make the loop spin.
                    let next = connection.tick().map(|at| at.max(now + MIN_TICK_INTERVAL));
                    self.ticks.set(&key, next);
                }
            }
            while self.running.len() < self.in_flight {
                let Some((key, id)) = self.schedule.start(now) else { break };
                match self.maintenance_end(&key) {
                    Some(end) => self.schedule.postpone(&key, id, end, now),
                    None => self.probe(key, id),
                }
            }
            let (wake, clock) = (self.wake_time(), self.clock);
            let (changed, requested) = (Arc::clone(&self.changed), Arc::clone(&self.requested));
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed.changed() => {}
                () = requested.changed() => {}
                Some(joined) = self.running.join_next() => self.finished(joined),
                () = async { match wake { Some(at) => clock.sleep_until(at).await, None => pending().await } } => {}
            }
        }
    }

    /// The end of the maintenance window that the connection is in, if any.
    fn maintenance_end(&self, key: &ObjectKey) -> Option<Mono> {
        let connection = self.registry.get(key)?;
        let now = self.clock.now();
        match connection.settings().maintenance(now.wall) {
            WindowPosition::Inside { until } => Some(now.mono_at(until)),
            WindowPosition::Outside { .. } => None,
        }
    }

    /// When the loop wakes if nothing happens before; `None`: never.
    fn wake_time(&self) -> Option<Mono> {
        let probe = self.schedule.next().filter(|_| self.running.len() < self.in_flight);
        probe.into_iter().chain(self.ticks.next()).min()
    }

    /// Updates the schedule for a connection whose settings or circuit changed, or that was removed.
    fn update(&mut self, key: &ObjectKey, now: Mono) {
        let connection = self.registry.get(key);
        self.ticks.set(key, connection.as_ref().and_then(|connection| connection.next_tick()));
        let Some(connection) = connection else {
            self.schedule.remove(key);
            return;
        };
        let settings = connection.settings();
        if settings.probes_enabled() {
            let interval = settings.health_check().interval;
            self.schedule.upsert(key, connection.uid(), settings.revision(), interval, now);
        }
        self.schedule_trial(&connection, now);
    }

    /// Schedules the trial of an open circuit for when it is due, not for the next slot after that. A connection
    /// without health checks is probed for its trials only: if its traffic is payouts alone, which are never a trial,
    /// its circuit would otherwise stay open forever.
    fn schedule_trial(&mut self, connection: &Connection, now: Mono) {
        let (key, settings, trial) = (connection.key(), connection.settings(), connection.next_trial());
        let check = settings.health_check();
        if settings.probes_enabled() {
            if let Some(trial) = trial.filter(|trial| *trial > now) {
                self.schedule.bring_forward(key, trial);
            }
        } else if settings.suspended() || check.path.is_none() || connection.circuit_state() == BreakerState::Closed {
            self.schedule.remove(key);
        } else if let Some(trial) = trial {
            self.schedule.schedule_trial(key, (connection.uid(), settings.revision()), check.interval, trial.max(now));
        } else if !self.schedule.contains(key) {
            // Half-open since before a restart, or because of a read: trials follow the probe interval from here on.
            self.schedule.schedule_trial(
                key,
                (connection.uid(), settings.revision()),
                check.interval,
                now + check.interval,
            );
        }
    }

    fn probe(&mut self, key: ObjectKey, id: ProbeId) {
        let connection = self.registry.get(&key);
        let (panics, log) = (self.panics.clone(), self.log.clone());
        self.running.spawn(async move {
            if let Some(connection) = connection {
                let before = connection.last_probe().map(|probe| probe.at);
                // The end is reported even after a panic: a connection whose probe vanished would never be probed
                // again.
                if AssertUnwindSafe(connection.probe()).catch_unwind().await.is_err() {
                    panics.with_label_values::<&str>(&[]).inc();
                    tracing::error!(namespace = %key.namespace, name = %key.name, "probe panicked");
                }
                if let Some(log) = &log
                    && let Some(probe) = connection.last_probe().filter(|probe| Some(probe.at) != before)
                {
                    log.push(result(&connection, &probe));
                }
            }
            (key, id)
        });
    }

    fn finished(&mut self, joined: Result<(ObjectKey, ProbeId), tokio::task::JoinError>) {
        if let Ok((key, id)) = joined {
            let now = self.clock.mono();
            self.schedule.finish(&key, id, now);
            if let Some(connection) = self.registry.get(&key) {
                self.schedule_trial(&connection, now);
            }
        }
    }
}

/// The log entry of a probe; holds nothing of the provider's response body.
fn result(connection: &Connection, probe: &LastProbe) -> ProbeResult {
    let (status, error) = match &probe.result {
        CallResult::Status(status) => (Some(*status), None),
        CallResult::Error(error) => (None, Some(error.code())),
    };
    let threshold = connection.settings().health_check().latency_threshold;
    ProbeResult {
        connection: connection.key().clone(),
        at: probe.at,
        elapsed: probe.elapsed,
        success: probe.success,
        slow: threshold.is_some_and(|threshold| probe.elapsed > threshold),
        status,
        error,
    }
}
