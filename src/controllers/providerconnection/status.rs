//! The parts of a connection's status, and the events that a change of it is worth. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::provider_connection::{
    BreakerState, CircuitOverride, CircuitState, CircuitStatus, CredentialStatus, HealthStatus, OverrideMode,
    ProviderConnectionSpec, ProviderConnectionStatus, RiskTier as RiskStatus,
};
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::cluster::events::Note;
use crate::controllers::conditions::{reason_of, seconds, status_of, time};
use crate::controllers::providerconnection::decide::{LiveView, Target};
use crate::domain::breaker::{Effective, Snapshot, State};
use crate::domain::conditions::Status;
use crate::domain::health::{Health, RiskTier};

/// What the credential is; `verifiedTime` moves only when another version of the Secret is accepted.
pub(super) fn credential(
    previous: Option<&ProviderConnectionStatus>,
    target: &Target,
    live: &LiveView,
    now: Timestamp,
) -> Option<CredentialStatus> {
    let expiration_time = target.credential_expires.map(time);
    let version = target.credential.clone()?;
    let old =
        previous.and_then(|s| s.credential.as_ref()).filter(|c| c.secret_resource_version.as_deref() == Some(&version));
    let verified =
        old.and_then(|c| c.verified_time.clone()).or_else(|| (live.authenticated == Some(true)).then(|| time(now)));
    Some(CredentialStatus { secret_resource_version: Some(version), verified_time: verified, expiration_time })
}

/// Events for what changed between two statuses.
pub(super) fn notes(
    wanted: Option<&CircuitOverride>,
    previous: Option<&ProviderConnectionStatus>,
    new: &ProviderConnectionStatus,
    live: &LiveView,
    now: Timestamp,
) -> Vec<Note> {
    let empty = ProviderConnectionStatus::default();
    let old = previous.unwrap_or(&empty);
    let mut notes = Vec::new();
    let reason = |s: &ProviderConnectionStatus| reason_of(&s.conditions, ConditionType::Ready).map(str::to_owned);
    if reason(new).as_deref() == Some(Reason::Verified.as_str()) && reason(old) != reason(new) {
        notes.push(Note::normal(
            EventReason::ConnectionVerified,
            "the provider accepts our calls; it is checked from now on",
        ));
    }
    let refused =
        |s: &ProviderConnectionStatus| status_of(&s.conditions, ConditionType::Authenticated) == Status::False;
    if refused(new) && !refused(old) {
        notes.push(Note::warning(
            EventReason::AuthenticationFailed,
            "the provider refuses the credential; it is tried again at every check: correct the Secret that spec.auth names",
        ));
    }
    let open = |s: &ProviderConnectionStatus| matches!(s.circuit, Some(CircuitStatus::Open | CircuitStatus::HalfOpen));
    if open(new) && !open(old) {
        let why = live.snapshot.reason.map_or("the policy", |r| r.as_str());
        notes.push(Note::warning(
            EventReason::CircuitOpened,
            format!("calls to the provider fail at once ({why}); trials begin when the open time has passed, routes avoid it until one succeeds"),
        ));
    }
    if open(old) && new.circuit == Some(CircuitStatus::Closed) {
        notes.push(Note::normal(
            EventReason::CircuitClosed,
            "trials succeeded: calls pass again and routes may choose it",
        ));
    }
    let throttled = |s: &ProviderConnectionStatus| status_of(&s.conditions, ConditionType::Throttled) == Status::True;
    if throttled(new) && !throttled(old) {
        notes.push(Note::warning(
            EventReason::ProviderThrottled,
            "the provider asked for a pause: calls wait until status.throttledUntilTime and go on by themselves; set \
             spec.rateLimit to what it allows if this comes again",
        ));
    }
    notes.extend(wanted.and_then(|wanted| override_note(wanted, old.circuit, new.circuit, now)));
    let version = |s: &ProviderConnectionStatus| s.credential.as_ref().and_then(|c| c.secret_resource_version.clone());
    if version(old).is_some() && version(new).is_some() && version(old) != version(new) {
        notes.push(Note::normal(
            EventReason::CredentialRotated,
            "the Secret changed: calls use its new content from now on",
        ));
    }
    if old.policy.is_some() && new.policy.is_some() && old.policy != new.policy {
        notes.push(Note::normal(
            EventReason::PolicyChanged,
            "another breaker policy guards the connection from now on; its open time applies from the next opening",
        ));
    }
    notes
}

