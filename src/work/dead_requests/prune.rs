//! Removes dead requests of deleted connections, and expired ones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

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

/// Removes the requests of deleted or replaced connections; of those in `deleted` at once.
pub(super) async fn remove_orphans(
    ledger: &dyn Ledger,
    lookup: &ConnectionLookup,
    lease: &Lease,
    deleted: &BTreeSet<ObjectKey>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    for owner in ledger.dead_request_owners().await? {
        let DeadRequestOwner { connection: key, uid } = &owner;
        let before = match lookup(key) {
            // Rows from before owners were recorded have none; they are parked at their next retry.
            Presence::Present(current) if !uid.is_empty() && current != *uid => Timestamp::MAX,
            Presence::Absent if deleted.contains(key) => Timestamp::MAX,
            Presence::Absent => before(now, ORPHAN_RETENTION),
            Presence::Present(_) | Presence::Unknown => continue,
        };
        let entry = audit_entry(now, "discard", key, "connection_deleted");
        let removed = ledger.delete_orphaned_dead_requests(lease, &owner, before, &entry).await?;
        if removed > 0 {
            tracing::info!(namespace = %key.namespace, name = %key.name, removed, "connection deleted; dead requests removed");
        }
    }
    Ok(())
}

/// Removes expired requests.
pub(super) async fn remove_expired(ledger: &dyn Ledger, now: Timestamp) -> Result<(), LedgerError> {
    ledger.prune_dead_requests(before(now, DONE_RETENTION), before(now, PARKED_RETENTION)).await.map(drop)
}

fn before(now: Timestamp, retention: Duration) -> Timestamp {
    let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
    now.checked_sub(retention).unwrap_or(Timestamp::MIN)
}
