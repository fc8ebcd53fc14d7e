//! The numbers of the call path.
//!
//! Counts that name a connection are kept with the connection and printed at scrape time, so they vanish with it; each
//! connection has a fixed budget of series, because a provider must not be able to fill our memory with new status
//! codes. Histograms carry provider and operation, never the connection.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{HistogramVec, IntCounterVec, IntGauge};

use crate::domain::breaker::{Effective, Transition};
use crate::metrics::{Metrics, MetricsError, PIECE, Pieces};
use crate::provider::compat::Compat;
use crate::provider::live::Live;
use crate::telemetry::traces::Traces;

// A connection has 25 series at most. Its object takes eight: one, and one for each of at most seven conditions. The call
// path takes 17: the three states of a circuit and the override in force, five gauges, and what these leave: eight.
/// Distinct `(operation, code, outcome)` of one connection; what comes later is counted as code `other`, in up to three
/// series, one per outcome (a skipped probe and a refused call are `ignored` there).
const MAX_REQUESTS: usize = 3;
/// Distinct `(from, to, reason)` of one connection: the first, which is how its circuit opens. What comes later is counted
/// as reason `other`, in one series.
const MAX_TRANSITIONS: usize = 1;
/// The outcome of a probe that had no turn.
pub(crate) const SKIPPED: &str = "skipped";
/// The outcome of a call that the provider did well.
pub(crate) const SUCCESS: &str = "success";
/// The outcome of a call that the provider failed.
pub(crate) const FAILURE: &str = "failure";
/// The outcome of a call that says nothing about the provider.
pub(crate) const IGNORED: &str = "ignored";
/// What a label says when its budget is used up.
const OTHER: &str = "other";

/// How a call ended, as a label.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    /// An HTTP status.
    Status(u16),
    /// One of our own codes.
    Word(&'static str),
}

/// The counters of one connection.
#[derive(Default)]
pub(crate) struct Counts {
    requests: Vec<(Arc<str>, Code, &'static str, u64)>,
    /// By outcome, beyond the budget.
    other_requests: Vec<(&'static str, u64)>,
    transitions: Vec<([&'static str; 3], u64)>,
    other_transitions: u64,
}

impl Counts {
    pub(crate) fn request(&mut self, operation: &Arc<str>, code: Code, outcome: &'static str) {
        let known = self.requests.iter_mut().find(|(o, c, out, _)| *c == code && *out == outcome && o == operation);
        if let Some((.., count)) = known {
            *count += 1;
        } else if self.requests.len() < MAX_REQUESTS {
            self.requests.push((Arc::clone(operation), code, outcome, 1));
        } else {
            let outcome = if outcome == SUCCESS || outcome == FAILURE { outcome } else { IGNORED };
            match self.other_requests.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, count)) => *count += 1,
                None => self.other_requests.push((outcome, 1)),
            }
        }
    }

    /// How many calls ended how.
    #[cfg(test)]
    pub(crate) fn outcomes(&self) -> Vec<(&'static str, u64)> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        let all = self.requests.iter().map(|(.., outcome, count)| (*outcome, *count));
        for (outcome, count) in all.chain(self.other_requests.iter().copied()) {
            match sums.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, sum)) => *sum += count,
                None => sums.push((outcome, count)),
            }
        }
        sums
    }

    pub(crate) fn transition(&mut self, transition: &Transition) {
        let labels = [transition.from.as_str(), transition.to.as_str(), transition.reason.as_str()];
        if let Some((_, count)) = self.transitions.iter_mut().find(|(known, _)| *known == labels) {
            *count += 1;
        } else if self.transitions.len() < MAX_TRANSITIONS {
            self.transitions.push((labels, 1));
        } else {
            self.other_transitions += 1;
        }
    }
}

/// The series that carry the provider, shared by all its connections.
pub(crate) struct Shared {
    requests: HistogramVec,
    probes: HistogramVec,
    quota_waits: HistogramVec,
    retries: IntCounterVec,
    no_retries: IntCounterVec,
    cache: IntCounterVec,
    cache_bytes: IntGauge,
    traces: Traces,
    compat: Compat,
}

