//! The probe driver: asks every active connection how it is, through the same path as every other call; a passive one only
//! when its circuit is open and a trial is due.
//!
//! One task holds the timetable of all connections; probes run beside it, a bounded number at a time. It judges nothing:
//! what a probe means is recorded by the call path. It also lets time pass for the breakers that wait for it, and pokes
//! the controller when something changed that a status shows. It never waits for anybody.

mod alarms;
mod log;
mod timetable;

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use prometheus::IntCounterVec;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::breaker::State;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::domain::window::Place;
use crate::ledger::ProbeResult;
use crate::metrics::{Metrics, MetricsError};
use crate::provider::live::Live;
use crate::provider::observe::{Ended, LastProbe};
use crate::provider::registry::{Change, Registry};
use crate::work::poke::{Kind, Pokes, Waiting};
use alarms::Alarms;
pub use log::{ProbeKeeper, ProbeLog};
use timetable::{Run, Timetable};

/// Probes in flight at a time. A bank that hangs holds its place for a whole time-out: with 5 s of 30 s, this many places
/// carry 1 500 hanging banks before a healthy one has to wait.
const IN_FLIGHT: usize = 256;

/// A breaker is ticked at most this often.
const TICK_PAUSE: Duration = Duration::from_millis(10);

/// Probes the registry's connections until it is told to stop.
pub struct ProbeDriver {
    registry: Registry,
    clock: Clock,
    changed: Arc<Waiting>,
    asked: Arc<Waiting>,
    timetable: Timetable,
    ticks: Alarms,
    running: JoinSet<(ObjectKey, Run)>,
    in_flight: usize,
    panics: IntCounterVec,
    log: Option<Arc<ProbeLog>>,
}

/// Asks for probes out of turn. Cloning shares it.
#[derive(Clone)]
pub struct ProbeHandle {
    asked: Arc<Waiting>,
}

impl ProbeHandle {
    /// Probes `key` now; if a probe of it is running, once more after it. A connection that is not probed stays so.
    pub fn probe_now(&self, key: &ObjectKey) {
        self.asked.add(key);
    }
}

impl ProbeDriver {
    /// A driver for the connections of `registry`, those it has and those to come.
    pub fn new(registry: Registry, pokes: Pokes, clock: Clock, metrics: &Metrics) -> Result<Self, MetricsError> {
        let panics =
            metrics.counter("busbar_probe_panics_total", "Probes that ended in a panic: always a bug.", &[])?;
        let changed = Arc::new(Waiting::default());
        registry.on_change({
            let changed = Arc::clone(&changed);
            move |change| match change {
                Change::Applied(key) | Change::Removed(key) => changed.add(key),
                Change::Observed(key) => {
                    changed.add(key);
                    pokes.poke(Kind::ProviderConnection, key);
                }
            }
        });
        for live in registry.list() {
            changed.add(live.key());
        }
        Ok(Self {
            registry,
            clock,
            changed,
            asked: Arc::default(),
            timetable: Timetable::default(),
            ticks: Alarms::default(),
            running: JoinSet::new(),
            in_flight: IN_FLIGHT,
            panics,
            log: None,
        })
    }

    /// Notes every result in `log`.
    #[must_use]
    pub fn logged(self, log: Arc<ProbeLog>) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Lets at most so many probes be in flight at a time (at least one).
    #[must_use]
    pub fn concurrency(self, in_flight: usize) -> Self {
        Self { in_flight: in_flight.max(1), ..self }
    }

    /// A handle to ask for probes.
    pub fn handle(&self) -> ProbeHandle {
        ProbeHandle { asked: Arc::clone(&self.asked) }
    }

