//! States of a circuit: the automatic one, and the one in effect.

use std::fmt;
use std::str::FromStr;

use crate::domain::breaker::circuit_override::OverrideMode;
use crate::domain::closed_list::UnknownName;

/// The automatic state, beneath any overlay.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum BreakerState {
    /// Calls are admitted and counted.
    Closed,
    /// Leased trials are admitted; their results decide the next state.
    HalfOpen,
    /// Calls are rejected until the next trial is due.
    Open,
}

impl BreakerState {
    /// The state's name, as in `status.circuitState.state`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::HalfOpen => "HalfOpen",
            Self::Open => "Open",
        }
    }
}

impl FromStr for BreakerState {
    type Err = UnknownName;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Self::Closed, Self::HalfOpen, Self::Open]
            .into_iter()
            .find(|v| v.as_str() == s)
            .ok_or_else(|| UnknownName::new(s, "circuit state"))
    }
}

/// Effective state for callers and routes: the automatic state, or the overlay over it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
pub enum EffectiveState {
    /// Calls are admitted.
    Closed,
    /// Only trials are admitted.
    HalfOpen,
    /// Only probes are admitted.
    Open,
    /// Forced open by `circuitOverride`.
    ForcedOpen,
    /// Forced closed by `circuitOverride`.
    ForcedClosed,
    /// The circuit counts outcomes and never blocks.
    Shadow,
}

impl EffectiveState {
    /// The name, as in `status.circuit` and the label `state`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::HalfOpen => "HalfOpen",
            Self::Open => "Open",
            Self::ForcedOpen => "ForcedOpen",
            Self::ForcedClosed => "ForcedClosed",
            Self::Shadow => "Shadow",
        }
    }

    /// Whether all classes of calls are admitted, so that a route may choose the bank.
    pub const fn accepts_payouts(self) -> bool {
        matches!(self, Self::Closed | Self::ForcedClosed | Self::Shadow)
    }
}

impl fmt::Display for EffectiveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<BreakerState> for EffectiveState {
    fn from(state: BreakerState) -> Self {
        match state {
            BreakerState::Closed => Self::Closed,
            BreakerState::HalfOpen => Self::HalfOpen,
            BreakerState::Open => Self::Open,
        }
    }
}

impl From<OverrideMode> for EffectiveState {
    fn from(mode: OverrideMode) -> Self {
        match mode {
            OverrideMode::ForcedOpen => Self::ForcedOpen,
            OverrideMode::ForcedClosed => Self::ForcedClosed,
            OverrideMode::Shadow => Self::Shadow,
        }
    }
}
