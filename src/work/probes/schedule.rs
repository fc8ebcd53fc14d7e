//! When each connection is probed next. Pure: `now` is an argument, keys are returned.
//!
//! The first probe of new settings is due at once. From the second on a connection has its own slots: a phase within
//! the interval that is derived from its UID, so that thousands of connections are spread evenly and keep their phase
//! after a restart. The next slot is never more than an interval away. One probe of a connection runs at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::timer_queue::TimerQueue;
use crate::domain::hash::fnv1a;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;

/// Slots are whole multiples of this. A wake-up for each probe alone costs more than the probe: with 10 000 connections
/// at 30 s some 33 share a slot, and the last of them is sent a few milliseconds after the first. With few connections
/// it makes no difference.
const SLOT_GRANULARITY: Duration = Duration::from_millis(100);

/// Identifies a running probe; distinguishes a deleted object's probe from that of a new object of the same name.
pub(super) type ProbeId = u64;

/// A connection to probe, and how often.
pub(super) struct ProbeTarget<'a> {
    pub(super) key: &'a ObjectKey,
    /// The UID of its object.
    pub(super) uid: &'a Arc<str>,
    /// The revision of its settings.
    pub(super) revision: &'a Arc<str>,
    pub(super) interval: Duration,
}

struct Entry {
    uid: Arc<str>,
    revision: Arc<str>,
    interval: Duration,
    running: Option<ProbeId>,
    /// A probe was requested while one was running: another follows it at once.
    rerun: bool,
    /// A user requested the next probe.
    requested: bool,
    /// The last probe took long.
    slow: bool,
}

impl Entry {
    fn new(target: &ProbeTarget<'_>) -> Self {
        let (uid, revision) = (Arc::clone(target.uid), Arc::clone(target.revision));
        Self { uid, revision, interval: target.interval, running: None, rerun: false, requested: false, slow: false }
    }
}

/// The due times of all probed connections.
#[derive(Default)]
pub(super) struct ProbeSchedule {
    entries: HashMap<ObjectKey, Entry>,
    due: TimerQueue,
    last_id: ProbeId,
}

impl ProbeSchedule {
    /// Adds a connection or updates its settings. No effect if the settings are unchanged.
    pub(super) fn upsert(&mut self, target: &ProbeTarget<'_>, now: Mono) {
        match self.entries.get_mut(target.key) {
            Some(entry) if entry.uid == *target.uid => {
                if entry.revision == *target.revision {
                    return;
                }
                entry.revision = Arc::clone(target.revision);
                entry.interval = target.interval;
            }
            _ => drop(self.entries.insert(target.key.clone(), Entry::new(target))),
        }
        self.schedule_now(target.key, now);
    }

    /// Adds a connection without health checks for its circuit's next trial at `at`: nothing is due before. While its
    /// probe runs, only its settings are updated.
    pub(super) fn schedule_trial(&mut self, target: &ProbeTarget<'_>, at: Mono) {
        let known = self.entries.get(target.key).filter(|entry| entry.uid == *target.uid);
        let (running, rerun) = known.map_or((None, false), |entry| (entry.running, entry.rerun));
        let (slow, requested) = known.map_or((false, false), |entry| (entry.slow, entry.requested));
        self.entries.insert(target.key.clone(), Entry { running, rerun, requested, slow, ..Entry::new(target) });
        if running.is_none() {
            self.due.set(target.key, Some(at));
        }
    }

    /// Removes a connection.
    pub(super) fn remove(&mut self, key: &ObjectKey) {
        self.entries.remove(key);
        self.due.set(key, None);
    }

    /// Makes a probe of `key` due now; if one is running, another follows it, because its request may have been sent
    /// before the change.
    pub(super) fn schedule_now(&mut self, key: &ObjectKey, now: Mono) {
        if let Some(entry) = self.entries.get_mut(key) {
            if entry.running.is_some() {
                entry.rerun = true;
            } else {
                self.due.set(key, Some(now));
            }
        }
    }

