//! Metrics of syncs. Labels never hold accounts, free text or partitions.

use prometheus::{HistogramVec, IntCounter, IntCounterVec};

use super::report::RunReport;
use crate::domain::key::ObjectKey;
use crate::domain::run_reason::RunReason;
use crate::metrics::{Metrics, MetricsError};

/// A stage of a page.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the request to the last byte of the response.
    Fetch,
    /// Parsing bytes into rows.
    Transform,
    /// The page transaction.
    Persist,
    /// Handing a run's events to the outbox, in the transaction that records its end.
    Publish,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Fetch, Self::Transform, Self::Persist, Self::Publish];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Transform => "transform",
            Self::Persist => "persist",
            Self::Publish => "publish",
        }
    }
}

/// The sync layer's metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct SyncMetrics {
    runs: IntCounterVec,
    stages: HistogramVec,
    errors: IntCounterVec,
    records: IntCounterVec,
    pages: IntCounterVec,
    empty_runs: IntCounterVec,
    incomplete_walks: IntCounterVec,
    slow_fetches: IntCounterVec,
    mono: Option<MonoMetrics>,
    /// Whether the runs that are recorded are those of the profile `mono`.
    is_mono: bool,
}

/// The series of the Mono pipeline, under the names of its dashboards (`--compat-metrics=mono`). They count what the
/// profile `mono` reads.
#[derive(Clone, Debug)]
struct MonoMetrics {
    stages: HistogramVec,
    errors: IntCounterVec,
    zero_transactions: IntCounter,
}

impl MonoMetrics {
    fn register(metrics: &Metrics) -> Result<Self, MetricsError> {
        let classes = || RunReason::ALL.iter().map(|class| class.as_str());
        let zero = metrics.counter(
            "taxpoynt_mono_pipeline_zero_transactions_total",
            "Fetches of an account of Mono that succeeded without a transaction.",
            &[],
        )?;
        Ok(Self {
            stages: metrics.histogram(
                "taxpoynt_mono_pipeline_stage_seconds",
                "Time per page and stage of the syncs from Mono, in seconds.",
                &["stage", "outcome"],
            )?,
            errors: metrics.counter_from_zero(
                "taxpoynt_mono_pipeline_errors_total",
                "Errors of the syncs from Mono, by stage and class.",
                ["stage", "error_type"],
                Stage::ALL.iter().flat_map(|stage| classes().map(|class| [stage.as_str(), class])),
            )?,
            zero_transactions: zero.with_label_values::<&str>(&[]),
        })
    }
}

/// The profile whose series are exported under the names of the Mono pipeline.
const MONO: &str = "mono";

