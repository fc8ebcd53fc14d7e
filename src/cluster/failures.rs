//! How often an object's reconcile failed in a row, and how long to wait for the next try.
//!
//! kube's error policy is told of failures but never of successes, so the streak is kept here, by UID, and ended by a
//! good reconcile. Trouble with the API server or the ledger is spaced 1 s to 5 min with full jitter; when either first
//! answers again, those who wait are poked instead of sleeping their time out. So that this is soon noticed however long
//! the trouble has lasted, one of those who wait, each in turn, is sent ahead every few seconds ([`Failures::scout`]).
//!
//! For the same reason it is known here which objects this process has decided about at all: what depends on another
//! object is not told anything new before that one has been looked at.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::backoff::Backoff;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Mono;

/// First and longest pause after a failed reconcile.
const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_mins(5);
const PACE: Backoff = Backoff { base: BASE, max: CAP };

/// How often one of those who wait is sent ahead.
pub const SCOUT_EVERY: Duration = Duration::from_secs(5);

/// How often the same trouble is told.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// After so many failures an object counts as looked at: whatever keeps it from working is its state.
const GIVEN_UP: u32 = 3;

/// Failure streaks of objects.
#[derive(Debug, Default)]
pub struct Failures {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    streaks: HashMap<(Kind, ObjectKey), Streak>,
    /// Those that a reconcile has ended well for.
    decided: HashSet<(Kind, ObjectKey)>,
    /// Counts who was sent ahead last.
    turn: u64,
    /// When which trouble was told last.
    told: HashMap<(Kind, ObjectKey), Mono>,
}

#[derive(Debug)]
struct Streak {
    uid: String,
    count: u32,
    scouted: u64,
}

impl Failures {
    /// Counts one more failure of this incarnation of the object; answers how long to wait. `random` is uniform
    /// over its whole range.
    pub fn failed(&self, kind: Kind, key: &ObjectKey, uid: &str, random: u64) -> (u32, Duration) {
        let mut memory = self.lock();
        let fresh = || Streak { uid: uid.to_owned(), count: 0, scouted: 0 };
        let streak = memory.streaks.entry((kind, key.clone())).or_insert_with(fresh);
        if streak.uid != uid {
            *streak = fresh();
        }
        streak.count = streak.count.saturating_add(1);
        (streak.count, BASE.max(PACE.wait(streak.count - 1, random)))
    }

    /// Ends the streak. If the object had been failing, answers all others that still are: what kept this one from
    /// working may be over for them too.
    pub fn succeeded(&self, kind: Kind, key: &ObjectKey) -> Vec<(Kind, ObjectKey)> {
        let mut memory = self.lock();
        memory.decided.insert((kind, key.clone()));
        if memory.streaks.remove(&(kind, key.clone())).is_none() {
            return Vec::new();
        }
        memory.streaks.keys().cloned().collect()
    }

    /// Whether the failure of this object that began a streak is to be told: not if another was told lately. When every
    /// second request fails, streaks come and go.
    pub fn worth_telling(&self, kind: Kind, key: &ObjectKey, now: Mono) -> bool {
        let told = &mut self.lock().told;
        told.retain(|_, last| now.since(*last) < TELL_EVERY);
        let news = !told.contains_key(&(kind, key.clone()));
        if news {
            told.insert((kind, key.clone()), now);
        }
        news
    }

    /// Whether nothing can be said yet of an object that exists: no reconcile has ended well, and none has failed so often
    /// that waiting on would be wrong.
    pub fn undecided(&self, kind: Kind, key: &ObjectKey) -> bool {
        let (memory, entry) = (self.lock(), (kind, key.clone()));
        !memory.decided.contains(&entry) && memory.streaks.get(&entry).is_none_or(|s| s.count < GIVEN_UP)
    }

    /// Of those that wait, the one that was not sent ahead for the longest time.
    pub fn scout(&self) -> Option<(Kind, ObjectKey)> {
        let mut memory = self.lock();
        memory.turn += 1;
        let turn = memory.turn;
        let (entry, streak) = memory.streaks.iter_mut().min_by_key(|(_, streak)| streak.scouted)?;
        streak.scouted = turn;
        Some(entry.clone())
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, kind: Kind, key: &ObjectKey) {
        let (mut memory, entry) = (self.lock(), (kind, key.clone()));
        memory.streaks.remove(&entry);
        memory.decided.remove(&entry);
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn those_who_wait_are_sent_ahead_in_turn() {
        let failures = Failures::default();
        assert_eq!(failures.scout(), None);
        let keys = ["a", "b", "c"].map(|name| ObjectKey::new("ns", name));
        for key in &keys {
            failures.failed(Kind::SyncJob, key, "1", 7);
        }
        let mut sent: Vec<_> = (0..6).filter_map(|_| failures.scout()).map(|(_, key)| key.name.to_string()).collect();
        sent[..3].sort();
        sent[3..].sort();
        assert_eq!(sent, ["a", "b", "c", "a", "b", "c"]);
    }

    #[test]
    fn streaks_that_come_and_go_are_told_once_a_minute() {
        let (failures, key) = (Failures::default(), ObjectKey::new("ns", "a"));
        let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        let told = [0, 1, 59, 60, 61].map(|s| failures.worth_telling(Kind::SyncJob, &key, at(s)));
        assert_eq!(told, [true, false, false, true, false]);
    }

    #[test]
    fn an_object_is_undecided_until_a_reconcile_ends_well_or_has_failed_too_often() {
        let failures = Failures::default();
        let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        assert!(failures.undecided(Kind::ProviderConnection, &a));
        failures.succeeded(Kind::ProviderConnection, &a);
        assert!(!failures.undecided(Kind::ProviderConnection, &a));
        failures.forget(Kind::ProviderConnection, &a);
        assert!(failures.undecided(Kind::ProviderConnection, &a), "another of its name is another");
        let undecided: Vec<bool> = (0..GIVEN_UP)
            .map(|_| {
                failures.failed(Kind::ProviderConnection, &b, "1", 7);
                failures.undecided(Kind::ProviderConnection, &b)
            })
            .collect();
        assert_eq!(undecided, [true, true, false]);
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