    /// Like [`schedule_now`](Self::schedule_now), because a user requested it.
    pub(super) fn request(&mut self, key: &ObjectKey, now: Mono) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.requested = true;
        }
        self.schedule_now(key, now);
    }

    /// Whether a user requested the probe of `key` that starts now; the one after it is none.
    pub(super) fn take_request(&mut self, key: &ObjectKey) -> bool {
        self.entries.get_mut(key).is_some_and(|entry| std::mem::take(&mut entry.requested))
    }

    /// Brings the next probe of `key` forward to `at`, if it is later.
    pub(super) fn bring_forward(&mut self, key: &ObjectKey, at: Mono) {
        if self.due.get(key).is_some_and(|due| at < due) {
            self.due.set(key, Some(at));
        }
    }

    /// Removes and returns the earliest connection that is due and marks its probe as running, from its turn on.
    pub(super) fn start(&mut self, now: Mono) -> Option<(ObjectKey, ProbeId)> {
        let key = self.due.pop_due(now)?;
        let entry = self.entries.get_mut(&key)?;
        self.last_id += 1;
        entry.running = Some(self.last_id);
        Some((key, self.last_id))
    }

    /// Whether this is the probe of `key` that runs: the connection was neither removed nor replaced.
    pub(super) fn is_running(&self, key: &ObjectKey, id: ProbeId) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.running == Some(id))
    }

    /// Whether the last probe of `key` took long.
    pub(super) fn is_slow(&self, key: &ObjectKey) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.slow)
    }

    /// Records whether the running probe `id` took long.
    pub(super) fn set_slow(&mut self, key: &ObjectKey, id: ProbeId, slow: bool) {
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.running == Some(id)) {
            entry.slow = slow;
        }
    }

    /// Records the end of a probe: the next is due at the connection's next slot.
    pub(super) fn finish(&mut self, key: &ObjectKey, id: ProbeId, now: Mono) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.running != Some(id) {
            return;
        }
        entry.running = None;
        let rerun = std::mem::take(&mut entry.rerun);
        let next = if rerun { now } else { next_slot(&entry.uid, entry.interval, now) };
        self.due.set(key, Some(next));
    }

    /// Skips a probe that is due, because the connection is in a maintenance window: the next is due at its next slot,
    /// or at the window's end if that comes first.
    pub(super) fn postpone(&mut self, key: &ObjectKey, id: ProbeId, end: Mono, now: Mono) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.rerun = false;
        }
        self.finish(key, id, now);
        self.bring_forward(key, end);
    }

    /// Whether `key` is in the schedule.
    pub(super) fn contains(&self, key: &ObjectKey) -> bool {
        self.entries.contains_key(key)
    }

    /// When the next probe is due.
    pub(super) fn next(&self) -> Option<Mono> {
        self.due.next()
    }
}

