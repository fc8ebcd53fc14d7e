//! The circuit-breaker state machine: admission, outcomes and the passage of time. `tests/rules.rs` and
//! `tests/half_open_rules.rs` have one or more tests per rule.

use std::cell::Cell;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::breaker::call::{CallClass, CallOutcome};
use crate::domain::breaker::circuit_override::Override;
use crate::domain::breaker::half_open::Trials;
use crate::domain::breaker::permit::{CallNotPermitted, Permit, PermitKind};
use crate::domain::breaker::policy::{Mode, OnUnhealthy, Policy};
use crate::domain::breaker::state::{BreakerState, EffectiveState};
use crate::domain::breaker::transition::Transition;
use crate::domain::breaker::trip_reason::TripReason;
use crate::domain::breaker::window::OutcomeWindow;
use crate::domain::time::Mono;

/// Number of openings from closed within [`FLAP_WINDOW`] that count as flapping.
const FLAP_OPENS: usize = 3;
const FLAP_WINDOW: Duration = Duration::from_hours(1);

/// One connection's circuit. See the [module](super).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breaker {
    pub(super) policy: Policy,
    pub(super) overlay: Option<Override>,
    pub(super) state: BreakerState,
    /// Incremented by every transition, including those of an overlay.
    pub(super) epoch: i64,
    /// Epoch at which the automatic state was entered; older permits are stale.
    pub(super) state_epoch: i64,
    /// When the automatic state was entered.
    pub(super) since: Mono,
    /// Duration of that state in previous processes, which the monotonic clock does not cover.
    pub(super) carried: Duration,
    /// While open: when the next trial is due.
    pub(super) until: Mono,
    pub(super) consecutive: u32,
    /// Failures since the last success whose cause is ours.
    pub(super) own_faults: u32,
    pub(super) window: OutcomeWindow,
    pub(super) trials: Trials,
    pub(super) opens: u32,
    pub(super) reason: Option<TripReason>,
    /// When the circuit last opened from closed, newest first.
    pub(super) trips: [Option<Mono>; FLAP_OPENS],
    pub(super) flapping: bool,
    /// Wall times of `since` and `until`: fixed by the first snapshot after a transition, so that clock drift does not
    /// make an unchanged circuit look changed; fixed again if the clock was ahead then.
    pub(super) since_wall: Cell<Option<Timestamp>>,
    pub(super) until_wall: Cell<Option<Timestamp>>,
    pub(super) pending: Option<Transition>,
}

impl Breaker {
    /// A closed circuit with an empty window.
    pub fn new(policy: Policy, now: Mono) -> Self {
        Self {
            overlay: None,
            state: BreakerState::Closed,
            epoch: 0,
            state_epoch: 0,
            since: now,
            carried: Duration::ZERO,
            until: now,
            consecutive: 0,
            own_faults: 0,
            window: OutcomeWindow::new(policy.window, now),
            trials: Trials::default(),
            opens: 0,
            reason: None,
            trips: [None; FLAP_OPENS],
            flapping: false,
            since_wall: Cell::new(None),
            until_wall: Cell::new(None),
            pending: None,
            policy,
        }
    }

    /// Effective state for callers, as of the last [`tick`](Self::tick).
    pub fn effective(&self) -> EffectiveState {
        match (self.overlay, self.policy.mode) {
            (Some(o), _) => o.mode.into(),
            (None, Mode::Shadow) => EffectiveState::Shadow,
            (None, Mode::Enforce) => self.state.into(),
        }
    }

    /// Effective state for callers at `now`: an expired override has no effect, even before the next tick.
    pub fn effective_at(&self, now: Mono) -> EffectiveState {
        match (self.overlay, self.policy.mode) {
            (Some(o), _) if now < o.until => o.mode.into(),
            (_, Mode::Shadow) => EffectiveState::Shadow,
            (_, Mode::Enforce) => self.state.into(),
        }
    }

    /// The automatic state, beneath any overlay.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Incremented by every transition.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Whether there is an override, as of the last [`tick`](Self::tick).
    pub fn has_override(&self) -> bool {
        self.overlay.is_some()
    }

    /// While open: when the next trial is due (in the past if no call has been made since).
    pub fn next_trial(&self) -> Option<Mono> {
        (self.state == BreakerState::Open).then_some(self.until)
    }

    /// Whether the circuit is flapping: from the third opening within an hour until it closes. Re-openings during one
    /// outage do not count.
    pub fn is_flapping(&self) -> bool {
        self.flapping
    }

    /// When [`tick`](Self::tick) may next cause a transition, if no call is made before.
    pub fn next_tick(&self) -> Option<Mono> {
        let half_open = (self.state == BreakerState::HalfOpen).then(|| {
            let dwell = self.since + self.policy.half_open.max_dwell;
            self.trials.next_expiry().map_or(dwell, |lease| lease.min(dwell))
        });
        let overlay = self.overlay.map(|o| o.until);
        half_open.into_iter().chain(overlay).min()
    }

