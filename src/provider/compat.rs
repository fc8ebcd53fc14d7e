//! The series of the systems that Busbar replaces, under their own names and with their own codes (`--compat-metrics`).
//!
//! For dashboards and alerts that exist; off by default, for whoever starts anew has ours. They count what callers ask of
//! a provider, once a call has ended after its retries: no health check, nothing that the circuit, the quota or a kept
//! answer spared the provider. Those systems knew one connection for each provider; where there are several, the counters
//! add up and a gauge shows the worst.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{HistogramVec, IntCounter, IntCounterVec};

use crate::domain::breaker::Effective;
use crate::metrics::{Metrics, MetricsError, Pieces};
use crate::provider::call::{Answer, CallError};
use crate::provider::live::Live;

/// The profile that the Finastra series speak of.
const FINASTRA: &str = "finastra";
/// What the sources print for a call without an HTTP status.
pub const NO_STATUS: &str = "error";

/// One source's series.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CompatSet {
    /// `finastra_…`
    Finastra,
    /// `provider_…` and `circuit_breaker_state`
    Providers,
}

impl FromStr for CompatSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "finastra" => Ok(Self::Finastra),
            "providers" => Ok(Self::Providers),
            "mono" | "routing" => Err(format!("{text} is not served yet: this version has finastra, providers")),
            _ => Err("must be one of finastra, providers".to_owned()),
        }
    }
}

/// Counters and histograms; none of them by default.
#[derive(Default)]
pub(crate) struct Compat {
    finastra: Option<(IntCounterVec, HistogramVec)>,
    providers: Option<(IntCounterVec, IntCounter, HistogramVec)>,
}

impl Compat {
    pub(crate) fn new(metrics: &Metrics, wanted: &BTreeSet<CompatSet>) -> Result<Self, MetricsError> {
        let mut compat = Self::default();
        if wanted.contains(&CompatSet::Finastra) {
            compat.finastra = Some((
                metrics.counter(
                    "finastra_api_calls_total",
                    "Calls to Finastra, by HTTP status; status \"error\": without one.",
                    &["endpoint", "status"],
                )?,
                metrics.seconds("finastra_api_latency_seconds", "Time of a call to Finastra.", &["endpoint"])?,
            ));
        }
        if wanted.contains(&CompatSet::Providers) {
            let errors = metrics.counter(
                "provider_errors_total",
                "Calls to providers without an HTTP status, or with one of 400 and above.",
                &[],
            )?;
            compat.providers = Some((
                metrics.counter(
                    "provider_requests_total",
                    "Calls to providers, by HTTP status; status \"error\": without one.",
                    &["provider", "endpoint", "status"],
                )?,
                errors.with_label_values::<&str>(&[]),
                metrics.seconds(
                    "provider_latency_seconds",
                    "Time of a call to a provider.",
                    &["provider", "endpoint"],
                )?,
            ));
        }
        Ok(compat)
    }

    /// A caller's call has ended.
    pub(crate) fn call(&self, provider: &str, endpoint: &str, end: Result<&Answer, &CallError>, took: Duration) {
        // What we refused ourselves is no call to them.
        if end.is_err_and(CallError::is_our_own) {
            return;
        }
        let status = end.ok().map(|answer| answer.status);
        let label = match &status {
            // A provider must not fill our memory with codes that nobody knows.
            Some(status) if status.canonical_reason().is_none() => "other",
            Some(status) => status.as_str(),
            None => NO_STATUS,
        };
        if let Some((calls, seconds)) = self.finastra.as_ref().filter(|_| provider == FINASTRA) {
            calls.with_label_values(&[endpoint, label]).inc();
            seconds.with_label_values(&[endpoint]).observe(took.as_secs_f64());
        }
        if let Some((calls, errors, seconds)) = &self.providers {
            calls.with_label_values(&[provider, endpoint, label]).inc();
            if status.is_none_or(|status| status.as_u16() >= 400) {
                errors.inc();
            }
            seconds.with_label_values(&[provider, endpoint]).observe(took.as_secs_f64());
        }
    }
}

/// Prints the circuits at scrape time.
pub(crate) struct States<F> {
    pub(crate) wanted: BTreeSet<CompatSet>,
    pub(crate) list: F,
}

/// How bad a circuit is, the worst last.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Circuit {
    Closed,
    Half,
    Open,
}

impl Circuit {
    const fn of(effective: Effective) -> Self {
        match effective {
            Effective::HalfOpen => Self::Half,
            Effective::Open | Effective::ForcedOpen => Self::Open,
            // In shadow nothing is ever refused: closed, to whoever looks from outside.
            Effective::Closed | Effective::ForcedClosed | Effective::Shadow => Self::Closed,
        }
    }

    /// 0 closed, 1 half, 2 open.
    const fn finastra(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::Half => 1.0,
            Self::Open => 2.0,
        }
    }

    /// 0 closed, 1 open, 2 half.
    const fn providers(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::Open => 1.0,
            Self::Half => 2.0,
        }
    }
}

impl<F: Fn() -> Vec<Arc<Live>> + Send + Sync> Pieces for States<F> {
    fn each(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
        let mut worst = BTreeMap::<String, Circuit>::new();
        for live in (self.list)() {
            let circuit = Circuit::of(live.core().lock().effective());
            let of = worst.entry(live.settings().provider().to_owned()).or_insert(circuit);
            *of = circuit.max(*of);
        }
        let mut families = Vec::new();
        if self.wanted.contains(&CompatSet::Finastra)
            && let Some(circuit) = worst.get(FINASTRA)
        {
            let help = "Circuit of Finastra: 0 closed, 1 half-open, 2 open.";
            families.push(family(
                "finastra_breaker_state",
                help,
                vec![gauge("client", "collateral", circuit.finastra())],
            ));
        }
        if self.wanted.contains(&CompatSet::Providers) {
            let help = "Circuit of a provider: 0 closed, 1 open, 2 half-open.";
            let all = worst.iter().map(|(provider, circuit)| gauge("provider", provider, circuit.providers()));
            families.push(family("circuit_breaker_state", help, all.collect()));
        }
        take(families);
    }
}

fn gauge(label: &str, value: &str, number: f64) -> Metric {
    let (mut pair, mut gauge) = (LabelPair::default(), Gauge::default());
    pair.set_name(label.to_owned());
    pair.set_value(value.to_owned());
    gauge.set_value(number);
    let mut metric = Metric::from_label(vec![pair]);
    metric.set_gauge(gauge);
    metric
}

fn family(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::GAUGE);
    family.set_metric(metrics);
    family
}
