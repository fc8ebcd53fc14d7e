//! Computes a connection's status and the steps that bring the registry to the spec. Pure and total.
//!
//! `Ready` describes the spec, not the bank: it is True once the spec is accepted, its references resolve and one
//! verification attempt has ended, whatever the provider responded, unless it rejected the credential. Once True for a
//! generation, only a missing reference or an invalid spec makes it False; the state of the bank is in `Healthy`,
//! `Authenticated` and `CircuitOpen`. No status is written before the first verification result.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::{HealthStatus, ProviderConnectionStatus};
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::conditions::{Conditions, reason_of, status_of, time, unused_fields_note};
use crate::controllers::providerconnection::inputs::{ConnectionInputs, LiveConnection, VerificationState};
use crate::controllers::providerconnection::status::{
    circuit_state, circuit_status, credential, events, health_status, override_remaining, passed_check,
    restored_circuit, risk_status,
};
use crate::controllers::providerconnection::{restore, throttle};
use crate::controllers::{DEFAULT_REQUEUE, Decision};
use crate::domain::breaker::{EffectiveState, Snapshot};
use crate::domain::conditions::ConditionStatus;
use crate::domain::health::{Health, RiskTier};
use crate::domain::time::Now;
use crate::resolve::{DesiredConnection, PayoutSupport, SpecError};

/// The state of a connection whose credential the provider itself rejects.
const REJECTED: &str = "credential rejected by the provider: correct the Secret referenced by spec.auth";

const SUSPENDED: &str = "spec.suspend is true: no probes, no syncs, no calls; open payouts are still followed";

/// What Ready says in addition where any page with an expected status passes the health check.
const STATUS_ONLY: &str = "; health checks compare the status only, and an HTML page would pass: set \
                           healthCheck.expectedContentType or healthCheck.expectedJSONPointer";

/// What Ready says in addition where payouts go through a bank that cannot be asked about them.
const MANUAL_ONLY: &str = "; payouts with an unknown outcome are ManualOnly: the bank cannot be asked, because neither \
                           inquiry nor recall is defined by the profile and left on by spec.payouts";

/// One step of `act`.
#[derive(Clone, Debug, PartialEq)]
pub enum ConnectionStep {
    /// Start or update the connection with the observed settings.
    Apply {
        /// Initial circuit state of a new connection.
        circuit: Option<Snapshot>,
        /// Initial end of the provider's rate limit of a new connection.
        throttled_until: Option<Timestamp>,
        /// Whether the endpoint has passed a health check before.
        ever_healthy: bool,
        /// Whether its last health checks had failed.
        unhealthy: bool,
    },
    /// Set the initial risk tier of the new connection.
    RestoreRisk(RiskTier),
    /// Stop the connection: its credential is gone.
    Remove,
    /// Trigger an unscheduled probe.
    Probe,
}

