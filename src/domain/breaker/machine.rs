//! The machine itself. Its rules, each a test in `tests.rs`, are numbered as there.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;

use super::half_open::Trials;
use super::window::Window;
use super::{
    CallClass, Effective, Mode, OnUnhealthy, Outcome, Override, Permit, PermitKind, Policy, Refusal, State, Transition,
    TripReason,
};
use crate::domain::time::Mono;

/// So many openings from closed within [`FLAP_WINDOW`] are flapping.
const FLAP_OPENS: usize = 3;
const FLAP_WINDOW: Duration = Duration::from_hours(1);

/// One connection's circuit. See the [module](super).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breaker {
    pub(super) policy: Policy,
    pub(super) overlay: Option<Override>,
    pub(super) state: State,
    /// Goes up by one with every transition, also of an overlay; strictly.
    pub(super) epoch: i64,
    /// The epoch at which the automatic state was entered: older permits are late.
    pub(super) state_epoch: i64,
    /// When the automatic state was entered.
    pub(super) since: Mono,
    /// How long that state had lasted when a former process left it: a process's own clock does not reach back so far.
    pub(super) carried: Duration,
    /// While open: when the next trial is due.
    pub(super) until: Mono,
    pub(super) consecutive: u32,
    pub(super) window: Window,
    pub(super) trials: Trials,
    pub(super) opens: u32,
    pub(super) reason: Option<TripReason>,
    /// When the circuit last opened from closed, newest first.
    pub(super) trips: [Option<Mono>; FLAP_OPENS],
    pub(super) flapping: bool,
    /// Wall times of `since` and `until`: fixed by the first snapshot after a transition, so that two clocks that drift
    /// apart never make an unchanged circuit look changed.
    pub(super) since_wall: OnceLock<Timestamp>,
    pub(super) until_wall: OnceLock<Timestamp>,
    pub(super) pending: Option<Transition>,
}

impl Breaker {
    /// A closed circuit with an empty window.
    pub fn new(policy: Policy, now: Mono) -> Self {
        Self {
            overlay: None,
            state: State::Closed,
            epoch: 0,
            state_epoch: 0,
            since: now,
            carried: Duration::ZERO,
            until: now,
            consecutive: 0,
            window: Window::new(policy.window, now),
            trials: Trials::default(),
            opens: 0,
            reason: None,
            trips: [None; FLAP_OPENS],
            flapping: false,
            since_wall: OnceLock::new(),
            until_wall: OnceLock::new(),
            pending: None,
            policy,
        }
    }

    /// What callers experience, as of the last [`tick`](Self::tick).
    pub fn effective(&self) -> Effective {
        match (self.overlay, self.policy.mode) {
            (Some(o), _) => o.mode.into(),
            (None, Mode::Shadow) => Effective::Shadow,
            (None, Mode::Enforce) => self.state.into(),
        }
    }

    /// What callers experience at `now`: an override past its time counts no more, ticked or not.
    pub fn effective_at(&self, now: Mono) -> Effective {
        match (self.overlay, self.policy.mode) {
            (Some(o), _) if now < o.until => o.mode.into(),
            (_, Mode::Shadow) => Effective::Shadow,
            (_, Mode::Enforce) => self.state.into(),
        }
    }

    /// The automatic state, beneath any overlay.
    pub fn state(&self) -> State {
        self.state
    }

    /// Goes up by one with every transition.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// When the automatic state was entered (for a restored circuit: when it was restored).
    pub fn since(&self) -> Mono {
        self.since
    }

