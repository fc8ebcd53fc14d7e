//! The probe driver: runs the health check of every active connection, through the same path as every other call; of a
//! passive one only when its circuit is open and a trial is due, or while it is unhealthy.
//!
//! One task holds the schedule of all connections; a bounded number of probes run concurrently in tasks of their own,
//! of which providers that do not answer have a part only (`lanes.rs`).
//! The driver does not classify results: the call path records them, and each probe returns its record. It also ticks the
//! breakers whose state depends on time. Controllers learn of a probe from the registry, once per probe and only if
//! something changed that a status shows. The driver never blocks on a probe.

mod lanes;
mod log;
mod schedule;
mod timer_queue;

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use prometheus::IntCounterVec;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::breaker::BreakerState;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::domain::window::WindowPosition;
use crate::ledger::ProbeResult;
use crate::metrics::{Metrics, MetricsError};
use crate::notify::KeyQueue;
use crate::provider::connection::Connection;
use crate::provider::probe::{CallResult, ProbeRecord};
use crate::provider::registry::Registry;
use crate::settings::Settings;
use crate::tasks::TaskSet;
use lanes::Lanes;
pub use log::{ProbeLog, ProbeLogWriter};
use schedule::{ProbeId, ProbeSchedule, ProbeTarget};
use timer_queue::TimerQueue;

/// Probes in flight at a time. Connections that did not answer last time have half of them: with 5 s of 30 s those carry
/// 750 hanging banks before one of them is probed late.
const MAX_IN_FLIGHT: usize = 256;

/// Minimum time between two ticks of a breaker.
const MIN_TICK_INTERVAL: Duration = Duration::from_millis(10);

/// Probes the connections of the registry.
pub struct ProbeDriver {
    registry: Registry,
    clock: Clock,
    changed: Arc<KeyQueue<ObjectKey>>,
    requested: Arc<KeyQueue<ObjectKey>>,
    schedule: ProbeSchedule,
    ticks: TimerQueue,
    running: TaskSet<EndedProbe>,
    lanes: Lanes,
    panics: IntCounterVec,
    log: Option<Arc<ProbeLog>>,
}

/// A probe whose task has ended.
struct EndedProbe {
    key: ObjectKey,
    id: ProbeId,
    /// For the log; `None` if the probe was skipped, sent nothing or panicked.
    result: Option<ProbeResult>,
}

/// Requests probes outside the schedule. Cloning shares it.
#[derive(Clone)]
pub struct ProbeHandle {
    requested: Arc<KeyQueue<ObjectKey>>,
}

impl ProbeHandle {
    /// Probes `key` now, also while the provider rate limits it; if a probe of it is running, again after it. No effect
    /// on a connection that is not probed, unless it is rate limited.
    pub fn probe_now(&self, key: &ObjectKey) {
        self.requested.add(key);
    }
}

impl ProbeDriver {
    /// A driver for the present and future connections of `registry`.
    pub fn new(registry: Registry, clock: Clock, metrics: &Metrics) -> Result<Self, MetricsError> {
        let panics =
            metrics.counter("busbar_probe_panics_total", "Probes that ended in a panic: always a bug.", &[])?;
        // Before the list: what changes in between is in both.
        let changed = registry.subscribe_changes();
        for connection in registry.list() {
            changed.add(connection.key());
        }
        Ok(Self {
            running: registry.tasks().set(),
            registry,
            clock,
            changed,
            requested: Arc::default(),
            schedule: ProbeSchedule::default(),
            ticks: TimerQueue::default(),
            lanes: Lanes::new(MAX_IN_FLIGHT),
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
        Self { lanes: Lanes::new(in_flight), ..self }
    }

    /// A handle that requests probes.
    pub fn handle(&self) -> ProbeHandle {
        ProbeHandle { requested: Arc::clone(&self.requested) }
    }

    /// Runs until `stop` is cancelled. Probes in flight are then dropped and release their permits.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let now = self.clock.mono();
            while let Some(key) = self.changed.try_take() {
                self.update(&key, now);
            }
            while let Some(key) = self.requested.try_take() {
                self.request(&key, now);
            }
            while let Some(key) = self.ticks.pop_due(now) {
                if let Some(connection) = self.registry.get(&key) {
                    // Never in the past: a breaker that returns `now` again must not make the loop spin.
                    let next = connection.tick().map(|at| at.max(now + MIN_TICK_INTERVAL));
                    self.ticks.set(&key, next);
                }
            }
            while let Some((key, id)) = self.schedule.start(now) {
                let connection = self.registry.get(&key);
                let host = connection.map_or_else(|| Arc::from(""), |connection| host_of(&connection.settings()));
                self.lanes.push(&key, id, host, self.schedule.is_slow(&key));
            }
            while let Some((key, id)) = self.lanes.start(now) {
                if !self.schedule.is_running(&key, id) {
                    self.lanes.finish(id, now);
                    continue;
                }
                match self.maintenance_end(&key) {
                    Some(end) => {
                        self.lanes.finish(id, now);
                        self.schedule.postpone(&key, id, end, now);
                    }
                    None => self.probe(key, id),
                }
            }
            let (wake, clock) = (self.wake_time(), self.clock);
            let (changed, requested) = (Arc::clone(&self.changed), Arc::clone(&self.requested));
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed.wait() => {}
                () = requested.wait() => {}
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
        self.schedule.next().into_iter().chain(self.ticks.next()).min()
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
            self.schedule.upsert(&ProbeTarget::of(&connection, &settings), now);
        }
        self.schedule_trial(&connection, now);
    }

