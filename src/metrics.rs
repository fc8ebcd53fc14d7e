//! The process's metrics registry, and short constructors that register in it.
//!
//! Each layer owns a struct of its own metrics, created from a [`Metrics`] at start. Names are chosen by the layer,
//! with the prefix `busbar_` unless a Go-compatible name exists. Gauges labelled with an object are not stored: their
//! layer registers a [`BatchCollector`] (or a [`Collector`], if they are few) that reads live state at scrape time, so
//! they disappear with the object.
//!
//! A counter without labels is exported as 0 from the start, and so are those with known labels
//! ([`Metrics::counter_from_zero`]): `rate` and `increase` do not see the first count of a series that did not exist
//! before.

pub mod info;

use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use self::info::MetricInfo;

/// Histogram buckets in seconds for provider calls and work stages: 1 ms to 60 s.
pub const LATENCY_BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Objects per batch: enough that the overhead per batch is negligible, few enough that a batch takes some hundred
/// kilobytes.
pub const BATCH_SIZE: usize = 128;

/// Collects the metrics of many objects at scrape time, a batch of objects at a time.
///
/// A `MetricFamily` takes ten times the memory of its text. Those of ten thousand connections at once would be most of
/// the process's memory, so each batch is encoded before the next is collected.
pub trait BatchCollector: Send + Sync {
    /// Passes one batch after another to `take`; a family may be part of several.
    fn collect_batches(&self, take: &mut dyn FnMut(Vec<MetricFamily>));

    /// The families, for the documentation.
    fn describe(&self) -> Vec<MetricInfo> {
        Vec::new()
    }
}

/// The process's metrics. Cloning shares the registry.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Registry,
    batch_collectors: Arc<RwLock<Vec<Arc<dyn BatchCollector>>>>,
    described: Arc<RwLock<Vec<MetricInfo>>>,
}

/// A metric could not be registered (its name is taken or invalid), or the registry could not be encoded.
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
        let series = self.add(IntCounterVec::new(Opts::new(name, help), labels)?)?;
        if labels.is_empty() {
            series.with_label_values::<&str>(&[]);
        }
        Ok(series)
    }

    /// Registers a counter family; each set of label values in `known` is exported as 0 from the start.
    pub fn counter_from_zero<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        known: impl IntoIterator<Item = [&'static str; N]>,
    ) -> Result<IntCounterVec, MetricsError> {
        let series = self.counter(name, help, &labels)?;
        for values in known {
            series.with_label_values(&values);
        }
        Ok(series)
    }

    /// Registers an integer gauge family.
    pub fn int_gauge(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// Registers a histogram family with [`LATENCY_BUCKETS`].
    pub fn histogram(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, MetricsError> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec()), labels)?)
    }

    /// Registers a collector that is read at scrape time.
    pub fn collector(&self, collector: Box<dyn Collector>) -> Result<(), MetricsError> {
        let infos = MetricInfo::of(&*collector);
        self.registry.register(collector)?;
        self.describe(infos);
        Ok(())
    }

    /// Registers `process_*`: CPU, memory, threads and open files of this process. None on other systems than Linux.
    pub fn process(&self) -> Result<(), MetricsError> {
        #[cfg(target_os = "linux")]
        self.collector(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(())
    }

    /// Registers a batch collector. Its metric names must be unique; they are not checked.
    pub fn batch_collector(&self, collector: impl BatchCollector + 'static) {
        self.describe(collector.describe());
        self.batch_collectors.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(collector));
    }

    /// The text exposition of all metrics, in parts to be concatenated.
    pub fn scrape(&self) -> Result<Vec<String>, MetricsError> {
        let mut parts = vec![TextEncoder::new().encode_to_string(&self.registry.gather())?];
        let collectors = self.batch_collectors.read().unwrap_or_else(PoisonError::into_inner).clone();
        for collector in collectors {
            let mut families = Families::default();
            collector.collect_batches(&mut |batch| families.add(&batch));
            parts.extend(families.finish()?);
        }
        Ok(parts)
    }

    /// The text exposition of all metrics as one string.
    pub fn render(&self) -> Result<String, MetricsError> {
        Ok(self.scrape()?.concat())
    }

    /// What is registered, for the documentation.
    pub fn described(&self) -> Vec<MetricInfo> {
        self.described.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add<C: Collector + Clone + 'static>(&self, series: C) -> Result<C, MetricsError> {
        self.collector(Box::new(series.clone()))?;
        Ok(series)
    }

    fn describe(&self, infos: Vec<MetricInfo>) {
        self.described.write().unwrap_or_else(PoisonError::into_inner).extend(infos);
    }
}

/// Encodes families that arrive in batches: the lines of one family must be consecutive, below one header.
#[derive(Default)]
struct Families {
    texts: Vec<(String, String)>,
    failed: Option<prometheus::Error>,
}

impl Families {
    fn add(&mut self, batch: &[MetricFamily]) {
        // The encoder rejects a family without metrics.
        for family in batch.iter().filter(|family| !family.get_metric().is_empty()) {
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

    struct TwoBatches;

    impl BatchCollector for TwoBatches {
        fn collect_batches(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
            for batch in ["1", "2"] {
                let gauges = ["busbar_a", "busbar_b"].map(|name| {
                    let gauge = IntGaugeVec::new(Opts::new(name, "x"), &["of"]).unwrap();
                    gauge.with_label_values(&[batch]).set(7);
                    gauge
                });
                let empty = IntGaugeVec::new(Opts::new("busbar_none", "x"), &["of"]).unwrap();
                take(gauges.iter().chain([&empty]).flat_map(Collector::collect).collect());
            }
        }
    }

    #[test]
    fn batches_of_one_family_share_one_header() {
        let metrics = Metrics::new();
        metrics.batch_collector(TwoBatches);
        let family =
            |name: &str| format!("# HELP {name} x\n# TYPE {name} gauge\n{name}{{of=\"1\"}} 7\n{name}{{of=\"2\"}} 7\n");
        assert_eq!(metrics.render().unwrap(), family("busbar_a") + &family("busbar_b"));
    }

    #[test]
    fn a_metric_name_can_be_registered_only_once() {
        let metrics = Metrics::new();
        metrics.counter("busbar_x_total", "x", &["a"]).unwrap().with_label_values(&["1"]).inc();
        assert!(metrics.counter("busbar_x_total", "x", &["a"]).is_err());
        assert!(metrics.render().unwrap().contains("busbar_x_total{a=\"1\"} 1"));
    }

    #[test]
    fn counters_without_labels_and_of_errors_are_zero_from_the_start() {
        let metrics = Metrics::new();
        metrics.counter("busbar_lost_total", "x", &[]).unwrap();
        metrics.counter_from_zero("busbar_errors_total", "x", ["stage", "class"], [["a", "1"], ["b", "2"]]).unwrap();
        metrics.counter("busbar_calls_total", "x", &["code"]).unwrap();
        let text = metrics.render().unwrap();
        for line in [
            "busbar_lost_total 0\n",
            "busbar_errors_total{class=\"1\",stage=\"a\"} 0\n",
            "busbar_errors_total{class=\"2\",stage=\"b\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} {text}");
        }
        assert!(!text.contains("busbar_calls_total"), "{text}");
        assert_eq!(metrics.described().len(), 3);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_measured() {
        let metrics = Metrics::new();
        metrics.process().unwrap();
        let text = metrics.render().unwrap();
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            assert!(text.contains(&format!("\n{name} ")), "{name}: {text}");
        }
    }
}
