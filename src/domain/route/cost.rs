//! What a payout through a bank is expected to cost, in the payout's currency.
//!
//! ```text
//! fee    = clamp(amount · bps/10⁴ + fixed, min, max), rounded as the bank charges it
//! fx     = amount · spread/10⁴                         where the funding account is in another currency
//! retry  = (1 − success) · retryBps/10⁴ · amount
//! health = (1 − success) · healthPenalty               converted from the reference currency
//! delay  = settlementDays · delayBps/10⁴ · amount
//! cost   = fee + fx + retry + health + delay
//! total  = cost + (w − 1) · max(|cost|, one minor unit)
//! ```
//! The weight is safe for a cost that is zero or a gain: above 1 it always makes a bank worse. Only the fee is rounded.
//! A cost that lacks a rate or a fee entry is unknown, never guessed.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::candidate::Candidate;
use super::expectation::{Expectation, MILLION};
use super::fee::fee;
use super::payout::Payout;
use super::rates::Rates;
use crate::domain::canonical::decimal;

const BASIS_POINT: Decimal = Decimal::from_parts(1, 0, 0, false, 4);
const MILLIONTH: Decimal = Decimal::from_parts(1, 0, 0, false, 6);

/// The parameters of the cost besides fees and exchange. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostModel {
    /// Cost of a day until settlement, in basis points of the amount.
    #[serde(with = "decimal")]
    pub delay_basis_points: Decimal,
    /// Penalty for a failure, in the reference currency.
    #[serde(with = "decimal")]
    pub health_penalty: Decimal,
    /// Cost of a retry, in basis points of the amount.
    #[serde(with = "decimal")]
    pub retry_basis_points: Decimal,
}

impl Default for CostModel {
    fn default() -> Self {
        Self {
            retry_basis_points: Decimal::ONE_HUNDRED,
            health_penalty: Decimal::TEN,
            delay_basis_points: Decimal::ZERO,
        }
    }
}

/// The terms of a cost, in the payout's currency. The fields are in the order of canonical JSON.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Cost {
    /// The cost of the days until settlement.
    #[serde(with = "decimal")]
    pub delay: Decimal,
    /// What the bank charges.
    #[serde(with = "decimal")]
    pub fee: Decimal,
    /// Its exchange; negative is a gain.
    #[serde(with = "decimal")]
    pub fx: Decimal,
    /// The expected penalty of a failure.
    #[serde(with = "decimal")]
    pub health: Decimal,
    /// The expected cost of a retry.
    #[serde(with = "decimal")]
    pub retry: Decimal,
    /// All of it, weighted: what banks are ranked by.
    #[serde(with = "decimal")]
    pub total: Decimal,
    /// The product of the adjustments that apply, from 0.1 to 10.
    #[serde(with = "decimal")]
    pub weight: Decimal,
}

/// The cost of `payout` through `candidate` by what was observed of it; `None` if a part of it is unknown or overflows.
pub fn cost(payout: &Payout, candidate: &Candidate, model: &CostModel, rates: &Rates, weight: Decimal) -> Option<Cost> {
    expected_cost(payout, candidate, &Expectation::observed(candidate), &Weighing { model, rates, weight })
}

/// What a cost is computed by, besides the payout and the bank.
pub(super) struct Weighing<'a> {
    pub model: &'a CostModel,
    pub rates: &'a Rates,
    pub weight: Decimal,
}

/// The cost of `payout` through `candidate` by what is expected of it; `None` if a part of it is unknown or overflows.
pub(super) fn expected_cost(
    payout: &Payout,
    candidate: &Candidate,
    expected: &Expectation,
    by: &Weighing<'_>,
) -> Option<Cost> {
    let &Weighing { model, rates, weight } = by;
    let amount = payout.amount;
    let of_amount = |basis_points: Decimal| amount.checked_mul(basis_points)?.checked_mul(BASIS_POINT);
    let fee = fee(payout, &candidate.fees, rates)?;
    let exchanges = candidate.funding_currency.is_some_and(|funding| funding != payout.currency);
    let fx = if exchanges { of_amount(expected.fx_basis_points)? } else { Decimal::ZERO };
    let failure = Decimal::from(MILLION - expected.success) * MILLIONTH;
    let retry = of_amount(model.retry_basis_points)?.checked_mul(failure)?;
    let health = if failure.is_zero() || model.health_penalty.is_zero() {
        Decimal::ZERO
    } else {
        rates.convert(model.health_penalty, rates.reference(), payout.currency)?.checked_mul(failure)?
    };
    let delay = of_amount(model.delay_basis_points)?.checked_mul(Decimal::from(expected.settlement_days))?;
    let sum = [fx, retry, health, delay].into_iter().try_fold(fee, Decimal::checked_add)?;
    let total = if weight == Decimal::ONE {
        sum
    } else {
        let unit = Decimal::new(1, payout.currency.exponent().ok()?);
        sum.checked_add((weight - Decimal::ONE).checked_mul(sum.abs().max(unit))?)?
    };
    Some(Cost { delay, fee, fx, health, retry, total, weight })
}
