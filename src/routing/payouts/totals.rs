//! How many payouts are not final, read from the ledger every few seconds: for the gauges, and for the status of routes.
//!
//! A scrape and a reconcile read memory only.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus::core::Collector as _;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{IntGauge, IntGaugeVec, Opts};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::payout::PayoutState;
use crate::ledger::payouts::PayoutCounts;
use crate::ledger::{Ledger, LedgerError};
use crate::metrics::info::MetricInfo;
use crate::metrics::{BatchCollector, Metrics};
use crate::routing::ops::OpsState;

/// Between two readings.
const INTERVAL: Duration = Duration::from_secs(10);

const UNRESOLVED: (&str, &str) = (
    "busbar_payouts_unresolved",
    "Followed payouts whose fate is not known, by route and state (open, stuck, held, frozen); read every 10 s.",
);
const OLDEST: (&str, &str) = (
    "busbar_payouts_oldest_timestamp_seconds",
    "When the oldest payout of a route that is in a state was registered, in seconds since 1970; read every 10 s.",
);
const ATTEMPTS: (&str, &str) = (
    "busbar_payout_attempts_open",
    "Attempts of followed payouts at a bank that are not final, by state; read every 10 s.",
);
const SUSPENDED: (&str, &str) = (
    "busbar_payouts_suspended",
    "1 while payouts are refused after a restore with loss of newer entries, until a person resumes them; else 0.",
);
const BY_ROUTE: [&str; 3] = ["namespace", "route", "state"];
const BY_BANK: [&str; 3] = ["namespace", "connection", "state"];

/// The last reading. Clones of the `Arc` share it.
#[derive(Debug, Default)]
pub struct PayoutTotals {
    reading: RwLock<Option<Arc<Reading>>>,
}

/// What the ledger said at one instant.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    counts: PayoutCounts,
    suspended: bool,
}

impl PayoutTotals {
    /// How many payouts of the route wait for a person; `None` before the ledger was read.
    pub fn held(&self, route: &ObjectKey) -> Option<u64> {
        self.current().map(|reading| reading.held(route))
    }

    fn current(&self) -> Option<Arc<Reading>> {
        self.reading.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a reading in place; returns the routes of which another number of payouts waits for a person.
    fn replace(&self, reading: Reading) -> Vec<ObjectKey> {
        let before = self.current();
        let routes = before.iter().flat_map(|before| before.routes()).chain(reading.routes());
        let mut changed: Vec<ObjectKey> = routes
            .filter(|route| before.as_ref().map_or(0, |before| before.held(route)) != reading.held(route))
            .collect();
        changed.sort();
        changed.dedup();
        *self.reading.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(reading));
        changed
    }
}

impl Reading {
    fn held(&self, route: &ObjectKey) -> u64 {
        let of_route = self.counts.payouts.iter().filter(|count| {
            count.namespace == *route.namespace
                && count.route == *route.name
                && matches!(count.state, PayoutState::Held | PayoutState::Frozen)
        });
        of_route.map(|count| count.count).sum()
    }

    fn routes(&self) -> Vec<ObjectKey> {
        self.counts.payouts.iter().map(|count| ObjectKey::new(&*count.namespace, &*count.route)).collect()
    }

    fn families(&self) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let unresolved = IntGaugeVec::new(Opts::new(UNRESOLVED.0, UNRESOLVED.1), &BY_ROUTE)?;
        let oldest = IntGaugeVec::new(Opts::new(OLDEST.0, OLDEST.1), &BY_ROUTE)?;
        let attempts = IntGaugeVec::new(Opts::new(ATTEMPTS.0, ATTEMPTS.1), &BY_BANK)?;
        let suspended = IntGauge::with_opts(Opts::new(SUSPENDED.0, SUSPENDED.1))?;
        for count in &self.counts.payouts {
            let labels = [count.namespace.as_str(), count.route.as_str(), count.state.as_str()];
            unresolved.with_label_values(&labels).set(i64::try_from(count.count).unwrap_or(i64::MAX));
            oldest.with_label_values(&labels).set(count.oldest.as_second());
        }
        for count in &self.counts.attempts {
            let labels = [count.namespace.as_str(), count.bank.as_str(), count.state.as_str()];
            attempts.with_label_values(&labels).set(i64::try_from(count.count).unwrap_or(i64::MAX));
        }
        suspended.set(self.suspended.into());
        Ok([unresolved.collect(), oldest.collect(), attempts.collect(), suspended.collect()].concat())
    }
}

/// Collects the last reading.
pub(crate) struct PayoutCollector {
    totals: Arc<PayoutTotals>,
}

impl PayoutCollector {
    /// Registers the gauges of `totals`.
    pub(crate) fn register(metrics: &Metrics, totals: Arc<PayoutTotals>) {
        metrics.batch_collector(Self { totals });
    }
}

