//! The metrics of the systems that Busbar replaces, under their own names and codes (`--compat-metrics`).
//!
//! For existing dashboards and alerts; off by default. They count the calls of callers, once per call after its
//! retries: no health checks, and no calls that the circuit, the quota or the cache answered without the provider.
//! Those systems had one connection per provider; with several, counters are summed and gauges show the worst. The
//! circuits are exported by `legacy_collector.rs`.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec};

use crate::metrics::{Metrics, MetricsError};
use crate::provider::call::{CallError, Response};

/// The profile that the Finastra series are about.
pub(super) const FINASTRA: &str = "finastra";
/// The `status` label of a call without an HTTP status.
pub const NO_STATUS: &str = "error";

/// The metrics of one replaced system.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LegacyMetricSet {
    /// `finastra_…`
    Finastra,
    /// `provider_…` and `circuit_breaker_state`
    Providers,
    /// `taxpoynt_mono_pipeline_…`, which the syncs export.
    Mono,
    /// `routing_…`, `circuit_breaker_open` and `avg_routing_latency_ms`, which the routes export.
    Routing,
}

impl FromStr for LegacyMetricSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "finastra" => Ok(Self::Finastra),
            "providers" => Ok(Self::Providers),
            "mono" => Ok(Self::Mono),
            "routing" => Ok(Self::Routing),
            _ => Err("unknown set; use one of finastra, mono, providers, routing".to_owned()),
        }
    }
}

/// Counters and histograms; none of them by default.
#[derive(Default)]
pub(crate) struct LegacyMetrics {
    finastra: Option<(IntCounterVec, HistogramVec)>,
    providers: Option<(IntCounterVec, IntCounter, HistogramVec)>,
}

impl LegacyMetrics {
    pub(crate) fn new(metrics: &Metrics, enabled: &BTreeSet<LegacyMetricSet>) -> Result<Self, MetricsError> {
        let mut legacy = Self::default();
        if enabled.contains(&LegacyMetricSet::Finastra) {
            legacy.finastra = Some((
                metrics.counter(
                    "finastra_api_calls_total",
                    "Calls to Finastra, by HTTP status; \"error\" without one.",
                    &["endpoint", "status"],
                )?,
                metrics.histogram("finastra_api_latency_seconds", "Duration of a call to Finastra.", &["endpoint"])?,
            ));
        }
        if enabled.contains(&LegacyMetricSet::Providers) {
            let errors = metrics.counter(
                "provider_errors_total",
                "Calls to providers without an HTTP status, or with status 400 or above.",
                &[],
            )?;
            legacy.providers = Some((
                metrics.counter(
                    "provider_requests_total",
                    "Calls to providers, by HTTP status; \"error\" without one.",
                    &["provider", "endpoint", "status"],
                )?,
                errors.with_label_values::<&str>(&[]),
                metrics.histogram(
                    "provider_latency_seconds",
                    "Duration of a call to a provider.",
                    &["provider", "endpoint"],
                )?,
            ));
        }
        Ok(legacy)
    }

    /// Counts a finished call of a caller.
    pub(crate) fn call(&self, provider: &str, endpoint: &str, end: Result<&Response, &CallError>, duration: Duration) {
        // A local refusal is not a call to the provider.
        if end.is_err_and(CallError::is_local) {
            return;
        }
        let status = end.ok().map(|response| response.status);
        let label = match &status {
            // A provider must not exhaust our memory with unknown status codes.
            Some(status) if status.canonical_reason().is_none() => "other",
            Some(status) => status.as_str(),
            None => NO_STATUS,
        };
        if let Some((calls, seconds)) = self.finastra.as_ref().filter(|_| provider == FINASTRA) {
            calls.with_label_values(&[endpoint, label]).inc();
            seconds.with_label_values(&[endpoint]).observe(duration.as_secs_f64());
        }
        if let Some((calls, errors, seconds)) = &self.providers {
            calls.with_label_values(&[provider, endpoint, label]).inc();
            if status.is_none_or(|status| status.as_u16() >= 400) {
                errors.inc();
            }
            seconds.with_label_values(&[provider, endpoint]).observe(duration.as_secs_f64());
        }
    }
}
