//! Backoff of failed reconciles, per object.
//!
//! kube's error policy sees failures but never successes, so the failure streak is counted here, by UID, and a
//! successful reconcile resets it. Retries after API server or ledger faults are spaced 1 s to 5 min with full jitter.
//! When one object succeeds after failing, all others that are backing off are enqueued at once. So that recovery is
//! noticed soon after an outage of any length, one backing-off object, each in turn, is retried early every few seconds
//! ([`ReconcileBackoff::next_early_retry`]).
//!
//! For the same reason this module knows which objects this process has reconciled at all: an object that depends on
//! another one is not decided before that one has been reconciled.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::backoff::Backoff;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Mono;

/// First and longest delay after a failed reconcile.
const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_mins(5);
const BACKOFF: Backoff = Backoff { base: BASE, max: CAP };

/// How often one backing-off object is retried early.
pub const EARLY_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// How often the failure of one object is logged as a warning.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// After this many failures an object counts as decided: dependents must not wait any longer.
const DECIDED_AFTER_FAILURES: u32 = 3;

/// Failure streaks of all objects.
#[derive(Debug, Default)]
pub struct ReconcileBackoff {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    streaks: HashMap<(Kind, ObjectKey), Streak>,
    /// Objects with at least one successful reconcile.
    decided: HashSet<(Kind, ObjectKey)>,
    /// Counts early retries.
    early_retries: u64,
    /// When the failure of an object was last logged.
    logged: HashMap<(Kind, ObjectKey), Mono>,
}

#[derive(Debug)]
struct Streak {
    uid: String,
    count: u32,
    /// Number of the early retry that was last given to this object.
    last_early_retry: u64,
}

impl ReconcileBackoff {
    /// Counts a failure of the object with this UID; returns the length of the streak and the delay before the retry.
    /// `random` is uniform over its whole range.
    pub fn failed(&self, kind: Kind, key: &ObjectKey, uid: &str, random: u64) -> (u32, Duration) {
        let mut inner = self.lock();
        let new = || Streak { uid: uid.to_owned(), count: 0, last_early_retry: 0 };
        let streak = inner.streaks.entry((kind, key.clone())).or_insert_with(new);
        if streak.uid != uid {
            *streak = new();
        }
        streak.count = streak.count.saturating_add(1);
        (streak.count, BASE.max(BACKOFF.delay(streak.count - 1, random)))
    }

    /// Resets the streak. If the object had been failing, returns all others that still are: the cause may be gone for
    /// them too.
    pub fn succeeded(&self, kind: Kind, key: &ObjectKey) -> Vec<(Kind, ObjectKey)> {
        let mut inner = self.lock();
        inner.decided.insert((kind, key.clone()));
        if inner.streaks.remove(&(kind, key.clone())).is_none() {
            return Vec::new();
        }
        inner.streaks.keys().cloned().collect()
    }

    /// Whether the first failure of a streak should be logged as a warning: not if another one of this object was
    /// logged within `LOG_INTERVAL`. When every second request fails, streaks are short and many.
    pub fn should_log(&self, kind: Kind, key: &ObjectKey, now: Mono) -> bool {
        let logged = &mut self.lock().logged;
        logged.retain(|_, last| now.since(*last) < LOG_INTERVAL);
        let due = !logged.contains_key(&(kind, key.clone()));
        if due {
            logged.insert((kind, key.clone()), now);
        }
        due
    }

    /// Whether dependents of an existing object must still wait for it: no reconcile of it has succeeded, and fewer
    /// than `DECIDED_AFTER_FAILURES` have failed.
    pub fn is_undecided(&self, kind: Kind, key: &ObjectKey) -> bool {
        let (inner, entry) = (self.lock(), (kind, key.clone()));
        !inner.decided.contains(&entry)
            && inner.streaks.get(&entry).is_none_or(|streak| streak.count < DECIDED_AFTER_FAILURES)
    }

    /// The backing-off object whose last early retry is longest ago.
    pub fn next_early_retry(&self) -> Option<(Kind, ObjectKey)> {
        let mut inner = self.lock();
        inner.early_retries += 1;
        let number = inner.early_retries;
        let (entry, streak) = inner.streaks.iter_mut().min_by_key(|(_, streak)| streak.last_early_retry)?;
        streak.last_early_retry = number;
        Some(entry.clone())
    }

    /// Forgets a deleted object.
    pub fn forget(&self, kind: Kind, key: &ObjectKey) {
        let (mut inner, entry) = (self.lock(), (kind, key.clone()));
        inner.streaks.remove(&entry);
        inner.decided.remove(&entry);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_resets_the_streak_and_returns_the_objects_still_failing() {
        let backoff = ReconcileBackoff::default();
        let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        assert_eq!(backoff.failed(Kind::SyncJob, &a, "1", 7).0, 1);
        assert_eq!(backoff.failed(Kind::SyncJob, &a, "1", 7).0, 2);
        assert_eq!(backoff.failed(Kind::SyncJob, &a, "2", 7).0, 1, "another UID starts over");
        backoff.failed(Kind::SyncJob, &b, "1", 7);
        assert_eq!(backoff.succeeded(Kind::SyncJob, &a), vec![(Kind::SyncJob, b)]);
        assert!(backoff.succeeded(Kind::SyncJob, &a).is_empty());
    }

    #[test]
    fn backing_off_objects_are_retried_early_in_turn() {
        let backoff = ReconcileBackoff::default();
        assert_eq!(backoff.next_early_retry(), None);
        let keys = ["a", "b", "c"].map(|name| ObjectKey::new("ns", name));
        for key in &keys {
            backoff.failed(Kind::SyncJob, key, "1", 7);
        }
        let mut retried: Vec<_> =
            (0..6).filter_map(|_| backoff.next_early_retry()).map(|(_, key)| key.name.to_string()).collect();
        retried[..3].sort();
        retried[3..].sort();
        assert_eq!(retried, ["a", "b", "c", "a", "b", "c"]);
    }

    #[test]
    fn short_streaks_of_one_object_are_logged_once_a_minute() {
        let (backoff, key) = (ReconcileBackoff::default(), ObjectKey::new("ns", "a"));
        let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        let logged = [0, 1, 59, 60, 61].map(|s| backoff.should_log(Kind::SyncJob, &key, at(s)));
        assert_eq!(logged, [true, false, false, true, false]);
    }

    #[test]
    fn an_object_is_undecided_until_a_success_or_three_failures() {
        let backoff = ReconcileBackoff::default();
        let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        assert!(backoff.is_undecided(Kind::ProviderConnection, &a));
        backoff.succeeded(Kind::ProviderConnection, &a);
        assert!(!backoff.is_undecided(Kind::ProviderConnection, &a));
        backoff.forget(Kind::ProviderConnection, &a);
        assert!(backoff.is_undecided(Kind::ProviderConnection, &a), "a new object of the same name");
        let undecided: Vec<bool> = (0..DECIDED_AFTER_FAILURES)
            .map(|_| {
                backoff.failed(Kind::ProviderConnection, &b, "1", 7);
                backoff.is_undecided(Kind::ProviderConnection, &b)
            })
            .collect();
        assert_eq!(undecided, [true, true, false]);
    }

    #[test]
    fn the_delay_is_between_one_second_and_five_minutes() {
        let backoff = ReconcileBackoff::default();
        let key = ObjectKey::new("ns", "a");
        for round in 0..40_u64 {
            let random = u64::MAX / 40 * round;
            let (_, delay) = backoff.failed(Kind::SyncJob, &key, "1", random);
            assert!(delay >= BASE && delay <= CAP, "{delay:?}");
        }
    }
}
