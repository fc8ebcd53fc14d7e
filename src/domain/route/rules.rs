//! What a route asks for besides its candidates: the cost model, temporary weights, a pin, hysteresis.

use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::cost::CostModel;
use super::payout::Payout;
use super::rates::Rates;

/// Bounds of the product of all weights of one candidate.
const WEIGHTS: (Decimal, Decimal) = (Decimal::from_parts(1, 0, 0, false, 1), Decimal::TEN);

/// The rules of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteRules {
    /// The parameters of the cost.
    pub cost: CostModel,
    /// Exchange rates.
    pub rates: Rates,
    /// Temporary weights.
    pub adjustments: Vec<Adjustment>,
    /// The candidate that is chosen while it is available.
    pub pin: Option<Pin>,
    /// When the active bank is kept although another is cheaper.
    pub hysteresis: Hysteresis,
}

impl RouteRules {
    /// The defaults, with limits and penalty in the currency of `rates`.
    pub fn new(rates: Rates) -> Self {
        Self {
            cost: CostModel::default(),
            rates,
            adjustments: Vec::new(),
            pin: None,
            hysteresis: Hysteresis::default(),
        }
    }

    /// The product of the weights that apply to `candidate` at `now`, within its bounds.
    pub fn weight(&self, payout: &Payout, candidate: &str, now: Timestamp) -> Decimal {
        let applies = |adjustment: &&Adjustment| {
            adjustment.candidate == candidate && now < adjustment.until && adjustment.scope.covers(payout)
        };
        let product = self
            .adjustments
            .iter()
            .filter(applies)
            .try_fold(Decimal::ONE, |product, adjustment| product.checked_mul(adjustment.weight));
        product.unwrap_or(WEIGHTS.1).clamp(WEIGHTS.0, WEIGHTS.1)
    }

    /// The pinned candidate at `now`.
    pub fn pinned(&self, now: Timestamp) -> Option<&str> {
        self.pin.as_ref().filter(|pin| now < pin.until).map(|pin| pin.candidate.as_str())
    }

    /// When the rules next change by themselves after `now`: a weight or the pin ends, or the rates become too old.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let adjustments = self.adjustments.iter().map(|adjustment| adjustment.until);
        let pin = self.pin.iter().map(|pin| pin.until);
        adjustments.chain(pin).chain(self.rates.expires()).filter(|at| *at > now).min()
    }
}

/// A temporary weight of one candidate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Adjustment {
    /// The candidate.
    pub candidate: String,
    /// The payouts that it applies to.
    pub scope: AdjustmentScope,
    /// Factor on the cost: below 1 favors, above 1 penalizes.
    pub weight: Decimal,
    /// Its end.
    pub until: Timestamp,
}

/// The payouts that an adjustment applies to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdjustmentScope {
    /// All.
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

/// The candidate that is chosen while it is available.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    /// The candidate.
    pub candidate: String,
    /// Its end.
    pub until: Timestamp,
}

/// When the active bank is kept although another is cheaper. The exclusion of a bank ignores it.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Hysteresis {
    /// Percentage of its cost by which another bank must be cheaper.
    pub switch_percent: u8,
    /// Minimum time between two changes of the active bank.
    pub min_hold: Duration,
}
