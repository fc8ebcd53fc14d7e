//! A temporary override of a circuit.

use crate::domain::time::Mono;

/// A temporary override of one connection's circuit.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Override {
    /// Enforced mode.
    pub mode: OverrideMode,
    /// End of the override.
    pub until: Mono,
}

/// Mode of an [`Override`].
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum OverrideMode {
    /// Reject every call except probes.
    ForcedOpen,
    /// Admit every call.
    ForcedClosed,
    /// Count outcomes and admit every call.
    Shadow,
}
