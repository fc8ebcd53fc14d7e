//! The filter and the cost of each candidate, by which the choice is made. Pure.

use std::cmp::Reverse;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::candidate::{Candidate, Tier};
use super::cost::{Cost, Weighing, expected_cost};
use super::evaluation::Incumbent;
use super::exclusion::exclusion;
use super::expectation::{Expectation, counting};
use super::payout::Payout;
use super::prediction::{CandidatePrediction, ForecastUse};
use super::rates::Rates;
use super::reason::CandidateReason;
use super::rules::{PinSource, RouteMode, RouteRules};

/// What an evaluation depends on besides the candidates.
#[derive(Copy, Clone, Debug)]
pub struct EvaluationInput<'a> {
    /// The bank that takes payouts so far.
    pub incumbent: Option<Incumbent<'a>>,
    /// The time of the decision.
    pub now: Timestamp,
    /// The payout.
    pub payout: &'a Payout,
    /// The rates that count at `now`.
    pub rates: &'a Rates,
    /// The rules of the route.
    pub rules: &'a RouteRules,
}

/// A candidate, and why it is excluded although nothing in itself excludes it.
#[derive(Copy, Clone, Debug)]
pub struct Considered<'a> {
    /// The candidate.
    pub candidate: &'a Candidate,
    /// A further reason to exclude it, if any.
    pub exclusion: Option<CandidateReason>,
}

/// A candidate that was filtered, with its cost.
pub(super) struct Assessed<'a> {
    pub candidate: &'a Candidate,
    pub out: Option<CandidateReason>,
    pub cost: Option<Cost>,
    pub expected: Expectation,
    pub forecast: ForecastUse,
    /// The prediction that counts, in whatever mode.
    pub prediction: Option<&'a CandidatePrediction>,
}

/// Rank of a candidate among those that are considered together: whether an outage is predicted, then the tier. Only
/// the lowest class is considered.
pub(super) type Class = (bool, Tier);

impl Assessed<'_> {
    pub(super) fn class(&self) -> Class {
        (self.expected.demoted, self.candidate.tier)
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.candidate.name == name
    }

    /// What candidates of one class are ranked by; unknown costs come last.
    pub(super) fn rank(&self) -> (bool, Option<Decimal>, Reverse<u32>, Reverse<Decimal>, &str) {
        let (cost, expected) = (self.cost.map(|cost| cost.total), self.expected);
        (cost.is_none(), cost, Reverse(expected.success), Reverse(expected.score), self.candidate.name.as_str())
    }
}

/// The first pin or approval that has an effect.
#[derive(Copy, Clone)]
pub(super) struct EffectivePin<'e, 'a> {
    /// The candidate that it names.
    pub chosen: &'e Assessed<'a>,
    /// Where it comes from.
    pub source: PinSource,
}

/// What chose: its pin, if a pin or an approval did.
pub(super) struct Choice<'e, 'a> {
    pub chosen: &'e Assessed<'a>,
    /// The one that ranks first.
    pub best: &'e Assessed<'a>,
    /// The source of the pin that chose.
    pub pinned: Option<PinSource>,
    pub class: Class,
}

/// The filter, and the cost by what is expected; predictions count for it if it `predicts`.
pub(super) fn assess<'a>(input: &EvaluationInput<'a>, one: Considered<'a>, predicts: bool) -> Assessed<'a> {
    let Considered { candidate, exclusion: further } = one;
    let &EvaluationInput { now, payout, rates, rules, .. } = input;
    let (prediction, forecast) = match rules.mode {
        RouteMode::Reactive => (None, ForecastUse::Off),
        RouteMode::Predictive | RouteMode::Hybrid => match counting(candidate, payout, now) {
            Ok(prediction) if rules.mode == RouteMode::Predictive => (Some(prediction), ForecastUse::Used),
            Ok(prediction) => (Some(prediction), ForecastUse::Proposing),
            Err(unused) => (None, unused),
        },
    };
    let expected = match prediction.filter(|_| predicts) {
        Some(prediction) => Expectation::predicted(candidate, prediction),
        None => Expectation::observed(candidate),
    };
    let out = exclusion(payout, candidate, rates).or(further);
    let by = || Weighing { model: &rules.cost, rates, weight: rules.weight(payout, &candidate.name, now) };
    let cost = if out.is_some() { None } else { expected_cost(payout, candidate, &expected, &by()) };
    Assessed { candidate, out, cost, expected, forecast, prediction }
}