/// How long an override has still to go; a second is added, so that it is over by then.
pub(super) fn override_left(spec: &ProviderConnectionSpec, now: Timestamp) -> Option<Duration> {
    let until: Timestamp = spec.circuit_override.as_ref()?.until_time.parse().ok()?;
    let left = Duration::try_from(until.duration_since(now)).ok()?;
    Some(left + Duration::from_secs(1))
}

/// An override took or lost its effect: told by what the circuit was and is, so that a restart does not tell it again.
fn override_note(
    wanted: &CircuitOverride,
    old: Option<CircuitStatus>,
    new: Option<CircuitStatus>,
    now: Timestamp,
) -> Option<Note> {
    let (mode, effect) = match wanted.mode {
        OverrideMode::ForcedOpen => (CircuitStatus::ForcedOpen, "calls other than probes fail at once"),
        OverrideMode::ForcedClosed => (CircuitStatus::ForcedClosed, "all calls pass, whatever their outcomes"),
        OverrideMode::Shadow => (CircuitStatus::Shadow, "outcomes are counted and nothing is blocked"),
    };
    let ahead = wanted.until_time.parse::<Timestamp>().is_ok_and(|until| until > now);
    if old != new && new == Some(mode) && ahead {
        let until = &*wanted.until_time;
        let message = format!("{effect} until {until}; remove spec.circuitOverride to end it sooner");
        return Some(Note::normal(EventReason::OverrideApplied, message));
    }
    // The settings in force hold the override, and it is not what the circuit says: its time is over.
    let message = "spec.circuitOverride is past its untilTime: the breaker decides again; remove the field";
    (old != new && old == Some(mode)).then(|| Note::normal(EventReason::OverrideExpired, message))
}

/// The circuit in effect, as the status writes it.
pub(super) fn circuit_status(effective: Effective) -> CircuitStatus {
    match effective {
        Effective::Closed => CircuitStatus::Closed,
        Effective::HalfOpen => CircuitStatus::HalfOpen,
        Effective::Open => CircuitStatus::Open,
        Effective::ForcedOpen => CircuitStatus::ForcedOpen,
        Effective::ForcedClosed => CircuitStatus::ForcedClosed,
        Effective::Shadow => CircuitStatus::Shadow,
    }
}

/// What the checks say, as the status writes it.
pub(super) fn shown_health(live: &LiveView) -> HealthStatus {
    match live.health {
        // What was seen before the work began is no news of now.
        _ if live.maintenance.is_inside() || live.tokenless => HealthStatus::Unknown,
        Health::Healthy => HealthStatus::Healthy,
        Health::Degraded => HealthStatus::Degraded,
        Health::Unhealthy => HealthStatus::Unhealthy,
        Health::Unknown => HealthStatus::Unknown,
    }
}

/// The band of risk, as the status writes it.
pub(super) fn risk(tier: RiskTier) -> RiskStatus {
    match tier {
        RiskTier::Low => RiskStatus::Low,
        RiskTier::Elevated => RiskStatus::Elevated,
        RiskTier::High => RiskStatus::High,
        RiskTier::Critical => RiskStatus::Critical,
    }
}

/// The breaker's own state, as the status keeps it for a restart.
pub(super) fn circuit_state(snapshot: &Snapshot) -> CircuitState {
    CircuitState {
        state: match snapshot.state {
            State::Closed => BreakerState::Closed,
            State::HalfOpen => BreakerState::HalfOpen,
            State::Open => BreakerState::Open,
        },
        last_transition_time: time(snapshot.last_transition),
        epoch: snapshot.epoch,
        opens: snapshot.opens,
        next_trial_time: snapshot.next_trial.map(time),
        reason: snapshot.reason.map(|r| r.as_str().to_owned()),
    }
}

/// The circuit as a restarted operator finds it in the status.
pub(super) fn snapshot(state: &CircuitState) -> Option<Snapshot> {
    Some(Snapshot {
        state: state.state.as_str().parse().ok()?,
        last_transition: seconds(state.last_transition_time.0),
        epoch: state.epoch,
        opens: state.opens,
        next_trial: state.next_trial_time.as_ref().map(|t| t.0),
        reason: state.reason.as_deref().and_then(|r| r.parse().ok()),
    })
}
