//! One registry of metrics, and short constructors that register in it.
//!
//! Each layer owns a struct of its own series, made from a [`Metrics`] at start. Names are the caller's, with the
//! prefix `busbar_` unless a Go-compatible name exists. Gauges that name an object are not kept here: their layer
//! registers [`Pieces`] (or a [`Collector`], where they are few) that are built from live state at scrape time, so they
//! vanish with the object.

use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// Buckets in seconds for calls to providers and for work stages: 1 ms to 60 s.
pub const SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Objects whose series are one piece: enough to make the repeated work per piece nothing, few enough to make a piece
/// some hundred kilobytes.
pub const PIECE: usize = 128;

/// Series of many objects, built a few objects at a time.
///
/// A series as a value weighs ten times its line of text. Those of ten thousand connections at once would be most of the
/// process's memory, so each piece becomes text before the next is built.
pub trait Pieces: Send + Sync {
    /// Hands over one piece after another; a family may have a part in each.
    fn each(&self, take: &mut dyn FnMut(Vec<MetricFamily>));
}

/// The process's metrics. Cloning shares the registry.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Registry,
    pieces: Arc<RwLock<Vec<Arc<dyn Pieces>>>>,
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

    /// Registers series of many objects. Their names must be nobody else's.
    pub fn pieces(&self, pieces: impl Pieces + 'static) {
        self.pieces.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(pieces));
    }

    /// The text exposition of everything registered, in parts that belong one after the other.
    pub fn scrape(&self) -> Result<Vec<String>, MetricsError> {
        let mut parts = vec![TextEncoder::new().encode_to_string(&self.registry.gather())?];
        let all = self.pieces.read().unwrap_or_else(PoisonError::into_inner).clone();
        for pieces in all {
            let mut families = Families::default();
            pieces.each(&mut |piece| families.add(&piece));
            parts.extend(families.finish()?);
        }
        Ok(parts)
    }

    /// The same as one text.
    pub fn render(&self) -> Result<String, MetricsError> {
        Ok(self.scrape()?.concat())
    }

    fn add<C: Collector + Clone + 'static>(&self, series: C) -> Result<C, MetricsError> {
        self.registry.register(Box::new(series.clone()))?;
        Ok(series)
    }
}

/// The text of families that come in pieces: all lines of one family belong together, below one header.
#[derive(Default)]
struct Families {
    texts: Vec<(String, String)>,
    failed: Option<prometheus::Error>,
}

impl Families {
    fn add(&mut self, piece: &[MetricFamily]) {
        // A family without a series is an error to the encoder.
        for family in piece.iter().filter(|family| !family.get_metric().is_empty()) {
            let mut text = String::new();
            if let Err(error) = TextEncoder::new().encode_utf8(std::slice::from_ref(family), &mut text) {
                self.failed = Some(error);
                return;
            }
            match self.texts.iter_mut().find(|(name, _)| name == family.name()) {
                Some((_, lines)) => lines.push_str(without_header(&text)),
                None => self.texts.push((family.name().to_owned(), text)),
            }
        }
    }

    fn finish(self) -> Result<impl Iterator<Item = String>, MetricsError> {
        match self.failed {
            Some(error) => Err(error.into()),
            None => Ok(self.texts.into_iter().map(|(_, text)| text)),
        }
    }
}

fn without_header(mut text: &str) -> &str {
    while let Some((_, rest)) = text.strip_prefix('#').and_then(|comment| comment.split_once('\n')) {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    impl Pieces for Two {
        fn each(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
            for piece in ["1", "2"] {
                let gauges = ["busbar_a", "busbar_b"].map(|name| {
                    let gauge = IntGaugeVec::new(Opts::new(name, "x"), &["of"]).unwrap();
                    gauge.with_label_values(&[piece]).set(7);
                    gauge
                });
                let empty = IntGaugeVec::new(Opts::new("busbar_none", "x"), &["of"]).unwrap();
                take(gauges.iter().chain([&empty]).flat_map(Collector::collect).collect());
            }
        }
    }

    #[test]
    fn pieces_of_a_family_come_together_below_one_header() {
        let metrics = Metrics::new();
        metrics.pieces(Two);
        let family =
            |name: &str| format!("# HELP {name} x\n# TYPE {name} gauge\n{name}{{of=\"1\"}} 7\n{name}{{of=\"2\"}} 7\n");
        assert_eq!(metrics.render().unwrap(), family("busbar_a") + &family("busbar_b"));
    }

    #[test]
    fn a_name_cannot_be_taken_twice() {
        let metrics = Metrics::new();
        metrics.counter("busbar_x_total", "x", &["a"]).unwrap().with_label_values(&["1"]).inc();
        assert!(metrics.counter("busbar_x_total", "x", &["a"]).is_err());
        assert!(metrics.render().unwrap().contains("busbar_x_total{a=\"1\"} 1"));
    }
}
