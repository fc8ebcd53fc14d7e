//! The gateway's metrics.

use prometheus::{HistogramVec, IntCounterVec, IntGauge};

use crate::metrics::{Metrics, MetricsError};

/// The gateway's metrics.
#[derive(Clone)]
pub struct GatewayMetrics {
    pub(super) requests: IntCounterVec,
    pub(super) seconds: HistogramVec,
    pub(super) panics: IntCounterVec,
    pub(super) in_flight: IntGauge,
}

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
            panics: metrics.counter(
                "busbar_gateway_panics_total",
                "Requests whose handler panicked: always a bug.",
                &["route"],
            )?,
            in_flight: metrics
                .int_gauge("busbar_gateway_requests_in_flight", "Requests being handled.", &[])?
                .with_label_values::<&str>(&[]),
        })
    }
}