/// The first instant after `now` that is congruent to the connection's phase, modulo the interval.
fn next_slot(uid: &str, interval: Duration, now: Mono) -> Mono {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
    let (interval, grain) = (nanos(interval), nanos(SLOT_GRANULARITY));
    let hash = fnv1a(uid);
    // UIDs differ in few places: fold the well-mixed upper half into the lower, which the remainder uses.
    let phase = (hash ^ (hash >> 32)) % interval / grain * grain;
    let past = (now.nanos() % interval + interval - phase) % interval;
    Mono::from_nanos(now.nanos().saturating_add(interval - past))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    fn upsert(table: &mut ProbeSchedule, key: &ObjectKey, uid: &str, revision: &str, now: Mono) {
        let (uid, revision) = (&uid.into(), &revision.into());
        table.upsert(&ProbeTarget { key, uid, revision, interval: INTERVAL }, now);
    }

    fn table(name: &str) -> ProbeSchedule {
        let mut table = ProbeSchedule::default();
        upsert(&mut table, &key(name), "uid", "1", at(100));
        table
    }

    #[test]
    fn first_probe_is_due_at_once_and_the_next_within_an_interval() {
        let mut table = table("a");
        let (started, run) = table.start(at(100)).unwrap();
        assert_eq!(started, key("a"));
        assert!(table.start(at(1000)).is_none(), "one at a time");
        table.finish(&started, run, at(101));
        let next = table.next().unwrap();
        assert!(next > at(101) && next <= at(131));
        let (_, run) = table.start(next).unwrap();
        table.finish(&started, run, next + Duration::from_millis(3));
        assert_eq!(table.next(), Some(next + INTERVAL), "the slot is stable");
    }

    #[test]
    fn after_any_silence_one_probe_catches_up() {
        for silence in [31, 3_600, 604_800] {
            let mut table = table("a");
            let (a, run) = table.start(at(100)).unwrap();
            table.finish(&a, run, at(100));
            let (_, run) = table.start(at(100 + silence)).unwrap();
            table.finish(&a, run, at(100 + silence));
            let next = table.next().unwrap();
            assert!(next > at(100 + silence) && next <= at(130 + silence), "{silence}: {next:?}");
        }
    }

    #[test]
    fn unchanged_settings_are_ignored_and_changed_ones_are_probed_at_once() {
        let mut table = table("a");
        let (a, run) = table.start(at(100)).unwrap();
        upsert(&mut table, &a, "uid", "1", at(100));
        table.finish(&a, run, at(100));
        assert!(table.next().unwrap() > at(100));
        upsert(&mut table, &a, "uid", "2", at(105));
        assert_eq!(table.next(), Some(at(105)));
    }

    #[test]
    fn settings_changed_during_a_probe_are_probed_right_after_it() {
        let mut table = table("a");
        let (a, run) = table.start(at(100)).unwrap();
        upsert(&mut table, &a, "uid", "2", at(101));
        assert!(table.start(at(101)).is_none());
        table.finish(&a, run, at(102));
        assert_eq!(table.next(), Some(at(102)));
    }

    #[test]
    fn a_request_during_a_probe_belongs_to_the_one_that_follows() {
        let mut table = table("a");
        let (a, run) = table.start(at(100)).unwrap();
        assert!(!table.take_request(&a));
        table.request(&a, at(101));
        table.finish(&a, run, at(102));
        assert_eq!(table.next(), Some(at(102)));
        table.start(at(102)).unwrap();
        assert!(table.take_request(&a) && !table.take_request(&a), "once");
    }

    #[test]
    fn the_end_of_a_deleted_objects_probe_does_not_affect_its_successor() {
        let mut table = table("a");
        let (a, old) = table.start(at(100)).unwrap();
        table.remove(&a);
        upsert(&mut table, &a, "other", "1", at(101));
        let (_, new) = table.start(at(101)).unwrap();
        table.finish(&a, old, at(102));
        assert_eq!(table.next(), None, "the successor's probe is still running");
        table.finish(&a, new, at(103));
        assert!(table.next().is_some());
    }

    #[test]
    fn a_postponed_probe_is_due_at_the_next_slot_or_at_the_end_of_the_window() {
        let mut table = table("a");
        let (a, run) = table.start(at(100)).unwrap();
        table.schedule_now(&a, at(100));
        table.postpone(&a, run, at(10_000), at(100));
        let slot = table.next().unwrap();
        assert!(slot > at(100) && slot <= at(130), "due again at the slot, requested or not");
        let (a, run) = table.start(slot).unwrap();
        table.postpone(&a, run, slot + Duration::from_secs(1), slot);
        assert_eq!(table.next(), Some(slot + Duration::from_secs(1)));
    }

    #[test]
    fn a_trial_brings_the_next_probe_forward_and_never_delays_it() {
        let mut table = table("a");
        let (a, run) = table.start(at(100)).unwrap();
        table.finish(&a, run, at(100));
        let slot = table.next().unwrap();
        table.bring_forward(&a, slot + INTERVAL);
        assert_eq!(table.next(), Some(slot));
        table.bring_forward(&a, at(100));
        assert_eq!(table.next(), Some(at(100)));
    }

    #[test]
    fn a_connection_without_health_checks_is_due_for_its_trial_only() {
        let mut table = ProbeSchedule::default();
        let (key, uid, revision) = (&key("a"), &"uid".into(), &"1".into());
        let target = ProbeTarget { key, uid, revision, interval: INTERVAL };
        table.schedule_trial(&target, at(400));
        assert!(table.start(at(399)).is_none());
        let (a, run) = table.start(at(400)).unwrap();
        table.schedule_trial(&target, at(700));
        assert_eq!(table.next(), None, "one at a time");
        table.finish(&a, run, at(401));
        table.schedule_trial(&target, at(700));
        assert_eq!(table.next(), Some(at(700)), "later than the slot");
    }

    #[test]
    fn ten_thousand_connections_spread_evenly_over_the_interval() {
        let mut per_second = [0_u32; 30];
        for n in 0..10_000_u32 {
            let uid = format!("0000{n:04x}-1111-4222-8333-44445555{n:04x}");
            let slot = next_slot(&uid, INTERVAL, at(60));
            let second = slot.since(at(60)).as_secs().min(29);
            per_second[usize::try_from(second).unwrap()] += 1;
        }
        assert!(per_second.iter().all(|count| (200..500).contains(count)), "{per_second:?}");
    }

    #[test]
    fn a_connections_phase_is_stable_between_releases() {
        let slot = next_slot("00000001-1111-4222-8333-444455556666", INTERVAL, at(60));
        assert_eq!(slot, at(68), "an update must not move every probe at once");
    }

    #[test]
    fn slots_are_shared_and_never_more_than_an_interval_away() {
        let mut shared = HashMap::<u64, u32>::new();
        for n in 0..10_000_u32 {
            let slot = next_slot(&format!("{n:08x}-1111-4222-8333-444455556666"), INTERVAL, at(60));
            assert!(slot > at(60) && slot <= at(90), "{slot:?}");
            *shared.entry(slot.nanos()).or_default() += 1;
        }
        assert!((250..=300).contains(&shared.len()), "{}", shared.len());
        assert!(shared.values().all(|count| (5..100).contains(count)), "{shared:?}");
        let short = Duration::from_millis(250);
        assert_eq!(
            next_slot("uid", short, next_slot("uid", short, at(1))).since(next_slot("uid", short, at(1))),
            short
        );
    }
}
