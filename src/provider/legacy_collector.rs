//! Exports the circuit states of all connections under the names of the replaced systems (see
//! [`legacy_metrics`](crate::provider::legacy_metrics)).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::domain::breaker::EffectiveState;
use crate::metrics::BatchCollector;
use crate::metrics::info::MetricInfo;
use crate::provider::connection::Connection;
use crate::provider::legacy_metrics::{FINASTRA, LegacyMetricSet};

const FINASTRA_STATE: (&str, &str) =
    ("finastra_breaker_state", "Circuit state of Finastra: 0 closed, 1 half-open, 2 open.");
const PROVIDERS_STATE: (&str, &str) =
    ("circuit_breaker_state", "Circuit state of a provider: 0 closed, 1 open, 2 half-open.");

/// Exports the circuit states at scrape time.
pub(crate) struct LegacyCircuitCollector<F> {
    pub(crate) enabled: BTreeSet<LegacyMetricSet>,
    pub(crate) list: F,
}

/// The severity of a circuit state, the worst last.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Closed,
    HalfOpen,
    Open,
}

impl Severity {
    const fn of(effective: EffectiveState) -> Self {
        match effective {
            EffectiveState::HalfOpen => Self::HalfOpen,
            EffectiveState::Open | EffectiveState::ForcedOpen => Self::Open,
            // In shadow mode no call is rejected: the circuit counts as closed.
            EffectiveState::Closed | EffectiveState::ForcedClosed | EffectiveState::Shadow => Self::Closed,
        }
    }

    /// 0 closed, 1 half-open, 2 open.
    const fn finastra(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }

    /// 0 closed, 1 open, 2 half-open.
    const fn providers(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::Open => 1.0,
            Self::HalfOpen => 2.0,
        }
    }
}

impl<F: Fn() -> Vec<Arc<Connection>> + Send + Sync> BatchCollector for LegacyCircuitCollector<F> {
    fn collect_batches(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
        let mut worst = BTreeMap::<String, Severity>::new();
        for connection in (self.list)() {
            let circuit = Severity::of(connection.monitor().lock().effective());
            let entry = worst.entry(connection.settings().provider().to_owned()).or_insert(circuit);
            *entry = circuit.max(*entry);
        }
        let mut families = Vec::new();
        if self.enabled.contains(&LegacyMetricSet::Finastra)
            && let Some(circuit) = worst.get(FINASTRA)
        {
            families.push(family(FINASTRA_STATE, vec![gauge("client", "collateral", circuit.finastra())]));
        }
        if self.enabled.contains(&LegacyMetricSet::Providers) {
            let all = worst.iter().map(|(provider, circuit)| gauge("provider", provider, circuit.providers()));
            families.push(family(PROVIDERS_STATE, all.collect()));
        }
        take(families);
    }

    fn describe(&self) -> Vec<MetricInfo> {
        let all = [
            (LegacyMetricSet::Finastra, FINASTRA_STATE, "client"),
            (LegacyMetricSet::Providers, PROVIDERS_STATE, "provider"),
        ];
        let enabled = all.into_iter().filter(|(set, ..)| self.enabled.contains(set));
        enabled.map(|(_, (name, help), label)| MetricInfo::new(MetricType::GAUGE, name, help, &[label])).collect()
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

fn family((name, help): (&str, &str), metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::GAUGE);
    family.set_metric(metrics);
    family
}
