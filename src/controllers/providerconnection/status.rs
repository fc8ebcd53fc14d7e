//! Builds the fields of a connection's status, and the events for its changes. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::provider_connection::{
    BreakerState as ApiBreakerState, CircuitOverride, CircuitState, CircuitStatus, CredentialStatus, HealthStatus,
    OverrideMode, PassedCheck, ProviderConnectionSpec, ProviderConnectionStatus, RiskTier as ApiRiskTier,
};
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::cluster::events::EventDraft;
use crate::controllers::conditions::{reason_of, status_of, time, truncate_to_seconds};
use crate::controllers::providerconnection::inputs::LiveConnection;
use crate::domain::breaker::{BreakerState, EffectiveState, Snapshot};
use crate::domain::conditions::ConditionStatus;
use crate::domain::health::{Health, RiskTier};
use crate::resolve::DesiredConnection;

/// The credential's status; `verifiedTime` changes only when another version of the Secret is accepted.
pub(super) fn credential(
    previous: Option<&ProviderConnectionStatus>,
    desired: &DesiredConnection,
    live: &LiveConnection,
    now: Timestamp,
) -> Option<CredentialStatus> {
    let expiration_time = desired.credential_expires.map(time);
    let version = desired.credential.clone()?;
    let old =
        previous.and_then(|s| s.credential.as_ref()).filter(|c| c.secret_resource_version.as_deref() == Some(&version));
    let verified =
        old.and_then(|c| c.verified_time.clone()).or_else(|| (live.authenticated == Some(true)).then(|| time(now)));
    Some(CredentialStatus { secret_resource_version: Some(version), verified_time: verified, expiration_time })
}

/// Whether a health check has ever passed at `target`.
pub(super) fn passed_check(
    previous: Option<&ProviderConnectionStatus>,
    target: &str,
    ever_healthy: bool,
) -> PassedCheck {
    let old = previous.and_then(|s| s.passed_check.as_ref()).filter(|old| old.target == target);
    PassedCheck { target: target.to_owned(), passed: ever_healthy || old.is_some_and(|old| old.passed) }
}

/// Events for the changes between two statuses.
pub(super) fn events(
    circuit_override: Option<&CircuitOverride>,
    previous: Option<&ProviderConnectionStatus>,
    new: &ProviderConnectionStatus,
    live: &LiveConnection,
    now: Timestamp,
) -> Vec<EventDraft> {
    let empty = ProviderConnectionStatus::default();
    let old = previous.unwrap_or(&empty);
    let mut events = Vec::new();
    let reason = |s: &ProviderConnectionStatus| reason_of(&s.conditions, ConditionType::Ready).map(str::to_owned);
    if reason(new).as_deref() == Some(Reason::Verified.as_str()) && reason(old) != reason(new) {
        events.push(EventDraft::normal(
            EventReason::ConnectionVerified,
            "verified: the provider accepts calls; health checks continue",
        ));
    }
    let is = |s: &ProviderConnectionStatus, type_, status| status_of(&s.conditions, type_) == status;
    let rejected = |s| is(s, ConditionType::Authenticated, ConditionStatus::False);
    if rejected(new) && !rejected(old) {
        let rejected = "credential rejected by the provider: correct the Secret referenced by spec.auth";
        let cause = live.token_fault.unwrap_or(rejected);
        events.push(EventDraft::warning(
            EventReason::AuthenticationFailed,
            format!("{cause}; retried with the next health checks"),
        ));
    }
    let failing = |s: &ProviderConnectionStatus| s.health == Some(HealthStatus::Unhealthy);
    if failing(new) && !failing(old) {
        let healthy = new.conditions.iter().find(|c| c.type_ == ConditionType::Healthy.as_str());
        let message = healthy.map_or("health checks fail; see condition Healthy", |c| c.message.as_str());
        events.push(EventDraft::warning(EventReason::ChecksFailing, message));
    }
    let open = |s: &ProviderConnectionStatus| matches!(s.circuit, Some(CircuitStatus::Open | CircuitStatus::HalfOpen));
    if open(new) && !open(old) {
        let cause = live.circuit.reason.map_or("the policy", |r| r.as_str());
        let failure = live.check_failure.as_ref().map(|f| format!("; last health check: {f}")).unwrap_or_default();
        events.push(EventDraft::warning(
            EventReason::CircuitOpened,
            format!(
                "circuit opened ({cause}): calls fail fast; next trial after the open duration; routes exclude this \
                 bank until it closes{failure}"
            ),
        ));
    }
    if open(old) && new.circuit == Some(CircuitStatus::Closed) {
        events.push(EventDraft::normal(
            EventReason::CircuitClosed,
            "circuit closed: trials succeeded; calls pass and routes include this bank again",
        ));
    }
    let throttled = |s| is(s, ConditionType::Throttled, ConditionStatus::True);
    if throttled(new) && !throttled(old) {
        events.push(EventDraft::warning(
            EventReason::ProviderThrottled,
            "rate limited by the provider: calls delayed until status.throttledUntilTime, or until a check that the \
             annotation busbar.dev/requestedAt sends is accepted; if this recurs, set spec.rateLimit to the provider's \
             limit",
        ));
    }
    events.extend(circuit_override.and_then(|o| override_event(o, old.circuit, new.circuit, now)));
    let version = |s: &ProviderConnectionStatus| s.credential.as_ref().and_then(|c| c.secret_resource_version.clone());
    if version(old).is_some() && version(new).is_some() && version(old) != version(new) {
        events.push(EventDraft::normal(
            EventReason::CredentialRotated,
            "credential Secret changed: calls use the new content",
        ));
    }
    if old.policy.is_some() && new.policy.is_some() && old.policy != new.policy {
        events.push(EventDraft::normal(
            EventReason::PolicyChanged,
            "breaker policy changed; its open duration applies from the next opening",
        ));
    }
    events
}

