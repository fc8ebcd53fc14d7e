//! The circuit breaker of one connection: keeps a failing provider away, and lets it back in carefully.
//!
//! A pure state machine. It reads no clock, draws no random number, takes no lock and allocates nothing after it is
//! made: every method takes `now`, and callers keep it behind one mutex per connection. What it must not do: classify
//! answers (the provider layer knows statuses), decide what health is ([`crate::domain::health`] does), or forget who
//! is on trial: every permit carries the epoch it was given in, so that a late result never changes a later state.
//!
//! ```text
//!            trip                       openUntil passed and a trial taken
//!  CLOSED ─────────▶ OPEN(k, openUntil) ─────────────────────────────────▶ HALF_OPEN(leases, dwell)
//!    ▲                  ▲   a trial fails, is slow, is lost twice, or the dwell ends      │
//!    │                  └─────────────────────────────────────────────────────────────────┤
//!    └── enough trials succeeded ─────────────────────────────────────────────────────────┘
//! ```
//! Overlays (`ForcedOpen`, `ForcedClosed`, `Shadow`) outrank what is admitted, never what is counted: the automatic
//! state goes on underneath, so that it is the truth when the overlay ends.
//!
//! Sources: the closed/open/half-open machine is Nygard's, *Release It!* (2007); permits as leases, generations, the
//! trip on failures only and `>=` at every boundary are argued rule by rule in `tests.rs`.

mod again;
mod half_open;
mod machine;
mod persist;
mod policy;
#[cfg(test)]
mod reference;
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

/// What kind of call asks to be admitted. Probes and reads may be a half-open circuit's trial; writes and money wait
/// until it is closed, so that a payment is never the experiment.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum CallClass {
    /// A health check of ours: one try, never refused.
    Probe,
    /// A call that changes nothing at the provider.
    Read,
    /// A call that changes something, but moves no money.
    Write,
    /// A call that moves money.
    Money,
}

impl CallClass {
    /// The class's name as metrics and logs print it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "Probe",
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Money => "Money",
        }
    }

    /// Whether such a call may be a half-open circuit's trial.
    pub const fn may_try(self) -> bool {
        matches!(self, Self::Probe | Self::Read)
    }
}

/// How a call ended, as far as the breaker cares. One outcome per call, after its last try.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// The provider did its work.
    Success,
    /// The provider failed: what the policy's `classify` counts as failure.
    Failure,
    /// Says nothing about the provider: the caller's mistake, 401/403, 429.
    Ignored,
}

/// The automatic state, beneath any overlay.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Calls pass and are counted.
    Closed,
    /// A few leased trials pass; their results decide.
    HalfOpen,
    /// Calls are refused until the next trial is due.
    Open,
}

impl State {
    /// The state's name, as in `status.circuitState.state`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::HalfOpen => "HalfOpen",
            Self::Open => "Open",
        }
    }
}

/// A name that is none of the closed set.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a known {1}")]
pub struct UnknownName(String, &'static str);

impl FromStr for State {
    type Err = UnknownName;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Self::Closed, Self::HalfOpen, Self::Open]
            .into_iter()
            .find(|v| v.as_str() == s)
            .ok_or_else(|| UnknownName(s.to_owned(), "circuit state"))
    }
}

/// What callers and routes experience: the automatic state, or the overlay that outranks it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Effective {
    /// Calls pass.
    Closed,
    /// Only trials pass.
    HalfOpen,
    /// Nothing but probes passes.
    Open,
    /// A person keeps the circuit open.
    ForcedOpen,
    /// A person keeps the circuit closed.
    ForcedClosed,
    /// The circuit counts, and never blocks.
    Shadow,
}

impl Effective {
    /// Every value, in the order of the docs.
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

