//! Reference model of the breaker: stores every call of a closed period in a list and computes everything from it. For
//! tests only; the state machine must always agree with it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    BUCKETS, BreakerState, CallClass, CallOutcome, EffectiveState, Mode, OnUnhealthy, OpenPolicy, Override, PermitKind,
    Policy, Transition, TripReason, WindowSpec,
};
use crate::domain::hash;
use crate::domain::time::{Mono, Now};

const NANOS: i128 = 1_000_000_000;

#[derive(Clone, Debug)]
struct Call {
    at: Mono,
    failed: bool,
    slow: bool,
    /// A failure of our own: in a row with others, and in no window.
    own: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    /// The window has the calls from index `from` on, in buckets that begin at `origin`.
    Closed {
        calls: Vec<Call>,
        from: usize,
        origin: Mono,
    },
    /// `planned` is the persisted end, if a restart restored one.
    Open {
        until: Mono,
        planned: Option<Timestamp>,
    },
    HalfOpen {
        out: Vec<(u32, Mono)>,
        good: u32,
        lost: u32,
    },
}

/// Permit of the model.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct ModelPermit {
    pub(super) kind: PermitKind,
    /// Number of the phase in which the permit was issued.
    phase: u32,
    ticket: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    policy: Policy,
    phase: Phase,
    /// Start of the phase, its duration in previous processes, and its persisted start.
    since: Mono,
    carried: Duration,
    written: Option<Timestamp>,
    phase_number: u32,
    overlay: Option<Override>,
    epoch: i64,
    opens: u32,
    openings: Vec<Mono>,
    tickets: u32,
}

