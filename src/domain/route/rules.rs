//! What a route asks for besides its candidates: the cost model, temporary weights, pins, hysteresis, the mode.

use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cost::CostModel;
use super::payout::Payout;
use super::rates::Rates;
use crate::domain::canonical::{decimal, instant, millis, uuid_text};

/// Bounds of the product of all weights of one candidate.
const WEIGHTS: (Decimal, Decimal) = (Decimal::from_parts(1, 0, 0, false, 1), Decimal::TEN);

/// Which predictions count, and for what.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum RouteMode {
    /// None: a bank is ranked by what was observed.
    #[default]
    Reactive,
    /// For the choice.
    Predictive,
    /// For proposals, which have an effect once they are approved.
    Hybrid,
}

impl RouteMode {
    /// The mode as written in `spec.mode`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reactive => "Reactive",
            Self::Predictive => "Predictive",
            Self::Hybrid => "Hybrid",
        }
    }
}

/// The rules of a route. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteRules {
    /// Temporary weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adjustments: Vec<Adjustment>,
    /// The approved proposal of the forecast; has an effect in mode `Hybrid` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<Approval>,
    /// The parameters of the cost.
    pub cost: CostModel,
    /// When the active bank is kept although another is cheaper.
    pub hysteresis: Hysteresis,
    /// Which predictions count.
    pub mode: RouteMode,
    /// The candidates that are chosen while they are available: the first that is. The spec's come first, whatever the
    /// order; those of the API count in the order of the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pin>,
    /// Exchange rates.
    pub rates: Rates,
}

impl RouteRules {
    /// The defaults, with limits and penalty in the currency of `rates`.
    pub fn new(rates: Rates) -> Self {
        Self {
            adjustments: Vec::new(),
            approved: None,
            cost: CostModel::default(),
            hysteresis: Hysteresis::default(),
            mode: RouteMode::default(),
            pins: Vec::new(),
            rates,
        }
    }

    /// The adjustments that apply to `candidate` at `now`.
    pub fn applying<'a>(
        &'a self,
        payout: &'a Payout,
        candidate: &'a str,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Adjustment> {
        self.adjustments
            .iter()
            .filter(move |one| one.candidate == candidate && now < one.until && one.scope.covers(payout))
    }

    /// The product of the weights that apply to `candidate` at `now`, within its bounds.
    pub fn weight(&self, payout: &Payout, candidate: &str, now: Timestamp) -> Decimal {
        let mut applying = self.applying(payout, candidate, now);
        let product = applying.try_fold(Decimal::ONE, |product, adjustment| product.checked_mul(adjustment.weight));
        product.unwrap_or(WEIGHTS.1).clamp(WEIGHTS.0, WEIGHTS.1)
    }

    /// The pins that apply at `now`, in the order in which they are tried.
    pub fn pinned<'a>(&'a self, payout: &'a Payout, now: Timestamp) -> impl Iterator<Item = &'a Pin> {
        let of = |source| self.pins.iter().filter(move |pin| (pin.source == PinSource::Spec) == source);
        of(true).chain(of(false)).filter(move |pin| now < pin.until && pin.scope.covers(payout))
    }

    /// The approved candidate at `now`.
    pub fn approved(&self, now: Timestamp) -> Option<&Approval> {
        self.approved.as_ref().filter(|approval| self.mode == RouteMode::Hybrid && now < approval.until)
    }

    /// When the rules next change by themselves after `now`: a weight, a pin or an approval ends, or the rates become
    /// too old.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let adjustments = self.adjustments.iter().map(|adjustment| adjustment.until);
        let pins = self.pins.iter().map(|pin| pin.until);
        let approved = self.approved.iter().map(|approval| approval.until);
        adjustments.chain(pins).chain(approved).chain(self.rates.expires()).filter(|at| *at > now).min()
    }
}

/// A temporary weight of one candidate. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adjustment {
    /// The candidate.
    pub candidate: String,
    /// Its name in the spec, or its id in the API.
    pub name: String,
    /// The payouts that it applies to.
    pub scope: AdjustmentScope,
    /// Its end.
    #[serde(with = "instant")]
    pub until: Timestamp,
    /// Factor on the cost: below 1 favors, above 1 penalizes.
    #[serde(with = "decimal")]
    pub weight: Decimal,
}

/// The payouts that an adjustment or a pin applies to.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum AdjustmentScope {
    /// All.
    #[default]
    Global,
    /// Those to one country.
    Country(String),
    /// Those of one merchant.
    Merchant(String),
}

impl AdjustmentScope {
    fn covers(&self, payout: &Payout) -> bool {
        match self {
            Self::Global => true,
            Self::Country(country) => payout.country.as_ref() == Some(country),
            Self::Merchant(merchant) => payout.merchant.as_ref() == Some(merchant),
        }
    }
}

/// Where a pin comes from.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum PinSource {
    /// `spec.pin`.
    #[default]
    Spec,
    /// The API for operations staff.
    Api,
    /// An approved proposal of the forecast.
    Approval,
}

impl PinSource {
    /// The name as written in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spec => "Spec",
            Self::Api => "Api",
            Self::Approval => "Approval",
        }
    }
}

/// A candidate that is chosen while it is available. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The candidate.
    pub candidate: String,
    /// The payouts that it applies to.
    pub scope: AdjustmentScope,
    /// Where it comes from.
    pub source: PinSource,
    /// Its end.
    #[serde(with = "instant")]
    pub until: Timestamp,
}

/// A proposal of the forecast that was approved. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The candidate.
    pub candidate: String,
    /// The proposal.
    #[serde(with = "uuid_text")]
    pub proposal: Uuid,
    /// Its end.
    #[serde(with = "instant")]
    pub until: Timestamp,
}

/// When the active bank is kept although another is cheaper. The exclusion of a bank ignores it. The fields are in the
/// order of canonical JSON.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hysteresis {
    /// Minimum time between two changes of the active bank.
    #[serde(with = "millis", rename = "min_hold_ms")]
    pub min_hold: Duration,
    /// Percentage of its cost by which another bank must be cheaper.
    pub switch_percent: u8,
}
