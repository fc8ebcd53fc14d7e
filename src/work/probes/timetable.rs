//! When each connection is probed next. Pure: `now` comes in, names come out.
//!
//! The first probe of new settings is due at once. From the second on a connection keeps its own beat: a phase within
//! the interval that follows from its UID, so that thousands of connections spread out by themselves and stay where they
//! are over a restart of the schedule. The next beat is never more than an interval away. One probe of a connection runs
//! at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::alarms::Alarms;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;

/// Beats are whole multiples of this. Waking for each probe alone costs more than the probe: with 10 000 connections at 30 s
/// some 33 share a beat, and the last of them goes out a few milliseconds after the first. Who has few connections sees no
/// difference.
const GRAIN: Duration = Duration::from_millis(100);

/// A probe under way; tells an earlier object's probe from that of its successor of the same name.
pub(super) type Run = u64;

struct Entry {
    uid: Arc<str>,
    revision: Arc<str>,
    interval: Duration,
    running: Option<Run>,
    /// Asked for while one was running: another follows it at once.
    again: bool,
}

/// The timetable of all probed connections.
#[derive(Default)]
pub(super) struct Timetable {
    entries: HashMap<ObjectKey, Entry>,
    due: Alarms,
    runs: Run,
}

impl Timetable {
    /// Takes up a connection, or its changed settings. Known settings change nothing.
    pub(super) fn set(&mut self, key: &ObjectKey, uid: &Arc<str>, revision: &Arc<str>, interval: Duration, now: Mono) {
        match self.entries.get_mut(key) {
            Some(entry) if entry.uid == *uid => {
                if entry.revision == *revision {
                    return;
                }
                entry.revision = Arc::clone(revision);
                entry.interval = interval;
            }
            _ => {
                let (uid, revision) = (Arc::clone(uid), Arc::clone(revision));
                self.entries.insert(key.clone(), Entry { uid, revision, interval, running: None, again: false });
            }
        }
        self.at_once(key, now);
    }

    /// Takes up a connection that is not checked, for the trial that its circuit waits for at `at`: nothing is due before.
    /// While its probe runs, only its settings are noted.
    pub(super) fn await_trial(
        &mut self,
        key: &ObjectKey,
        (uid, revision): (&Arc<str>, &Arc<str>),
        interval: Duration,
        at: Mono,
    ) {
        let known = self.entries.get(key).filter(|entry| entry.uid == *uid);
        let (running, again) = known.map_or((None, false), |entry| (entry.running, entry.again));
        let (uid, revision) = (Arc::clone(uid), Arc::clone(revision));
        self.entries.insert(key.clone(), Entry { uid, revision, interval, running, again });
        if running.is_none() {
            self.due.set(key, Some(at));
        }
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, key: &ObjectKey) {
        self.entries.remove(key);
        self.due.set(key, None);
    }

    /// Makes a probe of `key` due now; if one is running, another follows it, because it may have asked too early.
    pub(super) fn at_once(&mut self, key: &ObjectKey, now: Mono) {
        if let Some(entry) = self.entries.get_mut(key) {
            if entry.running.is_some() {
                entry.again = true;
            } else {
                self.due.set(key, Some(now));
            }
        }
    }

    /// Brings the next probe of `key` forward to `at`, if it is later.
    pub(super) fn not_later_than(&mut self, key: &ObjectKey, at: Mono) {
        if self.due.get(key).is_some_and(|due| at < due) {
            self.due.set(key, Some(at));
        }
    }

    /// Takes the earliest connection that is due; its probe is running from now on.
    pub(super) fn start(&mut self, now: Mono) -> Option<(ObjectKey, Run)> {
        let key = self.due.pop_due(now)?;
        let entry = self.entries.get_mut(&key)?;
        self.runs += 1;
        entry.running = Some(self.runs);
        Some((key, self.runs))
    }

    /// A probe ended: the next is due on the connection's next beat.
    pub(super) fn ended(&mut self, key: &ObjectKey, run: Run, now: Mono) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.running != Some(run) {
            return;
        }
        entry.running = None;
        let again = std::mem::take(&mut entry.again);
        let next = if again { now } else { next_beat(&entry.uid, entry.interval, now) };
        self.due.set(key, Some(next));
    }

    /// A probe that was due is not made, because the connection is in a maintenance window: the next is due on its next
    /// beat, or at the window's end if that comes first.
    pub(super) fn put_off(&mut self, key: &ObjectKey, run: Run, end: Mono, now: Mono) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.again = false;
        }
        self.ended(key, run, now);
        self.not_later_than(key, end);
    }

    /// Whether `key` was taken up.
    pub(super) fn knows(&self, key: &ObjectKey) -> bool {
        self.entries.contains_key(key)
    }

    /// When the next probe is due.
    pub(super) fn next(&self) -> Option<Mono> {
        self.due.next()
    }
}

/// The first instant after `now` that is congruent to the connection's phase, modulo the interval.
fn next_beat(uid: &str, interval: Duration, now: Mono) -> Mono {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
    let (interval, grain) = (nanos(interval), nanos(GRAIN));
    let phase = fnv1a(uid.as_bytes()) % interval / grain * grain;
    let past = (now.nanos() % interval + interval - phase) % interval;
    Mono::from_nanos(now.nanos().saturating_add(interval - past))
}

