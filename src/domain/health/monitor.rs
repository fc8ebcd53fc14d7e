//! Health state of one provider, updated by each outcome.

use std::time::Duration;

use crate::domain::forecast::forecaster::{Forecaster, IssuedForecast, Outcome, Surroundings, Warning};
use crate::domain::forecast::outcome_counts::OutcomeCounts;
use crate::domain::forecast::peak_ewma::PeakEwma;
use crate::domain::forecast::skill::SkillRecord;
use crate::domain::forecast::wilson::wilson_lower;
use crate::domain::health::estimate::SuccessEstimate;
use crate::domain::health::latency::LatencyWindow;
use crate::domain::health::observation::Observation;
use crate::domain::health::outcomes::RecentOutcomes;
use crate::domain::health::risk::{self, RiskMeter, RiskTerms, RiskTier};
use crate::domain::health::state::Health;
use crate::domain::health::tracker::{HealthTracker, Thresholds};
use crate::domain::ppm::Ppm;
use crate::domain::time::Mono;

/// Percentage of good outcomes in the last hour below which a provider is critical, and that from which it no longer
/// is: around one limit alone it would be critical at every other outcome …
const CRITICAL_SUCCESS_PERCENT: u32 = 75;
const RECOVERED_SUCCESS_PERCENT: u32 = 80;
/// … given at least this many outcomes. With fewer, a provider is never critical by its risk either: four failed calls
/// of a young connection are a matter of the breaker, which counts consecutive ones.
const CRITICAL_EVIDENCE: u32 = 20;

/// Health of a provider at one instant.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Assessment {
    /// Health.
    pub health: Health,
    /// Whether the checks pass, but slowly.
    pub slow: bool,
    /// Risk tier.
    pub tier: RiskTier,
    /// Risk score.
    pub risk: Ppm,
    /// Estimated success rate.
    pub success: Ppm,
    /// The success rate of the last hour that is plausible at least (95 %); 0 without outcomes.
    pub success_at_least: Ppm,
    /// 95th percentile of the latency, once there is one.
    pub p95: Option<Duration>,
    /// The slowest recent response, forgotten over minutes.
    pub peak_latency: Option<Duration>,
    /// Whether health is critical (of at least 20 outcomes in the last hour: risk above 0.8, or fewer than 75 % good) or
    /// `Unhealthy`.
    pub critical: bool,
}

/// Effect of an outcome.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct HealthUpdate {
    /// Before the outcome.
    pub before: Assessment,
    /// After it.
    pub after: Assessment,
}

impl HealthUpdate {
    /// Whether health became critical or `Unhealthy`: call `Breaker::trip_unhealthy` then. A critical provider that
    /// becomes `Unhealthy` counts again.
    pub fn became_critical(&self) -> bool {
        let unhealthy = |a: &Assessment| a.health == Health::Unhealthy;
        (self.after.critical && !self.before.critical) || (unhealthy(&self.after) && !unhealthy(&self.before))
    }
}

/// Health state of one provider.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HealthMonitor {
    thresholds: Thresholds,
    tracker: HealthTracker,
    success: SuccessEstimate,
    outcomes: RecentOutcomes,
    latency: LatencyWindow,
    peak: PeakEwma,
    meter: RiskMeter,
    forecaster: Forecaster,
    counts: OutcomeCounts,
    /// Whether too few outcomes of the last hour are good.
    few_succeed: bool,
    critical: bool,
}

