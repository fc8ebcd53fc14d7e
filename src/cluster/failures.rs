//! How often an object's reconcile failed in a row, and how long to wait for the next try.
//!
//! kube's error policy is told of failures but never of successes, so the streak is kept here, by UID, and ended by a
//! good reconcile. Trouble with the API server or the ledger is spaced 1 s to 5 min with full jitter; when either first
//! answers again, those who wait are poked instead of sleeping their time out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::backoff::Backoff;
use crate::domain::key::{Kind, ObjectKey};

/// First and longest pause after a failed reconcile.
const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_mins(5);
const PACE: Backoff = Backoff { base: BASE, max: CAP };

/// Failure streaks of objects.
#[derive(Debug, Default)]
pub struct Failures {
    streaks: Mutex<HashMap<(Kind, ObjectKey), (String, u32)>>,
}

impl Failures {
    /// Counts one more failure of this incarnation of the object; answers how long to wait. `random` is uniform
    /// over its whole range.
    pub fn failed(&self, kind: Kind, key: &ObjectKey, uid: &str, random: u64) -> (u32, Duration) {
        let mut streaks = self.streaks.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = streaks.entry((kind, key.clone())).or_insert_with(|| (uid.to_owned(), 0));
        if entry.0 != uid {
            *entry = (uid.to_owned(), 0);
        }
        entry.1 = entry.1.saturating_add(1);
        (entry.1, BASE.max(PACE.wait(entry.1 - 1, random)))
    }

    /// Ends the streak. If the object had been failing, answers all others that still are: what kept this one from
    /// working may be over for them too.
    pub fn succeeded(&self, kind: Kind, key: &ObjectKey) -> Vec<(Kind, ObjectKey)> {
        let mut streaks = self.streaks.lock().unwrap_or_else(PoisonError::into_inner);
        if streaks.remove(&(kind, key.clone())).is_none() {
            return Vec::new();
        }
        streaks.keys().cloned().collect()
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, kind: Kind, key: &ObjectKey) {
        self.streaks.lock().unwrap_or_else(PoisonError::into_inner).remove(&(kind, key.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_ends_the_streak_and_names_those_still_failing() {
        let failures = Failures::default();
        let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        assert_eq!(failures.failed(Kind::SyncJob, &a, "1", 7).0, 1);
        assert_eq!(failures.failed(Kind::SyncJob, &a, "1", 7).0, 2);
        assert_eq!(failures.failed(Kind::SyncJob, &a, "2", 7).0, 1, "another incarnation starts anew");
        failures.failed(Kind::SyncJob, &b, "1", 7);
        assert_eq!(failures.succeeded(Kind::SyncJob, &a), vec![(Kind::SyncJob, b)]);
        assert!(failures.succeeded(Kind::SyncJob, &a).is_empty());
    }

    #[test]
    fn the_pause_is_never_under_a_second_nor_over_five_minutes() {
        let failures = Failures::default();
        let key = ObjectKey::new("ns", "a");
        for round in 0..40_u64 {
            let random = u64::MAX / 40 * round;
            let (_, pause) = failures.failed(Kind::SyncJob, &key, "1", random);
            assert!(pause >= BASE && pause <= CAP, "{pause:?}");
        }
    }
}
