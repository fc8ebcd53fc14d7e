//! Circuit breaker of one connection.
//!
//! A pure state machine: it reads no clock, draws no random number, takes no lock and allocates nothing after
//! construction. Every method takes `now`; callers keep it behind one mutex per connection. It must not classify
//! responses (the provider layer does) or evaluate health ([`crate::domain::health`] does). Every permit has the epoch
//! in which it was issued, so that a late result never changes a later state.
//!
//! ```text
//!            trip                       openUntil passed and a trial taken
//!  CLOSED ─────────▶ OPEN(k, openUntil) ─────────────────────────────────▶ HALF_OPEN(leases, dwell)
//!    ▲                  ▲   a trial fails, is slow, is lost twice, or the dwell ends      │
//!    │                  └─────────────────────────────────────────────────────────────────┤
//!    └── enough trials succeeded ─────────────────────────────────────────────────────────┘
//! ```
//! Overlays (`ForcedOpen`, `ForcedClosed`, `Shadow`) change which calls are admitted, not what is counted: the
//! automatic state continues underneath and is in effect when the overlay ends.
//!
//! Sources: the closed/open/half-open machine is Nygard's, *Release It!* (2007); leased permits, epochs, tripping on
//! failures only and `>=` at every boundary are tested rule by rule in `tests/rules.rs`.

mod half_open;
mod machine;
mod persist;
mod policy;
#[cfg(test)]
mod reference;
mod retry_admission;
#[cfg(test)]
mod tests;
mod throttle;
mod window;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::domain::time::Mono;

pub use self::half_open::MAX_TRIALS;
pub use self::machine::Breaker;
pub use self::policy::{HalfOpenPolicy, Mode, OnUnhealthy, OpenPolicy, Policy, Preset, WindowSpec};
pub use self::throttle::{MAX_THROTTLE, Throttle};
pub use self::window::{BUCKETS, MAX_CALLS};

/// Class of a call. Probes and reads may be trials of a half-open circuit; writes and money calls wait until it is
/// closed, so that a payment is never a trial.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum CallClass {
    /// A health check: one attempt, never rejected.
    Probe,
    /// A call without side effects at the provider.
    Read,
    /// A call with side effects that moves no money.
    Write,
    /// A call that moves money.
    Money,
}

impl CallClass {
    /// The name as used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "Probe",
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Money => "Money",
        }
    }

    /// Whether calls of this class may be trials of a half-open circuit.
    pub const fn may_be_trial(self) -> bool {
        matches!(self, Self::Probe | Self::Read)
    }
}

/// Outcome of a call for the breaker. One outcome per call, after its last attempt.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum CallOutcome {
    /// The provider succeeded.
    Success,
    /// The provider failed, by the policy's `classify`.
    Failure,
    /// No information about the provider: client errors, 401/403, 429.
    Ignored,
}

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

/// An unknown name of a closed list.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a known {1}")]
pub struct UnknownName(String, &'static str);

impl FromStr for BreakerState {
    type Err = UnknownName;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Self::Closed, Self::HalfOpen, Self::Open]
            .into_iter()
            .find(|v| v.as_str() == s)
            .ok_or_else(|| UnknownName(s.to_owned(), "circuit state"))
    }
}

/// Effective state for callers and routes: the automatic state, or the overlay over it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
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
    /// All values, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Closed, Self::HalfOpen, Self::Open, Self::ForcedOpen, Self::ForcedClosed, Self::Shadow];

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

/// Reason of a transition. The names are stable for alerts and dashboards.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum TripReason {
    /// `trip.consecutiveFailures` consecutive failures.
    ConsecutiveFailures,
    /// The share of failures in the window reached `trip.failurePercent`.
    FailureRatio,
    /// The share of slow calls in the window reached `trip.slowCallPercent`.
    SlowCalls,
    /// Health became critical, and `trip.unhealthy` is `Open`.
    Health,
    /// The open time ended, and a trial was admitted.
    TrialTaken,
    /// Enough trials succeeded.
    TrialsSucceeded,
    /// A trial failed or was slow.
    TrialFailed,
    /// A second trial did not report within its lease.
    TrialLost,
    /// The circuit was half-open for `halfOpen.maxDwell` without a result.
    DwellExceeded,
    /// `circuitOverride` was set.
    OverrideApplied,
    /// `circuitOverride.untilTime` passed.
    OverrideExpired,
    /// `circuitOverride` was removed.
    OverrideRemoved,
    /// The policy's mode changed.
    PolicyChanged,
}

