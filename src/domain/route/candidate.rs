//! A bank of a route, as far as it matters for one payout.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::fee::Fee;
use super::prediction::CandidatePrediction;
use super::reason::CandidateReason;
use crate::domain::breaker::EffectiveState;
use crate::domain::canonical::{decimal, is_false};
use crate::domain::money::Currency;

/// The estimate for a bank that nothing is known of: the prior of the success estimate, in parts per million.
pub const UNKNOWN_SUCCESS: u32 = 950_000;

/// Tier of a candidate: a fallback is considered only if no primary passes the filter.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Tier {
    /// Considered first.
    #[default]
    Primary,
    /// Considered only if no primary passes.
    Fallback,
}

/// What the health checks of a candidate's connection say about it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
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

/// Input of the evaluation for one bank of a route. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Circuit state of the connection; `None` if the connection does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<EffectiveState>,
    /// Supported beneficiary countries; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
    /// Supported payout currencies; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub currencies: Vec<Currency>,
    /// Whether the current time is outside the accept windows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut_off: bool,
    /// Exclusion determined by the caller; takes precedence over the circuit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusion: Option<CandidateReason>,
    /// Fee list; empty = free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fees: Vec<Fee>,
    /// Currency of its funding account; `None` = the payout's, without exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funding_currency: Option<Currency>,
    /// Spread of its exchange to the mid-market rate, in basis points; negative is a gain.
    #[serde(with = "decimal")]
    pub fx_basis_points: Decimal,
    /// What the health checks say; a circuit that is forced closed outranks it.
    pub health: CandidateHealth,
    /// Largest accepted amount in the route's reference currency, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option")]
    pub max_amount: Option<Decimal>,
    /// Smallest accepted amount in the route's reference currency, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option")]
    pub min_amount: Option<Decimal>,
    /// Name within the route.
    pub name: String,
    /// What is predicted of the bank; used by the modes that use predictions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predictions: Vec<CandidatePrediction>,
    /// Supported rails; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rails: Vec<String>,
    /// Breaks ties of cost and success: higher is better.
    #[serde(with = "decimal")]
    pub score: Decimal,
    /// Days until settlement.
    pub settlement_days: u32,
    /// Estimated share of calls that succeed, in parts per million; `None`: nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<u32>,
    /// Whether the connection is suspended.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspended: bool,
    /// Primary or fallback.
    pub tier: Tier,
}
