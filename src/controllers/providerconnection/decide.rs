//! What a connection's status says, and what is to be done. Pure and total.
//!
//! `Ready` tells of the spec, not of the bank: it is True once the spec is accepted, the references resolve and one
//! verification attempt has ended, whatever the provider answered, unless it refused the credential. Once True for a
//! generation only a missing reference or an invalid spec takes it away; how the bank is doing is told by `Healthy`,
//! `Authenticated` and `CircuitOpen`. Nothing is written before the first verdict: an object is in progress until then.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::{
    ConnectionConsumers, HealthStatus, PolicyStatus, ProviderConnectionStatus,
};
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::cluster::stores::Watched as _;
use crate::controllers::conditions::{Conditions, reason_of, status_of, time};
use crate::controllers::providerconnection::status::{
    circuit_state, circuit_status, credential, notes, override_left, risk, shown_health, snapshot,
};
use crate::controllers::providerconnection::{memory, throttle};
use crate::controllers::resolve::Problem;
use crate::controllers::{Decision, IDLE, USER_MUST_ACT};
use crate::domain::breaker::{Effective, Snapshot};
use crate::domain::conditions::Status;
use crate::domain::health::{Health, RiskTier};
use crate::domain::time::Now;
use crate::domain::window::Place;

/// What the first verification attempt, or a later one for another credential, came to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Still under way.
    Pending,
    /// The provider accepted us.
    Verified,
    /// The provider refused the credential.
    Refused,
    /// No verdict: a time-out, a 5xx, no connection.
    Inconclusive,
    /// There is no attempt: the check is passive, or the connection is suspended.
    NoAttempt,
}

/// How the live connection is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveView {
    /// Revision of the settings it runs on.
    pub revision: String,
    /// The circuit, overlays included.
    pub effective: Effective,
    /// The breaker's own state.
    pub snapshot: Snapshot,
    /// Opened again and again within the hour.
    pub flapping: bool,
    /// How the provider is doing.
    pub health: Health,
    /// Whether its checks answer, but slowly.
    pub slow: bool,
    /// The band of its risk.
    pub tier: RiskTier,
    /// What is known of the credential.
    pub verdict: Verdict,
    /// Whether the last call that could tell had its credential accepted.
    pub authenticated: Option<bool>,
    /// Whether calls cannot be made for want of an access token.
    pub tokenless: bool,
    /// Why the address that its name leads to is not connected to.
    pub not_allowed: Option<String>,
    /// Whether it is in a maintenance window.
    pub maintenance: Place,
    /// Until when the provider asked to be left alone, while that is so.
    pub throttled_until: Option<Timestamp>,
}

/// What `observe` saw.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The revision of the settings the spec resolves to, or why it does not.
    pub target: Result<Target, Problem>,
    /// The live connection, if there is one for this very object.
    pub live: Option<LiveView>,
    /// The policy in effect.
    pub policy: Option<PolicyStatus>,
    /// Set fields that no code reads yet.
    pub unread: Vec<&'static str>,
    /// Who uses the connection.
    pub consumers: ConnectionConsumers,
    /// How much longer what was read of the Secrets is good.
    pub secrets_left: Duration,
}

/// What the spec resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Revision of the settings.
    pub revision: String,
    /// Host that is called.
    pub host: String,
    /// Version of the credential's Secret.
    pub credential: Option<String>,
    /// When the certificate that calls are made with ends.
    pub credential_expires: Option<Timestamp>,
    /// Whether any Secret is named.
    pub uses_secrets: bool,
    /// Whether calls carry a credential.
    pub authenticates: bool,
}

/// One step of `act`.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Bring the live connection to the observed settings; a new one starts from this circuit and in this pause.
    Apply(Option<Snapshot>, Option<Timestamp>),
    /// Let the live connection, which is new, start from this band of risk.
    Recall(RiskTier),
    /// End the live connection: its credential is gone.
    Remove,
    /// Probe out of turn.
    Probe,
}

