//! Records the outcome of retries, and replays parked requests.

use jiff::Timestamp;
use sqlx::query;
use uuid::Uuid;

use super::storing::LOCK;
use crate::ledger::audit::AuditEntry;
use crate::ledger::dead_requests::{DeadRequestState, RetryOutcome};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::postgres::audit;
use crate::ledger::postgres::codec::{millis, text};
use crate::ledger::postgres::lease::assert_held;
use crate::ledger::postgres::outbox;
use crate::ledger::postgres::transaction::{Transaction, lock};

/// What an outcome stores.
struct Settled<'a> {
    state: DeadRequestState,
    next: Option<Timestamp>,
    reason: Option<&'a str>,
    status: Option<u16>,
    attempted: bool,
}

impl<'a> Settled<'a> {
    fn of(outcome: &'a RetryOutcome) -> Self {
        let (state, next) = match outcome {
            RetryOutcome::Done => (DeadRequestState::Done, None),
            RetryOutcome::Retry { next, .. } | RetryOutcome::Postponed { next } => {
                (DeadRequestState::Pending, Some(*next))
            }
            RetryOutcome::Parked { .. } => (DeadRequestState::Parked, None),
        };
        let (reason, status) = match outcome {
            RetryOutcome::Retry { reason, status, .. } | RetryOutcome::Parked { reason, status, .. } => {
                (Some(reason.as_str()), *status)
            }
            RetryOutcome::Done | RetryOutcome::Postponed { .. } => (None, None),
        };
        let attempted = !matches!(outcome, RetryOutcome::Postponed { .. });
        Self { state, next, reason, status, attempted }
    }
}

pub(super) async fn settle(
    tx: &mut Transaction,
    lease: &Lease,
    id: Uuid,
    outcome: &RetryOutcome,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    lock(tx, LOCK).await?;
    assert_held(tx, lease).await?;
    let settled = Settled::of(outcome);
    let statement = query(
        "UPDATE dead_requests SET state = $2, next_ms = $3, reason = coalesce($4, reason),
             status = CASE WHEN $4 IS NULL THEN status ELSE $5 END, tries = tries + $6, fence = $7, updated_ms = $8
         WHERE id = $1 AND state = 'pending'",
    )
    .bind(id.to_string())
    .bind(settled.state.as_str())
    .bind(settled.next.map(millis))
    .bind(settled.reason.map(text))
    .bind(settled.status.map(i64::from))
    .bind(i64::from(settled.attempted))
    .bind(lease.fence)
    .bind(millis(now));
    if tx.execute(statement).await? == 0 {
        return Ok(false);
    }
    if let RetryOutcome::Parked { audit: entry, event, .. } = outcome {
        audit::append(tx, entry).await?;
        outbox::append(tx, std::slice::from_ref(&**event), now).await?;
    }
    Ok(true)
}

pub(super) async fn replay(
    tx: &mut Transaction,
    id: Uuid,
    caller: &str,
    entry: &AuditEntry,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    lock(tx, LOCK).await?;
    let statement = query(
        "UPDATE dead_requests SET state = 'pending', tries = 0, next_ms = $2, updated_ms = $2,
             reviewed_ms = $2, caller = $3
         WHERE id = $1 AND state = 'parked' AND NOT EXISTS (
             SELECT 1 FROM dead_requests o
             WHERE o.fingerprint = dead_requests.fingerprint AND o.state = 'pending')",
    );
    if tx.execute(statement.bind(id.to_string()).bind(millis(now)).bind(text(caller))).await? == 0 {
        return Ok(false);
    }
    audit::append(tx, entry).await?;
    Ok(true)
}
