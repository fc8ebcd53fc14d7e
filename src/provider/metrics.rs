//! The metrics of the call path.
//!
//! Counters that name a connection are stored with the connection and exported at scrape time, so they disappear with
//! it; each connection has a fixed number of series, so that a provider cannot exhaust our memory with new status
//! codes. Histograms are labelled with provider and operation, never with the connection.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::domain::breaker::Transition;
use crate::metrics::{Metrics, MetricsError};
use crate::provider::legacy_metrics::LegacyMetrics;
use crate::telemetry::traces::Traces;

// A connection has at most 25 series. Its object takes eight: one, and one per condition, of which there are at most
// seven. The call path takes 17: three circuit states and the active override, five gauges, and eight for the counters
// below.
/// Distinct `(operation, code, outcome)` of one connection; later ones are counted as code `other`, in up to three
/// series, one per outcome (a skipped probe and a rejected call are `ignored` there).
const MAX_REQUESTS: usize = 3;
/// Distinct `(from, to, reason)` of one connection: the first, which is how its circuit opens. Later ones are counted
/// as reason `other`, in one series.
const MAX_TRANSITIONS: usize = 1;
/// The outcome of a probe that got no quota.
pub(crate) const SKIPPED: &str = "skipped";
/// The outcome of a call that succeeded at the provider.
pub(crate) const SUCCESS: &str = "success";
/// The outcome of a call that failed at the provider.
pub(crate) const FAILURE: &str = "failure";
/// The outcome of a call that says nothing about the provider.
pub(crate) const IGNORED: &str = "ignored";
/// The label value beyond the series limit.
pub(super) const OTHER: &str = "other";

/// The `code` label of a call.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum ResultCode {
    /// An HTTP status.
    Status(u16),
    /// One of our own error codes.
    Reason(&'static str),
}

/// The counters of one connection.
#[derive(Default)]
pub(crate) struct ConnectionCounters {
    pub(super) requests: Vec<(Arc<str>, ResultCode, &'static str, u64)>,
    /// By outcome, beyond the series limit.
    pub(super) other_requests: Vec<(&'static str, u64)>,
    pub(super) transitions: Vec<([&'static str; 3], u64)>,
    pub(super) other_transitions: u64,
}

impl ConnectionCounters {
    pub(crate) fn request(&mut self, operation: &Arc<str>, code: ResultCode, outcome: &'static str) {
        let known = self.requests.iter_mut().find(|(o, c, out, _)| *c == code && *out == outcome && o == operation);
        if let Some((.., count)) = known {
            *count += 1;
        } else if self.requests.len() < MAX_REQUESTS {
            self.requests.push((Arc::clone(operation), code, outcome, 1));
        } else {
            let outcome = if outcome == SUCCESS || outcome == FAILURE { outcome } else { IGNORED };
            match self.other_requests.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, count)) => *count += 1,
                None => self.other_requests.push((outcome, 1)),
            }
        }
    }

    /// Number of calls by outcome.
    #[cfg(test)]
    pub(crate) fn outcomes(&self) -> Vec<(&'static str, u64)> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        let all = self.requests.iter().map(|(.., outcome, count)| (*outcome, *count));
        for (outcome, count) in all.chain(self.other_requests.iter().copied()) {
            match sums.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, sum)) => *sum += count,
                None => sums.push((outcome, count)),
            }
        }
        sums
    }

    pub(crate) fn transition(&mut self, transition: &Transition) {
        let labels = [transition.from.as_str(), transition.to.as_str(), transition.reason.as_str()];
        if let Some((_, count)) = self.transitions.iter_mut().find(|(known, _)| *known == labels) {
            *count += 1;
        } else if self.transitions.len() < MAX_TRANSITIONS {
            self.transitions.push((labels, 1));
        } else {
            self.other_transitions += 1;
        }
    }
}

/// The metrics labelled with the provider, shared by all its connections.
pub(crate) struct ProviderMetrics {
    requests: HistogramVec,
    probes: HistogramVec,
    quota_waits: HistogramVec,
    retries: IntCounterVec,
    resends: IntCounterVec,
    retries_denied: IntCounterVec,
    cache: IntCounterVec,
    cache_bytes: IntGauge,
    bulkhead_in_use: IntGaugeVec,
    bulkhead_rejected: IntCounterVec,
    bulkhead_limit: IntGauge,
    run_on_reads: IntGauge,
    traces: Traces,
    legacy: LegacyMetrics,
}