impl SyncMetrics {
    /// The same with the series of the Mono pipeline.
    pub(crate) fn with_mono(self, metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self { mono: Some(MonoMetrics::register(metrics)?), ..self })
    }

    /// The metrics for a run of the profile `provider`.
    pub(crate) fn of_provider(&self, provider: &str) -> Self {
        Self { is_mono: provider == MONO, ..self.clone() }
    }

    fn mono(&self) -> Option<&MonoMetrics> {
        self.mono.as_ref().filter(|_| self.is_mono)
    }

    /// Registers the metrics.
    pub fn register(metrics: &Metrics) -> Result<Self, MetricsError> {
        let job = ["namespace", "syncjob"];
        Ok(Self {
            runs: metrics.counter(
                "busbar_sync_runs_total",
                "Sync runs that ended, by result.",
                &["namespace", "syncjob", "result"],
            )?,
            stages: metrics.histogram(
                "busbar_sync_stage_seconds",
                "Time per page and stage of a sync, in seconds.",
                &["stage", "outcome"],
            )?,
            errors: metrics.counter_from_zero(
                "busbar_sync_errors_total",
                "Sync errors, by stage and class.",
                ["stage", "class"],
                Stage::ALL.iter().flat_map(|stage| RunReason::ALL.iter().map(|class| [stage.as_str(), class.as_str()])),
            )?,
            records: metrics.counter(
                "busbar_sync_records_total",
                "Records processed by syncs, by operation; conflicting: dropped for a later one of the page with the same ID and another content.",
                &["namespace", "syncjob", "op"],
            )?,
            pages: metrics.counter("busbar_sync_pages_total", "Pages committed.", &job)?,
            empty_runs: metrics.counter(
                "busbar_sync_empty_runs_total",
                "Successful runs that read no record.",
                &job,
            )?,
            incomplete_walks: metrics.counter(
                "busbar_sync_incomplete_walks_total",
                "Walks of a partition that read a list to a point that is not known to be its end: its total was not reached, its next page was unreadable or one read before, or it kept changing.",
                &job,
            )?,
            slow_fetches: metrics.counter(
                "busbar_sync_slow_fetches_total",
                "Partitions whose requests took longer than spec.sla.fetchDuration in a run.",
                &job,
            )?,
            mono: None,
            is_mono: false,
        })
    }

    /// Exports the counters of `job` from its first reconcile on: `increase` does not see the first count of a new series.
    pub(crate) fn add_job(&self, job: &ObjectKey) {
        let (namespace, name) = (&*job.namespace, &*job.name);
        for result in crate::ledger::RunResult::ALL {
            self.runs.with_label_values(&[namespace, name, result.as_str()]);
        }
        for op in ["inserted", "updated", "unchanged", "rejected", "conflicting"] {
            self.records.with_label_values(&[namespace, name, op]);
        }
        self.pages.with_label_values(&[namespace, name]);
        self.empty_runs.with_label_values(&[namespace, name]);
        self.incomplete_walks.with_label_values(&[namespace, name]);
        self.slow_fetches.with_label_values(&[namespace, name]);
    }

    /// Records the partitions of a run whose requests were slow.
    pub(crate) fn slow_fetches(&self, job: &ObjectKey, partitions: usize) {
        self.slow_fetches.with_label_values(&[&job.namespace, &job.name]).inc_by(partitions as u64);
    }

    /// Records a walk whose list may have more records.
    pub(crate) fn walk_cut_short(&self, job: &ObjectKey) {
        self.incomplete_walks.with_label_values(&[&job.namespace, &job.name]).inc();
    }

    /// Records one stage of one page: a success (`class` is `None`) or an error of that class.
    pub(crate) fn stage(&self, stage: Stage, seconds: f64, class: Option<RunReason>) {
        let outcome = if class.is_none() { "success" } else { "error" };
        self.stages.with_label_values(&[stage.as_str(), outcome]).observe(seconds);
        if let Some(class) = class {
            self.errors.with_label_values(&[stage.as_str(), class.as_str()]).inc();
        }
        if let Some(mono) = self.mono() {
            mono.stages.with_label_values(&[stage.as_str(), outcome]).observe(seconds);
            if let Some(class) = class {
                mono.errors.with_label_values(&[stage.as_str(), class.as_str()]).inc();
            }
        }
    }

    /// Records the end of a run.
    pub(crate) fn run_ended(&self, job: &ObjectKey, report: &RunReport) {
        let (namespace, name) = (&*job.namespace, &*job.name);
        self.runs.with_label_values(&[namespace, name, report.result.as_str()]).inc();
        self.pages.with_label_values(&[namespace, name]).inc_by(report.counts.pages);
        if report.empty {
            self.empty_runs.with_label_values(&[namespace, name]).inc();
        }
        if let Some(mono) = self.mono() {
            let empty = report.partition_outcomes.iter().filter(|partition| partition.end().empty).count();
            mono.zero_transactions.inc_by(empty as u64);
        }
        let counts = &report.counts;
        for (op, count) in [
            ("inserted", counts.inserted),
            ("updated", counts.updated),
            ("unchanged", counts.unchanged),
            ("rejected", counts.rejected),
            ("conflicting", counts.conflicting),
        ] {
            self.records.with_label_values(&[namespace, name, op]).inc_by(count);
        }
    }

    /// Removes the series of a deleted job.
    pub(crate) fn remove_job(&self, job: &ObjectKey) {
        let (namespace, name) = (&*job.namespace, &*job.name);
        // Removing a series that does not exist returns an error, which is ignored.
        for result in crate::ledger::RunResult::ALL {
            self.runs.remove_label_values(&[namespace, name, result.as_str()]).ok();
        }
        for op in ["inserted", "updated", "unchanged", "rejected", "conflicting"] {
            self.records.remove_label_values(&[namespace, name, op]).ok();
        }
        self.pages.remove_label_values(&[namespace, name]).ok();
        self.empty_runs.remove_label_values(&[namespace, name]).ok();
        self.incomplete_walks.remove_label_values(&[namespace, name]).ok();
        self.slow_fetches.remove_label_values(&[namespace, name]).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_a_job_are_zero_from_its_first_reconcile_and_end_with_it() {
        let metrics = Metrics::new();
        let sync = SyncMetrics::register(&metrics).unwrap();
        let text = metrics.render().unwrap();
        assert!(text.contains("busbar_sync_errors_total{class=\"ProviderError\",stage=\"fetch\"} 0\n"), "{text}");
        assert!(!text.contains("syncjob="), "no job yet: {text}");
        let job = ObjectKey::new("ns", "books");
        sync.add_job(&job);
        let text = metrics.render().unwrap();
        for line in [
            "busbar_sync_runs_total{namespace=\"ns\",result=\"Failed\",syncjob=\"books\"} 0\n",
            "busbar_sync_records_total{namespace=\"ns\",op=\"rejected\",syncjob=\"books\"} 0\n",
            "busbar_sync_empty_runs_total{namespace=\"ns\",syncjob=\"books\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} {text}");
        }
        sync.remove_job(&job);
        assert!(!metrics.render().unwrap().contains("syncjob="), "its series end with it");
    }
    #[test]
    fn the_series_of_the_mono_pipeline_count_the_runs_of_its_profile_only() {
        let metrics = Metrics::new();
        let sync = SyncMetrics::register(&metrics).unwrap().with_mono(&metrics).unwrap();
        for provider in ["mono", "finastra", "profile:mono-like"] {
            let of_run = sync.of_provider(provider);
            of_run.stage(Stage::Fetch, 0.25, Some(RunReason::ProviderError));
            of_run.stage(Stage::Persist, 0.25, None);
        }
        let text = metrics.render().unwrap();
        for line in [
            "taxpoynt_mono_pipeline_stage_seconds_count{outcome=\"error\",stage=\"fetch\"} 1\n",
            "taxpoynt_mono_pipeline_stage_seconds_count{outcome=\"success\",stage=\"persist\"} 1\n",
            "taxpoynt_mono_pipeline_errors_total{error_type=\"ProviderError\",stage=\"fetch\"} 1\n",
            "taxpoynt_mono_pipeline_zero_transactions_total 0\n",
            "busbar_sync_stage_seconds_count{outcome=\"error\",stage=\"fetch\"} 3\n",
        ] {
            assert!(text.contains(line), "{line} {text}");
        }
    }
}
