//! What is expected of a bank by the route's mode: success, exchange, settlement, score. Pure.
//!
//! A prediction counts while it is valid, for payouts of its currency and rail, and by its proven skill: expected
//! success is (1 − skill) · observed + skill · predicted. Without skill it changes nothing.

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::candidate::{Candidate, UNKNOWN_SUCCESS};
use super::payout::Payout;
use super::prediction::{CandidatePrediction, ForecastUse};

/// All of it, in parts per million.
pub(super) const MILLION: u32 = 1_000_000;

/// What is expected of a bank for one payout.
#[derive(Copy, Clone, Debug)]
pub(super) struct Expectation {
    /// Whether an outage is predicted.
    pub demoted: bool,
    /// Spread of the exchange in basis points.
    pub fx_basis_points: Decimal,
    /// The score that breaks ties.
    pub score: Decimal,
    /// Days until settlement.
    pub settlement_days: u32,
    /// Share of payouts that succeed, in parts per million.
    pub success: u32,
}

impl Expectation {
    /// By what was observed.
    pub(super) fn observed(candidate: &Candidate) -> Self {
        Self {
            demoted: false,
            fx_basis_points: candidate.fx_basis_points,
            score: candidate.score,
            settlement_days: candidate.settlement_days,
            success: candidate.success.unwrap_or(UNKNOWN_SUCCESS).min(MILLION),
        }
    }

    /// By what was observed and what is predicted.
    pub(super) fn predicted(candidate: &Candidate, prediction: &CandidatePrediction) -> Self {
        let observed = Self::observed(candidate);
        Self {
            demoted: prediction.demoted,
            fx_basis_points: prediction.expected_fx.unwrap_or(observed.fx_basis_points),
            score: prediction.score.unwrap_or(observed.score),
            settlement_days: prediction.settlement_days.unwrap_or(observed.settlement_days),
            success: blend(observed.success, prediction.success.min(MILLION), prediction.skill.min(MILLION)),
        }
    }
}

/// (1 − skill) · observed + skill · predicted, in parts per million, half up.
fn blend(observed: u32, predicted: u32, skill: u32) -> u32 {
    let million = u64::from(MILLION);
    let sum = (million - u64::from(skill)) * u64::from(observed) + u64::from(skill) * u64::from(predicted);
    u32::try_from((sum + million / 2) / million).unwrap_or(MILLION)
}

/// The prediction that counts for `payout` at `now`, or why none does: the valid one whose scope says most.
pub(super) fn counting<'a>(
    candidate: &'a Candidate,
    payout: &Payout,
    now: Timestamp,
) -> Result<&'a CandidatePrediction, ForecastUse> {
    let covers = |one: &&CandidatePrediction| {
        one.currency.is_none_or(|currency| currency == payout.currency)
            && (one.rail.is_none() || one.rail == payout.rail)
    };
    let scope = |one: &CandidatePrediction| u8::from(one.currency.is_some()) + u8::from(one.rail.is_some());
    let mut missing = ForecastUse::Missing;
    let mut found: Option<&CandidatePrediction> = None;
    for one in candidate.predictions.iter().filter(covers) {
        if now >= one.valid_until {
            missing = ForecastUse::Stale;
        } else if found.is_none_or(|other| scope(one) > scope(other)) {
            found = Some(one);
        }
    }
    match found {
        None => Err(missing),
        Some(one) if one.skill == 0 => Err(ForecastUse::Unskilled),
        Some(one) => Ok(one),
    }
}
