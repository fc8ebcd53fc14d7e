//! Alarms by name, earliest first: one ordered set instead of one sleeping task per object. Why not a timing wheel:
//! `docs/adr/0005-alarms-are-an-ordered-set.md`.

use std::collections::{BTreeSet, HashMap};

use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;

/// At most one alarm per name.
#[derive(Default)]
pub(super) struct Alarms {
    order: BTreeSet<(Mono, ObjectKey)>,
    at: HashMap<ObjectKey, Mono>,
}

impl Alarms {
    /// Sets, moves or (with `None`) clears the alarm of `key`.
    pub(super) fn set(&mut self, key: &ObjectKey, at: Option<Mono>) {
        let old = match at {
            Some(at) => self.at.insert(key.clone(), at),
            None => self.at.remove(key),
        };
        if let Some(old) = old {
            self.order.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.order.insert((at, key.clone()));
        }
    }

    /// When the alarm of `key` is due.
    pub(super) fn get(&self, key: &ObjectKey) -> Option<Mono> {
        self.at.get(key).copied()
    }

    /// When the next alarm is due.
    pub(super) fn next(&self) -> Option<Mono> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the earliest alarm that is due.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<ObjectKey> {
        if self.next().is_none_or(|at| at > now) {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.at.remove(&key);
        Some(key)
    }
}
