//! Gauges of the pool, built at scrape time: those with a job label disappear with the job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGaugeVec, Opts};

use super::slots::Slots;
use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::ledger::JobHistory;
use crate::metrics::{Metrics, MetricsError};

const LABELS: [&str; 2] = ["namespace", "syncjob"];

#[derive(Copy, Clone)]
struct Values {
    failure_streak: u32,
    empty_streak: u32,
    last_success: Option<Timestamp>,
    /// Up to when the partition that lags furthest is read.
    read_to: Option<Timestamp>,
}

impl Values {
    fn of(history: &JobHistory) -> Self {
        let marks = history.cursors.iter().filter_map(|(_, state)| state.committed_hwm.as_deref());
        Self {
            failure_streak: history.failure_streak,
            empty_streak: history.empty_streak,
            last_success: history.last_success,
            read_to: marks.filter_map(end_of).min(),
        }
    }
}

/// The end of what a cursor covers: the instant, or the end of the day.
fn end_of(cursor: &str) -> Option<Timestamp> {
    if let Ok(day) = cursor.parse::<Date>() {
        return day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok().map(|midnight| midnight.timestamp());
    }
    cursor.parse().ok()
}

/// The values by job. Cloning shares them.
#[derive(Clone, Default)]
pub(super) struct Gauges {
    jobs: Arc<Mutex<HashMap<ObjectKey, Values>>>,
}

impl Gauges {
    pub(super) fn register(metrics: &Metrics, slots: Slots, clock: Clock) -> Result<Self, MetricsError> {
        let gauges = Self::default();
        metrics.collector(Box::new(JobCollector { gauges: gauges.clone(), clock, families: families()? }))?;
        metrics.collector(Box::new(SlotCollector { slots, runs: runs()? }))?;
        Ok(gauges)
    }

    pub(super) fn set(&self, job: &ObjectKey, history: &JobHistory) {
        self.lock().insert(job.clone(), Values::of(history));
    }

    pub(super) fn remove(&self, job: &ObjectKey) {
        self.lock().remove(job);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Values>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct JobCollector {
    gauges: Gauges,
    clock: Clock,
    families: [GaugeVec; 4],
}

fn families() -> Result<[GaugeVec; 4], MetricsError> {
    let gauge = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &LABELS);
    Ok([
        gauge("busbar_sync_failure_streak", "Failed runs since the last successful one.")?,
        gauge(
            "busbar_sync_last_success_timestamp_seconds",
            "End of the last successful run, as a Unix timestamp in seconds.",
        )?,
        gauge("busbar_sync_empty_streak", "Consecutive successful runs that read no record.")?,
        gauge(
            "busbar_sync_cursor_lag_seconds",
            "Time since the end of what is committed without a gap, of the partition that lags furthest, in seconds.",
        )?,
    ])
}

impl Collector for JobCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.families.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Built at each scrape: a deleted job leaves nothing to clean up.
        let Ok(families) = families() else { return Vec::new() };
        let [streaks, successes, empty, lag] = &families;
        let now = self.clock.now().wall;
        for (job, values) in &*self.gauges.lock() {
            let labels = [&*job.namespace, &*job.name];
            streaks.with_label_values(&labels).set(f64::from(values.failure_streak));
            if let Some(at) = values.last_success {
                successes.with_label_values(&labels).set(at.as_duration().as_secs_f64());
            }
            empty.with_label_values(&labels).set(f64::from(values.empty_streak));
            if let Some(to) = values.read_to {
                lag.with_label_values(&labels).set(now.duration_since(to).as_secs_f64().max(0.0));
            }
        }
        families.iter().flat_map(Collector::collect).collect()
    }
}

/// The runs in the pool, by what they do.
struct SlotCollector {
    slots: Slots,
    runs: IntGaugeVec,
}

fn runs() -> Result<IntGaugeVec, MetricsError> {
    let help = "Sync runs by state: queued, working (these hold a slot), waiting (for the provider, quota or a lease).";
    Ok(IntGaugeVec::new(Opts::new("busbar_sync_pool_runs", help), &["state"])?)
}

impl Collector for SlotCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.runs.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let states =
            [("queued", self.slots.queued()), ("working", self.slots.working()), ("waiting", self.slots.waiting())];
        for (state, count) in states {
            self.runs.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.runs.collect()
    }
}
