//! The built-in forecaster: from the outcomes of one connection to the forecast that it shows.
//!
//! A forecast is made at most once a minute, and is the same until the next: decisions that read it in between have the
//! same snapshot. It warns of an outage only if success is likely to be below 75 % within half an hour, the
//! change detector agrees that the bank fails more often than it used to, and both are repeated ([`HoldDown`]).

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::cusum::ChangeDetector;
use super::hold_down::HoldDown;
use super::latency_chart::LatencyChart;
use super::outcome_counts::share;
use super::silence::Silence;
use super::skill::{Matured, SkillRecord};
use super::trend::{Outlook, STEPS, StepOutcomes, Trend, step_of};
use crate::domain::ppm::Ppm;
use crate::domain::route::CandidatePrediction;
use crate::domain::time::Mono;

/// How far ahead it looks: half an hour.
pub const HORIZON: Duration = Duration::from_mins(30);
/// Risk above which an outage is predicted, and a bank is ranked last.
pub(super) const OUTAGE_RISK: Ppm = Ppm(500_000);

/// The forecast of one connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Forecast {
    /// Expected share of good outcomes in the window.
    pub success: Ppm,
    /// Probability that success is below 75 % at some time in the window.
    pub risk: Ppm,
    /// Proven skill of the forecasts of this connection.
    pub skill: Ppm,
    /// Start of the window: when the forecast was made.
    pub window_start: Timestamp,
    /// End of the window, half an hour later; the forecast does not hold longer.
    pub window_end: Timestamp,
    /// From when on success below 75 % is more likely than not, if it is within the window.
    pub breach_at: Option<Timestamp>,
    /// Expected 95th percentile of the latency at the end of the window.
    pub p95: Option<Duration>,
    /// Whether the bank fails more often, or responds more slowly, than it used to.
    pub degrading: bool,
    /// Whether an outage within the window is predicted: repeatedly, and confirmed by the change detector.
    pub outage_predicted: bool,
    /// Whether the bank is ranked last for it by routes that use predictions.
    pub demoted: bool,
}

impl Forecast {
    /// What it predicts of a candidate that uses the connection.
    pub fn candidate(&self) -> CandidatePrediction {
        CandidatePrediction {
            demoted: self.demoted,
            risk: self.risk.get(),
            skill: self.skill.get(),
            success: self.success.get(),
            valid_until: self.window_end,
            ..CandidatePrediction::default()
        }
    }
}

/// A forecast on the monotonic clock.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct IssuedForecast {
    /// When it was made.
    pub at: Mono,
    outlook: Outlook,
    skill: Ppm,
    degrading: bool,
    outage_predicted: bool,
    demoted: bool,
}

impl IssuedForecast {
    /// The forecast, made at wall time `made`.
    pub fn made_at(&self, made: Timestamp) -> Forecast {
        let after = |time: Duration| made.checked_add(time).unwrap_or(Timestamp::MAX);
        let Self { outlook, skill, degrading, outage_predicted, demoted, .. } = *self;
        Forecast {
            success: outlook.success,
            risk: outlook.risk,
            skill,
            window_start: made,
            window_end: after(HORIZON),
            breach_at: outlook.breach_in.map(after),
            p95: outlook.p95,
            degrading,
            outage_predicted,
            demoted,
        }
    }

    /// Whether it still holds.
    pub fn holds(&self, now: Mono) -> bool {
        now.since(self.at) < HORIZON
    }

    /// Its part in the risk of the connection: the predicted risk, by the skill of the forecasts.
    pub fn weighted_risk(&self) -> Ppm {
        Ppm::of(self.skill.share() * self.outlook.risk.share())
    }
}

/// What a forecast warns of.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Warning {
    /// An outage is predicted.
    pub outage: bool,
    /// Routes that use predictions rank the bank last for it.
    pub demoted: bool,
}

/// One outcome, as the forecaster sees it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Whether it was good.
    pub success: bool,
    /// Whether the provider sent any response.
    pub responded: bool,
    /// Its latency, if that says something about the provider.
    pub latency: Option<Duration>,
    /// Whether it was a check on a schedule, whose absence is silence beyond so many in a row.
    pub tolerated_silence: Option<u32>,
}

/// What the connection knows besides.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Surroundings {
    /// The 95th percentile of its latency.
    pub p95: Option<Duration>,
    /// Its observed risk.
    pub risk: Ppm,
}

/// A closed step, and what was predicted at its end.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
struct ClosedStep {
    outcomes: StepOutcomes,
    predicted: Option<Ppm>,
}

