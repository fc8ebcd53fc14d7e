//! Asked again before each retry: a call that was let in once is not let in for ever.

use super::{Breaker, Effective, Permit, PermitKind};
use crate::domain::time::Mono;

impl Breaker {
    /// The same, by a caller who will make it: a trial that does is alive, so its lease begins anew. A lease is there for
    /// callers that die; cutting the tries of one that lives at the lease's end would throw away the very answer that
    /// the half-open circuit waits for, and counting it as lost would open the circuit again on a success.
    pub fn go_on(&mut self, permit: Permit, now: Mono) -> bool {
        let may = self.may_go_on(permit, now);
        if may && permit.kind == PermitKind::Trial {
            self.trials.renew(permit.ticket, self.policy.half_open.lease, now);
        }
        may
    }

    /// Whether a call that was let in with `permit` may make another try: while nothing is blocked, and while half-open
    /// if it is one of the trials. It moves nothing.
    pub fn may_go_on(&self, permit: Permit, now: Mono) -> bool {
        match self.effective_at(now) {
            Effective::Closed | Effective::ForcedClosed | Effective::Shadow => true,
            Effective::HalfOpen => permit.kind == PermitKind::Trial && permit.epoch >= self.state_epoch,
            Effective::Open | Effective::ForcedOpen => false,
        }
    }
}