    /// Whether there is an override, as of the last [`tick`](Self::tick).
    pub fn is_overlaid(&self) -> bool {
        self.overlay.is_some()
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// While open: when the next trial is due (it may have passed, if nobody came).
    pub fn next_trial(&self) -> Option<Mono> {
        (self.state == State::Open).then_some(self.until)
    }

    /// True from the third opening within an hour on, until the circuit closes. Re-openings of one long outage do not
    /// count: that bank is down, not flapping.
    pub fn is_flapping(&self) -> bool {
        self.flapping
    }

    /// When [`tick`](Self::tick) may next have something to say, if no call comes before.
    pub fn next_tick(&self) -> Option<Mono> {
        let half_open = (self.state == State::HalfOpen).then(|| {
            let dwell = self.since + self.policy.half_open.max_dwell;
            self.trials.next_expiry().map_or(dwell, |lease| lease.min(dwell))
        });
        let overlay = self.overlay.map(|o| o.until);
        half_open.into_iter().chain(overlay).min()
    }

    /// Asks to make a call. A probe is never refused. If this moved the circuit (a trial taken of an open one, a lost
    /// trial found), [`take_transition`](Self::take_transition) tells.
    #[inline]
    pub fn admit(&mut self, class: CallClass, now: Mono) -> Result<Permit, Refusal> {
        if self.state == State::Closed && self.overlay.is_none() {
            return Ok(self.permit(PermitKind::Counted, 0));
        }
        self.admit_slowly(class, now)
    }

    fn permit(&self, kind: PermitKind, ticket: u32) -> Permit {
        Permit { epoch: self.epoch, ticket, kind }
    }

    #[inline(never)]
    fn admit_slowly(&mut self, class: CallClass, now: Mono) -> Result<Permit, Refusal> {
        let effective = self.effective_at(now);
        if effective == Effective::ForcedOpen && class != CallClass::Probe {
            return Err(Refusal { effective, retry_at: self.overlay.map(|o| o.until) });
        }
        if self.state == State::Closed {
            return Ok(self.permit(PermitKind::Counted, 0));
        }
        if let Some(transition) = self.settle_half_open(now) {
            self.pending = Some(transition);
        }
        if class.may_try() {
            if self.state == State::Open && now >= self.until {
                self.trials.reset();
                self.pending = Some(self.enter(State::HalfOpen, TripReason::TrialTaken, now));
            }
            if self.state == State::HalfOpen {
                let rules = self.policy.half_open;
                if let Some(ticket) = self.trials.take(rules.trials, rules.lease, now) {
                    return Ok(self.permit(PermitKind::Trial, ticket));
                }
            }
        }
        let effective = self.effective_at(now);
        if class == CallClass::Probe || effective.carries_payouts() {
            return Ok(self.permit(PermitKind::Observer, 0));
        }
        Err(Refusal { effective, retry_at: self.next_trial() })
    }

    /// The transition that the last [`admit`](Self::admit) made, once. To be asked after each `admit` whose permit is a
    /// trial or that refused; one that nobody asked for is replaced by the next.
    pub fn take_transition(&mut self) -> Option<Transition> {
        self.pending.take()
    }

    /// Reports how a call ended after `elapsed`. The result of an older epoch, of an observer or of a lost trial
    /// changes nothing here (feed it to health).
    #[inline]
    pub fn record(&mut self, permit: Permit, outcome: Outcome, elapsed: Duration, now: Mono) -> Option<Transition> {
        if permit.epoch < self.state_epoch {
            return None;
        }
        match permit.kind {
            PermitKind::Counted => self.count(outcome, elapsed, now),
            PermitKind::Trial => self.judge(permit, outcome, elapsed, now),
            PermitKind::Observer => None,
        }
    }

    #[inline]
    fn count(&mut self, outcome: Outcome, elapsed: Duration, now: Mono) -> Option<Transition> {
        if self.state != State::Closed || outcome == Outcome::Ignored {
            return None;
        }
        let failed = outcome == Outcome::Failure;
        let slow = self.policy.slow_call_percent > 0 && elapsed >= self.policy.slow_call_duration;
        self.consecutive = if failed { self.consecutive.saturating_add(1) } else { 0 };
        if self.policy.slow_call_percent > 0 || self.policy.failure_percent > 0 {
            self.window.add(failed, slow, now);
        }
        if failed || slow { self.trip(failed, now) } else { None }
    }

    /// Looks at the thresholds; called on a failure or a slow call only, so that a fast success never opens a circuit.
    #[cold]
    fn trip(&mut self, failed: bool, now: Mono) -> Option<Transition> {
        let policy = &self.policy;
        let counts = self.window.total();
        let enough = counts.calls >= policy.minimum_calls.min(self.window.capacity());
        let reached = |part: u32, percent: u8| {
            percent > 0 && enough && u64::from(part) * 100 >= u64::from(percent) * u64::from(counts.calls)
        };
        let reason = if failed && policy.consecutive_failures > 0 && self.consecutive >= policy.consecutive_failures {
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

    fn judge(&mut self, permit: Permit, outcome: Outcome, elapsed: Duration, now: Mono) -> Option<Transition> {
        if self.state != State::HalfOpen {
            return None;
        }
        if let Some(transition) = self.settle_half_open(now) {
            return Some(transition);
        }
        if !self.trials.give_back(permit.ticket) {
            return None;
        }
        let slow = self.policy.slow_call_percent > 0 && elapsed >= self.policy.slow_call_duration;
        match outcome {
            Outcome::Ignored => None,
            Outcome::Success if !slow => {
                self.trials.successes += 1;
                (self.trials.successes >= self.required_successes()).then(|| self.close(now))
            }
            Outcome::Success | Outcome::Failure => Some(self.open(TripReason::TrialFailed, now)),
        }
    }

    fn required_successes(&self) -> u32 {
        let required = self.policy.half_open.required_successes.max(1);
        if self.flapping && self.policy.grows() { required.saturating_mul(2) } else { required }
    }

    /// Gives back a permit whose call was dropped before it ended: it says nothing about the provider.
    pub fn abandon(&mut self, permit: Permit, now: Mono) {
        if permit.kind == PermitKind::Trial && permit.epoch >= self.state_epoch {
            self.trials.expire(now);
            self.trials.give_back(permit.ticket);
        }
    }

    /// Lets time pass: lost trials, the end of the dwell, the end of an override. Returns one transition; call again
    /// until `None`.
    pub fn tick(&mut self, now: Mono) -> Option<Transition> {
        if self.overlay.is_some_and(|o| now >= o.until) {
            return self.overlay_changed(None, TripReason::OverrideExpired, now);
        }
        self.settle_half_open(now)
    }

    fn settle_half_open(&mut self, now: Mono) -> Option<Transition> {
        if self.state != State::HalfOpen {
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

    /// Opens a closed circuit because health turned critical or down, if the policy says so. To be called on the turn,
    /// not while health stays bad: a circuit that its trials just closed gets its chance.
    pub fn trip_unhealthy(&mut self, now: Mono) -> Option<Transition> {
        (self.state == State::Closed && self.policy.unhealthy == OnUnhealthy::Open)
            .then(|| self.open(TripReason::Health, now))
    }

    /// Puts a new policy in force. An opening under way is never lengthened; a shorter `open.max` shortens it, and a new
    /// `open.base` is for the next one. Returns a transition if callers experience a change (`Enforce` ↔ `Shadow`).
    pub fn set_policy(&mut self, policy: Policy, now: Mono) -> Option<Transition> {
        let from = self.effective();
        let ratios = |p: &Policy| p.failure_percent > 0 || p.slow_call_percent > 0;
        if policy.window != self.policy.window || (ratios(&policy) && !ratios(&self.policy)) {
            self.window = Window::new(policy.window, now);
        }
        self.policy = policy;
        if self.state == State::Open {
            let capped = self.since + policy.open.max.saturating_sub(self.carried);
            if capped < self.until {
                self.until = capped;
                self.until_wall = OnceLock::new();
            }
        }
        let to = self.effective();
        (from != to).then(|| self.overlay_moved(from, to, TripReason::PolicyChanged, now))
    }

    /// Sets, replaces or removes the override. One that is already past its time is as good as none.
    pub fn set_override(&mut self, overlay: Option<Override>, now: Mono) -> Option<Transition> {
        let overlay = overlay.filter(|o| now < o.until);
        let reason = if overlay.is_some() { TripReason::OverrideApplied } else { TripReason::OverrideRemoved };
        self.overlay_changed(overlay, reason, now)
    }

    /// Moves the end of the override in force: it is a wall time, and the two clocks may have parted since it was set. It
    /// takes effect at once; the transition is told by the next [`tick`](Self::tick).
    pub fn anchor_override(&mut self, until: Mono) {
        if let Some(overlay) = &mut self.overlay {
            overlay.until = until;
        }
    }

    fn overlay_changed(&mut self, overlay: Option<Override>, reason: TripReason, now: Mono) -> Option<Transition> {
        let from = self.effective();
        self.overlay = overlay;
        let to = self.effective();
        (from != to).then(|| self.overlay_moved(from, to, reason, now))
    }

    fn overlay_moved(&mut self, from: Effective, to: Effective, reason: TripReason, at: Mono) -> Transition {
        self.epoch += 1;
        Transition { from, to, state: self.state, reason, epoch: self.epoch, at }
    }

    fn open(&mut self, reason: TripReason, now: Mono) -> Transition {
        if self.state == State::Closed {
            // One step back per healthy `base`: a bank that stayed well for long starts over.
            let base = self.policy.open.base.as_nanos().max(1);
            let well = now.since(self.since).saturating_add(self.carried);
            let healthy = u32::try_from(well.as_nanos() / base).unwrap_or(u32::MAX);
            self.opens = self.opens.saturating_sub(healthy);
            self.trips.rotate_right(1);
            self.trips[0] = Some(now);
            self.flapping = self.trips[FLAP_OPENS - 1].is_some_and(|first| now.since(first) <= FLAP_WINDOW);
        }
        self.opens = self.opens.saturating_add(1);
        let transition = self.enter(State::Open, reason, now);
        self.until = now + self.policy.open_time(self.opens, self.epoch);
        transition
    }

    /// Clears every counter, so that nothing left over from before the opening trips at once; keeps `opens`.
    fn close(&mut self, now: Mono) -> Transition {
        self.consecutive = 0;
        self.window = Window::new(self.policy.window, now);
        self.flapping = false;
        self.enter(State::Closed, TripReason::TrialsSucceeded, now)
    }

    fn enter(&mut self, state: State, reason: TripReason, now: Mono) -> Transition {
        let from = self.effective();
        self.state = state;
        self.epoch += 1;
        self.state_epoch = self.epoch;
        self.since = now;
        self.carried = Duration::ZERO;
        self.reason = Some(reason);
        self.since_wall = OnceLock::new();
        self.until_wall = OnceLock::new();
        Transition { from, to: self.effective(), state, reason, epoch: self.epoch, at: now }
    }
}