impl BatchCollector for PayoutCollector {
    fn collect_batches(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
        let Some(reading) = self.totals.current() else { return };
        match reading.families() {
            Ok(families) => take(families),
            Err(error) => tracing::error!(%error, "metrics of payouts not collected: this is a bug"),
        }
    }

    fn describe(&self) -> Vec<MetricInfo> {
        vec![
            MetricInfo::new(MetricType::GAUGE, UNRESOLVED.0, UNRESOLVED.1, &BY_ROUTE),
            MetricInfo::new(MetricType::GAUGE, OLDEST.0, OLDEST.1, &BY_ROUTE),
            MetricInfo::new(MetricType::GAUGE, ATTEMPTS.0, ATTEMPTS.1, &BY_BANK),
            MetricInfo::new(MetricType::GAUGE, SUSPENDED.0, SUSPENDED.1, &[]),
        ]
    }
}

/// Reads the totals regularly, on every replica.
pub struct PayoutTotalsRefresh {
    pub(crate) clock: Clock,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) ops: OpsState,
    pub(crate) totals: Arc<PayoutTotals>,
}

impl PayoutTotalsRefresh {
    /// Reads until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            match stop.run_until_cancelled(self.read()).await {
                Some(Ok(reading)) => {
                    // The status of these routes shows another number.
                    for route in self.totals.replace(reading) {
                        self.ops.publish(&route);
                    }
                }
                // The last totals go on being shown: the ledger's own gauge tells that it cannot be read.
                Some(Err(error)) => tracing::debug!(%error, "reading totals of payouts failed; retrying"),
                None => return,
            }
            if stop.run_until_cancelled(self.clock.sleep_until(self.clock.mono() + INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    async fn read(&self) -> Result<Reading, LedgerError> {
        let counts = self.ledger.payout_counts().await?;
        let suspended = self.ledger.payouts_suspended().await?;
        Ok(Reading { counts, suspended })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use prometheus::TextEncoder;

    use super::*;
    use crate::domain::payout::AttemptState;
    use crate::ledger::payouts::{AttemptCount, PayoutCount};

    fn count(route: &str, state: PayoutState, count: u64) -> PayoutCount {
        let oldest = Timestamp::from_second(1_800_000_000).unwrap();
        PayoutCount { count, namespace: "ns".to_owned(), oldest, route: route.to_owned(), state }
    }

    fn reading(payouts: Vec<PayoutCount>) -> Reading {
        Reading { counts: PayoutCounts { attempts: Vec::new(), payouts }, suspended: false }
    }

    #[test]
    fn held_payouts_are_those_that_wait_for_a_person_and_changes_are_told() {
        let totals = PayoutTotals::default();
        let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        assert_eq!(totals.held(&a), None, "not read yet");
        let first = [(PayoutState::Held, 2), (PayoutState::Frozen, 1), (PayoutState::Open, 7), (PayoutState::Stuck, 5)];
        let first = first.map(|(state, number)| count("a", state, number)).to_vec();
        assert_eq!(totals.replace(reading(first.clone())), std::slice::from_ref(&a));
        assert_eq!((totals.held(&a), totals.held(&b)), (Some(3), Some(0)));
        assert!(totals.replace(reading(first)).is_empty(), "the same again");
        let second = vec![count("b", PayoutState::Held, 1)];
        assert_eq!(totals.replace(reading(second)), [a.clone(), b.clone()], "gone from one, new at the other");
        assert_eq!((totals.held(&a), totals.held(&b)), (Some(0), Some(1)));
    }

    #[test]
    fn gauges_show_states_by_route_and_by_bank_and_nothing_before_the_first_reading() {
        let oldest = Timestamp::from_second(1_800_000_000).unwrap();
        let attempts = vec![AttemptCount {
            bank: "bank-a".to_owned(),
            count: 4,
            namespace: "ns".to_owned(),
            oldest,
            state: AttemptState::Unknown,
        }];
        let counts = PayoutCounts { attempts, payouts: vec![count("a", PayoutState::Stuck, 5)] };
        let families = Reading { counts, suspended: true }.families().unwrap();
        let text = TextEncoder::new().encode_to_string(&families).unwrap();
        for line in [
            "busbar_payouts_unresolved{namespace=\"ns\",route=\"a\",state=\"stuck\"} 5\n",
            "busbar_payouts_oldest_timestamp_seconds{namespace=\"ns\",route=\"a\",state=\"stuck\"} 1800000000\n",
            "busbar_payout_attempts_open{connection=\"bank-a\",namespace=\"ns\",state=\"unknown\"} 4\n",
            "busbar_payouts_suspended 1\n",
        ] {
            assert!(text.contains(line), "{line} {text}");
        }
        let metrics = Metrics::new();
        PayoutCollector::register(&metrics, Arc::default());
        assert!(!metrics.render().unwrap().contains("busbar_payouts_unresolved"));
    }
}
