//! Exports the metrics of all connections at scrape time: counters, circuits, risk, probes, quota.
//!
//! Apart from [`metrics`](crate::provider::metrics), which the call path writes and which knows no connection.

use std::sync::Arc;

use jiff::Timestamp;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::domain::breaker::EffectiveState;
use crate::domain::forecast::Forecast;
use crate::metrics::info::MetricInfo;
use crate::metrics::{BATCH_SIZE, BatchCollector};
use crate::provider::connection::Connection;
use crate::provider::metrics::{OTHER, ResultCode};

/// Exports the series of all connections at scrape time.
pub(crate) struct ConnectionCollector<F>(pub(crate) F);

const REQUESTS: (&str, &str) =
    ("busbar_provider_requests_total", "Calls to a provider, counted once per call, after its retries.");
const TRANSITIONS: (&str, &str) = ("busbar_breaker_transitions_total", "State transitions of a connection's circuit.");
const STATE: (&str, &str) = (
    "busbar_breaker_state",
    "1 for the current state of a connection's circuit, else 0; ForcedOpen, ForcedClosed and Shadow only while active.",
);
const RISK: (&str, &str) = ("busbar_risk_ratio", "Probability that the next call to the provider fails, from 0 to 1.");
const EXPIRY: (&str, &str) = (
    "busbar_credential_expiry_timestamp_seconds",
    "When the client certificate of the connection expires, in seconds since 1970.",
);
const PROBE: (&str, &str) = ("busbar_probe_success", "1 if the last health check succeeded, else 0.");

const QUOTA: (&str, &str) =
    ("busbar_quota_remaining_ratio", "Remaining fraction of the limit with the least left, from 0 to 1.");
const PREDICTED_SUCCESS: (&str, &str) = (
    "busbar_provider_predicted_success",
    "Share of calls that are predicted to succeed in the next half hour, from 0 to 1; absent without a forecast.",
);
const PREDICTED_RISK: (&str, &str) = (
    "busbar_provider_predicted_risk",
    "Predicted probability that success falls below 75 % within half an hour, from 0 to 1; absent without a forecast.",
);
const SKILL: (&str, &str) = (
    "busbar_provider_prediction_skill",
    "Proven skill of the forecasts of the connection, from 0 (no better than its average) to 1; absent without a forecast.",
);
const PREDICTED_OUTAGE: (&str, &str) = (
    "busbar_provider_predicted_outage",
    "1 if an outage within half an hour is predicted, repeatedly and confirmed, else 0; absent without a forecast.",
);
const THROTTLED: (&str, &str) = (
    "busbar_throttled_until_timestamp_seconds",
    "When the provider's rate limit ends, in seconds since 1970; absent while there is none.",
);

/// The states without an override. The other three are exported only while active.
const AUTOMATIC: [EffectiveState; 3] = [EffectiveState::Closed, EffectiveState::HalfOpen, EffectiveState::Open];

impl<F: Fn() -> Vec<Arc<Connection>> + Send + Sync> BatchCollector for ConnectionCollector<F> {
    fn collect_batches(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
        for batch in (self.0)().chunks(BATCH_SIZE) {
            take(families(batch));
        }
    }

    fn describe(&self) -> Vec<MetricInfo> {
        let info = |kind, (name, help): (&str, &str), own: &[&str]| {
            MetricInfo::new(kind, name, help, &[&["connection", "namespace"], own].concat())
        };
        let mut infos = vec![
            info(MetricType::COUNTER, REQUESTS, &["code", "operation", "outcome", "provider"]),
            info(MetricType::COUNTER, TRANSITIONS, &["from", "reason", "to"]),
            info(MetricType::GAUGE, STATE, &["state"]),
        ];
        infos.extend(
            [PREDICTED_OUTAGE, PREDICTED_RISK, PREDICTED_SUCCESS, SKILL]
                .map(|family| info(MetricType::GAUGE, family, &[])),
        );
        infos.extend([RISK, PROBE, EXPIRY, QUOTA, THROTTLED].map(|family| info(MetricType::GAUGE, family, &[])));
        infos
    }
}

