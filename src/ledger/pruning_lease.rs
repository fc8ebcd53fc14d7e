//! The lease under which what is old is deleted: one process at a time deletes, and one that was replaced is refused.

use std::sync::Arc;
use std::time::Duration;

use super::error::LedgerError;
use super::lease::{Lease, LeaseStore};
use super::lease_holder::{LeaseHolder, LeaseOptions, TakeOutcome};
use super::store::Ledger;
use crate::clock::Clock;
use crate::domain::time::Mono;
use crate::tasks::TaskGroup;

/// Validity without a renewal: longer than the time between two rounds, so that one process keeps it.
const TTL: Duration = Duration::from_mins(3);

/// A lease that is kept from round to round, and taken again when a third of it has passed.
pub struct PruningLease {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    holder: LeaseHolder,
    held: Option<(Lease, Mono)>,
}

impl PruningLease {
    /// The lease `name`, held as `holder`; not taken yet.
    pub fn new(ledger: &Arc<dyn Ledger>, clock: Clock, name: &str, holder: &str) -> Self {
        let tasks = TaskGroup::default();
        let options = LeaseOptions { name: name.to_owned(), holder: holder.to_owned(), ttl: TTL, tasks };
        let store = Arc::clone(ledger) as Arc<dyn LeaseStore>;
        Self { ledger: Arc::clone(ledger), clock, holder: LeaseHolder::new(store, clock, options), held: None }
    }

    /// The lease for the next transaction; `None` while another process holds it.
    ///
    /// # Errors
    /// If the ledger fails.
    pub async fn current(&mut self) -> Result<Option<Lease>, LedgerError> {
        let now = self.clock.mono();
        if let Some((lease, taken)) = &self.held
            && now.since(*taken) < TTL / 3
        {
            return Ok(Some(lease.clone()));
        }
        self.held = match self.holder.take().await? {
            // Not renewed while nothing is deleted.
            TakeOutcome::Taken(held) => Some((held.into_lease(), now)),
            TakeOutcome::HeldByOther { .. } => None,
        };
        Ok(self.held.as_ref().map(|(lease, _)| lease.clone()))
    }

    /// Notes that the ledger refused the lease: another process has it.
    pub fn lose(&mut self) {
        self.held = None;
    }

    /// Releases the lease at the end of the process, so that another one need not wait for its expiry.
    pub async fn release(&mut self) {
        if let Some((lease, _)) = self.held.take()
            && let Err(error) = self.ledger.release_lease(&lease).await
        {
            tracing::debug!(lease = lease.name, %error, "releasing a ledger lease failed; it expires by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{LedgerUrl, OpenMode, open};

    #[tokio::test(start_paused = true)]
    async fn one_process_keeps_the_lease_until_it_ends_or_stops() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
        let clock = Clock::starting_at("2026-11-29T00:00:00Z".parse().unwrap());
        let [mut first, mut second] = ["a", "b"].map(|holder| PruningLease::new(&ledger, clock, "pruning", holder));
        let lease = first.current().await.unwrap().expect("free");
        assert_eq!(first.current().await.unwrap(), Some(lease), "kept without a write");
        for _ in 0..10 {
            tokio::time::sleep(TTL / 2).await;
            assert!(first.current().await.unwrap().is_some());
            assert_eq!(second.current().await.unwrap(), None);
        }
        first.release().await;
        let lease = second.current().await.unwrap().expect("released");
        // Silent for longer than the lease.
        tokio::time::sleep(TTL).await;
        let newer = first.current().await.unwrap().expect("expired");
        assert!(newer.fence > lease.fence);
        assert_eq!(second.current().await.unwrap(), None);
    }
}