    /// Admits or rejects a call. A probe is never rejected. If this caused a transition (a trial of an open circuit, a
    /// lost trial), [`take_transition`](Self::take_transition) returns it.
    #[inline]
    pub fn admit(&mut self, class: CallClass, now: Mono) -> Result<Permit, CallNotPermitted> {
        if self.state == BreakerState::Closed && self.overlay.is_none() {
            return Ok(self.permit(PermitKind::Counted, 0));
        }
        self.admit_not_closed(class, now)
    }

    fn permit(&self, kind: PermitKind, ticket: u32) -> Permit {
        Permit { epoch: self.epoch, ticket, kind }
    }

    #[inline(never)]
    fn admit_not_closed(&mut self, class: CallClass, now: Mono) -> Result<Permit, CallNotPermitted> {
        let effective = self.effective_at(now);
        if effective == EffectiveState::ForcedOpen && class != CallClass::Probe {
            return Err(CallNotPermitted { effective, retry_at: self.overlay.map(|o| o.until) });
        }
        if self.state == BreakerState::Closed {
            return Ok(self.permit(PermitKind::Counted, 0));
        }
        if let Some(transition) = self.expire_half_open(now) {
            self.pending = Some(transition);
        }
        if class.may_be_trial() {
            if self.state == BreakerState::Open && now >= self.until {
                self.trials.reset();
                self.pending = Some(self.enter(BreakerState::HalfOpen, TripReason::TrialTaken, now));
            }
            if self.state == BreakerState::HalfOpen {
                let rules = self.policy.half_open;
                if let Some(ticket) = self.trials.take(rules.trials, rules.lease, now) {
                    return Ok(self.permit(PermitKind::Trial, ticket));
                }
            }
        }
        let effective = self.effective_at(now);
        if class == CallClass::Probe || effective.accepts_payouts() {
            return Ok(self.permit(PermitKind::Observer, 0));
        }
        Err(CallNotPermitted { effective, retry_at: self.next_trial() })
    }

    /// Takes the transition that the last [`admit`](Self::admit) caused. The caller must check after each `admit` that
    /// returned a trial or a rejection; a transition that is not taken is replaced by the next one.
    pub fn take_transition(&mut self) -> Option<Transition> {
        self.pending.take()
    }

    /// Records the outcome of a call that took `elapsed`. The result of an older epoch, of an observer or of a lost
    /// trial does not change the breaker (report it to health).
    #[inline]
    pub fn record(&mut self, permit: Permit, outcome: CallOutcome, elapsed: Duration, now: Mono) -> Option<Transition> {
        if permit.epoch < self.state_epoch {
            return None;
        }
        match permit.kind {
            PermitKind::Counted => self.record_counted(outcome, elapsed, now),
            PermitKind::Trial => self.record_trial(permit, outcome, elapsed, now),
            PermitKind::Observer => None,
        }
    }

    #[inline]
    fn record_counted(&mut self, outcome: CallOutcome, elapsed: Duration, now: Mono) -> Option<Transition> {
        if self.state != BreakerState::Closed || outcome == CallOutcome::Ignored {
            return None;
        }
        if outcome == CallOutcome::OwnFault {
            // Not in the window: it would move the ratios of what the provider did.
            self.own_faults = self.own_faults.saturating_add(1);
            return None;
        }
        let failed = outcome == CallOutcome::Failure;
        let slow = self.policy.slow_call_percent > 0 && elapsed >= self.policy.slow_call_duration;
        if failed {
            self.consecutive = self.consecutive.saturating_add(1);
        } else {
            (self.consecutive, self.own_faults) = (0, 0);
        }
        if self.policy.slow_call_percent > 0 || self.policy.failure_percent > 0 {
            self.window.add(failed, slow, now);
        }
        if failed || slow { self.trip(failed, now) } else { None }
    }

    /// Evaluates the thresholds; called only on a failure of the provider or a slow call, so that a fast success never
    /// opens the circuit.
    #[cold]
    fn trip(&mut self, failed: bool, now: Mono) -> Option<Transition> {
        let policy = &self.policy;
        let counts = self.window.total();
        let enough = counts.calls >= policy.minimum_calls.min(self.window.capacity());
        let reached = |part: u32, percent: u8| {
            percent > 0 && enough && u64::from(part) * 100 >= u64::from(percent) * u64::from(counts.calls)
        };
        let in_a_row = self.consecutive.saturating_add(self.own_faults);
        let reason = if failed && policy.consecutive_failures > 0 && in_a_row >= policy.consecutive_failures {
            TripReason::ConsecutiveFailures
        } else if reached(counts.failed, policy.failure_percent) {
            TripReason::FailureRatio
        } else if reached(counts.slow, policy.slow_call_percent) {
            TripReason::SlowCalls
        } else {
            return None;
        };
        Some(self.open(reason, now))
    }