fn families(connections: &[Arc<Connection>]) -> Vec<MetricFamily> {
    let [mut requests, mut transitions, mut circuits, mut risks, mut probes]: [Vec<Metric>; 5] = Default::default();
    let [mut quotas, mut throttled, mut expiries]: [Vec<Metric>; 3] = Default::default();
    let mut forecasts = ForecastMetrics::default();
    circuits.reserve_exact(connections.len() * AUTOMATIC.len());
    for connection in connections {
        let settings = connection.settings();
        let mut state = connection.monitor().lock();
        let counts = &state.counts;
        for (operation, code, outcome, count) in &counts.requests {
            let code = match code {
                ResultCode::Status(status) => status.to_string(),
                ResultCode::Reason(reason) => (*reason).to_owned(),
            };
            requests.push(counter(connection, &request_labels(settings.provider(), operation, &code, outcome), *count));
        }
        for (outcome, count) in &counts.other_requests {
            requests.push(counter(connection, &request_labels(settings.provider(), OTHER, OTHER, outcome), *count));
        }
        for ([from, to, reason], count) in &counts.transitions {
            transitions.push(counter(connection, &[("from", from), ("reason", reason), ("to", to)], *count));
        }
        if counts.other_transitions > 0 {
            let labels = [("from", OTHER), ("reason", OTHER), ("to", OTHER)];
            transitions.push(counter(connection, &labels, counts.other_transitions));
        }
        let effective = state.effective();
        for automatic in AUTOMATIC {
            circuits.push(gauge(connection, &[("state", automatic.as_str())], bit(automatic == effective)));
        }
        if !AUTOMATIC.contains(&effective) {
            circuits.push(gauge(connection, &[("state", effective.as_str())], 1.0));
        }
        risks.push(gauge(connection, &[], state.risk(connection.monitor().clock().mono()).share()));
        let now = connection.monitor().clock().now();
        if let Some(forecast) = state.forecast(now) {
            forecasts.add(connection, &forecast);
        }
        if let Some((left, of)) = state.quota_left(&settings, now) {
            quotas.push(gauge(connection, &[], f64::from(left) / f64::from(of.max(1))));
        }
        if let Some(until) = state.throttled_until(now.mono) {
            throttled.push(gauge(connection, &[], seconds(until)));
        }
        if let Some(at) = settings.credential_expires() {
            #[expect(clippy::cast_precision_loss, reason = "seconds of a date are far below 2^53")]
            expiries.push(gauge(connection, &[], at.as_second() as f64));
        }
        if let Some(probe) = state.last_probe() {
            probes.push(gauge(connection, &[], bit(probe.success)));
        }
    }
    let mut families = vec![
        family(REQUESTS, MetricType::COUNTER, requests),
        family(TRANSITIONS, MetricType::COUNTER, transitions),
        family(STATE, MetricType::GAUGE, circuits),
        family(RISK, MetricType::GAUGE, risks),
        family(PROBE, MetricType::GAUGE, probes),
        family(EXPIRY, MetricType::GAUGE, expiries),
        family(QUOTA, MetricType::GAUGE, quotas),
        family(THROTTLED, MetricType::GAUGE, throttled),
    ];
    families.extend(forecasts.families());
    families
}

/// The gauges of forecasts.
#[derive(Default)]
struct ForecastMetrics {
    outages: Vec<Metric>,
    risks: Vec<Metric>,
    successes: Vec<Metric>,
    skills: Vec<Metric>,
}

impl ForecastMetrics {
    fn add(&mut self, connection: &Connection, forecast: &Forecast) {
        self.outages.push(gauge(connection, &[], bit(forecast.outage_predicted)));
        self.risks.push(gauge(connection, &[], forecast.risk.share()));
        self.successes.push(gauge(connection, &[], forecast.success.share()));
        self.skills.push(gauge(connection, &[], forecast.skill.share()));
    }

    fn families(self) -> [MetricFamily; 4] {
        [
            family(PREDICTED_OUTAGE, MetricType::GAUGE, self.outages),
            family(PREDICTED_RISK, MetricType::GAUGE, self.risks),
            family(PREDICTED_SUCCESS, MetricType::GAUGE, self.successes),
            family(SKILL, MetricType::GAUGE, self.skills),
        ]
    }
}

fn request_labels<'a>(
    provider: &'a str,
    operation: &'a str,
    code: &'a str,
    outcome: &'a str,
) -> [(&'static str, &'a str); 4] {
    [("code", code), ("operation", operation), ("outcome", outcome), ("provider", provider)]
}

fn labels(connection: &Connection, own: &[(&str, &str)]) -> Vec<LabelPair> {
    let key = connection.key();
    let mut pairs: Vec<LabelPair> = [("connection", &*key.name), ("namespace", &*key.namespace)]
        .iter()
        .chain(own)
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        })
        .collect();
    pairs.sort_unstable();
    pairs
}

#[expect(clippy::cast_precision_loss, reason = "losing the units digit of a counter above 2^53 is harmless")]
fn counter(connection: &Connection, own: &[(&str, &str)], count: u64) -> Metric {
    let mut value = Counter::default();
    value.set_value(count as f64);
    let mut metric = Metric::from_label(labels(connection, own));
    metric.set_counter(value);
    metric
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
fn seconds(at: Timestamp) -> f64 {
    at.as_second() as f64
}

fn bit(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

fn gauge(connection: &Connection, own: &[(&str, &str)], number: f64) -> Metric {
    let mut value = Gauge::default();
    value.set_value(number);
    let mut metric = Metric::from_label(labels(connection, own));
    metric.set_gauge(value);
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
