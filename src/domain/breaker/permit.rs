//! Permission for a call, and its refusal.

use crate::domain::breaker::state::EffectiveState;
use crate::domain::time::Mono;

/// Effect of the result of a [`Permit`].
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum PermitKind {
    /// A call of a closed circuit: its result is counted.
    Counted,
    /// A trial of a half-open circuit: its result decides the next state. Holds a lease.
    Trial,
    /// A call whose result never changes the state: a probe of an open circuit, or any call under an overlay.
    Observer,
}

/// Permission for one call. Return it with [`Breaker::record`](super::Breaker::record) or [`Breaker::abandon`](super::Breaker::abandon); a trial that does neither
/// expires with its lease.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[must_use = "a permit that is neither recorded nor abandoned counts as a lost trial"]
pub struct Permit {
    pub(super) epoch: i64,
    pub(super) ticket: u32,
    pub(super) kind: PermitKind,
}

impl Permit {
    /// Effect of the result of this call.
    pub const fn kind(self) -> PermitKind {
        self.kind
    }
}

/// The circuit rejected the call.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the circuit is {effective}")]
pub struct CallNotPermitted {
    /// State that rejected the call: `Open`, `HalfOpen` (no free trial, or a class without trials) or `ForcedOpen`.
    pub effective: EffectiveState,
    /// When to retry: the time of the next trial, or the end of the override. `None` while half-open.
    pub retry_at: Option<Mono>,
}
