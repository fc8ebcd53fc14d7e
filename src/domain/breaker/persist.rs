//! Snapshot and restore of a breaker.
//!
//! Persisted instants are wall time, which may have stepped or been written with a wrong clock; so the remaining open
//! time is computed from the current time and bounded.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};

use crate::domain::breaker::machine::Breaker;
use crate::domain::breaker::policy::Policy;
use crate::domain::breaker::snapshot::Snapshot;
use crate::domain::breaker::state::BreakerState;
use crate::domain::time::Now;

/// A restored transition further in the future than this was written with a wrong clock.
const RESTORE_SKEW: SignedDuration = SignedDuration::from_secs(5);

impl Breaker {
    /// Restores the circuit of a previous process, one epoch later: permits of that process are stale.
    ///
    /// An open circuit stays open for the rest of its open time, at most `open.max` since it opened; an opening more
    /// than 5 s in the future is treated as of now. A closed circuit keeps its healthy time. A half-open circuit
    /// restarts its dwell, because no trial could report while no process ran.
    pub fn restore(policy: Policy, snapshot: &Snapshot, now: Now) -> Self {
        let mut breaker = Self::new(policy, now.mono);
        breaker.state = snapshot.state;
        breaker.epoch = snapshot.epoch.clamp(0, i64::MAX / 2) + 1;
        breaker.state_epoch = breaker.epoch;
        breaker.opens = u32::try_from(snapshot.opens).unwrap_or(0);
        breaker.reason = snapshot.reason;
        if snapshot.last_transition.duration_since(now.wall) <= RESTORE_SKEW {
            breaker.since_wall = OnceLock::from(snapshot.last_transition);
        }
        // The status has whole seconds, rounded down: a second less is certain.
        let certain = breaker.since_wall.get().map(|at| now.wall.duration_since(*at) - SignedDuration::from_secs(1));
        breaker.carried = certain.and_then(|age| Duration::try_from(age).ok()).unwrap_or(Duration::ZERO);
        if snapshot.state == BreakerState::Open {
            let cap = policy.open.max.saturating_sub(breaker.carried);
            let opened = (*breaker.since_wall.get_or_init(|| whole_second(now.wall, RoundMode::Floor))).min(now.wall);
            let planned = snapshot.next_trial.unwrap_or_else(|| {
                let left = policy.open_time(breaker.opens.max(1), breaker.epoch);
                SignedDuration::try_from(left).ok().and_then(|d| opened.checked_add(d).ok()).unwrap_or(now.wall)
            });
            let left = Duration::try_from(planned.duration_since(now.wall)).unwrap_or(Duration::ZERO);
            if left <= cap {
                breaker.until_wall = OnceLock::from(planned);
            }
            breaker.until = now.mono + left.min(cap);
        }
        breaker
    }

    /// Snapshot for the next process. Two snapshots without a transition between them are equal.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let last = *self.since_wall.get_or_init(|| whole_second(now.wall_at(self.since), RoundMode::Floor));
        let next_trial = self
            .next_trial()
            .map(|until| *self.until_wall.get_or_init(|| whole_second(now.wall_at(until), RoundMode::Ceil)));
        Snapshot {
            state: self.state,
            last_transition: last,
            epoch: self.epoch,
            opens: i32::try_from(self.opens).unwrap_or(i32::MAX),
            next_trial,
            reason: self.reason,
        }
    }
}

fn whole_second(at: Timestamp, mode: RoundMode) -> Timestamp {
    at.round(TimestampRound::new().smallest(Unit::Second).mode(mode)).unwrap_or(at)
}