    /// Schedules the trial of an open circuit for when it is due, not for the next slot after that. A connection
    /// without health checks is probed for its trials only, and while it is unhealthy: if its traffic is payouts alone,
    /// which are never a trial, and which routes keep away from an unhealthy bank, it would otherwise never recover.
    fn schedule_trial(&mut self, connection: &Connection, now: Mono) {
        let (settings, trial) = (connection.settings(), connection.next_trial());
        let target = ProbeTarget::of(connection, &settings);
        if settings.probes_enabled() {
            if let Some(trial) = trial.filter(|trial| *trial > now) {
                self.schedule.bring_forward(target.key, trial);
            }
        } else if settings.suspended()
            || settings.health_check().path.is_none()
            || (connection.circuit_state() == BreakerState::Closed && !connection.is_unhealthy())
        {
            self.schedule.remove(target.key);
        } else if let Some(trial) = trial {
            self.schedule.schedule_trial(&target, trial.max(now));
        } else if !self.schedule.contains(target.key) {
            // Half-open since before a restart, or because of a read; or unhealthy behind a closed circuit: probes follow
            // the interval from here on.
            self.schedule.schedule_trial(&target, now + target.interval);
        }
    }

    /// Makes a probe due that a user requested. A connection without health checks is probed only to end a rate limit:
    /// nothing else does before its time.
    fn request(&mut self, key: &ObjectKey, now: Mono) {
        if let Some(connection) = self.registry.get(key).filter(|_| !self.schedule.contains(key)) {
            let settings = connection.settings();
            let possible = !settings.suspended() && settings.health_check().path.is_some();
            if possible && connection.snapshot().throttled_until.is_some() {
                self.schedule.schedule_trial(&ProbeTarget::of(&connection, &settings), now);
            }
        }
        self.schedule.request(key, now);
    }

    fn probe(&mut self, key: ObjectKey, id: ProbeId) {
        let connection = self.registry.get(&key);
        let requested = self.schedule.take_request(&key);
        let panics = self.panics.clone();
        self.running.spawn("probe", async move {
            let Some(connection) = connection else { return EndedProbe { key, id, result: None } };
            let probing = async {
                let outcome = if requested { connection.probe_requested().await } else { connection.probe().await };
                let record = outcome.and_then(|outcome| outcome.record);
                record.map(|record| log_entry(&connection, &record))
            };
            // The end is reported even after a panic: a connection whose probe vanished would never be probed again.
            let result = AssertUnwindSafe(probing).catch_unwind().await.unwrap_or_else(|_| {
                panics.with_label_values::<&str>(&[]).inc();
                tracing::error!(namespace = %key.namespace, name = %key.name, "probe panicked");
                None
            });
            EndedProbe { key, id, result }
        });
    }

    fn finished(&mut self, joined: Result<EndedProbe, tokio::task::JoinError>) {
        let Ok(EndedProbe { key, id, result }) = joined else { return };
        if let (Some(log), Some(result)) = (&self.log, result) {
            log.push(result);
        }
        let now = self.clock.mono();
        let slow = self.lanes.finish(id, now);
        self.schedule.set_slow(&key, id, slow);
        self.schedule.finish(&key, id, now);
        if let Some(connection) = self.registry.get(&key) {
            self.schedule_trial(&connection, now);
        }
    }
}

impl<'a> ProbeTarget<'a> {
    fn of(connection: &'a Connection, settings: &'a Settings) -> Self {
        let (uid, revision) = (connection.uid(), settings.revision());
        Self { key: connection.key(), uid, revision, interval: settings.health_check().interval }
    }
}

/// The host and port that a connection's probes are sent to.
fn host_of(settings: &Settings) -> Arc<str> {
    settings.base_url().authority().into()
}

/// The log entry of a probe; holds nothing of the provider's response body.
fn log_entry(connection: &Connection, probe: &ProbeRecord) -> ProbeResult {
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
