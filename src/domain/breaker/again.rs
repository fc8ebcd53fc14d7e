//! Asked again before each retry: a call that was let in once is not let in for ever.

use super::{Breaker, Effective, Permit, PermitKind};
use crate::domain::time::Mono;

impl Breaker {
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
