//! Admission of retries: the breaker is consulted again before each retry of an admitted call.

use crate::domain::breaker::machine::Breaker;
use crate::domain::breaker::permit::{Permit, PermitKind};
use crate::domain::breaker::state::EffectiveState;
use crate::domain::time::Mono;

impl Breaker {
    /// Admits another attempt of the call with `permit`, and renews the lease of a trial. The lease exists for callers
    /// that never report; a trial that retries is alive, and expiring it would discard the result that the half-open
    /// circuit waits for and count it as lost.
    pub fn admit_retry(&mut self, permit: Permit, now: Mono) -> bool {
        let admitted = self.permits_retry(permit, now);
        if admitted && permit.kind == PermitKind::Trial {
            self.trials.renew(permit.ticket, self.policy.half_open.lease, now);
        }
        admitted
    }

    /// Whether the call with `permit` may make another attempt: while the circuit blocks nothing, and while half-open
    /// if the permit is a current trial. Does not change the state.
    pub fn permits_retry(&self, permit: Permit, now: Mono) -> bool {
        match self.effective_at(now) {
            EffectiveState::Closed | EffectiveState::ForcedClosed | EffectiveState::Shadow => true,
            EffectiveState::HalfOpen => permit.kind == PermitKind::Trial && permit.epoch >= self.state_epoch,
            EffectiveState::Open | EffectiveState::ForcedOpen => false,
        }
    }
}
