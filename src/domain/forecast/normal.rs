//! The normal distribution and the logistic function, as far as forecasts need them.

/// Probability that a standard normal variable is below `x`, to about 1e-7.
///
/// By the complementary error function in Chebyshev form (Numerical Recipes, `erfcc`).
pub(super) fn normal_below(x: f64) -> f64 {
    if x.is_nan() { 0.0 } else { 0.5 * complementary_error(-x / std::f64::consts::SQRT_2) }
}

fn complementary_error(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let z = x.abs();
    let t = 1.0 / (1.0 + 0.5 * z);
    let polynomial = COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient);
    let upper = t * (-z * z + polynomial).exp();
    if x >= 0.0 { upper } else { 2.0 - upper }
}

/// Log-odds of a probability; probabilities beyond 0.2 % and 99.8 % are taken as those, so that a run without failures
/// does not become infinitely good.
pub(super) fn logit(probability: f64) -> f64 {
    let bounded = probability.clamp(0.002, 0.998);
    (bounded / (1.0 - bounded)).ln()
}

/// The probability of log-odds.
pub(super) fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_matches_its_table() {
        for (x, probability) in
            [(0.0, 0.5), (1.0, 0.841_345), (-1.0, 0.158_655), (1.96, 0.975_002), (-2.326_35, 0.01), (6.0, 1.0)]
        {
            assert!((normal_below(x) - probability).abs() < 1e-6, "{x}: {}", normal_below(x));
        }
        assert!(normal_below(f64::NEG_INFINITY).abs() < 1e-9 && normal_below(f64::NAN).abs() < 1e-9);
    }

    #[test]
    fn log_odds_and_probabilities_convert_both_ways() {
        for probability in [0.01, 0.25, 0.5, 0.75, 0.99] {
            assert!((logistic(logit(probability)) - probability).abs() < 1e-12);
        }
        assert!((logit(0.75) - 3f64.ln()).abs() < 1e-12);
        assert!(logit(1.0).is_finite() && logit(0.0).is_finite());
    }
}