/// Computes status, steps and events.
pub fn decide(
    object: &ProviderConnection,
    previous: Option<&ProviderConnectionStatus>,
    inputs: &ConnectionInputs,
    now: Now,
) -> Decision<ProviderConnectionStatus, ConnectionStep> {
    let previous = previous.map(|status| restore::as_of(status, now.wall));
    let previous = previous.as_ref();
    let desired = match &inputs.desired {
        Ok(desired) => desired,
        Err(error) => return spec_rejected(object, previous, inputs, error, now),
    };
    let Some(live) = inputs.live.as_ref().filter(|live| live.revision == desired.revision) else {
        // Requeued at once: the status is computed from the connection that this starts.
        let circuit = previous.and_then(|s| s.circuit_state.as_ref()).and_then(restored_circuit);
        let throttled_until = throttle::remaining(previous, now.wall);
        let generation = object.metadata.generation.unwrap_or_default();
        let ever_healthy = restore::ever_healthy(previous, generation, &desired.target);
        let unhealthy = restore::unhealthy(previous, generation, &desired.target);
        let mut steps = vec![ConnectionStep::Apply { circuit, throttled_until, ever_healthy, unhealthy }];
        let tier = restore::tier(previous);
        if inputs.live.is_none() && tier > RiskTier::Low {
            steps.push(ConnectionStep::RestoreRisk(tier));
        }
        return Decision { status: None, steps, events: Vec::new(), requeue_after: Duration::ZERO };
    };
    let throttled_until = throttle::to_report(live, previous, now.wall);
    let requeue_after = [
        override_remaining(&object.spec, now.wall),
        live.maintenance.time_left(now.wall),
        throttled_until.map(|until| throttle::requeue_after(until, now.wall)),
    ]
    .into_iter()
    .flatten()
    .fold(if desired.uses_secrets { inputs.secrets_valid_for } else { DEFAULT_REQUEUE }, Duration::min);
    let generation = object.metadata.generation.unwrap_or_default();
    let was_ready = previous.is_some_and(|s| {
        s.observed_generation == Some(generation)
            && status_of(&s.conditions, ConditionType::Ready) == ConditionStatus::True
    });
    if live.verification == VerificationState::Pending {
        // The written status stays until the check has completed, after a restart too.
        return Decision { status: None, steps: Vec::new(), events: Vec::new(), requeue_after };
    }
    let requested = object.requested_at();
    let steps = if restore::probe_requested(requested, previous) { vec![ConnectionStep::Probe] } else { Vec::new() };
    let last_ready = previous.filter(|_| was_ready);
    let live = &restore::restored(live, last_ready, desired);
    let mut conditions = Conditions::new(generation, now.wall);
    ready(&mut conditions, object, last_ready, inputs, live);
    healthy(&mut conditions, live);
    authenticated(&mut conditions, desired, live);
    circuit(&mut conditions, live);
    conditions.set_if(
        throttled_until.is_some(),
        ConditionType::Throttled,
        Reason::RateLimited,
        "rate limited by the provider from status.throttledSinceTime to status.throttledUntilTime: calls delayed, probes \
         skipped; to end it sooner, set the annotation busbar.dev/requestedAt: one check is sent, and the rate limit ends \
         if the provider accepts it",
    );
    conditions.set_if(object.spec.suspend, ConditionType::Suspended, Reason::Suspended, SUSPENDED);

    let status = ProviderConnectionStatus {
        observed_generation: Some(generation),
        conditions: conditions.merged(previous.map_or(&[], |s| &s.conditions)),
        last_handled_reconcile_at: requested.map(str::to_owned),
        health: Some(health_status(live)),
        passed_check: Some(passed_check(previous, &desired.target, live.ever_healthy)),
        circuit: Some(circuit_status(live.effective)),
        circuit_state: Some(circuit_state(&live.circuit)),
        risk: Some(risk_status(live.tier)),
        credential: credential(previous, desired, live, now.wall),
        throttled_since_time: throttled_until.map(|_| time(throttle::since(previous, now.wall))),
        throttled_until_time: throttled_until.map(time),
        host: Some(desired.host.clone()),
        policy: inputs.policy.as_deref().cloned(),
        consumers: Some(inputs.consumers.clone()),
    };
    let events = events(object.spec.circuit_override.as_ref(), previous, &status, live, now.wall);
    Decision { status: Some(status), steps, events, requeue_after }
}

/// Whether a running connection must stop: its credential is gone, or its spec restricts access in a way this version
/// cannot enforce, and continuing would leave open what its owner has just closed.
pub fn requires_removal(reason: Reason) -> bool {
    use Reason::{NotImplemented, SecretKeyInvalid, SecretKeyMissing, SecretNotFound};
    matches!(reason, SecretNotFound | SecretKeyMissing | SecretKeyInvalid | NotImplemented)
}

