//! The state of a connection, guarded by its lock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::breaker::{self, Breaker, CallClass, EffectiveState, Throttle, Transition};
use crate::domain::health::{Health, HealthMonitor, Ppm, RiskTier};
use crate::domain::quota::{BlockedPartitions, Quota};
use crate::domain::retry_budget::RetryBudget;
use crate::domain::time::{Mono, Now};
use crate::provider::assessment::CredentialResult;
use crate::provider::call::CallError;
use crate::provider::metrics::ConnectionCounters;
use crate::provider::monitor::snapshot::Verification;
use crate::provider::probe::{CallResult, ProbeRecord};
use crate::settings::Settings;

/// Everything that changes while a connection runs.
pub(crate) struct MonitorState {
    pub(super) breaker: Breaker,
    /// Transitions of the circuit that the running update has caused; counted and logged at its end.
    pub(super) transitions: Vec<Transition>,
    pub(super) probes_in_flight: u32,
    /// Whether something that a status shows has changed and is not published yet.
    pub(super) unpublished: bool,
    /// Until when the settings in force override the circuit (wall clock); the breaker's own deadline is derived from
    /// it again on each access.
    pub(super) override_until: Option<Timestamp>,
    /// Whether the current flapping has been reported.
    pub(super) flap_reported: bool,
    pub(super) health: HealthMonitor,
    pub(super) verification: Verification,
    pub(super) verification_revision: Arc<str>,
    pub(super) authenticated: Option<bool>,
    pub(super) refused_since: Option<Mono>,
    pub(super) last_probe: Option<ProbeRecord>,
    /// Until when the provider rate limits us.
    pub(super) throttle: Throttle,
    /// The same as wall time: fixed when the rate limit began, so that clock drift never makes it look changed.
    pub(super) throttled_until_wall: Option<Timestamp>,
    /// Consecutive rate limits without a duration.
    pub(super) unspecified_throttles: u8,
    pub(super) retry_budget: RetryBudget,
    /// Created when a limit first applies: most connections have none.
    pub(super) quota: Option<Box<Quota>>,
    /// Created when the provider first blocks a partition.
    pub(super) blocked: Option<Box<BlockedPartitions>>,
    /// Whether the last call failed because no access token was available.
    pub(super) token_missing: bool,
    pub(crate) counts: ConnectionCounters,
}

/// The part of the state whose changes a status shows immediately.
#[derive(PartialEq)]
pub(super) struct VisibleState {
    effective: EffectiveState,
    epoch: i64,
    health: Health,
    tier: RiskTier,
    verification: Verification,
    authenticated: Option<bool>,
    throttle: Throttle,
    token_missing: bool,
}

impl MonitorState {
    pub(super) fn visible(&self) -> VisibleState {
        VisibleState {
            effective: self.breaker.effective(),
            epoch: self.breaker.epoch(),
            health: self.health.health(),
            tier: self.health.tier(),
            verification: self.verification.clone(),
            authenticated: self.authenticated,
            throttle: self.throttle,
            token_missing: self.token_missing,
        }
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

    pub(crate) fn last_probe(&self) -> Option<&ProbeRecord> {
        self.last_probe.as_ref()
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
    pub(super) fn observe_health(&mut self, check: bool, success: bool, elapsed: Duration, now: Mono) {
        let observation = if check {
            self.health.observe_check(success, elapsed, now)
        } else {
            self.health.observe_call(success, elapsed, now)
        };
        if observation.became_critical() {
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
