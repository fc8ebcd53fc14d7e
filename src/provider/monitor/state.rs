//! The state of a connection, guarded by its lock.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::breaker::{self, Breaker, CallClass, EffectiveState, Throttle, Transition};
use crate::domain::check_failure::{CheckFailure, CheckFailureLatch};
use crate::domain::forecast::Forecast;
use crate::domain::forecast::forecaster::Warning;
use crate::domain::health::{Health, HealthMonitor, Observation, Ppm, RiskTier};
use crate::domain::quota::{BlockedPartitions, Quota};
use crate::domain::retry_budget::RetryBudget;
use crate::domain::time::{Mono, Now};
use crate::provider::assessment::CredentialResult;
use crate::provider::auth::token_fault::TokenFault;
use crate::provider::call::CallError;
use crate::provider::metrics::ConnectionCounters;
use crate::provider::monitor::snapshot::Verification;
use crate::provider::probe::{CallResult, ProbeRecord};
use crate::settings::{CircuitOverride, Settings};

/// Everything that changes while a connection runs.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
pub(crate) struct MonitorState {
    pub(super) breaker: Breaker,
    /// Transitions of the circuit that the running update has caused; counted and logged at its end.
    pub(super) transitions: Vec<Transition>,
    pub(super) probes_in_flight: u32,
    /// Whether something that a status shows has changed and is not published yet.
    pub(super) unpublished: bool,
    /// The override of the settings in force; the breaker's own deadline is derived from its wall time again on each
    /// access.
    pub(super) circuit_override: Option<CircuitOverride>,
    /// Whether the current flapping has been reported.
    pub(super) flap_reported: bool,
    pub(super) health: HealthMonitor,
    /// The forecast in force, by wall time.
    pub(super) forecast: Option<DatedForecast>,
    /// Whether a health check has ever passed, at this endpoint and with this way to authenticate.
    pub(super) ever_healthy: bool,
    pub(super) verification: Verification,
    pub(super) verification_revision: Arc<str>,
    pub(super) authenticated: Option<bool>,
    pub(super) refused_since: Option<Mono>,
    pub(super) last_probe: Option<ProbeRecord>,
    /// Why the last health check failed.
    pub(super) check_failure: CheckFailureLatch,
    /// Until when the provider rate limits us.
    pub(super) throttle: Throttle,
    /// The same as wall time: fixed when the rate limit began, so that clock drift does not make it look changed; fixed
    /// again when the clock was set.
    pub(super) throttled_until_wall: Option<Timestamp>,
    /// Consecutive rate limits, without a success in between.
    pub(super) consecutive_throttles: u8,
    /// When a requested call was last sent although the rate limit had not ended.
    pub(super) pause_overridden_at: Option<Mono>,
    pub(super) retry_budget: RetryBudget,
    /// Created when a limit first applies: most connections have none.
    pub(super) quota: Option<Box<Quota>>,
    /// Created when the provider first blocks a partition.
    pub(super) blocked: Option<Box<BlockedPartitions>>,
    /// Whether the last call failed because no access token was available.
    pub(super) token_missing: bool,
    /// What the last token request showed to be at fault.
    pub(super) token_fault: Option<TokenFault>,
    pub(crate) counts: ConnectionCounters,
}

/// What one call says about health.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct HealthObservation {
    pub(super) observation: Observation,
    /// Whether the circuit may open because of it.
    pub(super) may_trip: bool,
}

/// The part of the state whose changes a status shows immediately.
#[derive(PartialEq)]
pub(super) struct VisibleState {
    effective: EffectiveState,
    epoch: i64,
    health: Health,
    check_failure: Option<CheckFailure>,
    tier: RiskTier,
    verification: Verification,
    authenticated: Option<bool>,
    throttle: Throttle,
    token_missing: bool,
    warning: Warning,
}

/// A forecast with its wall times. They are fixed when it is first read: derived again on each reading, they would differ
/// by nanoseconds, and with them every decision's snapshot.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct DatedForecast {
    made: Mono,
    forecast: Forecast,
}

impl MonitorState {
    pub(super) fn visible(&self) -> VisibleState {
        VisibleState {
            effective: self.breaker.effective(),
            epoch: self.breaker.epoch(),
            health: self.health.health(),
            check_failure: self.visible_check_failure(),
            tier: self.health.tier(),
            verification: self.verification.clone(),
            authenticated: self.authenticated,
            throttle: self.throttle,
            token_missing: self.token_missing,
            warning: self.health.warning(),
        }
    }