/// The decision for a spec that cannot be used. A running connection continues unless [`requires_removal`] holds.
fn spec_rejected(
    object: &ProviderConnection,
    previous: Option<&ProviderConnectionStatus>,
    inputs: &ConnectionInputs,
    error: &SpecError,
    now: Now,
) -> Decision<ProviderConnectionStatus, ConnectionStep> {
    let generation = object.metadata.generation.unwrap_or_default();
    let remove = requires_removal(error.reason);
    let steps = if remove && inputs.live.is_some() { vec![ConnectionStep::Remove] } else { Vec::new() };
    let live = inputs.live.as_ref().filter(|_| !remove);
    let mut conditions = Conditions::new(generation, now.wall);
    let unevaluated = [ConditionType::Authenticated, ConditionType::Healthy].map(|t| (t, ConditionStatus::Unknown));
    // The health of a running connection is still evaluated.
    let unevaluated = if live.is_some() { &unevaluated[..1] } else { &unevaluated[..] };
    let requeue_after = conditions.reject_spec(error, unevaluated, inputs.secrets_valid_for);
    if let Some(live) = live {
        healthy(&mut conditions, live);
        circuit(&mut conditions, live);
    }
    conditions.set_if(object.spec.suspend, ConditionType::Suspended, Reason::Suspended, SUSPENDED);
    let old = previous.cloned().unwrap_or_default();
    let status = ProviderConnectionStatus {
        observed_generation: Some(generation),
        conditions: conditions.merged(&old.conditions),
        last_handled_reconcile_at: object.requested_at().map(str::to_owned),
        health: Some(live.map_or(HealthStatus::Unknown, health_status)),
        passed_check: old.passed_check,
        circuit: live.map(|l| circuit_status(l.effective)).or(old.circuit),
        circuit_state: live.map(|l| circuit_state(&l.circuit)).or(old.circuit_state),
        risk: live.map(|l| risk_status(l.tier)),
        credential: old.credential,
        // The provider's rate limit applies whatever the spec says.
        throttled_since_time: throttle::remaining(previous, now.wall)
            .map(|_| time(throttle::since(previous, now.wall))),
        throttled_until_time: throttle::remaining(previous, now.wall).map(time),
        host: old.host,
        policy: inputs.policy.as_deref().cloned(),
        consumers: Some(inputs.consumers.clone()),
    };
    Decision { status: Some(status), steps, events: Vec::new(), requeue_after }
}

fn ready(
    conditions: &mut Conditions,
    object: &ProviderConnection,
    last_ready: Option<&ProviderConnectionStatus>,
    inputs: &ConnectionInputs,
    live: &LiveConnection,
) {
    let unused = format!("{}{}", payouts_note(inputs), unused_fields_note(&inputs.unused_fields));
    let was_verified =
        last_ready.is_some_and(|s| reason_of(&s.conditions, ConditionType::Ready) == Some(Reason::Verified.as_str()));
    match live.verification {
        VerificationState::Rejected if last_ready.is_none() => {
            let message = live.token_fault.unwrap_or(REJECTED);
            conditions.set(ConditionType::Ready, false, Reason::AuthenticationFailed, message);
            conditions.set(ConditionType::Reconciling, true, Reason::AuthenticationFailed, message);
        }
        // The name may resolve to another address without a change of the object: Reconciling, not Stalled.
        VerificationState::Inconclusive if last_ready.is_none() && live.address_refused.is_some() => {
            let cause = live.address_refused.as_deref().unwrap_or_default();
            let message = format!("{cause}; the host name is resolved again at every health check");
            conditions.set(ConditionType::Ready, false, Reason::AddressNotAllowed, message.clone());
            conditions.set(ConditionType::Reconciling, true, Reason::AddressNotAllowed, message);
        }
        // An outage, a restart or a bad rotation does not revoke an earlier verification.
        state if state == VerificationState::Verified || was_verified => {
            let status_only = inputs.desired.as_ref().is_ok_and(|desired| desired.checks_status_only);
            let checked = if status_only { STATUS_ONLY } else { "" };
            let message = format!("verified: the provider accepts calls{checked}{unused}");
            conditions.set(ConditionType::Ready, true, Reason::Verified, message);
        }
        state => {
            let cause = if object.spec.suspend {
                "the connection is suspended (spec.suspend)"
            } else if live.maintenance.is_inside() {
                "inside a maintenance window (spec.maintenance)"
            } else if state == VerificationState::NotAttempted {
                "the health check is passive"
            } else {
                "no conclusive response from the provider yet; see condition Healthy"
            };
            let message = format!("accepted, not verified: {cause}{unused}");
            conditions.set(ConditionType::Ready, true, Reason::Unverified, message);
        }
    }
}