impl ProviderMetrics {
    pub(crate) fn new(metrics: &Metrics, traces: Traces, legacy: LegacyMetrics) -> Result<Self, MetricsError> {
        let requests = metrics.histogram(
            "busbar_provider_request_duration_seconds",
            "Duration of a call to a provider, including retries.",
            &["provider", "operation"],
        )?;
        let probes = metrics.histogram(
            "busbar_probe_duration_seconds",
            "Duration of a health check of a provider.",
            &["provider"],
        )?;
        let quota_waits =
            metrics.histogram("busbar_quota_wait_seconds", "Time a try waited for quota.", &["provider"])?;
        let retries =
            metrics.counter("busbar_provider_retries_total", "Retries of calls to a provider.", &["provider"])?;
        let resends = metrics.counter(
            "busbar_provider_resends_total",
            "Requests sent again on a fresh connection within the same try, because a reused connection ended before the \
             answer.",
            &["provider"],
        )?;
        let retries_denied = metrics.counter(
            "busbar_provider_retries_denied_total",
            "Safe retries that were not made, by reason: circuit open (circuit), retry budget exhausted (budget), \
             delay longer than the deadline (deadline) or than the caller accepts (wait).",
            &["provider", "reason"],
        )?;
        let cache = metrics.counter(
            "busbar_cache_requests_total",
            "Calls that may be answered from the cache, by result: fresh response (hit), stale response (stale), \
             response of a concurrent call (shared), response of the provider (miss).",
            &["provider", "result"],
        )?;
        let cache_bytes = metrics.int_gauge("busbar_cache_bytes", "Size of all cached responses, in bytes.", &[])?;
        let cache_bytes = cache_bytes.with_label_values::<&str>(&[]);
        let bulkhead_in_use = metrics.int_gauge(
            "busbar_bulkhead_in_use",
            "Calls of callers in flight, of all connections of a provider; busbar_bulkhead_limit is that of one connection.",
            &["provider"],
        )?;
        let bulkhead_rejected = metrics.counter(
            "busbar_bulkhead_rejected_total",
            "Calls rejected because too many calls of their connection were in flight (bulkhead_full).",
            &["provider"],
        )?;
        let bulkhead_limit = metrics
            .int_gauge("busbar_bulkhead_limit", "Calls of one connection's callers that may be in flight.", &[])?
            .with_label_values::<&str>(&[]);
        let run_on_reads = metrics
            .int_gauge("busbar_run_on_reads", "Reads in flight whose callers have left.", &[])?
            .with_label_values::<&str>(&[]);
        Ok(Self {
            requests,
            probes,
            quota_waits,
            retries,
            resends,
            retries_denied,
            cache,
            cache_bytes,
            bulkhead_in_use,
            bulkhead_rejected,
            bulkhead_limit,
            run_on_reads,
            traces,
            legacy,
        })
    }

    /// Exports the error counters of `provider` as 0 from its first connection on: `increase` does not see the first count
    /// of a new series.
    pub(crate) fn add_provider(&self, provider: &str) {
        for counter in [&self.retries, &self.resends, &self.bulkhead_rejected] {
            counter.with_label_values(&[provider]);
        }
        for reason in ["circuit", "budget", "deadline", "wait"] {
            self.retries_denied.with_label_values(&[provider, reason]);
        }
    }

    /// The tracer of the calls' spans.
    pub(crate) fn traces(&self) -> &Traces {
        &self.traces
    }

    /// The metrics of the replaced systems.
    pub(crate) fn legacy(&self) -> &LegacyMetrics {
        &self.legacy
    }

    pub(crate) fn quota_wait(&self, provider: &str, waited: Duration) {
        self.quota_waits.with_label_values(&[provider]).observe(waited.as_secs_f64());
    }

    pub(crate) fn retry(&self, provider: &str) {
        self.retries.with_label_values(&[provider]).inc();
    }

    /// Counts the requests that are sent again within their try.
    pub(crate) fn resends(&self, provider: &str) -> IntCounter {
        self.resends.with_label_values(&[provider])
    }

    #[cfg(test)]
    pub(crate) fn retries(&self, provider: &str) -> u64 {
        self.retries.with_label_values(&[provider]).get()
    }

    pub(crate) fn retry_denied(&self, provider: &str, reason: &str) {
        self.retries_denied.with_label_values(&[provider, reason]).inc();
    }

    pub(crate) fn cache_bytes(&self) -> &IntGauge {
        &self.cache_bytes
    }

    /// The calls in flight that the bulkheads count, of all connections of `provider`.
    pub(crate) fn bulkhead_in_use(&self, provider: &str) -> IntGauge {
        self.bulkhead_in_use.with_label_values(&[provider])
    }

    pub(crate) fn bulkhead_rejected(&self, provider: &str) {
        self.bulkhead_rejected.with_label_values(&[provider]).inc();
    }

    pub(crate) fn set_bulkhead_limit(&self, limit: usize) {
        self.bulkhead_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// The reads in flight whose callers have left.
    pub(crate) fn run_on_reads(&self) -> &IntGauge {
        &self.run_on_reads
    }

    pub(crate) fn cache(&self, provider: &str, result: &str) {
        self.cache.with_label_values(&[provider, result]).inc();
    }

    pub(crate) fn call(&self, provider: &str, operation: &str, probe: bool, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        self.requests.with_label_values(&[provider, operation]).observe(seconds);
        if probe {
            self.probes.with_label_values(&[provider]).observe(seconds);
        }
    }
}