/// The forecaster of one connection.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Forecaster {
    silence: Silence,
    change: ChangeDetector,
    latency: LatencyChart,
    trend: Trend,
    /// Number of the step that outcomes are counted in, and its outcomes.
    step: Option<(u64, StepOutcomes)>,
    /// The last steps of a horizon, and the one before: its prediction matures next.
    closed: VecDeque<ClosedStep>,
    skill: SkillRecord,
    hold: HoldDown,
    issued: Option<IssuedForecast>,
}

impl Forecaster {
    /// Records an outcome.
    pub fn observe(&mut self, outcome: Outcome, around: Surroundings, now: Mono) {
        if let Some(tolerated) = outcome.tolerated_silence {
            self.silence.observe(outcome.responded, tolerated, now);
        }
        self.close_steps(around, now);
        self.change.add(outcome.success, now);
        if let Some(latency) = outcome.latency {
            self.latency.add(latency);
        }
        if let Some((_, outcomes)) = &mut self.step {
            outcomes.good = outcomes.good.saturating_add(u32::from(outcome.success));
            outcomes.total = outcomes.total.saturating_add(1);
        }
    }

    /// Closes the steps that are over at `now`, and makes the forecast that is due.
    fn close_steps(&mut self, around: Surroundings, now: Mono) {
        let number = step_of(now);
        let Some((open, outcomes)) = self.step else {
            self.step = Some((number, StepOutcomes::default()));
            return;
        };
        // A clock that steps back opens no step again.
        if number <= open {
            return;
        }
        self.step = Some((number, StepOutcomes::default()));
        if number - open > u64::from(STEPS) {
            self.trend.reset();
            self.closed.clear();
            (self.issued, self.hold) = (None, HoldDown::default());
            return;
        }
        let mut fresh = self.close(outcomes, around.p95);
        for _ in open + 1..number {
            fresh |= self.close(StepOutcomes::default(), around.p95);
        }
        // The same evidence again would confirm nothing.
        if fresh {
            self.issue(around.risk, now);
        }
    }

    /// Closes one step; returns whether it is new evidence.
    fn close(&mut self, outcomes: StepOutcomes, p95: Option<Duration>) -> bool {
        let fresh = self.trend.add(outcomes, p95);
        self.closed.push_back(ClosedStep { outcomes, predicted: None });
        if self.closed.len() <= STEPS as usize {
            return fresh;
        }
        let matured = self.closed.pop_front().and_then(|step| step.predicted);
        let sum = |count: fn(&StepOutcomes) -> u32| {
            self.closed.iter().map(|step| u64::from(count(&step.outcomes))).sum::<u64>()
        };
        let (good, total): (u64, u64) = (sum(|outcomes| outcomes.good), sum(|outcomes| outcomes.total));
        if let (Some(predicted), Some(observed)) = (matured, share(good, total)) {
            self.skill.add(Matured { predicted, observed });
        }
        fresh
    }

    fn issue(&mut self, observed: Ppm, now: Mono) {
        let Some(outlook) = self.trend.outlook() else {
            self.issued = None;
            return;
        };
        if let Some(step) = self.closed.back_mut() {
            step.predicted = Some(outlook.success);
        }
        let skill = self.skill.skill();
        let outage_predicted = self.hold.observe(outlook.risk > OUTAGE_RISK && self.change.alarmed(), now);
        let weighted = skill.share() * outlook.risk.share();
        let combined = Ppm::of(1.0 - (1.0 - observed.share()) * (1.0 - weighted));
        self.issued = Some(IssuedForecast {
            at: now,
            outlook,
            skill,
            degrading: self.change.alarmed() || self.latency.slower(),
            outage_predicted,
            // Without skill, a route that uses predictions decides as one that does not.
            demoted: outage_predicted && skill > Ppm::default() && combined > OUTAGE_RISK,
        });
    }

    /// The forecast that holds at `now`.
    pub fn issued(&self, now: Mono) -> Option<IssuedForecast> {
        self.issued.filter(|issued| issued.holds(now))
    }

    /// Ends a forecast that no longer holds at `now`.
    pub fn expire(&mut self, now: Mono) {
        self.issued = self.issued(now);
    }

    /// When a predicted outage is no longer predicted without further outcomes; `None` if none is.
    pub fn warning_ends(&self) -> Option<Mono> {
        self.issued.filter(|issued| issued.outage_predicted).map(|issued| issued.at + HORIZON)
    }

    /// What the last forecast warns of.
    pub fn warning(&self) -> Warning {
        self.issued
            .map(|issued| Warning { outage: issued.outage_predicted, demoted: issued.demoted })
            .unwrap_or_default()
    }

    /// Risk of the provider's silence.
    pub fn silence_risk(&self) -> Ppm {
        self.silence.risk()
    }

