//! The gateway's metrics.

use std::sync::{Arc, Mutex};

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge};

use crate::domain::log_limit::LogLimit;
use crate::metrics::{Metrics, MetricsError};

/// The gateway's metrics.
#[derive(Clone)]
pub struct GatewayMetrics {
    pub(super) requests: IntCounterVec,
    pub(super) seconds: HistogramVec,
    pub(super) answer_seconds: HistogramVec,
    pub(super) panics: IntCounterVec,
    pub(super) in_flight: IntGauge,
    pub(super) rejected: IntCounterVec,
    pub(super) max_requests: IntGauge,
    /// Rounds in which the ledger could not be charged with shared rate limits.
    pub(super) unshared_rates: IntCounter,
    /// Webhooks by result.
    pub(super) webhooks: IntCounterVec,
    /// Requests with an API key, by result.
    pub(super) api_keys: IntCounterVec,
    /// Limits the log lines of refused and failed requests.
    pub(super) lines: Arc<Mutex<LogLimit<RequestKind>>>,
}

/// Where an answer came from; an extension of its response.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum AnswerSource {
    /// The cache, fresh.
    Cache,
    /// The cache, expired: the circuit is open, or the call failed, which may have taken its time.
    Stale,
    /// The provider, or a fallback.
    Provider,
}

impl AnswerSource {
    /// The label of the metric.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::Provider => "provider",
        }
    }
}

/// What the log lines of requests have in common: route template, method and status.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct RequestKind {
    pub(super) route: String,
    pub(super) method: &'static str,
    pub(super) status: u16,
}

/// Kinds of requests whose lines are counted: more than there are.
const MAX_KINDS: usize = 1_024;

impl GatewayMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            requests: metrics.counter(
                "busbar_gateway_requests_total",
                "Requests to the gateway, by route template, method and status; 499: the client closed the connection.",
                &["route", "method", "status"],
            )?,
            seconds: metrics.histogram("busbar_gateway_request_seconds", "Duration of a request.", &["route"])?,
            answer_seconds: metrics.histogram(
                "busbar_gateway_answer_seconds",
                "Time to a provider's answer, by source: cache, stale (an expired response, when the call failed), or provider (with retries and fallbacks).",
                &["source"],
            )?,
            panics: metrics.counter(
                "busbar_gateway_panics_total",
                "Requests whose handler panicked: always a bug.",
                &["route"],
            )?,
            in_flight: metrics
                .int_gauge("busbar_gateway_requests_in_flight", "Requests being handled.", &[])?
                .with_label_values::<&str>(&[]),
            rejected: metrics.counter_from_zero(
                "busbar_gateway_concurrency_rejected_total",
                "Requests rejected because too many were being handled, by limit: of the replica (unavailable), of the \
                 called connection (bulkhead_full) or of the caller (concurrency_limited).",
                ["limit"],
                [["replica"], ["connection"], ["caller"]],
            )?,
            max_requests: metrics
                .int_gauge("busbar_gateway_concurrency_limit", "Requests that may be handled at the same time.", &[])?
                .with_label_values::<&str>(&[]),
            unshared_rates: metrics
                .counter(
                    "busbar_gateway_rate_limit_unshared_total",
                    "Rounds in which rate limits of consumers and addresses counted for this replica alone, because the \
                     ledger failed or was slow.",
                    &[],
                )?
                .with_label_values::<&str>(&[]),
            webhooks: metrics.counter_from_zero(
                "busbar_webhooks_total",
                "Webhooks by result: accepted (a sync follows), coalesced (one waits already), repeated (known by its \
                 time and signature), ignored (an event that triggers nothing), unverified (signature or secret wrong), \
                 stale (signed too long ago), failed (not stored).",
                ["result"],
                [["accepted"], ["coalesced"], ["repeated"], ["ignored"], ["unverified"], ["stale"], ["failed"]],
            )?,
            api_keys: metrics.counter_from_zero(
                "busbar_gateway_api_keys_total",
                "Requests with an API key, by result: known (checked within the last minute), verified, invalid, \
                 unavailable.",
                ["result"],
                [["known"], ["verified"], ["invalid"], ["unavailable"]],
            )?,
            lines: Arc::new(Mutex::new(LogLimit::new(MAX_KINDS))),
        })
    }
}
