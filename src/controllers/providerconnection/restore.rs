//! Restores state from the status that a previous process wrote. Pure.
//!
//! Without it a restart would report every connection as Unknown first and its former state a moment later: two writes
//! for each, and a flap in every dashboard.

use jiff::Timestamp;

use crate::api::v1alpha1::provider_connection::{HealthStatus, ProviderConnectionStatus, RiskTier as ApiRiskTier};
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::controllers::conditions::{reason_of, status_of};
use crate::controllers::providerconnection::inputs::LiveConnection;
use crate::domain::breaker::MAX_THROTTLE;
use crate::domain::clock_skew::{ends, happened};
use crate::domain::conditions::ConditionStatus;
use crate::domain::health::{Health, RiskTier};
use crate::resolve::DesiredConnection;

/// A status as of `now`: no instant at which something happened is later, and no rate limit lasts longer than one may.
pub fn as_of(status: &ProviderConnectionStatus, now: Timestamp) -> ProviderConnectionStatus {
    let mut status = status.clone();
    let credential = status.credential.as_mut().and_then(|credential| credential.verified_time.as_mut());
    let circuit = status.circuit_state.as_mut().map(|circuit| &mut circuit.last_transition_time);
    for at in credential.into_iter().chain(circuit) {
        at.0 = happened(at.0, now);
    }
    if let Some(until) = &mut status.throttled_until_time {
        until.0 = ends(until.0, now, MAX_THROTTLE);
    }
    status
}

/// `live` with its unknown fields filled in from `last_ready`: a status with Ready=True for the same generation.
/// `authenticated` is filled in only for the same version of the credential.
pub fn restored(
    live: &LiveConnection,
    last_ready: Option<&ProviderConnectionStatus>,
    desired: &DesiredConnection,
) -> LiveConnection {
    let mut live = live.clone();
    let Some(last_ready) = last_ready else { return live };
    if live.health == Health::Unknown {
        live.health = match last_ready.health {
            Some(HealthStatus::Healthy) => Health::Healthy,
            Some(HealthStatus::Degraded) => Health::Degraded,
            Some(HealthStatus::Unhealthy) => Health::Unhealthy,
            Some(HealthStatus::Unknown) | None => Health::Unknown,
        };
        live.slow = reason_of(&last_ready.conditions, ConditionType::Healthy) == Some(Reason::ResponsesSlow.as_str());
        // The restored risk has decayed to Low since: nothing degrades the connection any more.
        if live.health == Health::Degraded && !live.slow && live.tier == RiskTier::Low {
            live.health = Health::Healthy;
        }
    }
    let version = last_ready.credential.as_ref().and_then(|c| c.secret_resource_version.as_deref());
    if live.authenticated.is_none() && version == desired.credential.as_deref() {
        live.authenticated = match status_of(&last_ready.conditions, ConditionType::Authenticated) {
            ConditionStatus::True => Some(true),
            ConditionStatus::False => Some(false),
            ConditionStatus::Unknown => None,
        };
    }
    live
}

/// Whether a health check of `target` has ever passed, according to the status. Not if it has no health any more, since a
/// Secret, an access token or a valid spec was missing, or in a maintenance window: the bank may have been unhealthy before,
/// and the first check decides anew.
pub fn ever_healthy(previous: Option<&ProviderConnectionStatus>, generation: i64, target: &str) -> bool {
    let Some(previous) = previous.filter(|s| s.health != Some(HealthStatus::Unknown)) else { return false };
    match &previous.passed_check {
        Some(check) => check.target == target && check.passed,
        // Written by a version that did not keep it: a good health of this generation shows it.
        None => {
            previous.observed_generation == Some(generation)
                && matches!(previous.health, Some(HealthStatus::Healthy | HealthStatus::Degraded))
        }
    }
}

/// Whether the last health checks of `target` had failed, according to the status.
pub fn unhealthy(previous: Option<&ProviderConnectionStatus>, generation: i64, target: &str) -> bool {
    previous.is_some_and(|s| {
        let same_target = s.passed_check.as_ref().is_some_and(|check| check.target == target);
        s.health == Some(HealthStatus::Unhealthy) && (same_target || s.observed_generation == Some(generation))
    })
}

/// Risk tier in the status; Low if absent.
pub fn tier(previous: Option<&ProviderConnectionStatus>) -> RiskTier {
    match previous.and_then(|s| s.risk) {
        Some(ApiRiskTier::Critical) => RiskTier::Critical,
        Some(ApiRiskTier::High) => RiskTier::High,
        Some(ApiRiskTier::Elevated) => RiskTier::Elevated,
        Some(ApiRiskTier::Low) | None => RiskTier::Low,
    }
}