    /// Whether a route may choose a bank in this state.
    pub const fn carries_payouts(self) -> bool {
        matches!(self, Self::Closed | Self::ForcedClosed | Self::Shadow)
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<State> for Effective {
    fn from(state: State) -> Self {
        match state {
            State::Closed => Self::Closed,
            State::HalfOpen => Self::HalfOpen,
            State::Open => Self::Open,
        }
    }
}

/// Why the circuit moved. Stable: alerts and dashboards match on these names.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum TripReason {
    /// `trip.consecutiveFailures` failures in a row.
    ConsecutiveFailures,
    /// The share of failures in the window reached `trip.failurePercent`.
    FailureRatio,
    /// The share of slow calls in the window reached `trip.slowCallPercent`.
    SlowCalls,
    /// Health turned critical or down, and `trip.unhealthy` is `Open`.
    Health,
    /// The open time is over and a trial was taken.
    TrialTaken,
    /// Enough trials succeeded.
    TrialsSucceeded,
    /// A trial failed or was slow.
    TrialFailed,
    /// A second trial never reported back.
    TrialLost,
    /// Half-open for `halfOpen.maxDwell` without a verdict.
    DwellExceeded,
    /// A person set `circuitOverride`.
    OverrideApplied,
    /// `circuitOverride.untilTime` passed.
    OverrideExpired,
    /// A person took `circuitOverride` away.
    OverrideRemoved,
    /// The policy's mode changed.
    PolicyChanged,
}

impl TripReason {
    /// Every reason, for docs and for parsing.
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

/// What a [`Permit`] is worth when its result comes back.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum PermitKind {
    /// An ordinary call of a closed circuit: its result is counted.
    Counted,
    /// A half-open circuit's trial: its result decides. Holds a lease.
    Trial,
    /// Lets the call pass (a probe of an open circuit, any call under an overlay); its result never changes the state.
    Observer,
}

/// The right to make one call. Give it back with [`Breaker::record`] or [`Breaker::abandon`]; a trial that does neither
/// is healed by its lease.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[must_use = "a permit that is neither recorded nor abandoned counts as a lost trial"]
pub struct Permit {
    epoch: i64,
    ticket: u32,
    kind: PermitKind,
}

impl Permit {
    /// What the result of this call is worth.
    pub const fn kind(self) -> PermitKind {
        self.kind
    }

    /// The circuit's epoch when the permit was given.
    pub const fn epoch(self) -> i64 {
        self.epoch
    }
}

/// The circuit keeps this call away.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the circuit is {effective}")]
pub struct Refusal {
    /// What refused: `Open`, `HalfOpen` (no free trial, or not a call that may be one) or `ForcedOpen`.
    pub effective: Effective,
    /// When asking again makes sense: the next trial's time, or the end of the override. `None` while half-open.
    pub retry_at: Option<Mono>,
}

/// One move of the circuit.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// What callers experienced before. Equal to `to` when an overlay hides a move of the automatic state.
    pub from: Effective,
    /// What callers experience from now on.
    pub to: Effective,
    /// The automatic state after the move, beneath any overlay.
    pub state: State,
    /// Why.
    pub reason: TripReason,
    /// The circuit's epoch after the move.
    pub epoch: i64,
    /// When.
    pub at: Mono,
}

/// What outlives the process, kept in `status.circuitState`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The automatic state, beneath any overlay.
    pub state: State,
    /// When the automatic state was entered, rounded down to whole seconds.
    pub last_transition: Timestamp,
    /// The circuit's epoch: strictly increasing, also over restarts.
    pub epoch: i64,
    /// How often in a row the circuit opened: what the growing open time counts. Decays while closed, at the next trip.
    pub opens: i32,
    /// While open: when the next trial is due, rounded up to whole seconds so that a restart is never early.
    pub next_trial: Option<Timestamp>,
    /// Why the automatic state was entered; `None` if it never moved.
    pub reason: Option<TripReason>,
}

/// An overlay that a person set, on one connection, for a time.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Override {
    /// What is enforced.
    pub mode: OverrideMode,
    /// Past this instant it has no effect.
    pub until: Mono,
}

/// What an [`Override`] enforces.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum OverrideMode {
    /// Refuse everything but probes.
    ForcedOpen,
    /// Refuse nothing.
    ForcedClosed,
    /// Count, and refuse nothing.
    Shadow,
}

impl From<OverrideMode> for Effective {
    fn from(mode: OverrideMode) -> Self {
        match mode {
            OverrideMode::ForcedOpen => Self::ForcedOpen,
            OverrideMode::ForcedClosed => Self::ForcedClosed,
            OverrideMode::Shadow => Self::Shadow,
        }
    }
}
