//! Refuses to lead with a ledger that is behind the leader lease, and says so on `/readyz` and in the log.
//!
//! A refusal ends nothing: the process waits, not ready, so that a restore or an accepted loss takes effect without a
//! restart, and nothing is written in the meantime.

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::admin::gates::{Gate, Gates};
use crate::cluster::lease::{EpochGuard, RaiseOutcome};
use crate::ledger::{Ledger, LedgerError};

/// Before the lease was read for the first time.
const NOT_CHECKED: &str = "not compared with the leader lease yet";

/// The ledger and the gate that says whether it may be led with.
pub(super) struct LedgerEpochGuard {
    ledger: Arc<dyn Ledger>,
    gates: Gates,
    /// `namespace/name` of the leader lease.
    lease: String,
    /// The loss of the ledger is expected, so it is accepted each time.
    ephemeral: bool,
    /// Why the gate is closed.
    cause: Arc<Mutex<Option<String>>>,
}

impl LedgerEpochGuard {
    /// Closes the gate until the lease has been read.
    pub(super) fn new(ledger: Arc<dyn Ledger>, gates: Gates, lease: String, ephemeral: bool) -> Self {
        let cause = Arc::new(Mutex::new(Some(NOT_CHECKED.to_owned())));
        let shown = Arc::clone(&cause);
        gates.explain(Gate::LedgerEpoch, move || {
            shown.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
        });
        gates.set(Gate::LedgerEpoch, false);
        Self { ledger, gates, lease, ephemeral, cause }
    }

    /// Opens the gate, or closes it for a cause, which is logged once.
    fn report(&self, cause: Option<String>) {
        let previous = {
            let mut current = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, cause.clone())
        };
        self.gates.set(Gate::LedgerEpoch, cause.is_none());
        match (previous, cause) {
            (previous, Some(cause)) if previous.as_ref() != Some(&cause) => {
                tracing::error!("not leading: {cause}");
            }
            (Some(previous), None) if previous != NOT_CHECKED => tracing::info!("ledger epoch accepted"),
            _ => {}
        }
    }

    fn behind(&self, number: i64, lease: i64) -> String {
        format!(
            "ledger behind the leader lease: epoch {number} of the ledger, epoch {lease} of Lease {}; the ledger is empty \
             or an older copy. Restore the newest backup with `busbar ledger restore`, or accept the loss with `busbar \
             ledger accept-loss`",
            self.lease
        )
    }

    async fn may_lead(&self, lease: i64) -> bool {
        match self.ledger.epoch().await {
            Ok(epoch) if self.ephemeral || epoch.admits(lease) => {
                self.report(None);
                true
            }
            Ok(epoch) => {
                self.report(Some(self.behind(epoch.number, lease)));
                false
            }
            Err(error) => {
                self.report(Some(format!("ledger epoch could not be read: {error}; retrying")));
                false
            }
        }
    }

    async fn try_raise(&self, lease: i64) -> Result<RaiseOutcome, LedgerError> {
        let mut raised = self.ledger.raise_epoch(lease).await?;
        if raised.is_none() && self.ephemeral {
            tracing::warn!(lease, "the ledger of the former Pod is lost, as expected of an ephemeral ledger");
            self.ledger.accept_loss().await?;
            raised = self.ledger.raise_epoch(lease).await?;
        }
        if let Some(epoch) = raised {
            tracing::info!(epoch, "ledger epoch raised");
            return Ok(RaiseOutcome::Raised(epoch));
        }
        self.report(Some(self.behind(self.ledger.epoch().await?.number, lease)));
        Ok(RaiseOutcome::Behind)
    }
}

impl EpochGuard for LedgerEpochGuard {
    fn admits(&self, lease: i64) -> BoxFuture<'_, bool> {
        self.may_lead(lease).boxed()
    }

    fn stands_by(&self) {
        self.report(None);
    }

    fn raise(&self, lease: i64) -> BoxFuture<'_, RaiseOutcome> {
        async move {
            self.try_raise(lease).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "raising the ledger epoch failed; retrying with each renewal of the lease");
                RaiseOutcome::Failed
            })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{LedgerUrl, OpenMode, open};

    struct Env {
        _folder: tempfile::TempDir,
        ledger: Arc<dyn Ledger>,
        gates: Gates,
    }

    impl Env {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let url = LedgerUrl::Sqlite(folder.path().join("l.db"));
            let ledger = open(&url, OpenMode::Migrate).await.unwrap();
            Self { _folder: folder, ledger, gates: Gates::default() }
        }

        fn guard(&self, ephemeral: bool) -> LedgerEpochGuard {
            LedgerEpochGuard::new(Arc::clone(&self.ledger), self.gates.clone(), "ns/busbar".to_owned(), ephemeral)
        }

        fn gate(&self) -> String {
            self.gates.report().1
        }
    }

    #[tokio::test]
    async fn a_ledger_behind_the_lease_closes_the_gate_until_its_loss_is_accepted() {
        let env = Env::new().await;
        let guard = env.guard(false);
        assert!(env.gate().contains("[-] ledger epoch\n    not compared with the leader lease yet"), "{}", env.gate());
        assert!(!guard.admits(7).await);
        let text = env.gate();
        assert!(text.contains("epoch 0 of the ledger, epoch 7 of Lease ns/busbar"), "{text}");
        assert!(text.contains("busbar ledger restore") && text.contains("busbar ledger accept-loss"), "{text}");
        assert_eq!(guard.raise(7).await, RaiseOutcome::Behind, "exchanged between the check and the lease");
        env.ledger.accept_loss().await.unwrap();
        assert!(guard.admits(7).await && env.gate().contains("[+] ledger epoch"), "{}", env.gate());
        assert_eq!(guard.raise(7).await, RaiseOutcome::Raised(8));
        assert!(!guard.admits(9).await, "the acceptance is used up");
    }

    #[tokio::test]
    async fn a_standby_is_ready_whatever_its_ledger() {
        let env = Env::new().await;
        let guard = env.guard(false);
        guard.stands_by();
        assert!(env.gate().contains("[+] ledger epoch"), "{}", env.gate());
        assert!(!guard.admits(1).await && env.gate().contains("[-] ledger epoch"), "it could lead: {}", env.gate());
        guard.stands_by();
        assert!(env.gate().contains("[+] ledger epoch"), "another leads: {}", env.gate());
    }

    #[tokio::test]
    async fn an_ephemeral_ledger_is_led_with_although_it_is_behind() {
        let env = Env::new().await;
        let guard = env.guard(true);
        assert!(guard.admits(3).await);
        assert_eq!(guard.raise(3).await, RaiseOutcome::Raised(4));
    }

    #[tokio::test]
    async fn a_ledger_that_cannot_be_read_is_not_led_with() {
        let env = Env::new().await;
        let guard = env.guard(false);
        env.ledger.close().await;
        assert!(!guard.admits(0).await);
        assert!(env.gate().contains("ledger epoch could not be read"), "{}", env.gate());
        assert_eq!(guard.raise(0).await, RaiseOutcome::Failed);
    }
}
