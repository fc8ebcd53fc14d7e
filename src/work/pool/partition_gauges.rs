//! Series with the label `partition` (`--partition-metrics`): off by default, because each partition is a series.
//!
//! The label is a keyed hash of the partition's name, which may be the number of an account: the same in every process, and
//! not to be guessed without the ledger's key. At most [`MAX_PARTITIONS`] partitions are exported, in the order of their
//! jobs; one gauge says how many are not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, Opts};

use crate::domain::key::ObjectKey;
use crate::ledger::PartitionStreak;
use crate::metrics::{Metrics, MetricsError};
use crate::sync::account_tokens::TokenKey;

/// Most partitions that are exported.
const MAX_PARTITIONS: usize = 200;
/// Characters of the label: enough to tell 200 partitions apart.
const LABEL_LEN: usize = 12;
const LABELS: [&str; 3] = ["namespace", "syncjob", "partition"];

/// One partition after a run.
#[derive(Clone, Debug)]
pub(super) struct PartitionValues {
    pub(super) streak: PartitionStreak,
    pub(super) fetch_time: Duration,
}

/// The label of a partition: a keyed hash of its name; empty for a job without partitions.
pub(super) fn label(key: &TokenKey, name: &str) -> String {
    if name.is_empty() { String::new() } else { key.digest("partition label", name).chars().take(LABEL_LEN).collect() }
}

type ByJob = BTreeMap<ObjectKey, BTreeMap<String, PartitionValues>>;

/// The values by job and label. Cloning shares them.
#[derive(Clone, Default)]
pub(super) struct PartitionGauges {
    jobs: Arc<Mutex<ByJob>>,
}

impl PartitionGauges {
    pub(super) fn register(metrics: &Metrics) -> Result<Self, MetricsError> {
        let gauges = Self::default();
        metrics.collector(Box::new(PartitionCollector { gauges: gauges.clone(), families: Families::new()? }))?;
        Ok(gauges)
    }

    /// Sets the partitions that a run of the job has read. Others keep their values: a run may be stopped before them.
    pub(super) fn set(&self, job: &ObjectKey, key: &TokenKey, values: Vec<PartitionValues>) {
        let mut jobs = self.lock();
        let of_job = jobs.entry(job.clone()).or_default();
        for value in values {
            of_job.insert(label(key, &value.streak.name), value);
        }
    }

    pub(super) fn remove(&self, job: &ObjectKey) {
        self.lock().remove(job);
    }

    fn lock(&self) -> MutexGuard<'_, ByJob> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Families {
    failures: GaugeVec,
    empty: GaugeVec,
    fetch: GaugeVec,
    hidden: Gauge,
}

impl Families {
    fn new() -> Result<Self, MetricsError> {
        let gauge = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &LABELS);
        Ok(Self {
            failures: gauge("busbar_sync_partition_failure_streak", "Consecutive failed runs of a partition.")?,
            empty: gauge(
                "busbar_sync_partition_empty_streak",
                "Consecutive successful runs in which a partition had no record.",
            )?,
            fetch: gauge(
                "busbar_sync_partition_fetch_seconds",
                "Time that the requests for a partition took in its last run, in seconds.",
            )?,
            hidden: Gauge::new(
                "busbar_sync_partitions_hidden",
                "Partitions without series of their own: more than 200 are not exported.",
            )?,
        })
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let vecs = [&self.failures, &self.empty, &self.fetch];
        vecs.into_iter().flat_map(Collector::collect).chain(self.hidden.collect()).collect()
    }
}

struct PartitionCollector {
    gauges: PartitionGauges,
    families: Families,
}

impl Collector for PartitionCollector {
    fn desc(&self) -> Vec<&Desc> {
        let Families { failures, empty, fetch, hidden } = &self.families;
        [failures, empty, fetch].into_iter().flat_map(Collector::desc).chain(hidden.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Built at each scrape: a deleted job leaves nothing to clean up.
        let Ok(families) = Families::new() else { return Vec::new() };
        let jobs = self.gauges.lock();
        let all = || jobs.iter().flat_map(|(job, of_job)| of_job.iter().map(move |(label, value)| (job, label, value)));
        for (job, label, value) in all().take(MAX_PARTITIONS) {
            let labels = [&*job.namespace, &*job.name, label.as_str()];
            families.failures.with_label_values(&labels).set(f64::from(value.streak.failure_streak));
            families.empty.with_label_values(&labels).set(f64::from(value.streak.empty_streak));
            families.fetch.with_label_values(&labels).set(value.fetch_time.as_secs_f64());
        }
        let hidden = all().count().saturating_sub(MAX_PARTITIONS);
        families.hidden.set(f64::from(u32::try_from(hidden).unwrap_or(u32::MAX)));
        families.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(names: std::ops::Range<u32>) -> Vec<PartitionValues> {
        let streak = |n: u32| PartitionStreak { name: format!("acc-013188346{n}"), failure_streak: n, empty_streak: 0 };
        names.map(|n| PartitionValues { streak: streak(n), fetch_time: Duration::from_millis(1500) }).collect()
    }

    #[test]
    fn no_more_than_200_partitions_have_series_and_none_shows_its_name() {
        let metrics = Metrics::new();
        let gauges = PartitionGauges::register(&metrics).unwrap();
        let key = TokenKey::new(&[7; 32]).unwrap();
        let (first, second) = (ObjectKey::new("a", "x"), ObjectKey::new("b", "y"));
        gauges.set(&first, &key, values(0..150));
        gauges.set(&second, &key, values(0..150));
        let text = metrics.render().unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("busbar_sync_partition_fetch_seconds{")).count(), 200);
        assert!(text.contains("busbar_sync_partitions_hidden 100\n"), "{text}");
        assert!(!text.contains("013188346"), "an account number");
        gauges.remove(&first);
        let text = metrics.render().unwrap();
        assert!(text.contains("busbar_sync_partitions_hidden 0\n") && !text.contains("syncjob=\"x\""), "{text}");
    }

    #[test]
    fn a_partition_keeps_its_label_and_another_key_gives_another() {
        let label_of = |byte: u8| label(&TokenKey::new(&[byte; 32]).unwrap(), "acc-1");
        assert_eq!(label_of(1), label_of(1));
        assert_ne!(label_of(1), label_of(2));
        assert_eq!(label(&TokenKey::new(&[1; 32]).unwrap(), ""), "");
    }
}
