//! Where the success of a bank and its latency are in half an hour, by damped trends of their logarithms.
//!
//! Outcomes are counted in steps of a minute; a step with few outcomes is joined with the next one. Its success is shrunk
//! towards what the trend expects, the more the fewer outcomes it has, so that one failed check of a bank that is checked
//! every few minutes is no collapse.

use std::time::Duration;

use super::holt::Holt;
use super::normal::{logistic, logit, normal_below};
use crate::domain::ppm::Ppm;
use crate::domain::time::Mono;

/// Length of a step.
pub const STEP: Duration = Duration::from_mins(1);
/// Steps of the horizon: half an hour.
pub const STEPS: u32 = 30;
/// Success below which a bank is out: that below which its health is critical.
const OUTAGE: f64 = 0.75;
/// A step with fewer outcomes is joined with the next one.
const FEW: u32 = 4;
/// Outcomes that the expectation of the trend counts as.
const EXPECTATION: f64 = 4.0;
/// Success that is expected before there is a step.
const PRIOR: f64 = 0.95;
/// Steps with outcomes before a trend says anything.
const EVIDENCE: u32 = 6;
/// Assumed deviation of a step from the trend, in log-odds, and the least one.
const SUCCESS_DEVIATION: Deviation = Deviation { first: 0.5, least: 0.2 };
/// The same of the logarithm of the latency.
const LATENCY_DEVIATION: Deviation = Deviation { first: 0.2, least: 0.05 };

/// Assumed standard deviations of the steps of a series.
#[derive(Copy, Clone)]
struct Deviation {
    /// Before there are residuals.
    first: f64,
    /// At least.
    least: f64,
}

/// What the trends say about the next half hour.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Outlook {
    /// Expected share of good outcomes in it.
    pub success: Ppm,
    /// Probability that success is below 75 % at some step of it.
    pub risk: Ppm,
    /// Time until this is more likely than not, if it is.
    pub breach_in: Option<Duration>,
    /// Expected 95th percentile of the latency at its end, if there is one now.
    pub p95: Option<Duration>,
}

/// Outcomes of one step.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct StepOutcomes {
    /// Good ones.
    pub good: u32,
    /// All of them.
    pub total: u32,
}

/// The trends of one bank.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub struct Trend {
    success: Option<Holt>,
    latency: Option<Holt>,
    /// Values of the success, since the last gap of a whole horizon.
    evidence: u32,
    /// The few outcomes of the last step.
    joined: Option<StepOutcomes>,
}

impl Trend {
    /// Adds a step; returns whether it is new evidence. `p95` is the latency percentile at its end, if there is one.
    pub fn add(&mut self, step: StepOutcomes, p95: Option<Duration>) -> bool {
        let joined = self.joined.take();
        let before = joined.unwrap_or_default();
        let step = StepOutcomes {
            good: step.good.saturating_add(before.good),
            total: step.total.saturating_add(before.total),
        };
        if step.total == 0 || (step.total < FEW && joined.is_none()) {
            self.joined = (step.total > 0).then_some(step);
            self.skip();
            return false;
        }
        let expected = self.success.map_or(PRIOR, |holt| logistic(holt.next()));
        let (good, total) = (f64::from(step.good), f64::from(step.total));
        let value = logit((good + EXPECTATION * expected) / (total + EXPECTATION));
        add(&mut self.success, value, SUCCESS_DEVIATION);
        match p95 {
            Some(p95) => add(&mut self.latency, p95.as_secs_f64().max(1e-6).ln(), LATENCY_DEVIATION),
            None => self.latency = None,
        }
        self.evidence = self.evidence.saturating_add(1);
        true
    }

    /// Passes a step without outcomes.
    fn skip(&mut self) {
        for holt in [&mut self.success, &mut self.latency].into_iter().flatten() {
            holt.skip();
        }
    }

