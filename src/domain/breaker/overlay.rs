//! What changes the effective state from outside: another policy, an override, and their end.

use std::sync::OnceLock;

use crate::domain::breaker::circuit_override::Override;
use crate::domain::breaker::machine::Breaker;
use crate::domain::breaker::policy::Policy;
use crate::domain::breaker::state::{BreakerState, EffectiveState};
use crate::domain::breaker::transition::Transition;
use crate::domain::breaker::trip_reason::TripReason;
use crate::domain::breaker::window::OutcomeWindow;
use crate::domain::time::Mono;

impl Breaker {
    /// Replaces the policy. The current open time is never lengthened; a shorter `open.max` shortens it, and a new
    /// `open.base` applies to the next opening. Returns a transition if the effective state changes (`Enforce` ↔
    /// `Shadow`).
    pub fn set_policy(&mut self, policy: Policy, now: Mono) -> Option<Transition> {
        let from = self.effective();
        let ratios = |p: &Policy| p.failure_percent > 0 || p.slow_call_percent > 0;
        if policy.window != self.policy.window || (ratios(&policy) && !ratios(&self.policy)) {
            self.window = OutcomeWindow::new(policy.window, now);
        }
        self.policy = policy;
        if self.state == BreakerState::Open {
            let capped = self.since + policy.open.max.saturating_sub(self.carried);
            if capped < self.until {
                self.until = capped;
                self.until_wall = OnceLock::new();
            }
        }
        let to = self.effective();
        (from != to).then(|| self.overlay_transition(from, to, TripReason::PolicyChanged, now))
    }

    /// Sets, replaces or removes the override. An expired override is treated as none.
    pub fn set_override(&mut self, overlay: Option<Override>, now: Mono) -> Option<Transition> {
        let overlay = overlay.filter(|o| now < o.until);
        let reason = if overlay.is_some() { TripReason::OverrideApplied } else { TripReason::OverrideRemoved };
        self.overlay_changed(overlay, reason, now)
    }

    /// Moves the end of the current override: it is a wall time, and the clocks may have drifted since it was set. It
    /// takes effect at once; the next [`tick`](Self::tick) returns the transition.
    pub fn reschedule_override(&mut self, until: Mono) {
        if let Some(overlay) = &mut self.overlay {
            overlay.until = until;
        }
    }

    pub(super) fn overlay_changed(
        &mut self,
        overlay: Option<Override>,
        reason: TripReason,
        now: Mono,
    ) -> Option<Transition> {
        let from = self.effective();
        self.overlay = overlay;
        let to = self.effective();
        (from != to).then(|| self.overlay_transition(from, to, reason, now))
    }

    fn overlay_transition(
        &mut self,
        from: EffectiveState,
        to: EffectiveState,
        reason: TripReason,
        at: Mono,
    ) -> Transition {
        self.epoch += 1;
        Transition { from, to, state: self.state, reason, epoch: self.epoch, at }
    }
}
