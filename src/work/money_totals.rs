//! Gauges of what the stored balances and collaterals are worth.
//!
//! The leader reads the totals from the ledger every few seconds, so that a scrape never waits for the ledger and a total
//! is served by one replica. A connection whose records are gone is gone from the gauges.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};
use rust_decimal::prelude::ToPrimitive as _;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::ledger::money_totals::{MoneyMeasure, MoneyTotal};
use crate::metrics::{Metrics, MetricsError};

/// Between two readings, at least.
const INTERVAL: Duration = Duration::from_secs(15);
/// And at most.
const MAX_INTERVAL: Duration = Duration::from_mins(5);
/// How many times as long as a reading takes the next one waits: of a hundred thousand collaterals it takes a while.
const PAUSE_FACTOR: u32 = 100;
/// Currencies shown of one connection and measure: a provider must not fill the metrics with names.
const MAX_CURRENCIES: usize = 16;
const LABELS: [&str; 3] = ["namespace", "connection", "currency"];

/// Keeps the gauges.
pub struct MoneyTotalsMonitor {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    totals: Arc<Mutex<Vec<MoneyTotal>>>,
}

impl MoneyTotalsMonitor {
    /// A monitor of `ledger`. Registers its gauges.
    pub fn new(ledger: Arc<dyn Ledger>, clock: Clock, metrics: &Metrics) -> Result<Self, MetricsError> {
        let totals = Arc::<Mutex<Vec<MoneyTotal>>>::default();
        metrics.collector(Box::new(TotalsCollector { totals: Arc::clone(&totals), families: families()? }))?;
        Ok(Self { ledger, clock, totals })
    }

    /// Reads the totals until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let began = self.clock.mono();
            match stop.run_until_cancelled(self.ledger.money_totals()).await {
                Some(Ok(totals)) => *self.totals.lock().unwrap_or_else(PoisonError::into_inner) = shown(totals),
                // The last totals go on being shown: the ledger's own gauge and note tell that it cannot be read.
                Some(Err(error)) => {
                    tracing::debug!(%error, "reading totals of balances and collaterals failed; retrying");
                }
                None => {}
            }
            let now = self.clock.mono();
            let next = now + (now.since(began) * PAUSE_FACTOR).clamp(INTERVAL, MAX_INTERVAL);
            if stop.run_until_cancelled(self.clock.sleep_until(next)).await.is_none() {
                // Another replica shows them now.
                self.totals.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return;
            }
        }
    }
}

/// At most [`MAX_CURRENCIES`] of each connection and measure, in their order.
fn shown(totals: Vec<MoneyTotal>) -> Vec<MoneyTotal> {
    let (mut shown, mut count): (Vec<MoneyTotal>, usize) = (Vec::new(), 0);
    for total in totals {
        let same = shown.last().is_some_and(|last| {
            (last.measure, &last.namespace, &last.connection) == (total.measure, &total.namespace, &total.connection)
        });
        count = if same { count + 1 } else { 1 };
        if count <= MAX_CURRENCIES {
            shown.push(total);
        }
    }
    shown
}

fn families() -> Result<[GaugeVec; 2], MetricsError> {
    let gauge = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &LABELS);
    Ok([
        gauge("busbar_balance", "Balances in the ledger, one per account, in units of the currency; read every 15 s.")?,
        gauge(
            "busbar_collateral_value",
            "Values of the collaterals in the ledger, in units of the currency; read every 15 s.",
        )?,
    ])
}

struct TotalsCollector {
    totals: Arc<Mutex<Vec<MoneyTotal>>>,
    families: [GaugeVec; 2],
}

impl Collector for TotalsCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.families.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok([balances, values]) = families() else { return Vec::new() };
        for total in &*self.totals.lock().unwrap_or_else(PoisonError::into_inner) {
            let family = match total.measure {
                MoneyMeasure::Balance => &balances,
                MoneyMeasure::CollateralValue => &values,
            };
            // A gauge is a float by its format; what is stored stays exact.
            if let Some(amount) = total.amount.to_f64() {
                family.with_label_values(&[&total.namespace, &total.connection, &total.currency]).set(amount);
            }
        }
        balances.collect().into_iter().chain(values.collect()).collect()
    }
}
