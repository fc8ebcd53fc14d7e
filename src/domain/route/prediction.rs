//! What is predicted of a bank, and whether it counted.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::canonical::{decimal, instant, is_false};
use crate::domain::money::Currency;

/// What is predicted of a bank: by the built-in forecast, or by an external scorer. The fields are in the order of
/// canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidatePrediction {
    /// Currency of the payouts that it is for; `None` = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Whether an outage is predicted, for long enough that the bank is ranked last.
    #[serde(default, skip_serializing_if = "is_false")]
    pub demoted: bool,
    /// Expected spread of its exchange, in basis points of the amount; negative is a gain.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option")]
    pub expected_fx: Option<Decimal>,
    /// Predicted risk of fraud, in parts per million: recorded and shown, part of no cost and no rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraud_risk: Option<u32>,
    /// Rail of the payouts that it is for; `None` = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rail: Option<String>,
    /// Predicted risk of an outage, in parts per million.
    pub risk: u32,
    /// Predicted score.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option")]
    pub score: Option<Decimal>,
    /// Predicted days until settlement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement_days: Option<u32>,
    /// Proven skill of the predictions, in parts per million.
    pub skill: u32,
    /// Predicted share of payouts that succeed, in parts per million.
    pub success: u32,
    /// Its end.
    #[serde(with = "instant")]
    pub valid_until: Timestamp,
}

/// Whether a prediction counted for a candidate.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum ForecastUse {
    /// The mode is `Reactive`: predictions do not count.
    #[default]
    Off,
    /// There is no prediction for such a payout.
    Missing,
    /// The prediction has expired.
    Stale,
    /// The predictions have no proven skill.
    Unskilled,
    /// The mode is `Hybrid`: it counts for the proposal, not for the choice.
    Proposing,
    /// It counted.
    Used,
}

impl ForecastUse {
    /// The name as written in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Missing => "Missing",
            Self::Stale => "Stale",
            Self::Unskilled => "Unskilled",
            Self::Proposing => "Proposing",
            Self::Used => "Used",
        }
    }
}