/// What Ready says of payouts: nothing, unless a route sends some through a bank that cannot be asked about them, or the
/// spec sets `payouts`.
fn payouts_note(inputs: &ConnectionInputs) -> &'static str {
    match inputs.desired.as_ref().map(|desired| desired.payouts) {
        Ok(PayoutSupport::ManualOnly) => MANUAL_ONLY,
        Ok(PayoutSupport::NotStated) if inputs.consumers.bank_routes > 0 => MANUAL_ONLY,
        _ => "",
    }
}

fn healthy(conditions: &mut Conditions, live: &LiveConnection) {
    let failing = |subject: &str, consequence: &str| match &live.check_failure {
        Some(failure) => Cow::from(format!("{subject}: {failure}; {consequence}; {}", failure.remedy())),
        None => Cow::from(format!("{subject}: unexpected response or none from the provider; {consequence}")),
    };
    let (status, reason, message) = match live.health {
        _ if live.maintenance.is_inside() => (
            ConditionStatus::Unknown,
            Reason::Maintenance,
            "not checked: inside a maintenance window (spec.maintenance)".into(),
        ),
        // A check that could not be sent says nothing about the bank.
        _ if live.token_missing => (
            ConditionStatus::Unknown,
            Reason::TokenUnavailable,
            "not checked: no access token available; see condition Authenticated".into(),
        ),
        Health::Healthy => (ConditionStatus::True, Reason::ChecksPassing, "health checks pass".into()),
        Health::Degraded if !live.slow => (
            ConditionStatus::True,
            Reason::RiskElevated,
            "health checks pass, but the recent ratio of failed or slow calls is elevated; see status.risk".into(),
        ),
        Health::Degraded => (
            ConditionStatus::True,
            Reason::ResponsesSlow,
            "health checks pass, but slower than spec.healthCheck.latencyThreshold".into(),
        ),
        Health::Unhealthy => {
            (ConditionStatus::False, Reason::ChecksFailing, failing("health checks fail", "checks continue"))
        }
        Health::Unknown if live.verification == VerificationState::Inconclusive => (
            ConditionStatus::Unknown,
            Reason::ChecksFailing,
            failing("first health checks failed", "fewer than spec.healthCheck.unhealthyThreshold so far"),
        ),
        Health::Unknown => (ConditionStatus::Unknown, Reason::NotChecked, "no health check has completed yet".into()),
    };
    conditions.set(ConditionType::Healthy, status, reason, message);
}

fn authenticated(conditions: &mut Conditions, desired: &DesiredConnection, live: &LiveConnection) {
    let (status, reason, message) = match live.authenticated {
        _ if !desired.authenticates => (
            ConditionStatus::Unknown,
            Reason::CredentialNotRequired,
            "not authenticated: spec.auth is not set; calls carry no credential",
        ),
        _ if live.token_missing => (
            ConditionStatus::Unknown,
            Reason::TokenUnavailable,
            live.token_fault.unwrap_or(
                "no access token available: the token endpoint fails, or the rotated refresh token could not be stored; \
                 calls fail until it is",
            ),
        ),
        Some(true) => (ConditionStatus::True, Reason::CredentialAccepted, "credential accepted by the provider"),
        Some(false) => (
            ConditionStatus::False,
            Reason::AuthenticationFailed,
            live.token_fault.unwrap_or(REJECTED),
        ),
        None => (
            ConditionStatus::Unknown,
            Reason::Unverified,
            "no response has shown yet whether the credential is accepted",
        ),
    };
    conditions.set(ConditionType::Authenticated, status, reason, message);
}

fn circuit(conditions: &mut Conditions, live: &LiveConnection) {
    let (reason, message) = match live.effective {
        EffectiveState::Open if live.flapping => {
            (Reason::Flapping, "circuit open: calls fail fast; it opened repeatedly within the last hour")
        }
        EffectiveState::Open => (Reason::CircuitOpen, "circuit open: calls fail fast until a trial succeeds"),
        EffectiveState::HalfOpen => {
            (Reason::CircuitHalfOpen, "circuit half-open: trial calls decide whether it closes; payouts wait")
        }
        EffectiveState::ForcedOpen => {
            (Reason::ForcedOpen, "circuit forced open by spec.circuitOverride: calls fail fast")
        }
        EffectiveState::Closed | EffectiveState::ForcedClosed | EffectiveState::Shadow => return,
    };
    conditions.set(ConditionType::CircuitOpen, true, reason, message);
}
