//! Leases: who may write, proven by a number that only grows.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::SqliteLedger;
use super::codec::{Step, get, instant, millis};
use crate::ledger::{Lease, LeaseView, LedgerError};

const ACQUIRE: Step = Step("taking a lease");
const RENEW: Step = Step("renewing a lease");
const RELEASE: Step = Step("giving a lease back");
const ASSERT: Step = Step("checking a lease");

impl SqliteLedger {
    pub(super) async fn lease_acquire(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
        now: Timestamp,
        stale: Option<LeaseView>,
    ) -> Result<Result<Lease, LeaseView>, LedgerError> {
        let expires = expiry(now, ttl);
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(ACQUIRE, |conn| {
            Box::pin(async move {
                let held = view(conn, &name).await?;
                let fence = match held {
                    None => 1,
                    Some(held) => {
                        let free = held.expires <= now || held.holder == holder || stale.as_ref() == Some(&held);
                        if !free {
                            return Ok(Err(held));
                        }
                        held.fence.saturating_add(1)
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
                Ok(Ok(Lease { name, holder, fence, expires }))
            })
        })
        .await
    }

    pub(super) async fn lease_renew(&self, lease: &Lease, ttl: Duration, now: Timestamp) -> Result<bool, LedgerError> {
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

    pub(super) async fn lease_release(&self, lease: &Lease) -> Result<(), LedgerError> {
        // The row stays, with its fence: a number once given out must never be given again.
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

/// Fails unless `lease` is still the newest: inside the caller's transaction, so that the answer holds until COMMIT.
pub(super) async fn assert_held(conn: &mut SqliteConnection, lease: &Lease) -> Result<(), LedgerError> {
    match view(conn, &lease.name).await? {
        Some(held) if held.fence == lease.fence && held.holder == lease.holder => Ok(()),
        _ => Err(LedgerError::Fenced { name: lease.name.clone() }),
    }
}

async fn view(conn: &mut SqliteConnection, name: &str) -> Result<Option<LeaseView>, LedgerError> {
    let row = sqlx::query("SELECT holder, fence, expires_ms FROM leases WHERE name = ?1")
        .bind(name)
        .fetch_optional(conn)
        .await
        .map_err(|e| ASSERT.failed(e))?;
    row.map(|row| {
        Ok(LeaseView {
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