/// Time until the circuit override expires, plus one second, so that it has expired by then.
pub(super) fn override_remaining(spec: &ProviderConnectionSpec, now: Timestamp) -> Option<Duration> {
    let until: Timestamp = spec.circuit_override.as_ref()?.until_time.parse().ok()?;
    let remaining = Duration::try_from(until.duration_since(now)).ok()?;
    Some(remaining + Duration::from_secs(1))
}

/// Event for an override that took effect or expired. Compares the old and the new circuit, so that a restart does not
/// repeat it.
fn override_event(
    circuit_override: &CircuitOverride,
    old: Option<CircuitStatus>,
    new: Option<CircuitStatus>,
    now: Timestamp,
) -> Option<EventDraft> {
    let (mode, effect) = match circuit_override.mode {
        OverrideMode::ForcedOpen => {
            (CircuitStatus::ForcedOpen, "circuit forced open: calls other than probes fail fast")
        }
        OverrideMode::ForcedClosed => {
            (CircuitStatus::ForcedClosed, "circuit forced closed: all calls pass, whatever their outcomes")
        }
        OverrideMode::Shadow => {
            (CircuitStatus::Shadow, "circuit in shadow mode: outcomes are counted, nothing is blocked")
        }
    };
    let active = circuit_override.until_time.parse::<Timestamp>().is_ok_and(|until| until > now);
    if old != new && new == Some(mode) && active {
        let until = &*circuit_override.until_time;
        let message = format!("{effect} until {until}; remove spec.circuitOverride to end it sooner");
        return Some(EventDraft::normal(EventReason::OverrideApplied, message));
    }
    // The spec still has the override, but the circuit no longer shows it: it has expired.
    let message =
        "circuit override expired (spec.circuitOverride.untilTime): the breaker decides again; remove the field";
    (old != new && old == Some(mode)).then(|| EventDraft::normal(EventReason::OverrideExpired, message))
}

/// API form of the circuit state in effect.
pub(super) fn circuit_status(effective: EffectiveState) -> CircuitStatus {
    match effective {
        EffectiveState::Closed => CircuitStatus::Closed,
        EffectiveState::HalfOpen => CircuitStatus::HalfOpen,
        EffectiveState::Open => CircuitStatus::Open,
        EffectiveState::ForcedOpen => CircuitStatus::ForcedOpen,
        EffectiveState::ForcedClosed => CircuitStatus::ForcedClosed,
        EffectiveState::Shadow => CircuitStatus::Shadow,
    }
}

/// API form of the health; Unknown while checks cannot be sent.
pub(super) fn health_status(live: &LiveConnection) -> HealthStatus {
    match live.health {
        // Results from before the window or the token fault are outdated.
        _ if live.maintenance.is_inside() || live.token_missing => HealthStatus::Unknown,
        Health::Healthy => HealthStatus::Healthy,
        Health::Degraded => HealthStatus::Degraded,
        Health::Unhealthy => HealthStatus::Unhealthy,
        Health::Unknown => HealthStatus::Unknown,
    }
}

/// API form of the risk tier.
pub(super) fn risk_status(tier: RiskTier) -> ApiRiskTier {
    match tier {
        RiskTier::Low => ApiRiskTier::Low,
        RiskTier::Elevated => ApiRiskTier::Elevated,
        RiskTier::High => ApiRiskTier::High,
        RiskTier::Critical => ApiRiskTier::Critical,
    }
}

/// The breaker state that the status stores for a restart.
pub(super) fn circuit_state(snapshot: &Snapshot) -> CircuitState {
    CircuitState {
        state: match snapshot.state {
            BreakerState::Closed => ApiBreakerState::Closed,
            BreakerState::HalfOpen => ApiBreakerState::HalfOpen,
            BreakerState::Open => ApiBreakerState::Open,
        },
        last_transition_time: time(snapshot.last_transition),
        epoch: snapshot.epoch,
        opens: snapshot.opens,
        next_trial_time: snapshot.next_trial.map(time),
        reason: snapshot.reason.map(|r| r.as_str().to_owned()),
    }
}

/// The breaker state that a restarted operator reads from the status.
pub(super) fn restored_circuit(state: &CircuitState) -> Option<Snapshot> {
    Some(Snapshot {
        state: state.state.as_str().parse().ok()?,
        last_transition: truncate_to_seconds(state.last_transition_time.0),
        epoch: state.epoch,
        opens: state.opens,
        next_trial: state.next_trial_time.as_ref().map(|t| t.0),
        reason: state.reason.as_deref().and_then(|r| r.parse().ok()),
    })
}
