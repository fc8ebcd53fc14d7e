//! Snapshot and restore of a breaker.
//!
//! Persisted instants are wall time, which may have stepped or been written with a wrong clock; so the remaining open
//! time is computed from the current time and bounded.

use std::cell::Cell;
use std::time::Duration;

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};

use crate::domain::breaker::machine::Breaker;
use crate::domain::breaker::policy::Policy;
use crate::domain::breaker::snapshot::Snapshot;
use crate::domain::breaker::state::BreakerState;
use crate::domain::clock_skew::{after, ends, happened, is_ahead};
use crate::domain::time::Now;

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
        let since = whole_second(happened(snapshot.last_transition, now.wall), RoundMode::Floor);
        breaker.since_wall = Cell::new(Some(since));
        // The status has whole seconds, rounded down: a second less is certain.
        let certain = now.wall.duration_since(since) - SignedDuration::from_secs(1);
        breaker.carried = Duration::try_from(certain).unwrap_or(Duration::ZERO);
        if snapshot.state == BreakerState::Open {
            let cap = policy.open.max.saturating_sub(breaker.carried);
            let planned = snapshot
                .next_trial
                .unwrap_or_else(|| after(since.min(now.wall), policy.open_time(breaker.opens.max(1), breaker.epoch)));
            let until = ends(planned, now.wall, cap);
            breaker.until_wall = Cell::new((until == planned).then_some(planned));
            breaker.until = now.mono + Duration::try_from(until.duration_since(now.wall)).unwrap_or(Duration::ZERO);
        }
        breaker
    }

    /// Snapshot for the next process. Two snapshots without a transition between them are equal, unless the wall clock
    /// was wrong when the first was made.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let since = self.since_wall.get().filter(|at| !is_ahead(*at, now.wall));
        let since = since.unwrap_or_else(|| whole_second(now.wall_at(self.since), RoundMode::Floor));
        self.since_wall.set(Some(since));
        let next_trial = self.next_trial().map(|until| {
            let exact = now.wall_at(until);
            let right = self.until_wall.get().filter(|at| !is_ahead(*at, exact));
            right.unwrap_or_else(|| whole_second(exact, RoundMode::Ceil))
        });
        self.until_wall.set(next_trial);
        Snapshot {
            state: self.state,
            last_transition: since,
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
