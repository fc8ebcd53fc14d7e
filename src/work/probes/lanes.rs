//! Which of the due probes are sent. Pure: `now` is an argument.
//!
//! A provider that does not answer occupies a place for a whole time-out, so that enough of them would occupy all. What
//! each may have of the places:
//! - connections whose last probe was slow have a half, which none of the others needs to wait for;
//! - one host has a half: when a bank hangs, all its connections hang at once;
//! - the last eighth is for namespaces that have less than their fair share.
//!
//! Namespaces have their turns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::schedule::ProbeId;
use crate::domain::fair_queue::FairQueue;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;

/// A probe that takes longer is slow: many times the latency of a healthy provider, a fraction of a time-out.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// Places that one host may have even if they are more than half: few do no harm, and too few would delay its probes.
const MIN_PER_HOST: usize = 16;

/// A probe that is due or running.
#[derive(Clone, Debug)]
struct Probe {
    id: ProbeId,
    host: Arc<str>,
    slow: bool,
}

/// The probes that are due or running.
pub(super) struct Lanes {
    /// Probes that may run at a time.
    limit: usize,
    due_prompt: FairQueue<Probe>,
    due_slow: FairQueue<Probe>,
    running: Running,
}

/// The running probes, and how many there are of each.
#[derive(Default)]
struct Running {
    probes: HashMap<ProbeId, StartedProbe>,
    slow: usize,
    by_host: HashMap<Arc<str>, usize>,
    by_namespace: HashMap<Arc<str>, usize>,
}

struct StartedProbe {
    namespace: Arc<str>,
    probe: Probe,
    at: Mono,
}

impl Lanes {
    /// Empty lanes for `limit` probes at a time (at least one).
    pub(super) fn new(limit: usize) -> Self {
        let (due_prompt, due_slow) = (FairQueue::default(), FairQueue::default());
        Self { limit: limit.max(1), due_prompt, due_slow, running: Running::default() }
    }

    /// Queues a probe that is due; `slow` says whether the last one of the connection was.
    pub(super) fn push(&mut self, key: &ObjectKey, id: ProbeId, host: Arc<str>, slow: bool) {
        let queue = if slow { &mut self.due_slow } else { &mut self.due_prompt };
        queue.push(key, Probe { id, host, slow });
    }

    /// Removes and returns the next probe to send, if there is room for one; it counts as running.
    pub(super) fn start(&mut self, now: Mono) -> Option<(ObjectKey, ProbeId)> {
        let (limit, running) = (self.limit, &self.running);
        if running.probes.len() >= limit {
            return None;
        }
        let waiting = self.due_prompt.namespaces().max(self.due_slow.namespaces());
        let namespaces = running.by_namespace.len().max(waiting).max(1);
        let admits = |key: &ObjectKey, probe: &Probe| running.admits(limit, namespaces, key, probe);
        // A bank that recovers is found in the slow lane: a few places there come first.
        let slow_first = running.slow < (limit / 8).max(1);
        let mut queues = [&mut self.due_prompt, &mut self.due_slow];
        let mut found = None;
        for index in if slow_first { [1, 0] } else { [0, 1] } {
            found = found.or_else(|| queues[index].pop(admits));
        }
        let (key, probe) = found?;
        let id = probe.id;
        self.running.add(&key, probe, now);
        Some((key, id))
    }

    /// Removes a probe that has ended; returns whether it was slow.
    pub(super) fn finish(&mut self, id: ProbeId, now: Mono) -> bool {
        self.running.remove(id).is_some_and(|at| now.since(at) >= SLOW_AFTER)
    }
}

impl Running {
    fn admits(&self, limit: usize, namespaces: usize, key: &ObjectKey, probe: &Probe) -> bool {
        let of_host = self.by_host.get(&probe.host).copied().unwrap_or(0);
        let of_namespace = self.by_namespace.get(&key.namespace).copied().unwrap_or(0);
        (!probe.slow || self.slow < (limit / 2).max(1))
            && of_host < (limit / 2).max(MIN_PER_HOST)
            && (self.probes.len() < limit - limit / 8 || of_namespace < (limit / namespaces).max(1))
    }

    fn add(&mut self, key: &ObjectKey, probe: Probe, at: Mono) {
        self.slow += usize::from(probe.slow);
        *self.by_host.entry(Arc::clone(&probe.host)).or_default() += 1;
        *self.by_namespace.entry(Arc::clone(&key.namespace)).or_default() += 1;
        self.probes.insert(probe.id, StartedProbe { namespace: Arc::clone(&key.namespace), probe, at });
    }

