//! A bank of a route, as far as it matters for one payout.

use rust_decimal::Decimal;

use super::fee::Fee;
use super::reason::CandidateReason;
use crate::domain::breaker::EffectiveState;
use crate::domain::money::Currency;

/// The estimate for a bank that nothing is known of: the prior of the success estimate, in parts per million.
pub const UNKNOWN_SUCCESS: u32 = 950_000;

/// Tier of a candidate: a fallback is considered only if no primary passes the filter.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Tier {
    /// Considered first.
    #[default]
    Primary,
    /// Considered only if no primary passes.
    Fallback,
}

/// What the health checks of a candidate's connection say about it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum CandidateHealth {
    /// Nothing is against it.
    #[default]
    Usable,
    /// The last checks failed, as many as make a connection `Unhealthy`.
    Unhealthy,
    /// No check has ever passed.
    NeverHealthy,
}

impl CandidateHealth {
    /// From whether the last checks of the connection failed (`unhealthy`), and whether one of its endpoint has ever
    /// passed. A connection without checks (`passive`) need not have passed one.
    pub const fn of(unhealthy: bool, ever_healthy: bool, passive: bool) -> Self {
        if !ever_healthy && !passive {
            Self::NeverHealthy
        } else if unhealthy {
            Self::Unhealthy
        } else {
            Self::Usable
        }
    }
}

/// Input of the evaluation for one bank of a route.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Candidate {
    /// Name within the route.
    pub name: String,
    /// Primary or fallback.
    pub tier: Tier,
    /// Circuit state of the connection; `None` if the connection does not exist.
    pub circuit: Option<EffectiveState>,
    /// What the health checks say; a circuit that is forced closed outranks it.
    pub health: CandidateHealth,
    /// Whether the connection is suspended.
    pub suspended: bool,
    /// Whether the current time is outside the accept windows.
    pub cut_off: bool,
    /// Exclusion determined by the caller; takes precedence over the circuit.
    pub exclusion: Option<CandidateReason>,
    /// Fee list; empty = free.
    pub fees: Vec<Fee>,
    /// Supported payout currencies; empty = all.
    pub currencies: Vec<Currency>,
    /// Supported beneficiary countries; empty = all.
    pub countries: Vec<String>,
    /// Supported rails; empty = all.
    pub rails: Vec<String>,
    /// Currency of its funding account; `None` = the payout's, without exchange.
    pub funding_currency: Option<Currency>,
    /// Spread of its exchange to the mid-market rate, in basis points; negative is a gain.
    pub fx_basis_points: Decimal,
    /// Days until settlement.
    pub settlement_days: u32,
    /// Breaks ties of cost and success: higher is better.
    pub score: Decimal,
    /// Estimated share of calls that succeed, in parts per million; `None`: nothing is known.
    pub success: Option<u32>,
    /// Smallest accepted amount in the route's reference currency, inclusive.
    pub min_amount: Option<Decimal>,
    /// Largest accepted amount in the route's reference currency, inclusive.
    pub max_amount: Option<Decimal>,
}