/// Judges.
pub fn decide(
    object: &ProviderConnection,
    previous: Option<&ProviderConnectionStatus>,
    observed: &Observed,
    now: Now,
) -> Decision<ProviderConnectionStatus, Step> {
    let target = match &observed.target {
        Ok(target) => target,
        Err(problem) => return refused(object, previous, observed, problem, now),
    };
    let Some(live) = observed.live.as_ref().filter(|live| live.revision == target.revision) else {
        // Look again at once, at what the live connection says then.
        let restored = previous.and_then(|s| s.circuit_state.as_ref()).and_then(snapshot);
        let mut steps = vec![Step::Apply(restored, throttle::left(previous, now.wall))];
        let known = memory::tier(previous);
        if observed.live.is_none() && known > RiskTier::Low {
            steps.push(Step::Recall(known));
        }
        return Decision { status: None, steps, notes: Vec::new(), next: Duration::ZERO };
    };
    let next = if target.uses_secrets { observed.secrets_left } else { IDLE };
    let next = override_left(&object.spec, now.wall).map_or(next, |left| next.min(left));
    let next = live.maintenance.left(now.wall).map_or(next, |left| next.min(left));
    let throttled = throttle::shown(live, previous, now.wall);
    let next = throttled.map_or(next, |until| next.min(throttle::wait(until, now.wall)));
    let generation = object.metadata.generation.unwrap_or_default();
    let was_ready = previous.is_some_and(|s| {
        s.observed_generation == Some(generation) && status_of(&s.conditions, ConditionType::Ready) == Status::True
    });
    if live.verdict == Verdict::Pending {
        // A check is under way: whatever was written stands until it has spoken, after a restart too.
        return Decision { status: None, steps: Vec::new(), notes: Vec::new(), next };
    }
    let requested = object.requested_at();
    let steps = if memory::asks(requested, previous) { vec![Step::Probe] } else { Vec::new() };
    let stays = previous.filter(|_| was_ready);
    let live = &memory::completed(live, stays, target);
    let mut conditions = Conditions::new(generation, now.wall);
    ready(&mut conditions, object, stays, observed, live);
    healthy(&mut conditions, live);
    authenticated(&mut conditions, target, live);
    circuit(&mut conditions, live);
    conditions.set_if(throttled.is_some(), ConditionType::Throttled, Reason::RateLimited, throttle::MESSAGE);
    conditions.set_if(
        object.spec.suspend,
        ConditionType::Suspended,
        Reason::Suspended,
        "spec.suspend is true: no probes, no syncs, no calls",
    );

    let status = ProviderConnectionStatus {
        observed_generation: Some(generation),
        conditions: conditions.merged(previous.map_or(&[], |s| &s.conditions)),
        last_handled_reconcile_at: requested.map(str::to_owned),
        health: Some(shown_health(live)),
        circuit: Some(circuit_status(live.effective)),
        circuit_state: Some(circuit_state(&live.snapshot)),
        risk: Some(risk(live.tier)),
        credential: credential(previous, target, live, now.wall),
        throttled_until_time: throttled.map(time),
        host: Some(target.host.clone()),
        policy: observed.policy.clone(),
        consumers: Some(observed.consumers.clone()),
    };
    let notes = notes(object.spec.circuit_override.as_ref(), previous, &status, live, now.wall);
    Decision { status: Some(status), steps, notes, next }
}

/// Whether a running connection must not go on as it was: its credential is gone, or it asks for rights that cannot be
/// honoured, and to go on would leave open what its owner has just closed.
pub fn ends(reason: Reason) -> bool {
    use Reason::{NotImplemented, SecretKeyInvalid, SecretKeyMissing, SecretNotFound};
    matches!(reason, SecretNotFound | SecretKeyMissing | SecretKeyInvalid | NotImplemented)
}