impl HealthMonitor {
    /// A monitor without observations.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, tracker: HealthTracker::new(thresholds), ..Self::default() }
    }

    /// Replaces the thresholds; estimates and counters are kept.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
        self.tracker.set_thresholds(thresholds);
    }

    /// Records a health check on its schedule.
    pub fn observe_check(&mut self, success: bool, latency: Duration, now: Mono) -> HealthUpdate {
        self.observe(Observation::check(success, latency), now)
    }

    /// Records a call if checks are active: it updates estimates and risk, but not the consecutive checks.
    pub fn observe_call(&mut self, success: bool, latency: Duration, now: Mono) -> HealthUpdate {
        self.observe(Observation::call(success, latency), now)
    }

    /// Records a reported outcome, such as that of a payout; without `latency`, latencies are left alone.
    pub fn observe_outcome(&mut self, success: bool, latency: Option<Duration>, now: Mono) -> HealthUpdate {
        self.observe(Observation::reported(success, latency), now)
    }

    /// Records an outcome.
    pub fn observe(&mut self, observation: Observation, now: Mono) -> HealthUpdate {
        let before = self.assess(now);
        let Observation { success, responded, latency, is_check, is_scheduled } = observation;
        if is_check {
            self.tracker.observe(success, latency.unwrap_or_default());
        }
        // Steps that are over are closed by what was known before this outcome.
        let around = Surroundings { p95: before.p95, risk: before.risk };
        let outcome = Outcome {
            success,
            responded,
            latency: latency.filter(|_| success),
            // Fewer failed checks than make a provider unhealthy are no silence either.
            tolerated_silence: is_scheduled.then(|| self.thresholds.unhealthy.saturating_sub(1)),
        };
        self.forecaster.observe(outcome, around, now);
        self.counts.add(success);
        self.success.add(success, now);
        self.outcomes.add(success, now);
        // The duration of a failure reflects the timeout, not the provider.
        if let Some(latency) = outcome.latency {
            self.latency.add(latency, now);
            self.peak.add(latency, now);
        }
        let enough = self.outcomes.totals(now).count() >= CRITICAL_EVIDENCE;
        let ceiling = if enough { RiskTier::Critical } else { RiskTier::High };
        self.meter.update(self.terms(now).combined(), ceiling, now);
        self.critical = self.evaluate_critical(now);
        HealthUpdate { before, after: self.assess(now) }
    }

    /// The parts of the risk.
    fn terms(&self, now: Mono) -> RiskTerms {
        RiskTerms {
            // The prior's one failure in twenty is a risk of 0.17: below the first threshold, gone after an hour of probes.
            failures: risk::from_failures(self.success.success(now)),
            latency: risk::from_latency(self.latency.p95(now), self.thresholds.latency),
            silence: self.forecaster.silence_risk(),
            change: self.forecaster.change_risk(),
            predicted: self.forecast(now).map(|issued| issued.weighted_risk()).unwrap_or_default(),
        }
    }

    /// The forecast that holds at `now`; the same until the next is made.
    pub fn forecast(&self, now: Mono) -> Option<IssuedForecast> {
        self.forecaster.issued(now)
    }

    /// What the last forecast warns of.
    pub fn warning(&self) -> Warning {
        self.forecaster.warning()
    }

    /// How its forecasts have matured.
    pub fn skill_record(&self) -> &SkillRecord {
        self.forecaster.skill_record()
    }

    /// Outcomes since the monitor was created.
    pub fn counts(&self) -> OutcomeCounts {
        self.counts
    }

    fn evaluate_critical(&mut self, now: Mono) -> bool {
        let recent = self.outcomes.totals(now);
        let limit = if self.few_succeed { RECOVERED_SUCCESS_PERCENT } else { CRITICAL_SUCCESS_PERCENT };
        self.few_succeed = recent.count() >= CRITICAL_EVIDENCE && recent.is_below(limit);
        self.few_succeed || self.tracker.health() == Health::Unhealthy || self.meter.tier() == RiskTier::Critical
    }

    /// Lets the tier follow the decaying risk while there are no calls, and ends a forecast that no longer holds. Health
    /// never becomes critical by this.
    pub fn decay(&mut self, now: Mono) {
        self.meter.decay(now);
        self.forecaster.expire(now);
        self.critical &= self.evaluate_critical(now);
    }

    /// When [`decay`](Self::decay) next lowers the tier or ends a warning, if there is no outcome before.
    pub fn next_tier_drop(&self, now: Mono) -> Option<Mono> {
        let drop = self.meter.next_tier_drop().map(|at| at.max(now));
        drop.into_iter().chain(self.forecaster.warning_ends()).min()
    }

    /// Resets everything but the thresholds and the counts, for example after a change of the endpoint.
    pub fn reset(&mut self) {
        *self = Self { counts: self.counts, ..Self::new(self.thresholds) };
    }

    /// Restores the risk tier of a previous process. It does not trip the circuit, which is restored by itself.
    pub fn restore_risk(&mut self, tier: RiskTier, now: Mono) {
        self.meter.restore(tier, now);
        self.critical |= tier == RiskTier::Critical;
    }

    /// Restores that the last checks of a previous process had failed. It does not trip the circuit, which is restored by
    /// itself.
    pub fn restore_unhealthy(&mut self) {
        self.tracker.restore_unhealthy();
        self.critical = true;
    }

    /// Ends an outage at once, however few checks have passed since.
    pub fn end_outage(&mut self) {
        self.tracker.end_outage();
    }

    /// Current health.
    pub fn health(&self) -> Health {
        match self.tracker.health() {
            Health::Healthy if self.tier() >= RiskTier::Elevated => Health::Degraded,
            health => health,
        }
    }

    /// Risk tier, as of the last outcome or [`decay`](Self::decay).
    pub fn tier(&self) -> RiskTier {
        self.meter.tier()
    }

    /// Risk score at `now`, without further outcomes.
    pub fn risk(&self, now: Mono) -> Ppm {
        self.meter.risk_at(now)
    }

    /// Estimated share of calls that succeed at `now`.
    pub fn success(&self, now: Mono) -> Ppm {
        self.success.success(now)
    }

    /// Whether the checks pass, but slowly.
    pub fn slow(&self) -> bool {
        self.tracker.health() == Health::Degraded
    }

    /// Assessment at `now`.
    pub fn assess(&self, now: Mono) -> Assessment {
        Assessment {
            health: self.health(),
            slow: self.slow(),
            tier: self.tier(),
            risk: self.risk(now),
            success: self.success(now),
            success_at_least: {
                let recent = self.outcomes.totals(now);
                wilson_lower(recent.good, recent.count())
            },
            p95: self.latency.p95(now),
            peak_latency: self.peak.latency(),
            critical: self.critical,
        }
    }
}

#[cfg(test)]
mod tests;
