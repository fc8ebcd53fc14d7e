//! Counts decisions by route and result, and measures how long they take.
//!
//! The counts are collected at scrape time for the routes that exist: the series of a deleted route end with it, and those
//! of a new one begin at 0.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus::core::Collector as _;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Histogram, IntCounterVec, Opts};

use crate::domain::key::ObjectKey;
use crate::metrics::info::MetricInfo;
use crate::metrics::{BATCH_SIZE, BatchCollector, Metrics, MetricsError};
use crate::routing::error::RoutingError;
use crate::routing::source::RouteSource;

const DECISIONS: (&str, &str) =
    ("busbar_route_decisions_total", "Decisions on payouts, by route and result; dry runs are not counted.");
const LABELS: [&str; 3] = ["namespace", "route", "result"];
const SECONDS: (&str, &str) =
    ("busbar_route_decision_seconds", "Duration of decisions and overrides, until they are durable.");

/// How a call that asks for a decision ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum DecisionResult {
    /// A bank was chosen, and the decision is durable.
    Decided,
    /// The decision of an equal earlier request was answered.
    Replayed,
    /// A decision was superseded by an override.
    Overridden,
    /// No bank of the route could take the payout.
    NoBank,
    /// The attempt was decided for another request, or was superseded.
    Conflict,
    /// An earlier attempt may have been executed.
    Unresolved,
    /// The request names a bank that cannot be used.
    Invalid,
    /// The ledger did not take the decision.
    Unavailable,
}

impl DecisionResult {
    const ALL: [Self; 8] = [
        Self::Decided,
        Self::Replayed,
        Self::Overridden,
        Self::NoBank,
        Self::Conflict,
        Self::Unresolved,
        Self::Invalid,
        Self::Unavailable,
    ];

    /// The value of the label.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Replayed => "replayed",
            Self::Overridden => "overridden",
            Self::NoBank => "no_bank",
            Self::Conflict => "conflict",
            Self::Unresolved => "unresolved",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }

    /// The result of a call that failed.
    pub(crate) const fn of(error: &RoutingError) -> Self {
        match error {
            RoutingError::NoBank(_) => Self::NoBank,
            RoutingError::Conflict { .. }
            | RoutingError::KeyReused { .. }
            | RoutingError::AlreadySuperseded { .. }
            | RoutingError::Followed { .. } => Self::Conflict,
            RoutingError::Unresolved(_) => Self::Unresolved,
            RoutingError::Unavailable { .. }
            | RoutingError::PayoutsSuspended
            | RoutingError::Verifying
            | RoutingError::Simulating
            | RoutingError::Unreplayable { .. }
            | RoutingError::Defect(_) => Self::Unavailable,
            _ => Self::Invalid,
        }
    }
}

/// Sums over all routes since the process started.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub struct DecisionTotals {
    /// Decisions that were made: neither replayed nor failed.
    pub decisions: u64,
    /// Calls that were measured.
    pub count: u64,
    /// How long they took in total.
    pub seconds: f64,
}

type RouteCounts = [AtomicU64; DecisionResult::ALL.len()];

/// Counts and durations of decisions. Clones share them.
#[derive(Clone)]
pub(crate) struct DecisionMetrics {
    counts: Arc<RwLock<HashMap<ObjectKey, Arc<RouteCounts>>>>,
    seconds: Histogram,
}

impl DecisionMetrics {
    /// Registers the metrics.
    pub(crate) fn new(metrics: &Metrics, routes: Arc<dyn RouteSource>) -> Result<Self, MetricsError> {
        let seconds = metrics.histogram(SECONDS.0, SECONDS.1, &[])?.with_label_values::<&str>(&[]);
        let this = Self { counts: Arc::default(), seconds };
        metrics.batch_collector(DecisionCollector { metrics: this.clone(), routes });
        Ok(this)
    }

    /// Counts one call for a route.
    pub(crate) fn count(&self, route: &ObjectKey, result: DecisionResult) {
        let known = self.counts.read().unwrap_or_else(PoisonError::into_inner).get(route).cloned();
        let counts = known.unwrap_or_else(|| {
            let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(counts.entry(route.clone()).or_default())
        });
        // In the order of `ALL`, which is that of the declaration.
        if let Some(count) = counts.get(result as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records how long a call took.
    pub(crate) fn observe(&self, elapsed: Duration) {
        self.seconds.observe(elapsed.as_secs_f64());
    }

    /// Forgets routes that do not exist any more.
    pub(crate) fn retain(&self, exists: impl Fn(&ObjectKey) -> bool) {
        self.counts.write().unwrap_or_else(PoisonError::into_inner).retain(|key, _| exists(key));
    }

    /// Sums over all routes.
    pub(crate) fn totals(&self) -> DecisionTotals {
        let made = [DecisionResult::Decided, DecisionResult::Overridden];
        let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
        let of = |counts: &RouteCounts, result: DecisionResult| {
            counts.get(result as usize).map_or(0, |count| count.load(Ordering::Relaxed))
        };
        DecisionTotals {
            decisions: counts.values().flat_map(|counts| made.map(|result| of(counts, result))).sum(),
            count: self.seconds.get_sample_count(),
            seconds: self.seconds.get_sample_sum(),
        }
    }

    fn families(&self, routes: &[ObjectKey]) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let counter = IntCounterVec::new(Opts::new(DECISIONS.0, DECISIONS.1), &LABELS)?;
        let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
        for key in routes {
            let of_route = counts.get(key);
            for result in DecisionResult::ALL {
                let count = of_route.and_then(|counts| counts.get(result as usize));
                let value = count.map_or(0, |count| count.load(Ordering::Relaxed));
                counter.with_label_values(&[&*key.namespace, &*key.name, result.as_str()]).inc_by(value);
            }
        }
        Ok(counter.collect())
    }
}

/// Collects the counts of the routes that exist.
struct DecisionCollector {
    metrics: DecisionMetrics,
    routes: Arc<dyn RouteSource>,
}

impl BatchCollector for DecisionCollector {
    fn collect_batches(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
        let mut routes = self.routes.keys();
        routes.sort();
        for batch in routes.chunks(BATCH_SIZE) {
            match self.metrics.families(batch) {
                Ok(families) => take(families),
                Err(error) => tracing::error!(%error, "metrics of decisions not collected: this is a bug"),
            }
        }
    }

    fn describe(&self) -> Vec<MetricInfo> {
        vec![MetricInfo::new(MetricType::COUNTER, DECISIONS.0, DECISIONS.1, &LABELS)]
    }
}
