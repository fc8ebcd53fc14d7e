//! What a bank charges for a payout: fee = clamp(amount · bps / 10⁴ + fixed, min, max), rounded to the minor unit of
//! the payout's currency, because the bank really charges rounded money.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::payout::Payout;
use super::rates::Rates;
use crate::domain::canonical::decimal;
use crate::domain::money::{Currency, Money, Rounding};

/// A hundredth of a percent.
const BASIS_POINT: Decimal = Decimal::from_parts(1, 0, 0, false, 4);

/// One entry of a candidate's fee list. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fee {
    /// Proportional fee in hundredths of a percent of the amount.
    #[serde(with = "decimal")]
    pub basis_points: Decimal,
    /// Payout currencies to which the entry applies; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub currencies: Vec<Currency>,
    /// Currency of `fixed`, `min` and `max`; `None` = the payout's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Fixed fee per payout.
    #[serde(with = "decimal")]
    pub fixed: Decimal,
    /// Maximum fee; takes precedence over `min`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option")]
    pub max: Option<Decimal>,
    /// Minimum fee.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option")]
    pub min: Option<Decimal>,
    /// Name of the entry; the last tie-breaker.
    pub name: String,
    /// Rails to which the entry applies; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rails: Vec<String>,
    /// Rounding to the minor unit.
    pub rounding: Rounding,
    /// Largest amount to which the entry applies, inclusive; `None` = unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option")]
    pub up_to_amount: Option<Decimal>,
}

/// Fee for the payout by a fee list, in the payout's currency; `None` if it is unknown: no entry applies, the rate of
/// the entry's currency is missing, or the result overflows.
pub fn fee(payout: &Payout, list: &[Fee], rates: &Rates) -> Option<Decimal> {
    if list.is_empty() {
        return Some(Decimal::ZERO);
    }
    let entry = select(payout, list)?;
    let own = |amount: Decimal| match entry.currency {
        Some(currency) if currency != payout.currency && !amount.is_zero() => {
            rates.convert(amount, currency, payout.currency)
        }
        _ => Some(amount),
    };
    let share = payout.amount.checked_mul(entry.basis_points)?.checked_mul(BASIS_POINT)?;
    let mut charge = share.checked_add(own(entry.fixed)?)?;
    if let Some(min) = entry.min {
        charge = charge.max(own(min)?);
    }
    if let Some(max) = entry.max {
        charge = charge.min(own(max)?);
    }
    Money::new(charge, payout.currency).rounded(entry.rounding).ok().map(|m| m.amount)
}

/// The applicable entry: most matching selectors, then smallest `upToAmount`, then name.
pub(super) fn select<'a>(payout: &Payout, list: &'a [Fee]) -> Option<&'a Fee> {
    let matches = |fee: &&Fee| {
        (fee.rails.is_empty() || payout.rail.as_ref().is_some_and(|r| fee.rails.contains(r)))
            && (fee.currencies.is_empty() || fee.currencies.contains(&payout.currency))
            && fee.up_to_amount.is_none_or(|limit| payout.amount <= limit)
    };
    let selectors = |fee: &Fee| u8::from(!fee.rails.is_empty()) + u8::from(!fee.currencies.is_empty());
    list.iter().filter(matches).min_by(|a, b| {
        selectors(b)
            .cmp(&selectors(a))
            .then_with(|| a.up_to_amount.is_none().cmp(&b.up_to_amount.is_none()))
            .then_with(|| a.up_to_amount.cmp(&b.up_to_amount))
            .then_with(|| a.name.cmp(&b.name))
    })
}
