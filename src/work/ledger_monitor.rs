//! Finds out whether the ledger can be written, by writing, and shows it as a gauge.
//!
//! Every write tells ([`HealthReceiver`](crate::ledger::HealthReceiver)), but an idle process writes nothing, and what
//! waits for the ledger must not have to try.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ledger::{Ledger, LedgerHealth};
use crate::metrics::{Metrics, MetricsError};

/// Interval between checks while the ledger works: how late a fault is noticed without other writes. One small write.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Interval while it fails: how late its end is noticed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Checks the ledger until the process ends.
pub struct LedgerMonitor {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    writable: IntGauge,
}

impl LedgerMonitor {
    /// A monitor of `ledger`. Registers its gauge.
    pub fn new(ledger: Arc<dyn Ledger>, clock: Clock, metrics: &Metrics) -> Result<Self, MetricsError> {
        let help = "1 while the ledger accepts writes, 0 while it does not; /readyz names the cause.";
        let writable = metrics.int_gauge("busbar_ledger_writable", help, &[])?.with_label_values::<&str>(&[]);
        writable.set(1);
        Ok(Self { ledger, clock, writable })
    }

    /// Checks until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut health = self.ledger.health();
        loop {
            let now = *health.borrow_and_update();
            self.writable.set(now.is_writable().into());
            let interval = if now == LedgerHealth::Writable { CHECK_INTERVAL } else { RETRY_INTERVAL };
            let next = self.clock.mono() + interval;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Ok(()) = health.changed() => {}
                () = self.clock.sleep_until(next) => {
                    // The outcome is recorded by the ledger.
                    stop.run_until_cancelled(self.ledger.ping()).await;
                }
            }
        }
    }
}

/// The warning of `/readyz` while the ledger cannot be written; `None` while it can.
pub fn readiness_warning(health: LedgerHealth) -> Option<String> {
    let fault = health.fault()?;
    Some(format!("ledger not writable: {}; retrying; {}", fault.as_str(), fault.remedy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::faulty::FaultyLedger;

    #[tokio::test(start_paused = true)]
    async fn a_fault_and_its_end_are_noticed_without_other_writes() {
        let (disk, metrics) = (FaultyLedger::new().await, Metrics::new());
        let monitor = LedgerMonitor::new(Arc::clone(&disk.ledger), Clock::system(), &metrics).unwrap();
        let (stop, mut health) = (CancellationToken::new(), disk.ledger.health());
        let running = tokio::spawn(monitor.run(stop.clone()));
        let shows = async |value: u8| {
            let line = format!("\nbusbar_ledger_writable {value}\n");
            for _ in 0..1_000 {
                if metrics.render().unwrap().contains(&line) {
                    return;
                }
                tokio::task::yield_now().await;
            }
            panic!("the gauge is not {value}");
        };
        shows(1).await;
        disk.fail_writes();
        health.wait_for(|health| !health.is_writable()).await.unwrap();
        shows(0).await;
        let warning = readiness_warning(*health.borrow()).unwrap();
        assert_eq!(warning, "ledger not writable: disk full; retrying; free or enlarge the volume of --ledger");
        disk.recover();
        health.wait_for(|health| health.is_writable()).await.unwrap();
        shows(1).await;
        assert_eq!(readiness_warning(*health.borrow()), None);
        stop.cancel();
        running.await.unwrap();
    }
}