    /// Runs until `stop` is cancelled. Probes in flight are dropped then and give their permits back.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let now = self.clock.mono();
            while let Some(key) = self.changed.try_take() {
                self.take_up(&key, now);
            }
            while let Some(key) = self.asked.try_take() {
                self.timetable.at_once(&key, now);
            }
            while let Some(key) = self.ticks.pop_due(now) {
                if let Some(live) = self.registry.get(&key) {
                    // Never in the past: a breaker that asks for `now` again must not hold the loop.
                    let next = live.tick().map(|at| at.max(now + TICK_PAUSE));
                    self.ticks.set(&key, next);
                }
            }
            while self.running.len() < self.in_flight {
                let Some((key, run)) = self.timetable.start(now) else { break };
                match self.maintained_until(&key) {
                    Some(end) => self.timetable.put_off(&key, run, end, now),
                    None => self.probe(key, run),
                }
            }
            let (wake, clock) = (self.wake(), self.clock);
            let (changed, asked) = (Arc::clone(&self.changed), Arc::clone(&self.asked));
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed.rung() => {}
                () = asked.rung() => {}
                Some(ended) = self.running.join_next() => self.ended(ended),
                () = async { match wake { Some(at) => clock.sleep_until(at).await, None => pending().await } } => {}
            }
        }
    }

    /// The end of the maintenance window that the connection is in.
    fn maintained_until(&self, key: &ObjectKey) -> Option<Mono> {
        let live = self.registry.get(key)?;
        let now = self.clock.now();
        match live.settings().maintenance(now.wall) {
            Place::Inside { until } => Some(now.mono_at(until)),
            Place::Outside { .. } => None,
        }
    }

    /// When there is something to do, if nothing happens before.
    fn wake(&self) -> Option<Mono> {
        let probe = self.timetable.next().filter(|_| self.running.len() < self.in_flight);
        probe.into_iter().chain(self.ticks.next()).min()
    }

    /// Looks at a connection that changed: its settings, its circuit, or whether it is there at all.
    fn take_up(&mut self, key: &ObjectKey, now: Mono) {
        let live = self.registry.get(key);
        self.ticks.set(key, live.as_ref().and_then(|live| live.next_tick()));
        let Some(live) = live else {
            self.timetable.remove(key);
            return;
        };
        let settings = live.settings();
        if settings.probed() {
            let interval = settings.health_check().interval;
            self.timetable.set(key, live.uid(), settings.revision(), interval, now);
        }
        self.expect_trial(&live, now);
    }

    /// The trial of an open circuit is taken when it is due, not at the next beat after that. A connection that is not
    /// checked is probed for its trials alone: where nothing but payouts would come, nobody else ever tries, and its
    /// circuit would stay open for good.
    fn expect_trial(&mut self, live: &Live, now: Mono) {
        let (key, settings, trial) = (live.key(), live.settings(), live.next_trial());
        let check = settings.health_check();
        if settings.probed() {
            if let Some(trial) = trial.filter(|trial| *trial > now) {
                self.timetable.not_later_than(key, trial);
            }
        } else if settings.suspended() || check.path.is_none() || live.circuit() == State::Closed {
            self.timetable.remove(key);
        } else if let Some(trial) = trial {
            self.timetable.await_trial(key, (live.uid(), settings.revision()), check.interval, trial.max(now));
        } else if !self.timetable.knows(key) {
            // Half-open since before a restart, or by a read of somebody's: from here on by the beat.
            self.timetable.await_trial(key, (live.uid(), settings.revision()), check.interval, now + check.interval);
        }
    }

    fn probe(&mut self, key: ObjectKey, run: Run) {
        let live = self.registry.get(&key);
        let (panics, log) = (self.panics.clone(), self.log.clone());
        self.running.spawn(async move {
            if let Some(live) = live {
                let before = live.last_probe().map(|probe| probe.at);
                // Whatever happens, the end is reported: a connection whose probe vanished would never be probed again.
                if AssertUnwindSafe(live.probe()).catch_unwind().await.is_err() {
                    panics.with_label_values::<&str>(&[]).inc();
                    tracing::error!(namespace = %key.namespace, name = %key.name, "a probe panicked");
                }
                if let Some(log) = &log
                    && let Some(probe) = live.last_probe().filter(|probe| Some(probe.at) != before)
                {
                    log.note(result(&live, &probe));
                }
            }
            (key, run)
        });
    }

    fn ended(&mut self, ended: Result<(ObjectKey, Run), tokio::task::JoinError>) {
        if let Ok((key, run)) = ended {
            let now = self.clock.mono();
            self.timetable.ended(&key, run, now);
            if let Some(live) = self.registry.get(&key) {
                self.expect_trial(&live, now);
            }
        }
    }
}

/// What the log keeps of a check: our own words for it.
fn result(live: &Live, probe: &LastProbe) -> ProbeResult {
    let (status, error) = match &probe.ended {
        Ended::Status(status) => (Some(*status), None),
        Ended::Error(error) => (None, Some(error.code())),
    };
    let threshold = live.settings().health_check().latency_threshold;
    ProbeResult {
        connection: live.key().clone(),
        at: probe.at,
        elapsed: probe.elapsed,
        success: probe.success,
        slow: threshold.is_some_and(|threshold| probe.elapsed > threshold),
        status,
        error,
    }
}
