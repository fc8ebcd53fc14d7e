//! Leases: exclusive write permission with a monotonically increasing fence.
//!
//! Every transaction under a lease locks the lease's row for its duration (`FOR SHARE`), so that the next holder's
//! fence is issued either before it, and it is refused, or after it has ended. A process that is frozen in between is
//! disconnected by the server (`idle_in_transaction_session_timeout`), so the next holder does not wait for it.

use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;

use super::codec::{get, millis, timestamp};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::transaction::{Transaction, lock, write_tx};
use crate::domain::clock_skew::{after, is_ahead};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::{Lease, LeaseOutcome, LeaseStore, StoredLease};

const ACQUIRE: OperationName = OperationName("acquiring a lease");
const RENEW: OperationName = OperationName("renewing a lease");
const RELEASE: OperationName = OperationName("releasing a lease");

/// An attempt to take a lease.
struct Claim<'a> {
    name: &'a str,
    holder: &'a str,
    now: Timestamp,
    expires: Timestamp,
    stale: Option<StoredLease>,
}

impl LeaseStore for PostgresLedger {
    fn acquire_lease<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
        now: Timestamp,
        stale: Option<StoredLease>,
    ) -> LedgerFuture<'a, LeaseOutcome> {
        let claim = Claim { name, holder, now, expires: after(now, ttl), stale };
        async move { write_tx!(self, ACQUIRE, |tx| acquire(tx, &claim).await) }.boxed()
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease, ttl: Duration, now: Timestamp) -> LedgerFuture<'a, bool> {
        async move {
            write_tx!(self, RENEW, |tx| {
                let statement =
                    sqlx::query("UPDATE leases SET expires_ms = $1 WHERE name = $2 AND holder = $3 AND fence = $4");
                let statement = statement.bind(millis(after(now, ttl))).bind(&lease.name);
                Ok(tx.execute(statement.bind(&lease.holder).bind(lease.fence)).await? == 1)
            })
        }
        .boxed()
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> LedgerFuture<'a, ()> {
        async move {
            write_tx!(self, RELEASE, |tx| {
                // The row stays with its fence: a fence must never be issued twice.
                let statement = sqlx::query(
                    "UPDATE leases SET expires_ms = 0, holder = '' WHERE name = $1 AND holder = $2 AND fence = $3",
                );
                tx.execute(statement.bind(&lease.name).bind(&lease.holder).bind(lease.fence)).await.map(drop)
            })
        }
        .boxed()
    }
}

async fn acquire(tx: &mut Transaction, claim: &Claim<'_>) -> Result<LeaseOutcome, LedgerError> {
    // A lease that was never held has no row to lock.
    lock(tx, &format!("lease {}", claim.name)).await?;
    let stored =
        sqlx::query("SELECT holder, fence, expires_ms FROM leases WHERE name = $1 FOR UPDATE").bind(claim.name);
    let current = tx.fetch_optional(stored).await?.map(|row| decode(&row)).transpose()?;
    let fence = match current {
        None => 1,
        Some(current) => {
            let available = current.expires <= claim.now
                || current.holder == claim.holder
                || claim.stale.as_ref() == Some(&current);
            if !available {
                return shorten(tx, claim, current).await.map(LeaseOutcome::HeldBy);
            }
            current.fence.saturating_add(1)
        }
    };
    let statement = sqlx::query(
        "INSERT INTO leases (name, holder, fence, expires_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE SET holder = $2, fence = $3, expires_ms = $4",
    );
    tx.execute(statement.bind(claim.name).bind(claim.holder).bind(fence).bind(millis(claim.expires))).await?;
    let (name, holder) = (claim.name.to_owned(), claim.holder.to_owned());
    Ok(LeaseOutcome::Acquired(Lease { name, holder, fence, expires: claim.expires }))
}

/// Fails unless `lease` is still the newest, and keeps it so until the end of the transaction.
pub(super) async fn assert_held(tx: &mut Transaction, lease: &Lease) -> Result<(), LedgerError> {
    let statement = sqlx::query("SELECT 1 FROM leases WHERE name = $1 AND holder = $2 AND fence = $3 FOR SHARE");
    match tx.fetch_optional(statement.bind(&lease.name).bind(&lease.holder).bind(lease.fence)).await? {
        Some(_) => Ok(()),
        None => Err(LedgerError::Fenced { name: lease.name.clone() }),
    }
}

fn decode(row: &sqlx::postgres::PgRow) -> Result<StoredLease, LedgerError> {
    Ok(StoredLease { holder: get(row, "holder")?, fence: get(row, "fence")?, expires: timestamp(row, "expires_ms")? })
}

/// The lease as it is held by another holder: one that would expire later than one taken now was written by a wrong
/// clock, and expires as if it were taken now. Stored, so that the next attempt does not extend it again.
async fn shorten(tx: &mut Transaction, claim: &Claim<'_>, current: StoredLease) -> Result<StoredLease, LedgerError> {
    if !is_ahead(current.expires, claim.expires) {
        return Ok(current);
    }
    let statement =
        sqlx::query("UPDATE leases SET expires_ms = $2 WHERE name = $1 RETURNING holder, fence, expires_ms");
    // As stored: callers compare what they observe.
    let shortened = tx.fetch_optional(statement.bind(claim.name).bind(millis(claim.expires))).await?;
    shortened.map_or(Ok(current), |row| decode(&row))
}
