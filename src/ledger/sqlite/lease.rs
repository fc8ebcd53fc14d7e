//! Leases: exclusive write permission with a monotonically increasing fence.

use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::codec::{OperationName, get, instant, millis};
use super::database::SqliteLedger;
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::{Lease, LeaseOutcome, LeaseStore, StoredLease};

const ACQUIRE: OperationName = OperationName("acquiring a lease");
const RENEW: OperationName = OperationName("renewing a lease");
const RELEASE: OperationName = OperationName("releasing a lease");
const ASSERT: OperationName = OperationName("checking a lease");

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
        let expires = expiry(now, ttl);
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(ACQUIRE, |conn| {
            Box::pin(async move {
                let current = stored_lease(conn, &name).await?;
                let fence = match current {
                    None => 1,
                    Some(current) => {
                        let available =
                            current.expires <= now || current.holder == holder || stale.as_ref() == Some(&current);
                        if !available {
                            return Ok(LeaseOutcome::HeldBy(current));
                        }
                        current.fence.saturating_add(1)
                    }
                };
                sqlx::query(
                    "INSERT INTO leases (name, holder, fence, expires_ms) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (name) DO UPDATE SET holder = ?2, fence = ?3, expires_ms = ?4",
                )
                .bind(&name)
                .bind(&holder)
                .bind(fence)
                .bind(millis(expires))
                .execute(conn)
                .await
                .map_err(|e| ACQUIRE.failed(e))?;
                Ok(LeaseOutcome::Acquired(Lease { name, holder, fence, expires }))
            })
        })
        .await
    }

    async fn lease_renew(&self, lease: &Lease, ttl: Duration, now: Timestamp) -> Result<bool, LedgerError> {
        let done = sqlx::query("UPDATE leases SET expires_ms = ?1 WHERE name = ?2 AND holder = ?3 AND fence = ?4")
            .bind(millis(expiry(now, ttl)))
            .bind(&lease.name)
            .bind(&lease.holder)
            .bind(lease.fence)
            .execute(&self.writer)
            .await
            .map_err(|e| RENEW.failed(e))?;
        Ok(done.rows_affected() == 1)
    }

    async fn lease_release(&self, lease: &Lease) -> Result<(), LedgerError> {
        // The row stays with its fence: a fence must never be issued twice.
        sqlx::query("UPDATE leases SET expires_ms = 0, holder = '' WHERE name = ?1 AND holder = ?2 AND fence = ?3")
            .bind(&lease.name)
            .bind(&lease.holder)
            .bind(lease.fence)
            .execute(&self.writer)
            .await
            .map_err(|e| RELEASE.failed(e))?;
        Ok(())
    }
}

/// Fails unless `lease` is still the newest; inside the caller's transaction, so that the result holds until COMMIT.
pub(super) async fn assert_held(conn: &mut SqliteConnection, lease: &Lease) -> Result<(), LedgerError> {
    match stored_lease(conn, &lease.name).await? {
        Some(held) if held.fence == lease.fence && held.holder == lease.holder => Ok(()),
        _ => Err(LedgerError::Fenced { name: lease.name.clone() }),
    }
}

async fn stored_lease(conn: &mut SqliteConnection, name: &str) -> Result<Option<StoredLease>, LedgerError> {
    let row = sqlx::query("SELECT holder, fence, expires_ms FROM leases WHERE name = ?1")
        .bind(name)
        .fetch_optional(conn)
        .await
        .map_err(|e| ASSERT.failed(e))?;
    row.map(|row| {
        Ok(StoredLease {
            holder: get(&row, "holder")?,
            fence: get(&row, "fence")?,
            expires: instant(get(&row, "expires_ms")?, "leases.expires_ms")?,
        })
    })
    .transpose()
}

fn expiry(now: Timestamp, ttl: Duration) -> Timestamp {
    now.checked_add(ttl).unwrap_or(Timestamp::MAX)
}