impl Shared {
    pub(crate) fn new(metrics: &Metrics, traces: Traces, compat: Compat) -> Result<Self, MetricsError> {
        let requests = metrics.seconds(
            "busbar_provider_request_duration_seconds",
            "Time of a whole call to a provider, retries included.",
            &["provider", "operation"],
        )?;
        let probes =
            metrics.seconds("busbar_probe_duration_seconds", "Time of a health check of a provider.", &["provider"])?;
        let quota_waits = metrics.seconds(
            "busbar_quota_wait_seconds",
            "Time a try waited for its turn in the quota.",
            &["provider"],
        )?;
        let retries = metrics.counter(
            "busbar_provider_retries_total",
            "Tries of calls to a provider after the first ones.",
            &["provider"],
        )?;
        let no_retries = metrics.counter(
            "busbar_provider_retries_denied_total",
            "Retries that would have been safe and of use and were not made: the circuit is open (circuit), the \
             budget is used up (budget), the wait does not fit the call's time (deadline) or its caller's patience (wait).",
            &["provider", "reason"],
        )?;
        let cache = metrics.counter(
            "busbar_cache_requests_total",
            "Calls that a kept answer might serve: by a fresh one (hit), by a stale one (stale), by another call's \
             answer that was under way (shared), by the provider (miss).",
            &["provider", "result"],
        )?;
        let cache_bytes = metrics.int_gauge("busbar_cache_bytes", "What all kept answers weigh.", &[])?;
        let cache_bytes = cache_bytes.with_label_values::<&str>(&[]);
        Ok(Self { requests, probes, quota_waits, retries, no_retries, cache, cache_bytes, traces, compat })
    }

    /// Where the spans of calls go.
    pub(crate) fn traces(&self) -> &Traces {
        &self.traces
    }

    /// The series of the sources.
    pub(crate) fn compat(&self) -> &Compat {
        &self.compat
    }

    pub(crate) fn quota_wait(&self, provider: &str, waited: Duration) {
        self.quota_waits.with_label_values(&[provider]).observe(waited.as_secs_f64());
    }

    pub(crate) fn retry(&self, provider: &str) {
        self.retries.with_label_values(&[provider]).inc();
    }

    #[cfg(test)]
    pub(crate) fn retries(&self, provider: &str) -> u64 {
        self.retries.with_label_values(&[provider]).get()
    }

    pub(crate) fn no_retry(&self, provider: &str, reason: &str) {
        self.no_retries.with_label_values(&[provider, reason]).inc();
    }

    pub(crate) fn cache_bytes(&self) -> &IntGauge {
        &self.cache_bytes
    }

    pub(crate) fn cache(&self, provider: &str, result: &str) {
        self.cache.with_label_values(&[provider, result]).inc();
    }

    pub(crate) fn call(&self, provider: &str, operation: &str, probe: bool, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        self.requests.with_label_values(&[provider, operation]).observe(seconds);
        if probe {
            self.probes.with_label_values(&[provider]).observe(seconds);
        }
    }
}

/// Prints the series of all connections at scrape time.
pub(crate) struct Collected<F>(pub(crate) F);

const REQUESTS: (&str, &str) =
    ("busbar_provider_requests_total", "Calls to a provider, one per call after its retries.");
const TRANSITIONS: (&str, &str) = ("busbar_breaker_transitions_total", "Moves of a connection's circuit.");
const STATE: (&str, &str) = (
    "busbar_breaker_state",
    "1 for the state a connection's circuit is in, else 0; ForcedOpen, ForcedClosed and Shadow are absent while they are not in force.",
);
const RISK: (&str, &str) = ("busbar_risk_ratio", "How likely the provider is to fail the next call, from 0 to 1.");
const EXPIRY: (&str, &str) =
    ("busbar_credential_expiry_timestamp_seconds", "When the client certificate of the connection ends, in Unix time.");
const PROBE: (&str, &str) = ("busbar_probe_success", "Whether the last health check was answered as expected.");

const QUOTA: (&str, &str) =
    ("busbar_quota_remaining_ratio", "What is left of the limit that has least left, from 0 to 1.");
const THROTTLED: (&str, &str) = (
    "busbar_throttled_until_timestamp_seconds",
    "Until when the provider asked to be left alone, in seconds since 1970; absent while it does not.",
);

