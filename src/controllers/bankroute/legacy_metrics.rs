//! The series of the payment router that Busbar replaces, under their own names (`--compat-metrics=routing`).
//!
//! For existing dashboards and alerts; off by default. That system had one set of routes: the counters are sums over
//! all of them. They are collected at scrape time from the counts that Busbar's own series show too.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::api::v1alpha1::BankRoute;
use crate::cluster::resource::WatchedResource as _;
use crate::cluster::stores::KindStore;
use crate::controllers::bankroute::metrics::FailoverCounts;
use crate::domain::breaker::EffectiveState;
use crate::metrics::info::MetricInfo;
use crate::metrics::{BatchCollector, Metrics};
use crate::provider::registry::Registry;
use crate::routing::{DecisionService, DecisionTotals};

const DECISIONS: (&str, &str) =
    ("routing_decision_count", "Decisions on payouts since the process started; without replays and dry runs.");
const FAILOVERS: (&str, &str) =
    ("routing_failover_count", "Failovers of all routes since the process started, counted by the leader.");
const OPEN: (&str, &str) =
    ("circuit_breaker_open", "1 while the circuit of a bank admits no payouts, else 0; of banks that a route uses.");
const LATENCY: (&str, &str) =
    ("avg_routing_latency_ms", "Mean duration of decisions since the process started, in milliseconds.");

/// Exports the series.
pub struct LegacyRoutingCollector {
    routes: KindStore<BankRoute>,
    registry: Registry,
    failovers: FailoverCounts,
    decisions: Arc<DecisionService>,
}

impl LegacyRoutingCollector {
    /// Registers the series.
    pub fn register(
        metrics: &Metrics,
        routes: KindStore<BankRoute>,
        registry: Registry,
        failovers: FailoverCounts,
        decisions: Arc<DecisionService>,
    ) {
        metrics.batch_collector(Self { routes, registry, failovers, decisions });
    }

    /// Whether the circuit of each bank admits no payouts; of several connections of one name the worst.
    fn banks(&self) -> BTreeMap<String, bool> {
        let mut banks = BTreeMap::new();
        let keys = self.routes.list().into_iter().flat_map(|route| {
            let key = route.key();
            let candidates = route.spec.candidates.iter();
            candidates.map(|candidate| key.sibling(&*candidate.connection_ref.name)).collect::<Vec<_>>()
        });
        for key in keys {
            if let Some(connection) = self.registry.get(&key) {
                *banks.entry(key.name.to_string()).or_insert(false) |= is_open(connection.snapshot().effective);
            }
        }
        banks
    }
}

/// Whether payouts do not pass: they wait for a half-open circuit too.
const fn is_open(effective: EffectiveState) -> bool {
    matches!(effective, EffectiveState::Open | EffectiveState::HalfOpen | EffectiveState::ForcedOpen)
}

impl BatchCollector for LegacyRoutingCollector {
    fn collect_batches(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
        take(families(self.decisions.totals(), self.failovers.total(), &self.banks()));
    }

    fn describe(&self) -> Vec<MetricInfo> {
        vec![
            MetricInfo::new(MetricType::GAUGE, LATENCY.0, LATENCY.1, &[]),
            MetricInfo::new(MetricType::GAUGE, OPEN.0, OPEN.1, &["bank"]),
            MetricInfo::new(MetricType::COUNTER, DECISIONS.0, DECISIONS.1, &[]),
            MetricInfo::new(MetricType::COUNTER, FAILOVERS.0, FAILOVERS.1, &[]),
        ]
    }
}

#[expect(clippy::cast_precision_loss, reason = "the text format has floats only")]
fn families(decisions: DecisionTotals, failovers: u64, banks: &BTreeMap<String, bool>) -> Vec<MetricFamily> {
    let mean = if decisions.count == 0 { 0.0 } else { decisions.seconds * 1_000.0 / decisions.count as f64 };
    let open = banks.iter().map(|(bank, is_open)| gauge(Some(bank), f64::from(u8::from(*is_open)))).collect();
    vec![
        family(LATENCY, MetricType::GAUGE, vec![gauge(None, mean)]),
        family(OPEN, MetricType::GAUGE, open),
        family(DECISIONS, MetricType::COUNTER, vec![counter(decisions.decisions as f64)]),
        family(FAILOVERS, MetricType::COUNTER, vec![counter(failovers as f64)]),
    ]
}

fn gauge(bank: Option<&str>, value: f64) -> Metric {
    let label = bank.map(|bank| {
        let mut label = LabelPair::default();
        label.set_name("bank".to_owned());
        label.set_value(bank.to_owned());
        label
    });
    let (mut metric, mut gauge) = (Metric::from_label(label.into_iter().collect()), Gauge::default());
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

fn counter(value: f64) -> Metric {
    let (mut metric, mut counter) = (Metric::from_label(Vec::new()), Counter::default());
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

fn family((name, help): (&str, &str), kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn text(decisions: DecisionTotals, banks: &[(&str, bool)]) -> String {
        let banks = banks.iter().map(|(bank, open)| ((*bank).to_owned(), *open)).collect();
        let families: Vec<_> =
            families(decisions, 3, &banks).into_iter().filter(|family| !family.get_metric().is_empty()).collect();
        TextEncoder::new().encode_to_string(&families).unwrap()
    }

    #[test]
    fn the_series_have_the_names_and_values_of_the_replaced_router() {
        let totals = DecisionTotals { decisions: 7, count: 4, seconds: 0.010 };
        let text = text(totals, &[("bank-a", true), ("bank-b", false)]);
        for line in [
            "routing_decision_count 7\n",
            "routing_failover_count 3\n",
            "avg_routing_latency_ms 2.5\n",
            "circuit_breaker_open{bank=\"bank-a\"} 1\n",
            "circuit_breaker_open{bank=\"bank-b\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} {text}");
        }
    }

    #[test]
    fn before_the_first_decision_the_mean_is_zero() {
        let text = text(DecisionTotals::default(), &[]);
        assert!(text.contains("avg_routing_latency_ms 0\n") && text.contains("routing_decision_count 0\n"), "{text}");
    }

    #[test]
    fn a_circuit_is_open_while_payouts_do_not_pass() {
        use EffectiveState::{Closed, ForcedClosed, ForcedOpen, HalfOpen, Open, Shadow};
        for state in [Open, HalfOpen, ForcedOpen] {
            assert!(is_open(state), "{state:?}");
        }
        for state in [Closed, ForcedClosed, Shadow] {
            assert!(!is_open(state), "{state:?}");
        }
    }
}
