//! A slow, obvious breaker: keeps every call of a closed time in a list and reckons everything from it. Only tests use
//! it; the machine must never disagree with it.

use std::time::Duration;

use super::{
    BUCKETS, CallClass, Effective, Mode, OnUnhealthy, Outcome, Override, PermitKind, Policy, State, Transition,
    TripReason, WindowSpec,
};
use crate::domain::time::Mono;

#[derive(Clone, Debug)]
struct Call {
    at: Mono,
    failed: bool,
    slow: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    Closed { since: Mono, calls: Vec<Call> },
    Open { until: Mono },
    HalfOpen { since: Mono, out: Vec<(u32, Mono)>, good: u32, lost: u32 },
}

/// What the model says to a caller.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Pass {
    pub(super) kind: PermitKind,
    /// The opening, closing … that this pass belongs to.
    phase: u32,
    ticket: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    policy: Policy,
    phase: Phase,
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
            phase: Phase::Closed { since: now, calls: vec![] },
            phase_number: 0,
            overlay: None,
            epoch: 0,
            opens: 0,
            openings: vec![],
            tickets: 0,
        }
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    pub(super) fn effective(&self) -> Effective {
        if let Some(overlay) = self.overlay {
            overlay.mode.into()
        } else if self.policy.mode == Mode::Shadow {
            Effective::Shadow
        } else {
            self.state().into()
        }
    }

    pub(super) fn next_trial(&self) -> Option<Mono> {
        if let Phase::Open { until } = self.phase { Some(until) } else { None }
    }

    fn goes_to(&mut self, phase: Phase, reason: TripReason, at: Mono) -> Transition {
        let from = self.effective();
        self.phase = phase;
        self.phase_number += 1;
        self.epoch += 1;
        Transition { from, to: self.effective(), state: self.state(), reason, epoch: self.epoch, at }
    }

    fn opens(&mut self, reason: TripReason, now: Mono) -> Transition {
        if let Phase::Closed { since, .. } = self.phase {
            let healthy = now.since(since).as_nanos() / self.policy.open.base.as_nanos();
            self.opens = self.opens.saturating_sub(u32::try_from(healthy).unwrap());
            self.openings.push(now);
        }
        self.opens += 1;
        // No jitter in the model: base · factor^(k−1), capped.
        let mut nanos = self.policy.open.base.as_nanos();
        for _ in 1..self.opens {
            nanos = (nanos * u128::from(self.policy.open.factor_milli) / 1000).min(self.policy.open.max.as_nanos());
        }
        let until = now + Duration::from_nanos(u64::try_from(nanos).unwrap());
        self.goes_to(Phase::Open { until }, reason, now)
    }

    fn flapping(&self) -> bool {
        let n = self.openings.len();
        n >= 3 && self.openings[n - 1].since(self.openings[n - 3]) <= Duration::from_hours(1)
    }

    pub(super) fn tick(&mut self, now: Mono) -> Option<Transition> {
        if self.overlay.is_some_and(|o| now >= o.until) {
            return self.overlay(None, TripReason::OverrideExpired, now);
        }
        self.half_open_time(now)
    }

    fn half_open_time(&mut self, now: Mono) -> Option<Transition> {
        let Phase::HalfOpen { since, out, lost, .. } = &mut self.phase else { return None };
        let before = out.len();
        out.retain(|(_, expires)| now < *expires);
        *lost += u32::try_from(before - out.len()).unwrap();
        let (lost, dwelt) = (*lost, now >= *since + self.policy.half_open.max_dwell);
        if lost >= 2 {
            Some(self.opens(TripReason::TrialLost, now))
        } else if dwelt {
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

    /// Whether the call passes, and the last move that asking caused.
    pub(super) fn admit(&mut self, class: CallClass, now: Mono) -> (Option<Pass>, Option<Transition>) {
        let overlay = self.overlay.filter(|o| now < o.until).map(|o| Effective::from(o.mode));
        let probe = class == CallClass::Probe;
        if overlay == Some(Effective::ForcedOpen) && !probe {
            return (None, None);
        }
        let mut moved = self.half_open_time(now);
        let tries = probe || class == CallClass::Read;
        if tries && self.next_trial().is_some_and(|until| now >= until) {
            let phase = Phase::HalfOpen { since: now, out: vec![], good: 0, lost: 0 };
            moved = Some(self.goes_to(phase, TripReason::TrialTaken, now));
        }
        let blocks = overlay.is_none() && self.policy.mode == Mode::Enforce;
        let kind = match &mut self.phase {
            Phase::Closed { .. } => Some(PermitKind::Counted),
            Phase::HalfOpen { out, .. } if tries && out.len() < usize::from(self.policy.half_open.trials) => {
                self.tickets += 1;
                out.push((self.tickets, now + self.policy.half_open.lease));
                Some(PermitKind::Trial)
            }
            _ if probe || !blocks => Some(PermitKind::Observer),
            _ => None,
        };
        (kind.map(|kind| Pass { kind, phase: self.phase_number, ticket: self.tickets }), moved)
    }

    pub(super) fn abandon(&mut self, pass: Pass, now: Mono) {
        if let (Phase::HalfOpen { out, lost, .. }, true) = (&mut self.phase, pass.phase == self.phase_number)
            && pass.kind == PermitKind::Trial
        {
            let before = out.len();
            out.retain(|(_, expires)| now < *expires);
            *lost += u32::try_from(before - out.len()).unwrap();
            out.retain(|(ticket, _)| *ticket != pass.ticket);
        }
    }

    pub(super) fn record(&mut self, pass: Pass, outcome: Outcome, took: Duration, now: Mono) -> Option<Transition> {
        if pass.phase != self.phase_number || pass.kind == PermitKind::Observer {
            return None;
        }
        let failed = outcome == Outcome::Failure;
        let slow = self.policy.slow_call_percent > 0 && took >= self.policy.slow_call_duration;
        if pass.kind == PermitKind::Counted {
            if outcome == Outcome::Ignored {
                return None;
            }
            let Phase::Closed { since, calls } = &mut self.phase else { return None };
            calls.push(Call { at: now, failed, slow });
            let reason = tripped(&self.policy, *since, calls, failed || slow)?;
            return Some(self.opens(reason, now));
        }
        if let Some(moved) = self.half_open_time(now) {
            return Some(moved);
        }
        let flapping = self.flapping();
        let Phase::HalfOpen { out, good, .. } = &mut self.phase else { return None };
        if !out.iter().any(|(ticket, _)| *ticket == pass.ticket) {
            return None;
        }
        out.retain(|(ticket, _)| *ticket != pass.ticket);
        if outcome == Outcome::Ignored {
            return None;
        }
        if failed || slow {
            return Some(self.opens(TripReason::TrialFailed, now));
        }
        *good += 1;
        let twice = if flapping && self.policy.open.factor_milli > 1000 { 2 } else { 1 };
        if *good < self.policy.half_open.required_successes * twice {
            return None;
        }
        Some(self.goes_to(Phase::Closed { since: now, calls: vec![] }, TripReason::TrialsSucceeded, now))
    }

    pub(super) fn trip_unhealthy(&mut self, now: Mono) -> Option<Transition> {
        (self.state() == State::Closed && self.policy.unhealthy == OnUnhealthy::Open)
            .then(|| self.opens(TripReason::Health, now))
    }
}

fn tripped(policy: &Policy, since: Mono, calls: &[Call], bad: bool) -> Option<TripReason> {
    if !bad {
        return None;
    }
    let in_a_row = calls.iter().rev().take_while(|c| c.failed).count();
    if policy.consecutive_failures > 0 && in_a_row >= policy.consecutive_failures as usize {
        return Some(TripReason::ConsecutiveFailures);
    }
    let (window, full): (Vec<&Call>, u32) = match policy.window {
        WindowSpec::Calls(n) => (calls.iter().rev().take(usize::from(n)).collect(), u32::from(n)),
        WindowSpec::Time(length) => {
            // The bucket a call falls into; a clock that stepped back stays where it was.
            let bucket = length.as_nanos() / BUCKETS as u128;
            let mut latest = 0;
            let numbered: Vec<(u128, &Call)> = calls
                .iter()
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