    /// Risk of a change of its failure rate.
    pub fn change_risk(&self) -> Ppm {
        self.change.risk()
    }

    /// The matured predictions.
    pub fn skill_record(&self) -> &SkillRecord {
        &self.skill
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::forecast::trend::STEP;

    const AROUND: Surroundings = Surroundings { p95: Some(Duration::from_millis(100)), risk: Ppm(0) };

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    fn outcome(success: bool) -> Outcome {
        Outcome { success, responded: success, latency: None, tolerated_silence: Some(2) }
    }

    /// A forecaster after outcomes every ten seconds, and the instant after the last.
    fn after(outcomes: impl IntoIterator<Item = bool>) -> (Forecaster, Mono) {
        let mut forecaster = Forecaster::default();
        let mut seconds = 0;
        for success in outcomes {
            forecaster.observe(outcome(success), AROUND, at(seconds));
            seconds += 10;
        }
        (forecaster, at(seconds))
    }

    /// `hours` hours of a bank of which every `n`-th call fails.
    fn failing_every(n: usize, hours: usize) -> impl Iterator<Item = bool> {
        (0..hours * 360).map(move |i| i % n != n - 1)
    }

    #[test]
    fn a_forecast_is_made_once_in_a_step_and_does_not_change_in_between() {
        let (mut forecaster, now) = after(failing_every(50, 2).take(713));
        let first = forecaster.issued(now).unwrap();
        for n in 0..5 {
            forecaster.observe(outcome(true), AROUND, now + Duration::from_secs(n));
        }
        assert_eq!(forecaster.issued(now), Some(first), "seconds later");
        forecaster.observe(outcome(true), AROUND, now + STEP);
        assert_eq!(forecaster.issued(now + STEP).unwrap().at, now + STEP);
    }

    #[test]
    fn the_horizon_is_that_of_the_trend() {
        assert_eq!(HORIZON, STEP * STEPS);
    }

    #[test]
    fn a_forecast_does_not_hold_beyond_its_window() {
        let (mut forecaster, now) = after(failing_every(50, 2));
        let issued = forecaster.issued(now).unwrap();
        assert!(forecaster.issued(issued.at + HORIZON - Duration::from_nanos(1)).is_some());
        assert_eq!(forecaster.issued(issued.at + HORIZON), None);
        forecaster.observe(outcome(true), AROUND, now + 2 * HORIZON);
        assert_eq!(forecaster.issued(now + 2 * HORIZON), None, "after a gap it starts anew");
        let made: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let forecast = issued.made_at(made);
        assert_eq!((forecast.window_start, forecast.window_end.to_string()), (made, "2026-03-01T10:30:00Z".to_owned()));
        assert_eq!(forecast.candidate().valid_until, forecast.window_end);
    }

    #[test]
    fn predictions_mature_when_their_window_is_over() {
        // The first forecast is made after six steps, and matures thirty steps later.
        for (steps, matured) in [(35, 0), (36, 1), (60, 25)] {
            let (forecaster, _) = after((0..steps * 6).map(|_| true).chain([true]));
            assert_eq!(forecaster.skill_record().matured().count(), matured, "{steps} steps");
        }
        let (forecaster, _) = after(failing_every(10, 8));
        let observed: Vec<_> = forecaster.skill_record().matured().map(|one| one.observed).collect();
        assert!(observed.iter().all(|share| share.get().abs_diff(900_000) < 10_000), "{observed:?}");
        assert_eq!(forecaster.skill_record().skill(), Ppm::default(), "a constant rate leaves nothing to predict");
    }

    #[test]
    fn an_outage_is_predicted_only_if_the_change_detector_agrees() {
        // Nine in thirty fail from the beginning: below 75 %, but nothing has changed.
        let usual = failing_every(3, 24).take(8_000);
        let (forecaster, now) = after(usual);
        let issued = forecaster.issued(now).unwrap();
        assert!(issued.outlook.risk > OUTAGE_RISK && !issued.outage_predicted, "{issued:?}");
        // The same after a day without failures is a change.
        let (forecaster, now) = after((0..8_000).map(|_| true).chain(failing_every(3, 1)));
        let issued = forecaster.issued(now).unwrap();
        assert!(issued.outage_predicted && issued.degrading, "{issued:?}");
    }

    #[test]
    fn a_bank_is_not_demoted_without_skill() {
        let (forecaster, now) = after((0..1_000).map(|_| true).chain(failing_every(2, 1).take(40)));
        let issued = forecaster.issued(now).unwrap();
        assert_eq!((issued.skill, issued.demoted), (Ppm::default(), false), "{issued:?}");
        assert_eq!(issued.weighted_risk(), Ppm::default());
    }
}
