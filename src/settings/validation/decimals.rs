//! Exact arithmetic: a result that is not exact is an error, never rounded silently.

use rust_decimal::{Decimal, RoundingStrategy};

use super::error::RuleError;

/// Most decimal places.
const MAX_SCALE: u32 = 28;
/// Most characters of a decimal in a rule.
const MAX_TEXT: usize = 64;

/// The sum of two decimals; with `negate`, their difference.
pub(super) fn add(a: Decimal, b: Decimal, negate: bool) -> Result<Decimal, RuleError> {
    let scale = a.scale().max(b.scale());
    let units = |number: Decimal| {
        let factor = 10_i128.checked_pow(scale - number.scale())?;
        number.mantissa().checked_mul(factor)
    };
    let b = units(b).map(|units| if negate { -units } else { units });
    let sum = units(a).zip(b).and_then(|(a, b)| a.checked_add(b));
    exact(sum, scale)
}

/// The product of two decimals.
pub(super) fn multiply(a: Decimal, b: Decimal) -> Result<Decimal, RuleError> {
    let (a, b) = (a.normalize(), b.normalize());
    exact(a.mantissa().checked_mul(b.mantissa()), a.scale() + b.scale())
}

/// The quotient of two decimals, to 28 digits.
pub(super) fn divide(a: Decimal, b: Decimal) -> Result<Decimal, RuleError> {
    a.checked_div(b).ok_or(RuleError::Range)
}

/// The remainder of a division.
pub(super) fn remainder(a: Decimal, b: Decimal) -> Result<Decimal, RuleError> {
    a.checked_rem(b).ok_or(RuleError::Range)
}

/// A decimal rounded to `places`, half to even.
pub(super) fn round(number: Decimal, places: i64) -> Result<Decimal, RuleError> {
    let places = u32::try_from(places).ok().filter(|places| *places <= MAX_SCALE).ok_or(RuleError::Range)?;
    Ok(number.round_dp_with_strategy(places, RoundingStrategy::MidpointNearestEven))
}

/// A decimal as a rule writes it: digits, with a sign or a fraction.
pub(super) fn parse(text: &str) -> Option<Decimal> {
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte == b'.' || byte == b'-';
    let digits = text.bytes().next_back().is_some_and(|byte| byte.is_ascii_digit());
    (text.len() <= MAX_TEXT && digits && text.bytes().all(is_plain)).then(|| Decimal::from_str_exact(text).ok())?
}

fn exact(units: Option<i128>, scale: u32) -> Result<Decimal, RuleError> {
    let units = units.ok_or(RuleError::Range)?;
    if scale > MAX_SCALE {
        return Err(RuleError::Range);
    }
    Decimal::try_from_i128_with_scale(units, scale).map_err(|_| RuleError::Range)
}
