//! What is documented of a metric: `docs/reference/metrics.md` is generated from what the process registers.

use std::fmt::Write as _;

use prometheus::core::Collector;
use prometheus::proto::MetricType;

/// A metric family as registered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricInfo {
    /// The name, as scraped; a histogram has the suffixes `_bucket`, `_sum` and `_count` in addition.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The labels, sorted.
    pub labels: Vec<String>,
    /// The help text.
    pub help: String,
}

impl MetricInfo {
    /// A family that is built at scrape time.
    pub fn new(kind: MetricType, name: &str, help: &str, labels: &[&str]) -> Self {
        let mut labels: Vec<_> = labels.iter().map(|label| (*label).to_owned()).collect();
        labels.sort_unstable();
        Self { name: name.to_owned(), kind: kind_name(kind), labels, help: help.to_owned() }
    }

    /// The families of a collector.
    pub fn of(collector: &dyn Collector) -> Vec<Self> {
        let families = collector.collect();
        let known = |name: &str| families.iter().find(|family| family.name() == name);
        let info = |desc: &prometheus::core::Desc| {
            let kind = known(&desc.fq_name).map_or(MetricType::GAUGE, prometheus::proto::MetricFamily::get_field_type);
            let labels: Vec<&str> = desc.variable_labels.iter().map(String::as_str).collect();
            Self::new(kind, &desc.fq_name, &desc.help, &labels)
        };
        collector.desc().into_iter().map(info).collect()
    }
}

fn kind_name(kind: MetricType) -> &'static str {
    match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    }
}

/// Prefixes of the names that `--compat-metrics` adds.
const LEGACY: [&str; 6] =
    ["avg_routing_latency_ms", "circuit_breaker_", "finastra_", "provider_", "routing_", "taxpoynt_"];

/// `docs/reference/metrics.md`: every metric of `infos`.
pub fn markdown(mut infos: Vec<MetricInfo>) -> String {
    infos.sort_unstable();
    let legacy = |info: &MetricInfo| LEGACY.iter().any(|prefix| info.name.starts_with(prefix));
    let own = |info: &MetricInfo| info.name.starts_with("busbar_");
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from what the operator registers, by `make docs`. Do not edit. Served on `/metrics` of the admin port; \
         see [telemetry.md](../telemetry.md).\n\n\
         Counters of errors whose labels are known are exported as 0 from the start, so that `increase()` sees the first \
         error. No label contains an account, a secret or a message.\n",
    );
    table(&mut page, "Busbar", "", infos.iter().filter(|info| own(info)));
    table(
        &mut page,
        "Names that other operators use too",
        "The names of controller-runtime, client-go and the Prometheus client libraries, so that existing dashboards work.",
        infos.iter().filter(|info| !own(info) && !legacy(info)),
    );
    table(
        &mut page,
        "Legacy names",
        "With `--compat-metrics` only: the sets `finastra`, `mono`, `providers` and `routing`.",
        infos.iter().filter(|info| legacy(info)),
    );
    page
}

fn table<'a>(page: &mut String, title: &str, intro: &str, infos: impl Iterator<Item = &'a MetricInfo>) {
    let _ = write!(page, "\n## {title}\n\n");
    if !intro.is_empty() {
        let _ = write!(page, "{intro}\n\n");
    }
    page.push_str("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for MetricInfo { name, kind, labels, help } in infos {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {} |", labels.join(", "), help.replace('|', "\\|"));
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounter, IntGaugeVec, Opts};

    use super::*;

    #[test]
    fn a_collector_is_described_by_name_type_labels_and_help() {
        let counter = IntCounter::new("busbar_a_total", "Counts a.").unwrap();
        let gauge = IntGaugeVec::new(Opts::new("leader", "Leads."), &["name", "kind"]).unwrap();
        let infos = [MetricInfo::of(&counter), MetricInfo::of(&gauge)].concat();
        let expected = [
            MetricInfo::new(MetricType::COUNTER, "busbar_a_total", "Counts a.", &[]),
            MetricInfo::new(MetricType::GAUGE, "leader", "Leads.", &["kind", "name"]),
        ];
        assert_eq!(infos, expected);
        let page = markdown(infos);
        assert!(page.contains("| `busbar_a_total` | counter |  | Counts a. |"), "{page}");
        assert!(page.contains("| `leader` | gauge | `kind`, `name` | Leads. |"), "{page}");
    }
}
