//! One registry of metrics, and short constructors that register in it.
//!
//! Each layer owns a struct of its own series, made from a [`Metrics`] at start. Names are the caller's, with the
//! prefix `busbar_` unless a Go-compatible name exists. Gauges that name an object are not kept here: their layer
//! registers a [`Collector`] that builds them from live state at scrape time, so they vanish with the object.

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// Buckets in seconds for calls to providers and for work stages: 1 ms to 60 s.
pub const SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// The process's metrics. Cloning shares the registry.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Registry,
}

/// A series could not be registered (its name is taken or malformed) or the registry could not be rendered.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a counter family.
    pub fn counter(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// Registers a gauge family of whole numbers.
    pub fn int_gauge(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// Registers a gauge family.
    pub fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, MetricsError> {
        self.add(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// Registers a histogram family over [`SECONDS`].
    pub fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, MetricsError> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)?)
    }

    /// Registers a collector that builds its series at scrape time.
    pub fn collector(&self, collector: Box<dyn Collector>) -> Result<(), MetricsError> {
        Ok(self.registry.register(collector)?)
    }

    /// The text exposition of everything registered.
    pub fn render(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    fn add<C: Collector + Clone + 'static>(&self, series: C) -> Result<C, MetricsError> {
        self.registry.register(Box::new(series.clone()))?;
        Ok(series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_be_taken_twice() {
        let metrics = Metrics::new();
        metrics.counter("busbar_x_total", "x", &["a"]).unwrap().with_label_values(&["1"]).inc();
        assert!(metrics.counter("busbar_x_total", "x", &["a"]).is_err());
        assert!(metrics.render().unwrap().contains("busbar_x_total{a=\"1\"} 1"));
    }
}