/// Fowler–Noll–Vo 1a, 64 bits: the same on every machine and in every release, unlike the standard library's hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // UIDs differ in few places: fold the well-mixed upper half into the lower, which the remainder looks at.
    hash ^ (hash >> 32)
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

    fn table(name: &str) -> Timetable {
        let mut table = Timetable::default();
        table.set(&key(name), &"uid".into(), &"1".into(), INTERVAL, at(100));
        table
    }

    #[test]
    fn the_first_probe_is_due_at_once_and_the_next_within_an_interval() {
        let mut table = table("a");
        let (started, run) = table.start(at(100)).unwrap();
        assert_eq!(started, key("a"));
        assert!(table.start(at(1000)).is_none(), "one at a time");
        table.ended(&started, run, at(101));
        let next = table.next().unwrap();
        assert!(next > at(101) && next <= at(131));
        let (_, run) = table.start(next).unwrap();
        table.ended(&started, run, next + Duration::from_millis(3));
        assert_eq!(table.next(), Some(next + INTERVAL), "the beat holds");
    }

    #[test]
    fn the_same_settings_again_change_nothing_and_new_ones_are_probed_at_once() {
        let mut table = table("a");
        let (a, run) = table.start(at(100)).unwrap();
        table.set(&a, &"uid".into(), &"1".into(), INTERVAL, at(100));
        table.ended(&a, run, at(100));
        assert!(table.next().unwrap() > at(100));
        table.set(&a, &"uid".into(), &"2".into(), INTERVAL, at(105));
        assert_eq!(table.next(), Some(at(105)));
    }

    #[test]
    fn settings_that_change_during_a_probe_are_probed_right_after_it() {
        let mut table = table("a");
        let (a, run) = table.start(at(100)).unwrap();
        table.set(&a, &"uid".into(), &"2".into(), INTERVAL, at(101));
        assert!(table.start(at(101)).is_none());
        table.ended(&a, run, at(102));
        assert_eq!(table.next(), Some(at(102)));
    }

    #[test]
    fn the_end_of_a_former_objects_probe_does_not_touch_its_successor() {
        let mut table = table("a");
        let (a, old) = table.start(at(100)).unwrap();
        table.remove(&a);
        table.set(&a, &"other".into(), &"1".into(), INTERVAL, at(101));
        let (_, new) = table.start(at(101)).unwrap();
        table.ended(&a, old, at(102));
        assert_eq!(table.next(), None, "the successor's probe is still running");
        table.ended(&a, new, at(103));
        assert!(table.next().is_some());
    }

    #[test]
    fn a_probe_that_is_put_off_is_due_on_the_next_beat_or_at_the_end_of_the_window() {
        let mut table = table("a");
        let (a, run) = table.start(at(100)).unwrap();
        table.at_once(&a, at(100));
        table.put_off(&a, run, at(10_000), at(100));
        let beat = table.next().unwrap();
        assert!(beat > at(100) && beat <= at(130), "looked at again on the beat, request or not");
        let (a, run) = table.start(beat).unwrap();
        table.put_off(&a, run, beat + Duration::from_secs(1), beat);
        assert_eq!(table.next(), Some(beat + Duration::from_secs(1)));
    }

    #[test]
    fn a_trial_brings_the_next_probe_forward_and_never_back() {
        let mut table = table("a");
        let (a, run) = table.start(at(100)).unwrap();
        table.ended(&a, run, at(100));
        let beat = table.next().unwrap();
        table.not_later_than(&a, beat + INTERVAL);
        assert_eq!(table.next(), Some(beat));
        table.not_later_than(&a, at(100));
        assert_eq!(table.next(), Some(at(100)));
    }

    #[test]
    fn who_is_not_checked_is_due_for_its_trial_and_not_before() {
        let mut table = Timetable::default();
        let ids = (&"uid".into(), &"1".into());
        table.await_trial(&key("a"), ids, INTERVAL, at(400));
        assert!(table.start(at(399)).is_none());
        let (a, run) = table.start(at(400)).unwrap();
        table.await_trial(&a, ids, INTERVAL, at(700));
        assert_eq!(table.next(), None, "one at a time");
        table.ended(&a, run, at(401));
        table.await_trial(&a, ids, INTERVAL, at(700));
        assert_eq!(table.next(), Some(at(700)), "later than the beat");
    }

    #[test]
    fn ten_thousand_connections_spread_evenly_over_the_interval() {
        let mut per_second = [0_u32; 30];
        for n in 0..10_000_u32 {
            let uid = format!("0000{n:04x}-1111-4222-8333-44445555{n:04x}");
            let beat = next_beat(&uid, INTERVAL, at(60));
            let second = beat.since(at(60)).as_secs().min(29);
            per_second[usize::try_from(second).unwrap()] += 1;
        }
        assert!(per_second.iter().all(|count| (200..500).contains(count)), "{per_second:?}");
    }

    #[test]
    fn many_beats_of_one_interval_fall_together_and_none_is_more_than_an_interval_away() {
        let mut together = HashMap::<u64, u32>::new();
        for n in 0..10_000_u32 {
            let beat = next_beat(&format!("{n:08x}-1111-4222-8333-444455556666"), INTERVAL, at(60));
            assert!(beat > at(60) && beat <= at(90), "{beat:?}");
            *together.entry(beat.nanos()).or_default() += 1;
        }
        assert!((250..=300).contains(&together.len()), "{}", together.len());
        assert!(together.values().all(|count| (5..100).contains(count)), "{together:?}");
        let short = Duration::from_millis(250);
        assert_eq!(
            next_beat("uid", short, next_beat("uid", short, at(1))).since(next_beat("uid", short, at(1))),
            short
        );
    }
}
