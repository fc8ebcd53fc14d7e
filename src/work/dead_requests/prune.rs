//! Removes dead requests of deleted connections, and expired ones; and the counts of daily limits of past days, which
//! need the same lease and the same steady clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

use crate::domain::key::ObjectKey;
use crate::ledger::dead_requests::DeadRequestOwner;
use crate::ledger::{Lease, Ledger, LedgerError};
use crate::work::dead_requests::audit::audit_entry;

/// Retention of requests whose retry was answered.
const DONE_RETENTION: Duration = Duration::from_hours(24);
/// Retention of parked requests.
const PARKED_RETENTION: Duration = Duration::from_hours(24 * 90);
/// Retention of requests whose connection is not found but whose deletion was not observed: an object that this version
/// cannot decode is not in the stores either.
const ORPHAN_RETENTION: Duration = Duration::from_hours(24);

/// Rows deleted in one transaction.
const PRUNE_BATCH: u32 = 1_000;

/// Whether a connection's object exists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It exists, with this UID.
    Present(String),
    /// It does not exist.
    Absent,
    /// Unknown: its namespace is not watched.
    Unknown,
}

/// Looks up whether a connection's object exists.
pub type ConnectionLookup = Arc<dyn Fn(&ObjectKey) -> Presence + Send + Sync>;

/// The requests of deleted or replaced connections.
pub(super) struct Orphans<'a> {
    pub(super) lookup: &'a ConnectionLookup,
    /// Connections whose deletion was observed: their requests are removed at once.
    pub(super) deleted: &'a BTreeSet<ObjectKey>,
    /// Now, if the clock may be used to remove requests by age.
    pub(super) aged_at: Option<Timestamp>,
}

impl Orphans<'_> {
    /// Removes them.
    pub(super) async fn remove(&self, ledger: &dyn Ledger, lease: &Lease, now: Timestamp) -> Result<(), LedgerError> {
        for owner in ledger.dead_request_owners().await? {
            let DeadRequestOwner { connection: key, uid } = &owner;
            let before = match (self.lookup)(key) {
                // Rows from before owners were recorded have none; they are parked at their next retry.
                Presence::Present(current) if !uid.is_empty() && current != *uid => Some(Timestamp::MAX),
                Presence::Absent if self.deleted.contains(key) => Some(Timestamp::MAX),
                Presence::Absent => self.aged_at.map(|now| before(now, ORPHAN_RETENTION)),
                Presence::Present(_) | Presence::Unknown => None,
            };
            let Some(before) = before else { continue };
            let entry = audit_entry(now, "discard", key, "connection_deleted");
            let removed = ledger.delete_orphaned_dead_requests(lease, &owner, before, &entry).await?;
            if removed > 0 {
                tracing::info!(namespace = %key.namespace, name = %key.name, removed, "connection deleted; dead requests removed");
            }
        }
        Ok(())
    }
}

/// Removes expired requests.
pub(super) async fn remove_expired(ledger: &dyn Ledger, lease: &Lease, now: Timestamp) -> Result<(), LedgerError> {
    ledger.prune_dead_requests(lease, before(now, DONE_RETENTION), before(now, PARKED_RETENTION)).await.map(drop)
}

/// Removes counts of daily limits of past days. The day before yesterday is over in every time zone, and with every clock
/// that is a little wrong.
pub(super) async fn remove_past_quotas(ledger: &dyn Ledger, lease: &Lease, now: Timestamp) -> Result<(), LedgerError> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let day = |days: i8| today.checked_add(Span::new().days(days)).unwrap_or(today);
    while ledger.prune_quota(lease, day(-2), day(2), PRUNE_BATCH).await? >= u64::from(PRUNE_BATCH) {}
    Ok(())
}

fn before(now: Timestamp, retention: Duration) -> Timestamp {
    let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
    now.checked_sub(retention).unwrap_or(Timestamp::MIN)
}
