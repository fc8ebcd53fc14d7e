//! Whether this replica is the leader: checked before each reconcile and again right before each write.
//!
//! A reconcile takes time: it reads Secrets and the ledger, and its process may be suspended in between. The lease may
//! be lost before it writes, so every request that changes one of our objects is made under a [`WritePermit`], and the
//! lease is released only when no permit is held: the successor's first write then comes after our last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::cluster::ApiError;
use crate::domain::lease::may_act;
use crate::domain::time::Mono;

/// How long a leader continues to reconcile without a successful renewal.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Whether this replica may reconcile. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Leadership {
    /// Start of the last successful renewal, in nanoseconds of the monotonic clock; 0 while not leading.
    renewed: Arc<AtomicU64>,
    /// Held for reading by each write in flight; locked for writing to wait for all of them.
    writes: Arc<RwLock<()>>,
}

/// Permission for one write. Held until its response arrives.
#[must_use = "the lease may be released as soon as this is dropped"]
#[derive(Debug)]
pub struct WritePermit {
    _in_flight: OwnedRwLockReadGuard<()>,
}

impl Leadership {
    /// Whether this replica holds the lease and renewed it within the deadline. Checked before each reconcile, so that
    /// a process that was suspended past its deadline does nothing when it resumes.
    pub fn is_leader(&self, now: Mono) -> bool {
        let renewed = self.renewed.load(Ordering::Acquire);
        renewed != 0 && may_act(Mono::from_nanos(renewed), RENEW_DEADLINE, now)
    }

    /// A permit for one write, acquired right before its request.
    ///
    /// # Errors
    /// [`ApiError::NotLeading`] if another replica may be the leader by now, or this one is about to release the lease.
    pub fn write_permit(&self, now: Mono) -> Result<WritePermit, ApiError> {
        let in_flight = Arc::clone(&self.writes).try_read_owned().map_err(|_| ApiError::NotLeading)?;
        if self.is_leader(now) { Ok(WritePermit { _in_flight: in_flight }) } else { Err(ApiError::NotLeading) }
    }

    /// Records a renewal that was started at `at`; `None`: this replica does not hold the lease.
    pub fn record_renewal(&self, at: Option<Mono>) {
        self.renewed.store(at.map_or(0, |at| at.nanos().max(1)), Ordering::Release);
    }

    /// Stops leading: no new write starts, and when this returns the last one has completed or timed out. Each takes at
    /// most [`crate::cluster::CALL_TIMEOUT`].
    pub async fn resign(&self) {
        self.record_renewal(None);
        drop(self.writes.write().await);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn leadership_and_write_permits_end_at_the_renew_deadline() {
        let leadership = Leadership::default();
        let at = Mono::from_nanos(5_000_000_000);
        assert!(!leadership.is_leader(at));
        leadership.record_renewal(Some(at));
        for (later, may) in [(9, true), (10, false)] {
            let now = at + Duration::from_secs(later);
            assert_eq!(
                (leadership.is_leader(now), leadership.write_permit(now).is_ok()),
                (may, may),
                "after {later} s"
            );
        }
        leadership.record_renewal(None);
        assert!(!leadership.is_leader(at) && leadership.write_permit(at).is_err());
    }

    #[test]
    fn resign_waits_for_writes_in_flight_and_permits_no_new_one() {
        let leadership = Leadership::default();
        let at = Mono::from_nanos(1);
        leadership.record_renewal(Some(at));
        let (one, other) = (leadership.write_permit(at).unwrap(), leadership.write_permit(at).unwrap());
        let mut resigned = Box::pin(leadership.resign());
        assert!(resigned.as_mut().now_or_never().is_none());
        assert!(matches!(leadership.write_permit(at), Err(ApiError::NotLeading)));
        drop(one);
        assert!(resigned.as_mut().now_or_never().is_none(), "another write is in flight");
        drop(other);
        assert!(resigned.as_mut().now_or_never().is_some());
        assert!(leadership.write_permit(at).is_err(), "no longer the leader");
    }
}