/// The spec cannot be put to work. A running connection goes on as it was, unless [`ends`] says otherwise.
fn refused(
    object: &ProviderConnection,
    previous: Option<&ProviderConnectionStatus>,
    observed: &Observed,
    problem: &Problem,
    now: Now,
) -> Decision<ProviderConnectionStatus, Step> {
    let generation = object.metadata.generation.unwrap_or_default();
    let steps = if ends(problem.reason) && observed.live.is_some() { vec![Step::Remove] } else { Vec::new() };
    let live = observed.live.as_ref().filter(|_| !ends(problem.reason));
    let mut conditions = Conditions::new(generation, now.wall);
    conditions.set(ConditionType::Ready, false, problem.reason, problem.message.clone());
    match live {
        Some(live) => healthy(&mut conditions, live),
        None => conditions.set(ConditionType::Healthy, Status::Unknown, problem.reason, "not checked: see Ready"),
    }
    conditions.set(ConditionType::Authenticated, Status::Unknown, problem.reason, "not checked: see Ready");
    let (type_, next) = if problem.waiting {
        (ConditionType::Reconciling, observed.secrets_left)
    } else {
        (ConditionType::Stalled, USER_MUST_ACT)
    };
    conditions.set(type_, true, problem.reason, problem.message.clone());
    if let Some(live) = live {
        circuit(&mut conditions, live);
    }
    conditions.set_if(
        object.spec.suspend,
        ConditionType::Suspended,
        Reason::Suspended,
        "spec.suspend is true: no probes, no syncs, no calls",
    );
    let old = previous.cloned().unwrap_or_default();
    let status = ProviderConnectionStatus {
        observed_generation: Some(generation),
        conditions: conditions.merged(&old.conditions),
        last_handled_reconcile_at: object.requested_at().map(str::to_owned),
        health: Some(live.map_or(HealthStatus::Unknown, shown_health)),
        circuit: live.map(|l| circuit_status(l.effective)).or(old.circuit),
        circuit_state: live.map(|l| circuit_state(&l.snapshot)).or(old.circuit_state),
        risk: live.map(|l| risk(l.tier)),
        credential: old.credential,
        // The pause is the provider's, whatever the spec says now.
        throttled_until_time: throttle::left(previous, now.wall).map(time),
        host: old.host,
        policy: observed.policy.clone(),
        consumers: Some(observed.consumers.clone()),
    };
    Decision { status: Some(status), steps, notes: Vec::new(), next }
}

fn ready(
    conditions: &mut Conditions,
    object: &ProviderConnection,
    stays: Option<&ProviderConnectionStatus>,
    observed: &Observed,
    live: &LiveView,
) {
    let unread = if observed.unread.is_empty() {
        String::new()
    } else {
        format!("; not used by this version yet: spec.{}", observed.unread.join(", spec."))
    };
    let was_verified =
        stays.is_some_and(|s| reason_of(&s.conditions, ConditionType::Ready) == Some(Reason::Verified.as_str()));
    match live.verdict {
        Verdict::Refused if stays.is_none() => {
            let message = "the provider refused the credential: correct the Secret that spec.auth names";
            conditions.set(ConditionType::Ready, false, Reason::AuthenticationFailed, message);
            conditions.set(ConditionType::Reconciling, true, Reason::AuthenticationFailed, message);
        }
        // What the name leads to may change without anybody's touching the object: in progress, not stalled.
        Verdict::Inconclusive if stays.is_none() && live.not_allowed.is_some() => {
            let why = live.not_allowed.as_deref().unwrap_or_default();
            let message = format!("{why}; the name is looked up again at every check");
            conditions.set(ConditionType::Ready, false, Reason::AddressNotAllowed, message.clone());
            conditions.set(ConditionType::Reconciling, true, Reason::AddressNotAllowed, message);
        }
        Verdict::Verified => {
            conditions.set(
                ConditionType::Ready,
                true,
                Reason::Verified,
                format!("the provider accepts our calls{unread}"),
            );
        }
        // A verdict once given is not taken back by an outage, a restart or a bad rotation.
        _ if was_verified => {
            conditions.set(
                ConditionType::Ready,
                true,
                Reason::Verified,
                format!("the provider accepts our calls{unread}"),
            );
        }
        _ => {
            let why = if object.spec.suspend {
                "the connection is suspended"
            } else if live.maintenance.is_inside() {
                "the connection is in a maintenance window"
            } else if live.verdict == Verdict::NoAttempt {
                "the health check is passive"
            } else {
                "the provider has not answered usefully yet; see Healthy"
            };
            conditions.set(
                ConditionType::Ready,
                true,
                Reason::Unverified,
                format!("accepted, not verified: {why}{unread}"),
            );
        }
    }
}