    /// The forecast that holds at `now`.
    pub(crate) fn forecast(&mut self, now: Now) -> Option<Forecast> {
        let issued = self.health.forecast(now.mono)?;
        if let Some(dated) = self.forecast.filter(|dated| dated.made == issued.at) {
            return Some(dated.forecast);
        }
        let made = now.wall_at(issued.at);
        let made = made.round(jiff::Unit::Second).unwrap_or(made);
        let forecast = issued.made_at(made);
        self.forecast = Some(DatedForecast { made: issued.at, forecast });
        Some(forecast)
    }

    /// Whether the circuit flaps and this has not been reported yet: true once per period of flapping, which ends with
    /// an opening that does not count as flapping.
    pub(super) fn started_flapping(&mut self) -> bool {
        let flapping = self.breaker.is_flapping();
        let newly = flapping && !self.flap_reported;
        // Between two openings a flapping circuit is closed and looks like any other.
        if flapping || self.breaker.state() == breaker::BreakerState::Open {
            self.flap_reported = flapping;
        }
        newly
    }

    pub(crate) fn effective(&self) -> EffectiveState {
        self.breaker.effective()
    }

    pub(crate) fn is_unhealthy(&self) -> bool {
        self.health.health() == Health::Unhealthy
    }

    pub(crate) fn last_probe(&self) -> Option<&ProbeRecord> {
        self.last_probe.as_ref()
    }

    /// Why health checks fail; `None` while the provider is well: its status does not show single failures.
    fn visible_check_failure(&self) -> Option<CheckFailure> {
        let is_well = matches!(self.health.health(), Health::Healthy | Health::Degraded);
        self.check_failure.shown().filter(|_| !is_well).cloned()
    }

    /// Until when the provider rate limits us; `None` if it does not.
    pub(crate) fn throttled_until(&self, now: Mono) -> Option<Timestamp> {
        self.throttle.until(now).and(self.throttled_until_wall)
    }

    /// Remaining requests and size of the limit with the fewest remaining; `None` without limits.
    pub(crate) fn quota_left(&self, settings: &Settings, now: Now) -> Option<(u32, u32)> {
        let rules = settings.quota()?;
        self.quota
            .as_ref()
            .map_or_else(|| Quota::default().lowest_remaining(rules, now), |quota| quota.lowest_remaining(rules, now))
    }

    pub(crate) fn risk(&self, now: Mono) -> Ppm {
        self.health.risk(now)
    }

    /// Counts the end of an admitted call of `class`.
    pub(super) fn call_ended(&mut self, class: CallClass) {
        if class == CallClass::Probe {
            self.probes_in_flight = self.probes_in_flight.saturating_sub(1);
        }
    }

    /// Feeds a check or another call to the health monitor. If the risk becomes critical, the circuit may open.
    pub(super) fn observe_health(&mut self, call: HealthObservation, now: Mono) {
        let HealthObservation { observation, may_trip } = call;
        let update = self.health.observe(observation, now);
        self.ever_healthy |= observation.is_check && observation.success;
        if may_trip && update.became_critical() {
            self.transitions.extend(self.breaker.trip_unhealthy(now));
        }
    }

    pub(super) fn record_credentials(&mut self, credentials: CredentialResult, result: &CallResult, now: Mono) {
        match credentials {
            CredentialResult::Accepted => {
                self.authenticated = Some(true);
                self.refused_since = None;
                self.verification = Verification::Verified;
            }
            CredentialResult::Refused => {
                self.authenticated = Some(false);
                self.refused_since.get_or_insert(now);
                if matches!(self.verification, Verification::Pending | Verification::AuthenticationFailed { .. }) {
                    self.verification = Verification::AuthenticationFailed { status: status_of(result) };
                }
            }
            CredentialResult::Unknown => {
                // A refused address is reported only as long as it is refused.
                let refused = |result: &CallResult| matches!(result, CallResult::Error(CallError::AddressRefused(_)));
                let changed = match &self.verification {
                    Verification::Pending => true,
                    Verification::Inconclusive(before) => refused(before) != refused(result),
                    Verification::Verified | Verification::AuthenticationFailed { .. } => false,
                };
                if changed {
                    self.verification = Verification::Inconclusive(result.clone());
                }
            }
        }
    }
}

fn status_of(result: &CallResult) -> u16 {
    match result {
        CallResult::Status(status) | CallResult::Error(CallError::CredentialsRefused { status }) => *status,
        CallResult::Error(_) => 0,
    }
}