impl Model {
    pub(super) fn new(policy: Policy, now: Mono) -> Self {
        Self {
            policy,
            phase: closed(now),
            since: now,
            carried: Duration::ZERO,
            written: None,
            phase_number: 0,
            overlay: None,
            epoch: 0,
            opens: 0,
            openings: vec![],
            tickets: 0,
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    pub(super) fn effective(&self) -> EffectiveState {
        if let Some(overlay) = self.overlay {
            overlay.mode.into()
        } else if self.policy.mode == Mode::Shadow {
            EffectiveState::Shadow
        } else {
            self.state().into()
        }
    }

    pub(super) fn next_trial(&self) -> Option<Mono> {
        if let Phase::Open { until, .. } = self.phase { Some(until) } else { None }
    }

    fn enter(&mut self, phase: Phase, reason: TripReason, at: Mono) -> Transition {
        let from = self.effective();
        self.phase = phase;
        (self.since, self.carried, self.written) = (at, Duration::ZERO, None);
        self.phase_number += 1;
        self.epoch += 1;
        Transition { from, to: self.effective(), state: self.state(), reason, epoch: self.epoch, at }
    }

    fn opens(&mut self, reason: TripReason, now: Mono) -> Transition {
        if self.state() == BreakerState::Closed {
            let healthy = (now.since(self.since) + self.carried).as_nanos() / self.policy.open.base.as_nanos();
            self.opens = self.opens.saturating_sub(u32::try_from(healthy).unwrap());
            self.openings.push(now);
        }
        self.opens += 1;
        // base · factor^(k−1), capped; then jittered by a number derived from epoch and seed.
        let OpenPolicy { base, max, factor_milli, jitter_percent } = self.policy.open;
        let mut nanos = base.as_nanos();
        for _ in 1..self.opens {
            nanos = (nanos * u128::from(factor_milli) / 1000).min(max.as_nanos());
        }
        let epoch = u64::try_from(self.epoch + 1).unwrap();
        let width = nanos * u128::from(jitter_percent) / 100;
        let random = u128::from(hash::mix(self.policy.jitter_seed ^ epoch));
        let jittered = (nanos - width + ((2 * width * random) >> 64)).clamp(1_000_000, max.as_nanos());
        let until = now + Duration::from_nanos(u64::try_from(jittered).unwrap());
        self.enter(Phase::Open { until, planned: None }, reason, now)
    }

    /// Replaces the policy.
    pub(super) fn set_policy(&mut self, policy: Policy, now: Mono) -> Option<Transition> {
        let from = self.effective();
        let ratios = |p: &Policy| p.failure_percent > 0 || p.slow_call_percent > 0;
        let another = policy.window != self.policy.window || (ratios(&policy) && !ratios(&self.policy));
        if let (Phase::Closed { calls, from, origin }, true) = (&mut self.phase, another) {
            (*from, *origin) = (calls.len(), now);
        }
        self.policy = policy;
        let longest = self.since + policy.open.max.saturating_sub(self.carried);
        if let Phase::Open { until, planned } = &mut self.phase
            && longest < *until
        {
            (*until, *planned) = (longest, None);
        }
        let to = self.effective();
        (from != to).then(|| {
            self.epoch += 1;
            Transition { from, to, state: self.state(), reason: TripReason::PolicyChanged, epoch: self.epoch, at: now }
        })
    }

    /// A new process restores the persisted fields: state, its start and end in whole seconds, `opens` and the epoch.
    /// Nothing else survives a restart, in particular no call, trial or override.
    pub(super) fn restart(&mut self, now: Now) {
        let whole = |at: Timestamp, up: bool| {
            let second = at.as_nanosecond().div_euclid(NANOS) + i128::from(up && at.as_nanosecond() % NANOS != 0);
            Timestamp::from_nanosecond(second * NANOS).unwrap()
        };
        // Both the process that writes the start and the one that reads it correct one that is ahead.
        let plausible = |at: &Timestamp| at.duration_since(now.wall) <= SignedDuration::from_secs(5);
        let begin = self.written.filter(plausible).unwrap_or_else(|| whole(now.wall_at(self.since), false));
        self.written = Some(begin).filter(plausible);
        let certain = now.wall.duration_since(begin) - SignedDuration::from_secs(1);
        self.carried = Duration::try_from(certain).unwrap_or_default();
        self.since = now.mono;
        (self.overlay, self.openings) = (None, vec![]);
        self.phase_number += 1;
        self.epoch += 1;
        match &mut self.phase {
            Phase::Closed { .. } => self.phase = closed(now.mono),
            Phase::HalfOpen { .. } => self.phase = half_open(),
            Phase::Open { until, planned } => {
                self.written = self.written.or(Some(whole(now.wall, false)));
                let end = planned.unwrap_or_else(|| whole(now.wall_at(*until), true));
                let left = Duration::try_from(end.duration_since(now.wall)).unwrap_or_default();
                let longest = self.policy.open.max.saturating_sub(self.carried);
                *planned = (left <= longest).then_some(end);
                *until = now.mono + left.min(longest);
            }
        }
    }

    /// Whether the circuit has opened three times within an hour and not closed since.
    pub(super) fn is_flapping(&self) -> bool {
        self.state() != BreakerState::Closed && self.flapping()
    }

    fn flapping(&self) -> bool {
        let n = self.openings.len();
        n >= 3 && self.openings[n - 1].since(self.openings[n - 3]) <= Duration::from_hours(1)
    }

    pub(super) fn tick(&mut self, now: Mono) -> Option<Transition> {
        let expired = self.overlay.is_some_and(|o| now >= o.until);
        let ended = if expired { self.overlay(None, TripReason::OverrideExpired, now) } else { None };
        ended.or_else(|| self.half_open_time(now))
    }

    fn half_open_time(&mut self, now: Mono) -> Option<Transition> {
        let since = self.since;
        let Phase::HalfOpen { out, lost, .. } = &mut self.phase else { return None };
        let before = out.len();
        out.retain(|(_, expires)| now < *expires);
        *lost += u32::try_from(before - out.len()).unwrap();
        let (lost, dwell_exceeded) = (*lost, now >= since + self.policy.half_open.max_dwell);
        if lost >= 2 {
            Some(self.opens(TripReason::TrialLost, now))
        } else if dwell_exceeded {
            Some(self.opens(TripReason::DwellExceeded, now))
        } else {
            None
        }
    }

    pub(super) fn overlay(&mut self, to: Option<Override>, reason: TripReason, now: Mono) -> Option<Transition> {
        let from = self.effective();
        self.overlay = to;
        let to = self.effective();
        (from != to).then(|| {
            self.epoch += 1;
            Transition { from, to, state: self.state(), reason, epoch: self.epoch, at: now }
        })
    }

    /// The permit if the call is admitted, and the last transition that the admission caused.
    pub(super) fn admit(&mut self, class: CallClass, now: Mono) -> (Option<ModelPermit>, Option<Transition>) {
        let overlay = self.overlay.filter(|o| now < o.until).map(|o| EffectiveState::from(o.mode));
        let probe = class == CallClass::Probe;
        if overlay == Some(EffectiveState::ForcedOpen) && !probe {
            return (None, None);
        }
        let mut transition = self.half_open_time(now);
        let may_be_trial = probe || class == CallClass::Read;
        if may_be_trial && self.next_trial().is_some_and(|until| now >= until) {
            transition = Some(self.enter(half_open(), TripReason::TrialTaken, now));
        }
        let blocks = overlay.is_none() && self.policy.mode == Mode::Enforce;
        let kind = match &mut self.phase {
            Phase::Closed { .. } => Some(PermitKind::Counted),
            Phase::HalfOpen { out, .. } if may_be_trial && out.len() < usize::from(self.policy.half_open.trials) => {
                self.tickets += 1;
                out.push((self.tickets, now + self.policy.half_open.lease));
                Some(PermitKind::Trial)
            }
            _ if probe || !blocks => Some(PermitKind::Observer),
            _ => None,
        };
        (kind.map(|kind| ModelPermit { kind, phase: self.phase_number, ticket: self.tickets }), transition)
    }

    /// Whether the call may make another try; renews the lease of a trial that still has one.
    pub(super) fn retry(&mut self, permit: ModelPermit, now: Mono) -> bool {
        let overlay = self.overlay.filter(|o| now < o.until).map(|o| EffectiveState::from(o.mode));
        if overlay == Some(EffectiveState::ForcedOpen) {
            return false;
        }
        let lease = now + self.policy.half_open.lease;
        let held = match &mut self.phase {
            Phase::HalfOpen { out, .. } if permit.phase == self.phase_number && permit.kind == PermitKind::Trial => {
                out.iter_mut().find(|(ticket, expires)| *ticket == permit.ticket && now < *expires)
            }
            _ => None,
        };
        let holds = held.map(|(_, expires)| *expires = lease).is_some();
        let free = overlay.is_some() || self.policy.mode == Mode::Shadow || self.state() == BreakerState::Closed;
        holds || free
    }

    pub(super) fn abandon(&mut self, permit: ModelPermit, now: Mono) {
        if let (Phase::HalfOpen { out, lost, .. }, true) = (&mut self.phase, permit.phase == self.phase_number)
            && permit.kind == PermitKind::Trial
        {
            let before = out.len();
            out.retain(|(_, expires)| now < *expires);
            *lost += u32::try_from(before - out.len()).unwrap();
            out.retain(|(ticket, _)| *ticket != permit.ticket);
        }
    }

    pub(super) fn record(
        &mut self,
        permit: ModelPermit,
        outcome: CallOutcome,
        took: Duration,
        now: Mono,
    ) -> Option<Transition> {
        if permit.phase != self.phase_number || permit.kind == PermitKind::Observer {
            return None;
        }
        let own_fault = outcome == CallOutcome::OwnFault;
        let failed = outcome == CallOutcome::Failure;
        let slow = !own_fault && self.policy.slow_call_percent > 0 && took >= self.policy.slow_call_duration;
        if permit.kind == PermitKind::Counted {
            if outcome == CallOutcome::Ignored {
                return None;
            }
            let Phase::Closed { calls, from, origin } = &mut self.phase else { return None };
            calls.push(Call { at: now, failed: failed || own_fault, slow, own: own_fault });
            let reason = tripped(&self.policy, *origin, (calls, *from), failed || slow)?;
            return Some(self.opens(reason, now));
        }
        if let Some(transition) = self.half_open_time(now) {
            return Some(transition);
        }
        let flapping = self.flapping();
        let Phase::HalfOpen { out, good, .. } = &mut self.phase else { return None };
        if !out.iter().any(|(ticket, _)| *ticket == permit.ticket) {
            return None;
        }
        out.retain(|(ticket, _)| *ticket != permit.ticket);
        if outcome == CallOutcome::Ignored || own_fault {
            return None;
        }
        if failed || slow {
            return Some(self.opens(TripReason::TrialFailed, now));
        }
        *good += 1;
        let multiplier = if flapping && self.policy.open.factor_milli > 1000 { 2 } else { 1 };
        if *good < self.policy.half_open.required_successes * multiplier {
            return None;
        }
        Some(self.enter(closed(now), TripReason::TrialsSucceeded, now))
    }

    pub(super) fn trip_unhealthy(&mut self, now: Mono) -> Option<Transition> {
        (self.state() == BreakerState::Closed && self.policy.unhealthy == OnUnhealthy::Open)
            .then(|| self.opens(TripReason::Health, now))
    }
}

fn closed(now: Mono) -> Phase {
    Phase::Closed { calls: vec![], from: 0, origin: now }
}

fn half_open() -> Phase {
    Phase::HalfOpen { out: vec![], good: 0, lost: 0 }
}

fn tripped(policy: &Policy, since: Mono, (calls, from): (&[Call], usize), bad: bool) -> Option<TripReason> {
    if !bad {
        return None;
    }
    let consecutive = calls.iter().rev().take_while(|c| c.failed).count();
    if policy.consecutive_failures > 0 && consecutive >= policy.consecutive_failures as usize {
        return Some(TripReason::ConsecutiveFailures);
    }
    let calls: Vec<&Call> = calls[from..].iter().filter(|call| !call.own).collect();
    let (window, full): (Vec<&Call>, u32) = match policy.window {
        WindowSpec::Calls(n) => (calls.into_iter().rev().take(usize::from(n)).collect(), u32::from(n)),
        WindowSpec::Time(length) => {
            // Bucket of a call; a clock that steps back stays in the latest bucket.
            let bucket = length.as_nanos() / BUCKETS as u128;
            let mut latest = 0;
            let numbered: Vec<(u128, &Call)> = calls
                .into_iter()
                .map(|c| {
                    latest = latest.max(c.at.since(since).as_nanos() / bucket);
                    (latest, c)
                })
                .collect();
            let inside = numbered.into_iter().filter(|(n, _)| *n + BUCKETS as u128 > latest).map(|(_, c)| c);
            (inside.collect(), u32::MAX)
        }
    };
    if window.len() < policy.minimum_calls.min(full) as usize {
        return None;
    }
    let percent = |part: usize, of: u8| of > 0 && part * 100 >= usize::from(of) * window.len();
    if percent(window.iter().filter(|c| c.failed).count(), policy.failure_percent) {
        Some(TripReason::FailureRatio)
    } else if percent(window.iter().filter(|c| c.slow).count(), policy.slow_call_percent) {
        Some(TripReason::SlowCalls)
    } else {
        None
    }
}