impl TripReason {
    /// All reasons.
    pub const ALL: [Self; 13] = [
        Self::ConsecutiveFailures,
        Self::FailureRatio,
        Self::SlowCalls,
        Self::Health,
        Self::TrialTaken,
        Self::TrialsSucceeded,
        Self::TrialFailed,
        Self::TrialLost,
        Self::DwellExceeded,
        Self::OverrideApplied,
        Self::OverrideExpired,
        Self::OverrideRemoved,
        Self::PolicyChanged,
    ];

    /// The reason's name, as in `status.circuitState.reason` and the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "ConsecutiveFailures",
            Self::FailureRatio => "FailureRatio",
            Self::SlowCalls => "SlowCalls",
            Self::Health => "Health",
            Self::TrialTaken => "TrialTaken",
            Self::TrialsSucceeded => "TrialsSucceeded",
            Self::TrialFailed => "TrialFailed",
            Self::TrialLost => "TrialLost",
            Self::DwellExceeded => "DwellExceeded",
            Self::OverrideApplied => "OverrideApplied",
            Self::OverrideExpired => "OverrideExpired",
            Self::OverrideRemoved => "OverrideRemoved",
            Self::PolicyChanged => "PolicyChanged",
        }
    }
}

impl FromStr for TripReason {
    type Err = UnknownName;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|v| v.as_str() == s).ok_or_else(|| UnknownName(s.to_owned(), "circuit reason"))
    }
}

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

/// Permission for one call. Return it with [`Breaker::record`] or [`Breaker::abandon`]; a trial that does neither
/// expires with its lease.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[must_use = "a permit that is neither recorded nor abandoned counts as a lost trial"]
pub struct Permit {
    epoch: i64,
    ticket: u32,
    kind: PermitKind,
}

impl Permit {
    /// Effect of the result of this call.
    pub const fn kind(self) -> PermitKind {
        self.kind
    }

    /// Epoch of the circuit when the permit was issued.
    pub const fn epoch(self) -> i64 {
        self.epoch
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

/// A transition of the circuit.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// Effective state before. Equal to `to` when an overlay hides a change of the automatic state.
    pub from: EffectiveState,
    /// Effective state after.
    pub to: EffectiveState,
    /// Automatic state after the transition, beneath any overlay.
    pub state: BreakerState,
    /// Reason of the transition.
    pub reason: TripReason,
    /// Epoch of the circuit after the transition.
    pub epoch: i64,
    /// Instant of the transition.
    pub at: Mono,
}

/// Persistent state of the circuit, stored in `status.circuitState`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The automatic state, beneath any overlay.
    pub state: BreakerState,
    /// When the automatic state was entered, rounded down to whole seconds.
    pub last_transition: Timestamp,
    /// Epoch of the circuit: strictly increasing, also across restarts.
    pub epoch: i64,
    /// Consecutive openings, which the growth of the open time counts. Decays with the healthy time, at the next trip.
    pub opens: i32,
    /// While open: when the next trial is due, rounded up to whole seconds so that a restart is never early.
    pub next_trial: Option<Timestamp>,
    /// Reason of the last transition of the automatic state; `None` if there was none.
    pub reason: Option<TripReason>,
}

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

impl From<OverrideMode> for EffectiveState {
    fn from(mode: OverrideMode) -> Self {
        match mode {
            OverrideMode::ForcedOpen => Self::ForcedOpen,
            OverrideMode::ForcedClosed => Self::ForcedClosed,
            OverrideMode::Shadow => Self::Shadow,
        }
    }
}