    /// Forgets the trends after a gap of a whole horizon: what was before says nothing about what comes.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The outlook; `None` with too little evidence.
    pub fn outlook(&self) -> Option<Outlook> {
        let success = self.success.filter(|_| self.evidence >= EVIDENCE)?;
        let threshold = logit(OUTAGE);
        let (mut sum, mut risk, mut breach_in) = (0.0, 0.0f64, None);
        for (step, point) in (1..).zip(success.ahead(STEPS)) {
            let breach = normal_below((threshold - point.mean) / point.deviation);
            sum += logistic(point.mean);
            risk = risk.max(breach);
            if breach > 0.5 {
                breach_in = breach_in.or(Some(STEP * step));
            }
        }
        let p95 = self.latency.and_then(|holt| holt.ahead(STEPS).last());
        Some(Outlook {
            success: Ppm::of(sum / f64::from(STEPS)),
            risk: Ppm::of(risk),
            breach_in,
            p95: p95.and_then(|point| Duration::try_from_secs_f64((point.mean.exp() * 1e6).round() / 1e6).ok()),
        })
    }
}

/// The number of the step that `at` is in.
pub fn step_of(at: Mono) -> u64 {
    u64::try_from(at.since(Mono::ZERO).as_nanos() / STEP.as_nanos()).unwrap_or(u64::MAX)
}

fn add(series: &mut Option<Holt>, value: f64, deviation: Deviation) {
    match series {
        Some(holt) => holt.add(value),
        None => *series = Some(Holt::starting(value, deviation.first, deviation.least)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(steps: impl IntoIterator<Item = (u32, u32)>) -> Trend {
        let mut trend = Trend::default();
        for (good, total) in steps {
            trend.add(StepOutcomes { good, total }, Some(Duration::from_millis(100)));
        }
        trend
    }

    #[test]
    fn a_good_bank_is_expected_to_stay_good() {
        let outlook = after((0..60).map(|_| (20, 20))).outlook().unwrap();
        assert!(outlook.success.get() > 990_000 && outlook.risk.get() < 1_000, "{outlook:?}");
        assert_eq!((outlook.breach_in, outlook.p95), (None, Some(Duration::from_millis(100))));
    }

    #[test]
    fn a_falling_success_is_extrapolated_below_three_quarters() {
        // Two percentage points a step: at 85 % the trend leads below 75 %.
        let trend = after((0..30).map(|_| (100, 100)).chain((0..8).map(|n| (98 - 2 * n, 100))));
        let outlook = trend.outlook().unwrap();
        assert!(outlook.risk.get() > 500_000 && outlook.success.get() < 800_000, "{outlook:?}");
        let breach = outlook.breach_in.unwrap();
        assert!(breach > STEP && breach <= STEP * STEPS, "{breach:?}");
    }

    #[test]
    fn few_outcomes_in_a_step_move_the_trend_little() {
        let sparse = after((0..30).map(|_| (1, 1)).chain([(0, 1)])).outlook().unwrap();
        let dense = after((0..30).map(|_| (50, 50)).chain([(0, 50)])).outlook().unwrap();
        assert!(sparse.success > dense.success && sparse.risk < dense.risk, "{sparse:?} {dense:?}");
        assert!(sparse.risk.get() < 250_000, "{sparse:?}");
    }

    #[test]
    fn there_is_no_outlook_without_evidence() {
        assert_eq!(after([]).outlook(), None);
        assert_eq!(after((0..5).map(|_| (20, 20))).outlook(), None);
        assert_eq!(after([(0, 0); 50]).outlook(), None, "steps without outcomes are none");
        assert!(after((0..6).map(|_| (20, 20))).outlook().is_some());
    }

    #[test]
    fn a_growing_latency_is_extrapolated() {
        let mut trend = Trend::default();
        for n in 0..40u32 {
            trend.add(
                StepOutcomes { good: 20, total: 20 },
                Some(Duration::from_millis(100) + 10 * Duration::from_millis(1) * n),
            );
        }
        assert!(trend.outlook().unwrap().p95.unwrap() > Duration::from_millis(500));
        trend.add(StepOutcomes { good: 20, total: 20 }, None);
        assert_eq!(trend.outlook().unwrap().p95, None, "without a percentile there is none to expect");
    }
}
