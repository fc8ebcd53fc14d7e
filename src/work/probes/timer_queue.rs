//! Timers by object key, earliest first: one ordered set instead of one sleeping task per object. Why not a timing
//! wheel: `docs/adr/0005-timers-are-an-ordered-set.md`.

use std::collections::{BTreeSet, HashMap};

use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;

/// A priority queue with at most one timer per object.
#[derive(Default)]
pub(super) struct TimerQueue {
    by_deadline: BTreeSet<(Mono, ObjectKey)>,
    by_key: HashMap<ObjectKey, Mono>,
}

impl TimerQueue {
    /// Sets, moves or (with `None`) clears the timer of `key`.
    pub(super) fn set(&mut self, key: &ObjectKey, at: Option<Mono>) {
        let old = match at {
            Some(at) => self.by_key.insert(key.clone(), at),
            None => self.by_key.remove(key),
        };
        if let Some(old) = old {
            self.by_deadline.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.by_deadline.insert((at, key.clone()));
        }
    }

    /// When the timer of `key` is due.
    pub(super) fn get(&self, key: &ObjectKey) -> Option<Mono> {
        self.by_key.get(key).copied()
    }

    /// When the earliest timer is due.
    pub(super) fn next(&self) -> Option<Mono> {
        self.by_deadline.first().map(|(at, _)| *at)
    }

    /// Removes and returns the earliest timer that is due.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<ObjectKey> {
        if self.next().is_none_or(|at| at > now) {
            return None;
        }
        let (_, key) = self.by_deadline.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}
