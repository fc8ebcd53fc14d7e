//! Requests of connections that are no more go with them, and the old goes by age.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::key::ObjectKey;
use crate::ledger::{Lease, Ledger, LedgerError};

/// How long what was answered stays in the list.
const KEEP_DONE: Duration = Duration::from_hours(24);
/// How long what is parked waits for its person.
const KEEP_PARKED: Duration = Duration::from_hours(24 * 90);
/// How long what belongs to nobody stays where nobody saw its connection go: an object that this version cannot read is
/// not in the stores either.
const KEEP_ORPHANS: Duration = Duration::from_hours(24);

/// What is known of the object that a connection is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Declared {
    /// It is there, with this UID.
    As(String),
    /// There is none.
    Gone,
    /// It is none of this operator's business: its namespace is not watched.
    Unknown,
}

/// Tells what is known of a connection's object.
pub type WhoIs = Arc<dyn Fn(&ObjectKey) -> Declared + Send + Sync>;

/// Connections that were seen to go and whose requests are still there.
#[derive(Clone, Default)]
pub(super) struct Departed(Arc<Mutex<BTreeSet<ObjectKey>>>);

impl Departed {
    pub(super) fn add(&self, key: &ObjectKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
    }

    /// Them all; `None` if there are none.
    pub(super) fn take(&self) -> Option<BTreeSet<ObjectKey>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!all.is_empty()).then(|| std::mem::take(&mut *all))
    }
}

/// Removes what belongs to connections that are gone, or were replaced. `seen` to go: at once.
pub(super) async fn orphans(
    ledger: &dyn Ledger,
    who_is: &WhoIs,
    lease: &Lease,
    seen: &BTreeSet<ObjectKey>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    for (key, uid) in ledger.dead_request_owners().await? {
        let before = match who_is(&key) {
            // Rows of before owners were noted have none; they are parked at their next retry, for a person.
            Declared::As(now_is) if !uid.is_empty() && now_is != uid => Timestamp::MAX,
            Declared::Gone if seen.contains(&key) => Timestamp::MAX,
            Declared::Gone => before(now, KEEP_ORPHANS),
            Declared::As(_) | Declared::Unknown => continue,
        };
        let entry = super::entry(now, "discard", &key, "connection_deleted");
        let gone = ledger.forget_dead_requests(lease, (&key, &uid), before, &entry).await?;
        if gone > 0 {
            tracing::info!(namespace = %key.namespace, name = %key.name, gone, "failed requests went with their connection");
        }
    }
    Ok(())
}

/// Removes what is old.
pub(super) async fn old(ledger: &dyn Ledger, now: Timestamp) -> Result<(), LedgerError> {
    ledger.prune_dead_requests(before(now, KEEP_DONE), before(now, KEEP_PARKED)).await.map(drop)
}

fn before(now: Timestamp, keep: Duration) -> Timestamp {
    let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
    now.checked_sub(keep).unwrap_or(Timestamp::MIN)
}
