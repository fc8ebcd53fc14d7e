//! Whether this replica may act, asked before each reconcile and again right before each write.
//!
//! A reconcile takes a while: it reads Secrets and the ledger, and its process may be frozen in the middle. What was true
//! when it began need not be true when it writes, so every request that changes an object of ours is made under a
//! [`Leave`], and the lease is given back only when no leave is out: the successor's first write then comes after our last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::cluster::ApiError;
use crate::cluster::lease::RENEW_DEADLINE;
use crate::domain::lease::may_act;
use crate::domain::time::Mono;

/// Whether this replica may reconcile. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Leadership {
    /// Start of the last renewal that succeeded, in nanoseconds of the monotonic clock; 0 while not leading.
    renewed: Arc<AtomicU64>,
    /// Read by each write while it is under way, taken whole by who waits for the last of them.
    writes: Arc<RwLock<()>>,
}

/// One write may be made now. Kept until it is answered.
#[must_use = "the lease may be given back as soon as this is dropped"]
#[derive(Debug)]
pub struct Leave {
    _under_way: OwnedRwLockReadGuard<()>,
}

impl Leadership {
    /// Whether the lease is ours and was renewed within the deadline. Asked before each reconcile, so that a process
    /// that was frozen past its deadline does nothing when it wakes.
    pub fn holds(&self, now: Mono) -> bool {
        let renewed = self.renewed.load(Ordering::Acquire);
        renewed != 0 && may_act(Mono::from_nanos(renewed), RENEW_DEADLINE, now)
    }

    /// Leave to make one write, asked for right before its request.
    ///
    /// # Errors
    /// [`ApiError::NotLeading`] if another may lead by now, or this replica is about to give the lease back.
    pub fn leave(&self, now: Mono) -> Result<Leave, ApiError> {
        let under_way = Arc::clone(&self.writes).try_read_owned().map_err(|_| ApiError::NotLeading)?;
        if self.holds(now) { Ok(Leave { _under_way: under_way }) } else { Err(ApiError::NotLeading) }
    }

    /// Notes a renewal that was begun at `at`, or with `None` that the lease is not ours.
    pub fn note(&self, at: Option<Mono>) {
        self.renewed.store(at.map_or(0, |at| at.nanos().max(1)), Ordering::Release);
    }

    /// Stops leading: no write begins any more, and when this returns the last one has been answered or given up. None
    /// of them waits longer than [`super::super::CALL_TIMEOUT`].
    pub async fn resign(&self) {
        self.note(None);
        drop(self.writes.write().await);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn leadership_ends_by_itself_at_the_renew_deadline_and_leave_to_write_with_it() {
        let leadership = Leadership::default();
        let at = Mono::from_nanos(5_000_000_000);
        assert!(!leadership.holds(at));
        leadership.note(Some(at));
        for (later, may) in [(9, true), (10, false)] {
            let now = at + Duration::from_secs(later);
            assert_eq!((leadership.holds(now), leadership.leave(now).is_ok()), (may, may), "after {later} s");
        }
        leadership.note(None);
        assert!(!leadership.holds(at) && leadership.leave(at).is_err());
    }

    #[test]
    fn who_resigns_waits_for_writes_under_way_and_lets_no_other_begin() {
        let leadership = Leadership::default();
        let at = Mono::from_nanos(1);
        leadership.note(Some(at));
        let (one, other) = (leadership.leave(at).unwrap(), leadership.leave(at).unwrap());
        let mut resigned = Box::pin(leadership.resign());
        assert!(resigned.as_mut().now_or_never().is_none());
        assert!(matches!(leadership.leave(at), Err(ApiError::NotLeading)));
        drop(one);
        assert!(resigned.as_mut().now_or_never().is_none(), "another write is under way");
        drop(other);
        assert!(resigned.as_mut().now_or_never().is_some());
        assert!(leadership.leave(at).is_err(), "it does not lead any more");
    }
}
