//! What a new process does not know yet and its predecessor wrote: the status is the memory. Pure.
//!
//! Without it a restart would first tell of every connection that nothing is known, and a moment later what was known
//! before: two writes for each, and a flap in every dashboard.

use crate::api::v1alpha1::provider_connection::{HealthStatus, ProviderConnectionStatus, RiskTier as RiskStatus};
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::controllers::conditions::{reason_of, status_of};
use crate::controllers::providerconnection::decide::{LiveView, Target};
use crate::domain::conditions::Status;
use crate::domain::health::{Health, RiskTier};

/// `live`, with what it has not found out itself filled in from `stays`: a status that said Ready of the same spec. Of the
/// credential only if it is the same version.
pub fn completed(live: &LiveView, stays: Option<&ProviderConnectionStatus>, target: &Target) -> LiveView {
    let mut live = live.clone();
    let Some(stays) = stays else { return live };
    if live.health == Health::Unknown {
        live.health = match stays.health {
            Some(HealthStatus::Healthy) => Health::Healthy,
            Some(HealthStatus::Degraded) => Health::Degraded,
            Some(HealthStatus::Unhealthy) => Health::Unhealthy,
            Some(HealthStatus::Unknown) | None => Health::Unknown,
        };
        live.slow = reason_of(&stays.conditions, ConditionType::Healthy) == Some(Reason::ResponsesSlow.as_str());
        // The band was recalled and has faded since: what was degraded by nothing else is so no longer.
        if live.health == Health::Degraded && !live.slow && live.tier == RiskTier::Low {
            live.health = Health::Healthy;
        }
    }
    let version = stays.credential.as_ref().and_then(|c| c.secret_resource_version.as_deref());
    if live.authenticated.is_none() && version == target.credential.as_deref() {
        live.authenticated = match status_of(&stays.conditions, ConditionType::Authenticated) {
            Status::True => Some(true),
            Status::False => Some(false),
            Status::Unknown => None,
        };
    }
    live
}

/// The band of risk that was written.
pub fn tier(previous: Option<&ProviderConnectionStatus>) -> RiskTier {
    match previous.and_then(|s| s.risk) {
        Some(RiskStatus::Critical) => RiskTier::Critical,
        Some(RiskStatus::High) => RiskTier::High,
        Some(RiskStatus::Elevated) => RiskTier::Elevated,
        Some(RiskStatus::Low) | None => RiskTier::Low,
    }
}

/// Whether `requested` asks for a check that has not been made. The check that verifies an object at its birth is the one
/// that was asked for at its birth.
pub fn asks(requested: Option<&str>, previous: Option<&ProviderConnectionStatus>) -> bool {
    let met = previous.filter(|s| s.observed_generation.is_some_and(|generation| generation >= 0));
    requested.is_some() && met.is_some_and(|s| s.last_handled_reconcile_at.as_deref() != requested)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::v1alpha1::provider_connection::CredentialStatus;
    use crate::controllers::conditions::Conditions;
    use crate::controllers::providerconnection::decide::Verdict;
    use crate::domain::breaker::{Effective, Snapshot, State};
    use crate::domain::window::Place;

    fn fresh() -> LiveView {
        LiveView {
            revision: "r".into(),
            effective: Effective::Closed,
            snapshot: Snapshot {
                state: State::Closed,
                last_transition: Timestamp::UNIX_EPOCH,
                epoch: 1,
                opens: 0,
                next_trial: None,
                reason: None,
            },
            flapping: false,
            health: Health::Unknown,
            slow: false,
            tier: RiskTier::Low,
            verdict: Verdict::Inconclusive,
            authenticated: None,
            tokenless: false,
            not_allowed: None,
            maintenance: Place::default(),
            throttled_until: None,
        }
    }

    fn target(version: &str) -> Target {
        Target {
            revision: "r".into(),
            host: "bank.example".into(),
            credential: Some(version.into()),
            credential_expires: None,
            uses_secrets: true,
            authenticates: true,
        }
    }

    fn written() -> ProviderConnectionStatus {
        let mut conditions = Conditions::new(1, Timestamp::UNIX_EPOCH);
        conditions.set(ConditionType::Authenticated, true, Reason::CredentialAccepted, "");
        ProviderConnectionStatus {
            observed_generation: Some(1),
            conditions: conditions.merged(&[]),
            health: Some(HealthStatus::Unhealthy),
            risk: Some(RiskStatus::High),
            credential: Some(CredentialStatus {
                secret_resource_version: Some("7".into()),
                ..CredentialStatus::default()
            }),
            last_handled_reconcile_at: Some("then".into()),
            ..ProviderConnectionStatus::default()
        }
    }

    #[test]
    fn a_new_process_believes_what_was_written_until_it_knows_better() {
        let told = completed(&fresh(), Some(&written()), &target("7"));
        assert_eq!((told.health, told.authenticated), (Health::Unhealthy, Some(true)));
        let knows = LiveView { health: Health::Healthy, authenticated: Some(false), ..fresh() };
        assert_eq!(completed(&knows, Some(&written()), &target("7")), knows);
        assert_eq!(completed(&fresh(), None, &target("7")), fresh());
    }

    #[test]
    fn a_band_that_was_recalled_and_has_faded_is_not_what_was_written_any_more() {
        let mut degraded = written();
        degraded.health = Some(HealthStatus::Degraded);
        for (tier, health) in [(RiskTier::High, Health::Degraded), (RiskTier::Low, Health::Healthy)] {
            let told = completed(&LiveView { tier, ..fresh() }, Some(&degraded), &target("7"));
            assert_eq!((told.tier, told.health), (tier, health));
        }
    }

    #[test]
    fn what_was_known_of_another_credential_says_nothing_of_this_one() {
        let told = completed(&fresh(), Some(&written()), &target("8"));
        assert_eq!((told.health, told.authenticated), (Health::Unhealthy, None));
    }

    #[test]
    fn a_request_is_met_once_and_the_one_at_birth_by_the_first_check() {
        assert!(!asks(None, Some(&written())));
        assert!(!asks(Some("then"), Some(&written())));
        assert!(asks(Some("now"), Some(&written())));
        assert!(!asks(Some("now"), None));
        let unseen = ProviderConnectionStatus { observed_generation: Some(-1), ..ProviderConnectionStatus::default() };
        assert!(!asks(Some("now"), Some(&unseen)));
    }
}
