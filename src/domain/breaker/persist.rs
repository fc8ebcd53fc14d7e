//! What outlives the process: taken from a breaker, and made into one again.
//!
//! Persisted instants are wall time, which may have stepped or been written by a machine whose clock was wrong; so a
//! restored wait is measured anew from now and bounded, and never trusted to be anything else than a wish.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};

use super::{Breaker, Policy, Snapshot, State};
use crate::domain::time::Now;

/// A restored opening that lies further in the future than this was written by a clock that was wrong.
const RESTORE_SKEW: SignedDuration = SignedDuration::from_secs(5);

impl Breaker {
    /// The circuit that a former process left, one epoch later: permits of that process are late here.
    ///
    /// An open circuit stays open for what is left of its time, never longer than `open.max` since it opened; an opening
    /// that lies in the future beyond a skew of 5 s happened now. A closed one has been well for as long as it says. A
    /// half-open circuit starts its dwell anew: nobody can have reported while no process ran.
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
        // The status tells whole seconds, rounded down: so much less is certain.
        let certain = breaker.since_wall.get().map(|at| now.wall.duration_since(*at) - SignedDuration::from_secs(1));
        breaker.carried = certain.and_then(|age| Duration::try_from(age).ok()).unwrap_or(Duration::ZERO);
        if snapshot.state == State::Open {
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

    /// What is to be kept for the next process. Two snapshots with no transition between them are equal.
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