    /// Removes a probe; returns when it started.
    fn remove(&mut self, id: ProbeId) -> Option<Mono> {
        let StartedProbe { namespace, probe, at } = self.probes.remove(&id)?;
        self.slow -= usize::from(probe.slow);
        decrement(&mut self.by_host, &probe.host);
        decrement(&mut self.by_namespace, &namespace);
        Some(at)
    }
}

fn decrement(counts: &mut HashMap<Arc<str>, usize>, name: &Arc<str>) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::ZERO + Duration::from_millis(millis)
    }

    /// Probes with these IDs become due, each of a connection of its own.
    fn due(lanes: &mut Lanes, ids: std::ops::Range<u64>, namespace: &str, host: &str, slow: bool) {
        for id in ids {
            lanes.push(&ObjectKey::new(namespace, format!("bank-{id}")), id, host.into(), slow);
        }
    }

    fn start_all(lanes: &mut Lanes, now: Mono) -> Vec<ProbeId> {
        std::iter::from_fn(|| lanes.start(now)).map(|(_, id)| id).collect()
    }

    #[test]
    fn connections_that_hung_before_leave_half_of_the_places_free() {
        let mut lanes = Lanes::new(64);
        for id in 0..1_000 {
            due(&mut lanes, id..id + 1, "a", &format!("hung-{id}"), true);
        }
        assert_eq!(start_all(&mut lanes, at(0)).len(), 32);
        due(&mut lanes, 5_000..5_010, "a", "good", false);
        assert_eq!(start_all(&mut lanes, at(1)), (5_000..5_010).collect::<Vec<_>>());
        assert!(!lanes.finish(5_000, at(20)) && lanes.finish(0, at(5_000)));
    }

    #[test]
    fn a_bank_that_hangs_for_all_its_connections_at_once_has_half_of_the_places() {
        let mut lanes = Lanes::new(64);
        due(&mut lanes, 0..1_000, "a", "bank", false);
        assert_eq!(start_all(&mut lanes, at(0)).len(), 32);
        due(&mut lanes, 5_000..5_001, "a", "other", false);
        assert_eq!(start_all(&mut lanes, at(0)), [5_000]);
    }

    #[test]
    fn the_last_places_are_for_namespaces_below_their_share() {
        let mut lanes = Lanes::new(64);
        for id in 0..1_000 {
            due(&mut lanes, id..id + 1, "a", &format!("hung-{id}"), false);
        }
        assert_eq!(start_all(&mut lanes, at(0)).len(), 64, "alone it has all");
        let ended = start_all(&mut lanes, at(0)).len() + (0..8).filter(|id| !lanes.finish(*id, at(1))).count();
        assert_eq!(ended, 8);
        due(&mut lanes, 5_000..5_020, "b", "good", false);
        let started = start_all(&mut lanes, at(1));
        assert_eq!(started.len(), 8);
        assert!(started.iter().all(|id| *id >= 5_000), "{started:?}");
    }

    #[test]
    fn a_namespace_with_thousands_of_due_probes_delays_another_by_one() {
        let mut lanes = Lanes::new(1);
        due(&mut lanes, 0..5_000, "a", "bank", false);
        due(&mut lanes, 9_999..10_000, "b", "bank", false);
        assert_eq!(start_all(&mut lanes, at(0)), [0]);
        lanes.finish(0, at(5));
        assert_eq!(start_all(&mut lanes, at(5)), [9_999]);
    }

    #[test]
    fn a_bank_that_recovers_is_found_although_others_are_always_due() {
        let mut lanes = Lanes::new(8);
        due(&mut lanes, 0..1_000, "a", "good", false);
        due(&mut lanes, 5_000..5_001, "a", "recovered", true);
        assert_eq!(start_all(&mut lanes, at(0))[0], 5_000);
    }

    #[test]
    fn ended_probes_are_not_remembered() {
        let mut lanes = Lanes::new(8);
        for id in 0..10_000 {
            due(&mut lanes, id..id + 1, "a", &format!("host-{id}"), id % 2 == 0);
            assert_eq!(start_all(&mut lanes, at(id)), [id]);
            lanes.finish(id, at(id));
        }
        let Running { probes, slow, by_host, by_namespace } = &lanes.running;
        assert_eq!((probes.len(), *slow, by_host.len(), by_namespace.len()), (0, 0, 0, 0));
    }
}