/// Whether the requested probe has not been made yet. A request that the object was created with is met by the
/// verification probe.
pub fn probe_requested(requested: Option<&str>, previous: Option<&ProviderConnectionStatus>) -> bool {
    let reconciled = previous.filter(|s| s.observed_generation.is_some_and(|generation| generation >= 0));
    requested.is_some() && reconciled.is_some_and(|s| s.last_handled_reconcile_at.as_deref() != requested)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::v1alpha1::provider_connection::{CredentialStatus, PassedCheck};
    use crate::controllers::conditions::Conditions;
    use crate::controllers::providerconnection::inputs::VerificationState;
    use crate::domain::breaker::{BreakerState, EffectiveState, Snapshot};
    use crate::domain::window::WindowPosition;
    use crate::resolve::PayoutSupport;

    fn fresh() -> LiveConnection {
        LiveConnection {
            revision: "r".into(),
            effective: EffectiveState::Closed,
            circuit: Snapshot {
                state: BreakerState::Closed,
                last_transition: Timestamp::UNIX_EPOCH,
                epoch: 1,
                opens: 0,
                next_trial: None,
                reason: None,
            },
            flapping: false,
            health: Health::Unknown,
            check_failure: None,
            slow: false,
            ever_healthy: false,
            tier: RiskTier::Low,
            verification: VerificationState::Inconclusive,
            authenticated: None,
            token_missing: false,
            token_fault: None,
            address_refused: None,
            maintenance: WindowPosition::default(),
            throttled_until: None,
        }
    }

    fn desired(version: &str) -> DesiredConnection {
        DesiredConnection {
            revision: "r".into(),
            host: "bank.example".into(),
            credential: Some(version.into()),
            credential_expires: None,
            uses_secrets: true,
            authenticates: true,
            target: "t1".into(),
            checks_status_only: false,
            payouts: PayoutSupport::NotStated,
        }
    }

    fn written() -> ProviderConnectionStatus {
        let mut conditions = Conditions::new(1, Timestamp::UNIX_EPOCH);
        conditions.set(ConditionType::Authenticated, true, Reason::CredentialAccepted, "");
        ProviderConnectionStatus {
            observed_generation: Some(1),
            conditions: conditions.merged(&[]),
            health: Some(HealthStatus::Unhealthy),
            risk: Some(ApiRiskTier::High),
            credential: Some(CredentialStatus {
                secret_resource_version: Some("7".into()),
                ..CredentialStatus::default()
            }),
            last_handled_reconcile_at: Some("then".into()),
            ..ProviderConnectionStatus::default()
        }
    }

    #[test]
    fn a_status_of_a_wrong_clock_is_read_as_of_now() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let time = crate::controllers::conditions::time;
        for ahead in [Duration::from_hours(1), Duration::from_hours(24 * 365)] {
            let mut status = written();
            status.credential.as_mut().unwrap().verified_time = Some(time(now + ahead));
            status.throttled_until_time = Some(time(now + ahead));
            let seen = as_of(&status, now);
            assert_eq!(seen.credential.unwrap().verified_time, Some(time(now)));
            let longest = now + ahead.min(MAX_THROTTLE);
            assert_eq!(seen.throttled_until_time, Some(time(longest)), "a rate limit lasts a day at most");
        }
        assert_eq!(as_of(&written(), now), written());
    }

    #[test]
    fn unknown_fields_are_restored_and_known_ones_kept() {
        let live = restored(&fresh(), Some(&written()), &desired("7"));
        assert_eq!((live.health, live.authenticated), (Health::Unhealthy, Some(true)));
        let known = LiveConnection { health: Health::Healthy, authenticated: Some(false), ..fresh() };
        assert_eq!(restored(&known, Some(&written()), &desired("7")), known);
        assert_eq!(restored(&fresh(), None, &desired("7")), fresh());
    }

    #[test]
    fn a_passed_check_is_kept_for_its_target_only() {
        let check = |target: &str, passed| PassedCheck { target: target.into(), passed };
        for (kept, wanted) in [
            (Some(check("t1", true)), true),
            (Some(check("t2", true)), false),
            (Some(check("t1", false)), false),
            // Without the field: a version before it wrote an Unhealthy status.
            (None, false),
        ] {
            let status = ProviderConnectionStatus { passed_check: kept, ..written() };
            assert_eq!(ever_healthy(Some(&status), 1, "t1"), wanted, "{:?}", status.passed_check);
            assert!(unhealthy(Some(&status), 1, "t1"));
        }
        assert!(!ever_healthy(None, 1, "t1") && !unhealthy(None, 1, "t1"));
    }

    #[test]
    fn a_status_of_the_version_before_shows_a_good_health_by_its_generation() {
        for health in [HealthStatus::Healthy, HealthStatus::Degraded] {
            let status = ProviderConnectionStatus { health: Some(health), ..written() };
            assert!(ever_healthy(Some(&status), 1, "t1"));
            assert!(!ever_healthy(Some(&status), 2, "t1"), "edited since");
            assert!(!unhealthy(Some(&status), 1, "t1"));
        }
    }

    #[test]
    fn a_decayed_risk_does_not_restore_degraded() {
        let mut degraded = written();
        degraded.health = Some(HealthStatus::Degraded);
        for (tier, health) in [(RiskTier::High, Health::Degraded), (RiskTier::Low, Health::Healthy)] {
            let live = restored(&LiveConnection { tier, ..fresh() }, Some(&degraded), &desired("7"));
            assert_eq!((live.tier, live.health), (tier, health));
        }
    }

    #[test]
    fn authentication_is_not_restored_for_another_credential() {
        let live = restored(&fresh(), Some(&written()), &desired("8"));
        assert_eq!((live.health, live.authenticated), (Health::Unhealthy, None));
    }

    #[test]
    fn a_request_triggers_one_probe_and_none_at_creation() {
        assert!(!probe_requested(None, Some(&written())));
        assert!(!probe_requested(Some("then"), Some(&written())));
        assert!(probe_requested(Some("now"), Some(&written())));
        assert!(!probe_requested(Some("now"), None));
        let unseen = ProviderConnectionStatus { observed_generation: Some(-1), ..ProviderConnectionStatus::default() };
        assert!(!probe_requested(Some("now"), Some(&unseen)));
    }
}
