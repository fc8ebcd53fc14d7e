//! Gauges of the pool, built at scrape time: those with a job label disappear with the job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGaugeVec, Opts};

use super::slots::Slots;
use crate::domain::key::ObjectKey;
use crate::metrics::{Metrics, MetricsError};

const LABELS: [&str; 2] = ["namespace", "syncjob"];

#[derive(Copy, Clone)]
struct Values {
    failure_streak: u32,
    last_success: Option<Timestamp>,
}

/// The values by job. Cloning shares them.
#[derive(Clone, Default)]
pub(super) struct Gauges {
    jobs: Arc<Mutex<HashMap<ObjectKey, Values>>>,
}

impl Gauges {
    pub(super) fn register(metrics: &Metrics, slots: Slots) -> Result<Self, MetricsError> {
        let gauges = Self::default();
        metrics.collector(Box::new(JobCollector { gauges: gauges.clone(), families: families()? }))?;
        metrics.collector(Box::new(SlotCollector { slots, runs: runs()? }))?;
        Ok(gauges)
    }

    pub(super) fn set(&self, job: &ObjectKey, failure_streak: u32, last_success: Option<Timestamp>) {
        self.lock().insert(job.clone(), Values { failure_streak, last_success });
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
    families: [GaugeVec; 2],
}

fn families() -> Result<[GaugeVec; 2], MetricsError> {
    let gauge = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &LABELS);
    Ok([
        gauge("busbar_sync_failure_streak", "Failed runs since the last successful one.")?,
        gauge(
            "busbar_sync_last_success_timestamp_seconds",
            "End of the last successful run, as a Unix timestamp in seconds.",
        )?,
    ])
}

impl Collector for JobCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.families.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Built at each scrape: a deleted job leaves nothing to clean up.
        let Ok([streaks, successes]) = families() else { return Vec::new() };
        for (job, values) in &*self.gauges.lock() {
            let labels = [&*job.namespace, &*job.name];
            streaks.with_label_values(&labels).set(f64::from(values.failure_streak));
            if let Some(at) = values.last_success {
                successes.with_label_values(&labels).set(at.as_duration().as_secs_f64());
            }
        }
        streaks.collect().into_iter().chain(successes.collect()).collect()
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