    fn record_trial(
        &mut self,
        permit: Permit,
        outcome: CallOutcome,
        elapsed: Duration,
        now: Mono,
    ) -> Option<Transition> {
        if self.state != BreakerState::HalfOpen {
            return None;
        }
        if let Some(transition) = self.expire_half_open(now) {
            return Some(transition);
        }
        if !self.trials.release(permit.ticket) {
            return None;
        }
        let slow = self.policy.slow_call_percent > 0 && elapsed >= self.policy.slow_call_duration;
        match outcome {
            CallOutcome::Ignored | CallOutcome::OwnFault => None,
            CallOutcome::Success if !slow => {
                self.trials.successes += 1;
                (self.trials.successes >= self.required_successes()).then(|| self.close(now))
            }
            CallOutcome::Success | CallOutcome::Failure => Some(self.open(TripReason::TrialFailed, now)),
        }
    }

    fn required_successes(&self) -> u32 {
        let required = self.policy.half_open.required_successes.max(1);
        if self.flapping && self.policy.grows() { required.saturating_mul(2) } else { required }
    }

    /// Releases the permit of a call that was dropped before it ended; this does not count as an outcome.
    pub fn abandon(&mut self, permit: Permit, now: Mono) {
        if permit.kind == PermitKind::Trial && permit.epoch >= self.state_epoch {
            self.trials.expire(now);
            self.trials.release(permit.ticket);
        }
    }

    /// Applies the passage of time: lost trials, end of the dwell, end of an override. Returns one transition; call
    /// again until `None`, or use [`settle`](Self::settle).
    pub fn tick(&mut self, now: Mono) -> Option<Transition> {
        if self.overlay.is_some_and(|o| now >= o.until)
            && let Some(transition) = self.overlay_changed(None, TripReason::OverrideExpired, now)
        {
            return Some(transition);
        }
        // Also where the end of the override changes nothing: `None` means that nothing is due.
        self.expire_half_open(now)
    }

    /// Applies everything that is due, and returns the transitions in order. There are at most two: the end of an
    /// override, and that of a half-open period.
    pub fn settle(&mut self, now: Mono) -> [Option<Transition>; 2] {
        let first = self.tick(now);
        let second = first.and_then(|_| self.tick(now));
        [first, second]
    }

    fn expire_half_open(&mut self, now: Mono) -> Option<Transition> {
        if self.state != BreakerState::HalfOpen {
            return None;
        }
        self.trials.expire(now);
        if self.trials.lost >= 2 {
            Some(self.open(TripReason::TrialLost, now))
        } else if now >= self.since + self.policy.half_open.max_dwell {
            Some(self.open(TripReason::DwellExceeded, now))
        } else {
            None
        }
    }

    /// Opens a closed circuit because health became critical, if the policy says so. Call it on the change only, not
    /// while health stays critical, so that a circuit closed by its trials stays closed.
    pub fn trip_unhealthy(&mut self, now: Mono) -> Option<Transition> {
        (self.state == BreakerState::Closed && self.policy.unhealthy == OnUnhealthy::Open)
            .then(|| self.open(TripReason::Health, now))
    }

    /// What the calls fail for may be corrected: our own faults do not count any more, and the next trial is due, if the
    /// circuit is open. The trial decides.
    pub fn forgive_own_faults(&mut self, now: Mono) {
        self.own_faults = 0;
        if self.state == BreakerState::Open && self.until > now {
            self.until = now;
            self.until_wall = Cell::new(None);
        }
    }

    fn open(&mut self, reason: TripReason, now: Mono) -> Transition {
        if self.state == BreakerState::Closed {
            // One step back per healthy `base`: a provider that was healthy for long starts over.
            let base = self.policy.open.base.as_nanos().max(1);
            let healthy = now.since(self.since).saturating_add(self.carried);
            let steps = u32::try_from(healthy.as_nanos() / base).unwrap_or(u32::MAX);
            self.opens = self.opens.saturating_sub(steps);
            self.trips.rotate_right(1);
            self.trips[0] = Some(now);
            self.flapping = self.trips[FLAP_OPENS - 1].is_some_and(|first| now.since(first) <= FLAP_WINDOW);
        }
        self.opens = self.opens.saturating_add(1);
        let transition = self.enter(BreakerState::Open, reason, now);
        self.until = now + self.policy.open_time(self.opens, self.epoch);
        transition
    }

    /// Closes the circuit and clears every counter, so that old failures do not trip it again; keeps `opens`.
    fn close(&mut self, now: Mono) -> Transition {
        (self.consecutive, self.own_faults) = (0, 0);
        self.window = OutcomeWindow::new(self.policy.window, now);
        self.flapping = false;
        self.enter(BreakerState::Closed, TripReason::TrialsSucceeded, now)
    }

    fn enter(&mut self, state: BreakerState, reason: TripReason, now: Mono) -> Transition {
        let from = self.effective();
        self.state = state;
        self.epoch += 1;
        self.state_epoch = self.epoch;
        self.since = now;
        self.carried = Duration::ZERO;
        self.reason = Some(reason);
        self.since_wall = Cell::new(None);
        self.until_wall = Cell::new(None);
        Transition { from, to: self.effective(), state, reason, epoch: self.epoch, at: now }
    }
}
