//! Counts of daily limits in the ledger, so that a restart does not grant a day's requests again.
//!
//! A request that counts for a daily limit is counted in the ledger before it is sent; most find their count taken in
//! advance ([`DayUsage`]). While the ledger fails requests go on, probes above all: they are counted in memory, by a
//! metric, and in the ledger once it works again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::civil::Date;
use prometheus::IntCounterVec;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::domain::quota::{DayUsage, QuotaRules};
use crate::domain::time::Mono;
use crate::ledger::quotas::QuotaOwner;
use crate::ledger::{Ledger, LedgerError};
use crate::metrics::{Metrics, MetricsError};

/// How long a request waits for the ledger: many times a write, a fraction of a call.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long requests do not wait for the ledger after it failed.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// The ledger for the counts of all connections. Cloning shares it.
#[derive(Clone)]
pub(crate) struct DayQuotas {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    unrecorded: IntCounterVec,
}

impl DayQuotas {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, clock: Clock, metrics: &Metrics) -> Result<Self, MetricsError> {
        let unrecorded = metrics.counter(
            "busbar_quota_unrecorded_total",
            "Requests sent although the ledger could not count them for a daily limit; a restart may grant them again.",
            &[],
        )?;
        // Exported from the start: an alert on an absent series would never fire.
        unrecorded.with_label_values::<&str>(&[]);
        Ok(Self { ledger, clock, unrecorded })
    }

    /// The counts of one connection.
    pub(crate) fn of(&self, owner: QuotaOwner) -> DayQuota {
        DayQuota { all: self.clone(), owner, loaded: AtomicBool::new(false), retry_at: Mutex::new(Mono::ZERO) }
    }
}

/// The counts of one connection.
pub(crate) struct DayQuota {
    all: DayQuotas,
    owner: QuotaOwner,
    /// Whether the counts of a former process have been taken over.
    loaded: AtomicBool,
    /// Held while the ledger is used, so that requests that begin together take one block; and when it may be used again.
    retry_at: Mutex<Mono>,
}

impl DayQuota {
    /// Passes the counts of a former process to `restore`, if that has not been done.
    pub(crate) async fn load(&self, rules: &QuotaRules, restore: impl FnOnce(&[DayUsage])) {
        if self.loaded.load(Ordering::Acquire) {
            return;
        }
        let mut retry_at = self.retry_at.lock().await;
        let now = self.all.clock.now();
        if self.loaded.load(Ordering::Acquire) || now.mono < *retry_at {
            return;
        }
        // The day before, too: a clock may be a little wrong.
        let today = now.wall.to_zoned(rules.zone.clone()).date();
        let since = today.yesterday().unwrap_or(Date::MIN);
        match self.limited(self.all.ledger.load_quota(&self.owner, since)).await {
            Ok(stored) => {
                restore(&stored);
                self.loaded.store(true, Ordering::Release);
            }
            Err(error) => self.failed(&error, &mut retry_at),
        }
    }

    /// Counts what `missing` returns, before the request is sent that got its quota, and passes it with the sums of the
    /// ledger to `mark`.
    pub(crate) async fn store(&self, missing: impl Fn() -> Vec<DayUsage>, mark: impl FnOnce(&[DayUsage], &[DayUsage])) {
        if missing().is_empty() {
            return;
        }
        let mut retry_at = self.retry_at.lock().await;
        // Another request may have taken a block meanwhile.
        let missing = missing();
        if missing.is_empty() {
            return;
        }
        if self.loaded.load(Ordering::Acquire) && self.all.clock.mono() >= *retry_at {
            match self.limited(self.all.ledger.add_quota(&self.owner, &missing)).await {
                Ok(totals) => return mark(&missing, &totals),
                Err(error) => self.failed(&error, &mut retry_at),
            }
        }
        self.all.unrecorded.with_label_values::<&str>(&[]).inc();
    }

    /// The result of a use of the ledger, for at most a second.
    async fn limited<T>(&self, work: impl Future<Output = Result<T, LedgerError>>) -> Result<T, String> {
        let clock = self.all.clock;
        tokio::select! {
            result = work => result.map_err(|error| error.to_string()),
            () = clock.sleep_until(clock.mono() + LEDGER_TIMEOUT) => Err("no answer within a second".to_owned()),
        }
    }

    fn failed(&self, error: &str, retry_at: &mut Mono) {
        *retry_at = self.all.clock.mono() + RETRY_DELAY;
        let key = &self.owner.connection;
        tracing::warn!(
            namespace = %key.namespace, name = %key.name, error,
            "counting requests of a daily limit in the ledger failed; requests are sent and counted in memory; retrying"
        );
    }
}
