//! Damped linear exponential smoothing (Holt, Gardner & McKenzie): where a series is in some steps, and how uncertain.

/// Weight of a new value in the level.
pub const ALPHA: f64 = 0.3;
/// Weight of a new change of the level in the trend.
pub const BETA: f64 = 0.1;
/// What is left of the trend at each further step.
pub const DAMPING: f64 = 0.9;
/// Weight of a new residual in their variance.
const RESIDUAL: f64 = 0.1;

/// The value expected some steps ahead.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Point {
    /// Expected value.
    pub mean: f64,
    /// Its standard deviation.
    pub deviation: f64,
}

/// A smoothed series.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Holt {
    level: f64,
    trend: f64,
    variance: f64,
    /// Standard deviation of a residual that is assumed at least: a series that was constant so far may still vary.
    least_deviation: f64,
}

impl Holt {
    /// A series that begins with `value`; residuals are assumed to deviate by `deviation` at first, and by at least
    /// `least_deviation` later.
    pub fn starting(value: f64, deviation: f64, least_deviation: f64) -> Self {
        Self { level: value, trend: 0.0, variance: deviation * deviation, least_deviation }
    }

    /// The value expected at the next step.
    pub fn next(&self) -> f64 {
        self.level + DAMPING * self.trend
    }

    /// Adds the value of the next step.
    pub fn add(&mut self, value: f64) {
        let expected = self.next();
        let residual = value - expected;
        let level = expected + ALPHA * residual;
        self.trend = BETA * (level - self.level) + (1.0 - BETA) * DAMPING * self.trend;
        self.level = level;
        self.variance = (1.0 - RESIDUAL) * self.variance + RESIDUAL * residual * residual;
    }

    /// Passes a step without a value: the series goes on as expected.
    pub fn skip(&mut self) {
        self.level = self.next();
        self.trend *= DAMPING;
    }

    /// The expected values of the next `steps` steps.
    ///
    /// With `φ_j = φ + … + φ^j` the mean is `level + φ_j·trend`, and the variance `σ²·(1 + Σ c_i²)` over `i < j`, where
    /// `c_i = α + α·β·φ_i`.
    pub fn ahead(&self, steps: u32) -> impl Iterator<Item = Point> {
        let deviation = self.variance.sqrt().max(self.least_deviation);
        let (level, trend) = (self.level, self.trend);
        let (mut damping, mut damped, mut spread) = (1.0, 0.0, 1.0f64);
        (0..steps).map(move |_| {
            damping *= DAMPING;
            damped += damping;
            let point = Point { mean: level + damped * trend, deviation: deviation * spread.sqrt() };
            let weight = ALPHA + ALPHA * BETA * damped;
            spread += weight * weight;
            point
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-9, "{left} is not {right}");
    }

    #[test]
    fn three_steps_match_those_computed_by_hand() {
        let mut holt = Holt::starting(10.0, 1.0, 0.0);
        // Expected 10, level 10 + 0.3·2 = 10.6, trend 0.1·0.6 = 0.06.
        holt.add(12.0);
        near(holt.level, 10.6);
        near(holt.trend, 0.06);
        near(holt.variance, 0.9 + 0.1 * 4.0);
        // Expected 10.6 + 0.9·0.06 = 10.654, residual 2.346, level 11.3578, trend 0.1·0.7578 + 0.9·0.054 = 0.12438.
        holt.add(13.0);
        near(holt.level, 11.3578);
        near(holt.trend, 0.124_38);
        near(holt.next(), 11.3578 + 0.9 * 0.124_38);
        // Expected 11.469742, level 11.469742 − 0.3·0.469742 = 11.3288194.
        holt.add(11.0);
        near(holt.level, 11.328_819_4);
        near(holt.trend, 0.1 * (11.328_819_4 - 11.3578) + 0.81 * 0.124_38);
    }

    #[test]
    fn the_trend_is_damped_and_the_uncertainty_grows() {
        let holt = Holt { level: 2.0, trend: -1.0, variance: 0.25, least_deviation: 0.0 };
        let points: Vec<_> = holt.ahead(3).collect();
        near(points[0].mean, 2.0 - 0.9);
        near(points[1].mean, 2.0 - 0.9 - 0.81);
        near(points[2].mean, 2.0 - 0.9 - 0.81 - 0.729);
        near(points[0].deviation, 0.5);
        // c₁ = 0.3 + 0.03·0.9 = 0.327, c₂ = 0.3 + 0.03·1.71 = 0.3513.
        near(points[1].deviation, 0.5 * (1.0 + 0.327f64.powi(2)).sqrt());
        near(points[2].deviation, 0.5 * (1.0 + 0.327f64.powi(2) + 0.351_3f64.powi(2)).sqrt());
        let far = holt.ahead(1_000).last().unwrap();
        near(far.mean, 2.0 - 9.0);
    }

    #[test]
    fn a_step_without_a_value_follows_the_damped_trend() {
        let mut holt = Holt { level: 2.0, trend: -1.0, variance: 0.25, least_deviation: 0.0 };
        holt.skip();
        near(holt.level, 1.1);
        near(holt.trend, -0.9);
        near(holt.next(), 2.0 - 0.9 - 0.81);
    }

    #[test]
    fn a_constant_series_keeps_the_least_deviation() {
        let mut holt = Holt::starting(3.0, 1.0, 0.2);
        (0..500).for_each(|_| holt.add(3.0));
        near(holt.ahead(1).last().unwrap().deviation, 0.2);
    }
}