fn healthy(conditions: &mut Conditions, live: &LiveView) {
    let (status, reason, message) = match live.health {
        _ if live.maintenance.is_inside() => (
            Status::Unknown,
            Reason::Maintenance,
            "not checked: spec.maintenance says that the provider is being worked on",
        ),
        // A check that could not be sent says nothing about the bank.
        _ if live.tokenless => {
            (Status::Unknown, Reason::TokenUnavailable, "not checked: no access token is to be had; see Authenticated")
        }
        Health::Healthy => (Status::True, Reason::ChecksPassing, "checks pass"),
        Health::Degraded if !live.slow => (
            Status::True,
            Reason::RiskElevated,
            "checks pass, but too many calls failed or were slow lately: see status.risk",
        ),
        Health::Degraded => {
            (Status::True, Reason::ResponsesSlow, "checks pass, but slower than healthCheck.latencyThreshold")
        }
        Health::Unhealthy => {
            (Status::False, Reason::ChecksFailing, "checks fail: the provider does not answer as expected")
        }
        Health::Unknown if live.verdict == Verdict::Inconclusive => {
            (Status::Unknown, Reason::ChecksFailing, "the first checks failed; too few to judge")
        }
        Health::Unknown => (Status::Unknown, Reason::NotChecked, "no check has spoken yet"),
    };
    conditions.set(ConditionType::Healthy, status, reason, message);
}

fn authenticated(conditions: &mut Conditions, target: &Target, live: &LiveView) {
    let (status, reason, message) = match live.authenticated {
        _ if !target.authenticates => {
            (Status::Unknown, Reason::CredentialNotRequired, "spec.auth is not set: calls carry no credential")
        }
        _ if live.tokenless => (
            Status::Unknown,
            Reason::TokenUnavailable,
            "no access token is to be had: the token endpoint fails, or a replaced refresh token cannot be kept; calls fail \
             until it is",
        ),
        Some(true) => (Status::True, Reason::CredentialAccepted, "the provider accepts the credential"),
        Some(false) => (
            Status::False,
            Reason::AuthenticationFailed,
            "the provider refuses the credential: correct the Secret that spec.auth names",
        ),
        None => (Status::Unknown, Reason::Unverified, "no answer has shown yet whether the credential is accepted"),
    };
    conditions.set(ConditionType::Authenticated, status, reason, message);
}

fn circuit(conditions: &mut Conditions, live: &LiveView) {
    let (reason, message) = match live.effective {
        Effective::Open if live.flapping => {
            (Reason::Flapping, "calls fail at once: the circuit opened again and again")
        }
        Effective::Open => (Reason::CircuitOpen, "calls fail at once until a trial succeeds"),
        Effective::HalfOpen => (Reason::CircuitHalfOpen, "trials decide whether the circuit closes; payouts wait"),
        Effective::ForcedOpen => (Reason::ForcedOpen, "calls fail at once: spec.circuitOverride says so"),
        Effective::Closed | Effective::ForcedClosed | Effective::Shadow => return,
    };
    conditions.set(ConditionType::CircuitOpen, true, reason, message);
}
