//! Leases: exclusive write permission with a monotonically increasing fence.

use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use rusqlite::params;

use super::codec::{OperationName, get, instant, millis};
use super::connection::Transaction;
use super::database::SqliteLedger;
use crate::domain::clock_skew::{after, is_ahead};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::{Lease, LeaseOutcome, LeaseStore, StoredLease};

const ACQUIRE: OperationName = OperationName("acquiring a lease");
const RENEW: OperationName = OperationName("renewing a lease");
const RELEASE: OperationName = OperationName("releasing a lease");

impl LeaseStore for SqliteLedger {
    fn acquire_lease<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
        now: Timestamp,
        stale: Option<StoredLease>,
    ) -> LedgerFuture<'a, LeaseOutcome> {
        self.lease_acquire(name, holder, ttl, now, stale).boxed()
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease, ttl: Duration, now: Timestamp) -> LedgerFuture<'a, bool> {
        self.lease_renew(lease, ttl, now).boxed()
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> LedgerFuture<'a, ()> {
        self.lease_release(lease).boxed()
    }
}

impl SqliteLedger {
    async fn lease_acquire(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
        now: Timestamp,
        stale: Option<StoredLease>,
    ) -> Result<LeaseOutcome, LedgerError> {
        let expires = after(now, ttl);
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(ACQUIRE, move |tx| {
            let fence = match stored_lease(tx, &name)? {
                None => 1,
                Some(current) => {
                    let available =
                        current.expires <= now || current.holder == holder || stale.as_ref() == Some(&current);
                    if !available {
                        return shorten(tx, &name, current, expires).map(LeaseOutcome::HeldBy);
                    }
                    current.fence.saturating_add(1)
                }
            };
            tx.execute(
                "INSERT INTO leases (name, holder, fence, expires_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET holder = ?2, fence = ?3, expires_ms = ?4",
                params![name, holder, fence, millis(expires)],
            )?;
            Ok(LeaseOutcome::Acquired(Lease { name, holder, fence, expires }))
        })
        .await
    }

    async fn lease_renew(&self, lease: &Lease, ttl: Duration, now: Timestamp) -> Result<bool, LedgerError> {
        let lease = lease.clone();
        self.write(RENEW, move |tx| {
            let renewed = tx.execute(
                "UPDATE leases SET expires_ms = ?1 WHERE name = ?2 AND holder = ?3 AND fence = ?4",
                params![millis(after(now, ttl)), lease.name, lease.holder, lease.fence],
            )?;
            Ok(renewed == 1)
        })
        .await
    }

    async fn lease_release(&self, lease: &Lease) -> Result<(), LedgerError> {
        let lease = lease.clone();
        self.write(RELEASE, move |tx| {
            // The row stays with its fence: a fence must never be issued twice.
            tx.execute(
                "UPDATE leases SET expires_ms = 0, holder = '' WHERE name = ?1 AND holder = ?2 AND fence = ?3",
                params![lease.name, lease.holder, lease.fence],
            )?;
            Ok(())
        })
        .await
    }
}

/// Fails unless `lease` is still the newest; inside the caller's transaction, so that the result holds until COMMIT.
pub(super) fn assert_held(tx: &Transaction<'_>, lease: &Lease) -> Result<(), LedgerError> {
    match stored_lease(tx, &lease.name)? {
        Some(held) if held.fence == lease.fence && held.holder == lease.holder => Ok(()),
        _ => Err(LedgerError::Fenced { name: lease.name.clone() }),
    }
}

fn stored_lease(tx: &Transaction<'_>, name: &str) -> Result<Option<StoredLease>, LedgerError> {
    tx.query_opt("SELECT holder, fence, expires_ms FROM leases WHERE name = ?1", [name], |row| {
        Ok(StoredLease {
            holder: get(row, "holder")?,
            fence: get(row, "fence")?,
            expires: instant(get(row, "expires_ms")?, "leases.expires_ms")?,
        })
    })
}

/// The lease as it is held by another holder: one that would expire later than one taken now was written by a wrong
/// clock, and expires as if it were taken now. Stored, so that the next attempt does not extend it again.
fn shorten(
    tx: &Transaction<'_>,
    name: &str,
    current: StoredLease,
    latest: Timestamp,
) -> Result<StoredLease, LedgerError> {
    if !is_ahead(current.expires, latest) {
        return Ok(current);
    }
    tx.execute("UPDATE leases SET expires_ms = ?2 WHERE name = ?1", params![name, millis(latest)])?;
    // As stored: callers compare what they observe.
    Ok(stored_lease(tx, name)?.unwrap_or(current))
}