/// What a circuit is without a person's doing. The other three are rare, and shown while they are.
const AUTOMATIC: [Effective; 3] = [Effective::Closed, Effective::HalfOpen, Effective::Open];

impl<F: Fn() -> Vec<Arc<Live>> + Send + Sync> Pieces for Collected<F> {
    fn each(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
        for some in (self.0)().chunks(PIECE) {
            take(families(some));
        }
    }
}

fn families(lives: &[Arc<Live>]) -> Vec<MetricFamily> {
    let [mut requests, mut transitions, mut circuits, mut risks, mut probes]: [Vec<Metric>; 5] = Default::default();
    let [mut quotas, mut throttled, mut expiries]: [Vec<Metric>; 3] = Default::default();
    circuits.reserve_exact(lives.len() * AUTOMATIC.len());
    for live in lives {
        let settings = live.settings();
        let seen = live.core().lock();
        let counts = &seen.counts;
        for (operation, code, outcome, count) in &counts.requests {
            let code = match code {
                Code::Status(status) => status.to_string(),
                Code::Word(word) => (*word).to_owned(),
            };
            requests.push(counter(live, &request_labels(settings.provider(), operation, &code, outcome), *count));
        }
        for (outcome, count) in &counts.other_requests {
            requests.push(counter(live, &request_labels(settings.provider(), OTHER, OTHER, outcome), *count));
        }
        for ([from, to, reason], count) in &counts.transitions {
            transitions.push(counter(live, &[("from", from), ("reason", reason), ("to", to)], *count));
        }
        if counts.other_transitions > 0 {
            let labels = [("from", OTHER), ("reason", OTHER), ("to", OTHER)];
            transitions.push(counter(live, &labels, counts.other_transitions));
        }
        let effective = seen.effective();
        for one in AUTOMATIC {
            circuits.push(gauge(live, &[("state", one.as_str())], bit(one == effective)));
        }
        if !AUTOMATIC.contains(&effective) {
            circuits.push(gauge(live, &[("state", effective.as_str())], 1.0));
        }
        risks.push(gauge(live, &[], seen.risk(live.core().clock().mono()).share()));
        let now = live.core().clock().now();
        if let Some((left, of)) = seen.quota_left(&settings, now) {
            quotas.push(gauge(live, &[], f64::from(left) / f64::from(of.max(1))));
        }
        if let Some(until) = seen.throttled_until(now.mono) {
            throttled.push(gauge(live, &[], seconds(until)));
        }
        if let Some(at) = settings.credential_expires() {
            #[expect(clippy::cast_precision_loss, reason = "seconds of a date are far below 2^53")]
            expiries.push(gauge(live, &[], at.as_second() as f64));
        }
        if let Some(probe) = seen.last_probe() {
            probes.push(gauge(live, &[], bit(probe.success)));
        }
    }
    vec![
        family(REQUESTS, MetricType::COUNTER, requests),
        family(TRANSITIONS, MetricType::COUNTER, transitions),
        family(STATE, MetricType::GAUGE, circuits),
        family(RISK, MetricType::GAUGE, risks),
        family(PROBE, MetricType::GAUGE, probes),
        family(EXPIRY, MetricType::GAUGE, expiries),
        family(QUOTA, MetricType::GAUGE, quotas),
        family(THROTTLED, MetricType::GAUGE, throttled),
    ]
}

fn request_labels<'a>(
    provider: &'a str,
    operation: &'a str,
    code: &'a str,
    outcome: &'a str,
) -> [(&'static str, &'a str); 4] {
    [("code", code), ("operation", operation), ("outcome", outcome), ("provider", provider)]
}

fn labels(live: &Live, own: &[(&str, &str)]) -> Vec<LabelPair> {
    let key = live.key();
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

#[expect(clippy::cast_precision_loss, reason = "a counter above 2^53 has lost its units digit to no one's harm")]
fn counter(live: &Live, own: &[(&str, &str)], count: u64) -> Metric {
    let mut value = Counter::default();
    value.set_value(count as f64);
    let mut metric = Metric::from_label(labels(live, own));
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

fn gauge(live: &Live, own: &[(&str, &str)], number: f64) -> Metric {
    let mut value = Gauge::default();
    value.set_value(number);
    let mut metric = Metric::from_label(labels(live, own));
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
