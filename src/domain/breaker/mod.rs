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
//! failures only and `>=` at every boundary are tested rule by rule in `tests/rules.rs` and `tests/half_open_rules.rs`.

mod call;
mod circuit_override;
mod half_open;
mod machine;
mod overlay;
mod permit;
mod persist;
mod policy;
#[cfg(test)]
mod reference;
mod retry_admission;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod throttle;
mod transition;
mod trip_reason;
mod window;

pub use self::call::{CallClass, CallOutcome};
pub use self::circuit_override::{Override, OverrideMode};
pub use self::half_open::MAX_TRIALS;
pub use self::machine::Breaker;
pub use self::permit::{CallNotPermitted, Permit, PermitKind};
pub use self::policy::{HalfOpenPolicy, Mode, OnUnhealthy, OpenPolicy, Policy, Preset, WindowSpec};
pub use self::snapshot::Snapshot;
pub use self::state::{BreakerState, EffectiveState};
pub use self::throttle::{MAX_THROTTLE, Throttle};
pub use self::transition::Transition;
pub use self::trip_reason::TripReason;
pub use self::window::{BUCKETS, MAX_CALLS};
