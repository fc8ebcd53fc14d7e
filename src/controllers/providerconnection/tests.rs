//! Connection statuses for given inputs: values in, values out.

mod circuit_override;
mod failing;
mod flapping;
mod forbidden;
mod never_mixed;
mod passed_check;
mod payouts;
mod resolved_once;
mod series_limit;
mod throttled;

use std::time::Duration;

use super::decide::{ConnectionStep, decide};
use super::inputs::{ConnectionInputs, LiveConnection, VerificationState};
use super::testkit::{T0, desired, live, snapshot};
use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::{
    CircuitStatus, ConnectionConsumers, HealthStatus, ProviderConnectionSpec, ProviderConnectionStatus,
};
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::cluster::resource::HasStatus;
use crate::cluster::resource::MIN_RIDE_ALONG_INTERVAL;
use crate::cluster::status::{MIN_WRITE_INTERVAL, Timing, timing};
use crate::controllers::conditions::{from_api, reason_of, status_of};
use crate::domain::breaker::{BreakerState, EffectiveState, Snapshot};
use crate::domain::conditions::{ConditionStatus, check_invariants};
use crate::domain::health::{Health, RiskTier};
use crate::domain::time::{Mono, Now};
use crate::domain::window::WindowPosition;
use crate::resolve::SpecError;

fn now() -> Now {
    Now { mono: Mono::from_nanos(1_000_000_000), wall: T0.parse().unwrap() }
}

fn object() -> ProviderConnection {
    let mut object = ProviderConnection::new("bank-a", ProviderConnectionSpec::default());
    object.metadata.namespace = Some("ns".into());
    object.metadata.generation = Some(3);
    object
}

fn inputs(live: Option<LiveConnection>) -> ConnectionInputs {
    ConnectionInputs {
        desired: Ok(desired().into()),
        live,
        policy: None,
        unused_fields: Vec::new(),
        consumers: ConnectionConsumers::default(),
        secrets_valid_for: Duration::from_mins(1),
    }
}

/// The step that starts a connection without a rate limit.
fn apply(circuit: Option<Snapshot>, ever_healthy: bool) -> ConnectionStep {
    ConnectionStep::Apply { circuit, throttled_until: None, ever_healthy, unhealthy: false }
}

/// The decided status, checked against the condition invariants.
fn status(
    object: &ProviderConnection,
    previous: Option<&ProviderConnectionStatus>,
    inputs: &ConnectionInputs,
) -> ProviderConnectionStatus {
    let status = decide(object, previous, inputs, now()).status.expect("a status");
    let conditions: Vec<_> = status.conditions.iter().map(from_api).collect();
    check_invariants(&conditions).unwrap();
    status
}

fn ready(status: &ProviderConnectionStatus) -> (ConditionStatus, &str) {
    (status_of(&status.conditions, ConditionType::Ready), reason_of(&status.conditions, ConditionType::Ready).unwrap())
}

#[test]
fn a_new_connection_starts_from_the_circuit_and_risk_in_its_status() {
    let first = decide(&object(), None, &inputs(None), now());
    assert_eq!((first.status, first.steps, first.requeue_after), (None, vec![apply(None, false)], Duration::ZERO));
    let mut open = live();
    (open.effective, open.circuit) = (EffectiveState::Open, snapshot(BreakerState::Open));
    let old = status(&object(), None, &inputs(Some(open)));
    let again = decide(&object(), Some(&old), &inputs(None), now());
    assert_eq!(again.steps, vec![apply(Some(snapshot(BreakerState::Open)), true)]);
    let risky = status(&object(), None, &inputs(Some(LiveConnection { tier: RiskTier::High, ..live() })));
    let again = decide(&object(), Some(&risky), &inputs(None), now());
    assert_eq!(again.steps[1..], [ConnectionStep::RestoreRisk(RiskTier::High)]);
    let edited = inputs(Some(LiveConnection { revision: "r0".into(), ..live() }));
    assert_eq!(
        decide(&object(), Some(&risky), &edited, now()).steps.len(),
        1,
        "a running connection keeps its own risk"
    );
}

#[test]
fn no_status_is_written_before_the_first_verification() {
    let pending = LiveConnection {
        verification: VerificationState::Pending,
        authenticated: None,
        health: Health::Unknown,
        ..live()
    };
    assert_eq!(decide(&object(), None, &inputs(Some(pending)), now()).status, None);
}

#[test]
fn a_verified_connection_is_ready_healthy_and_authenticated() {
    let s = status(&object(), None, &inputs(Some(live())));
    assert_eq!(ready(&s), (ConditionStatus::True, "Verified"));
    assert_eq!(status_of(&s.conditions, ConditionType::Healthy), ConditionStatus::True);
    assert_eq!(status_of(&s.conditions, ConditionType::Authenticated), ConditionStatus::True);
    assert_eq!(
        (s.observed_generation, s.circuit, s.health),
        (Some(3), Some(CircuitStatus::Closed), Some(HealthStatus::Healthy))
    );
    assert!(s.credential.unwrap().verified_time.is_some());
}

#[test]
fn an_outage_at_the_first_apply_leaves_ready_true_and_unverified() {
    let down = LiveConnection {
        verification: VerificationState::Inconclusive,
        authenticated: None,
        health: Health::Unknown,
        ..live()
    };
    let s = status(&object(), None, &inputs(Some(down)));
    assert_eq!(ready(&s), (ConditionStatus::True, "Unverified"));
    assert_eq!(status_of(&s.conditions, ConditionType::Healthy), ConditionStatus::Unknown);
}

#[test]
fn a_later_outage_does_not_clear_ready() {
    let before = status(&object(), None, &inputs(Some(live())));
    let down = LiveConnection {
        effective: EffectiveState::Open,
        circuit: snapshot(BreakerState::Open),
        health: Health::Unhealthy,
        ..live()
    };
    let s = status(&object(), Some(&before), &inputs(Some(down)));
    assert_eq!(ready(&s), (ConditionStatus::True, "Verified"));
    assert_eq!(status_of(&s.conditions, ConditionType::Healthy), ConditionStatus::False);
    assert_eq!(status_of(&s.conditions, ConditionType::CircuitOpen), ConditionStatus::True);
    assert!(ProviderConnection::is_urgent(Some(&before), &s));
}

#[test]
fn a_restart_during_an_outage_keeps_an_earlier_verification() {
    let before = status(&object(), None, &inputs(Some(live())));
    let pending = LiveConnection { verification: VerificationState::Pending, ..live() };
    assert_eq!(
        decide(&object(), Some(&before), &inputs(Some(pending)), now()).status,
        None,
        "the written status stays"
    );
    for verification in [VerificationState::Inconclusive, VerificationState::Rejected] {
        let fresh = LiveConnection { verification, authenticated: None, ..live() };
        assert_eq!(
            ready(&status(&object(), Some(&before), &inputs(Some(fresh)))),
            (ConditionStatus::True, "Verified"),
            "{verification:?}"
        );
    }
}

#[test]
fn a_restart_writes_nothing_while_nothing_has_changed() {
    let down = LiveConnection { verification: VerificationState::Inconclusive, health: Health::Unhealthy, ..live() };
    for before in [live(), down] {
        let old = status(&object(), None, &inputs(Some(before.clone())));
        let fresh = LiveConnection { health: Health::Unknown, authenticated: None, ..before };
        let pending = LiveConnection { verification: VerificationState::Pending, ..fresh.clone() };
        assert_eq!(decide(&object(), Some(&old), &inputs(Some(pending)), now()).status, None);
        assert_eq!(status(&object(), Some(&old), &inputs(Some(fresh))), old);
    }
}

#[test]
fn a_rejected_credential_clears_ready_only_before_the_first_verification() {
    let rejected = LiveConnection { verification: VerificationState::Rejected, authenticated: Some(false), ..live() };
    let first = status(&object(), None, &inputs(Some(rejected.clone())));
    assert_eq!(ready(&first), (ConditionStatus::False, "AuthenticationFailed"));
    assert_eq!(status_of(&first.conditions, ConditionType::Reconciling), ConditionStatus::True);
    let before = status(&object(), None, &inputs(Some(live())));
    let later = status(&object(), Some(&before), &inputs(Some(rejected)));
    assert_eq!(ready(&later).0, ConditionStatus::True);
    assert_eq!(status_of(&later.conditions, ConditionType::Authenticated), ConditionStatus::False);
    assert!(ProviderConnection::is_urgent(Some(&before), &later));
}

#[test]
fn a_new_generation_needs_its_own_verification() {
    let mut before = status(&object(), None, &inputs(Some(live())));
    before.observed_generation = Some(2);
    let pending = LiveConnection { verification: VerificationState::Pending, ..live() };
    assert_eq!(decide(&object(), Some(&before), &inputs(Some(pending)), now()).status, None);
}

#[test]
fn a_missing_secret_removes_the_connection_and_keeps_its_circuit_state() {
    let open = LiveConnection { effective: EffectiveState::Open, circuit: snapshot(BreakerState::Open), ..live() };
    let before = status(&object(), None, &inputs(Some(open.clone())));
    let mut gone = inputs(Some(open));
    gone.desired = Err(SpecError::waiting(
        Reason::SecretNotFound,
        "Secret \"x\" (spec.auth.bearer.secretRef) not found: create it",
    ));
    let decision = decide(&object(), Some(&before), &gone, now());
    assert_eq!(decision.steps, vec![ConnectionStep::Remove]);
    let s = decision.status.unwrap();
    assert_eq!(ready(&s), (ConditionStatus::False, "SecretNotFound"));
    assert_eq!(status_of(&s.conditions, ConditionType::Reconciling), ConditionStatus::True);
    assert_eq!(s.circuit_state, before.circuit_state);
}

#[test]
fn an_invalid_spec_is_stalled_and_keeps_the_running_connection() {
    let mut bad = inputs(Some(live()));
    bad.desired = Err(SpecError::stalled(Reason::InvalidSpec, "spec.endpoint.baseURL must be an https address"));
    let decision = decide(&object(), None, &bad, now());
    assert!(decision.steps.is_empty());
    let s = decision.status.unwrap();
    assert_eq!(status_of(&s.conditions, ConditionType::Stalled), ConditionStatus::True);
    assert_eq!(status_of(&s.conditions, ConditionType::Reconciling), ConditionStatus::Unknown, "absent");
    assert_eq!(status_of(&s.conditions, ConditionType::Healthy), ConditionStatus::True);
}

#[test]
fn suspension_and_passive_checks_are_ready_and_unverified() {
    let mut suspended = object();
    suspended.spec.suspend = true;
    let idle = LiveConnection {
        verification: VerificationState::NotAttempted,
        authenticated: None,
        health: Health::Unknown,
        ..live()
    };
    let s = status(&suspended, None, &inputs(Some(idle.clone())));
    assert_eq!(ready(&s), (ConditionStatus::True, "Unverified"));
    assert_eq!(status_of(&s.conditions, ConditionType::Suspended), ConditionStatus::True);
    let s = status(&object(), None, &inputs(Some(idle)));
    assert_eq!(ready(&s), (ConditionStatus::True, "Unverified"));
    assert!(s.conditions.iter().any(|c| c.message.contains("passive")));
}

#[test]
fn unused_fields_are_named_in_ready() {
    let mut inputs = inputs(Some(live()));
    inputs.unused_fields = vec!["rateLimit", "cache"];
    let s = status(&object(), None, &inputs);
    assert!(s.conditions.iter().any(|c| c.type_ == "Ready" && c.message.contains("spec.rateLimit, spec.cache")));
}

#[test]
fn a_request_is_probed_once_and_acknowledged_at_once() {
    let mut requested = object();
    requested.metadata.annotations = Some([("busbar.dev/requestedAt".to_owned(), "1".to_owned())].into());
    let created = decide(&requested, None, &inputs(Some(live())), now());
    assert!(created.steps.is_empty(), "the verification probe meets the request");
    let before = status(&object(), None, &inputs(Some(live())));
    let first = decide(&requested, Some(&before), &inputs(Some(live())), now());
    assert_eq!(first.steps, vec![ConnectionStep::Probe]);
    let acknowledged = first.status.unwrap();
    assert_eq!(timing::<ProviderConnection>(Some(&before), &acknowledged, Some(Duration::ZERO)), Timing::Now);
    let second = decide(&requested, Some(&acknowledged), &inputs(Some(live())), now());
    assert!(second.steps.is_empty());
}

#[test]
fn each_transition_is_one_event() {
    let before = status(&object(), None, &inputs(Some(live())));
    let open = LiveConnection { effective: EffectiveState::Open, circuit: snapshot(BreakerState::Open), ..live() };
    let opened = decide(&object(), Some(&before), &inputs(Some(open.clone())), now());
    let reasons =
        |events: &[crate::cluster::events::EventDraft]| events.iter().map(|event| event.reason).collect::<Vec<_>>();
    assert_eq!(reasons(&opened.events), vec![EventReason::CircuitOpened]);
    let still = decide(&object(), opened.status.as_ref(), &inputs(Some(open)), now());
    assert!(still.events.is_empty());
    let closed = decide(&object(), opened.status.as_ref(), &inputs(Some(live())), now());
    assert_eq!(reasons(&closed.events), vec![EventReason::CircuitClosed]);
}

#[test]
fn an_elevated_risk_tier_degrades_with_its_own_reason() {
    use Health::{Degraded, Unhealthy};
    let healthy = status(&object(), None, &inputs(Some(live())));
    assert_eq!(healthy.risk.as_ref().map(|r| r.as_str()), Some("Low"));
    let shown = |health, slow, tier| {
        let s = status(&object(), Some(&healthy), &inputs(Some(LiveConnection { health, slow, tier, ..live() })));
        let reason = reason_of(&s.conditions, ConditionType::Healthy).unwrap().to_owned();
        (status_of(&s.conditions, ConditionType::Healthy), reason, s.risk.unwrap().as_str())
    };
    assert_eq!(shown(Degraded, false, RiskTier::High), (ConditionStatus::True, "RiskElevated".into(), "High"));
    assert_eq!(shown(Degraded, true, RiskTier::Elevated), (ConditionStatus::True, "ResponsesSlow".into(), "Elevated"));
    assert_eq!(
        shown(Unhealthy, false, RiskTier::Critical),
        (ConditionStatus::False, "ChecksFailing".into(), "Critical")
    );
}

#[test]
fn a_maintenance_window_makes_health_unknown_until_its_edge_and_keeps_ready() {
    let healthy = status(&object(), None, &inputs(Some(live())));
    let maintenance = WindowPosition::Inside { until: "2026-03-01T12:00:30Z".parse().unwrap() };
    let inside = |verification| inputs(Some(LiveConnection { verification, maintenance, ..live() }));
    let decision = decide(&object(), Some(&healthy), &inside(VerificationState::Verified), now());
    assert_eq!(decision.requeue_after, Duration::from_secs(30));
    let s = decision.status.unwrap();
    assert_eq!((ready(&s), s.health), ((ConditionStatus::True, "Verified"), Some(HealthStatus::Unknown)));
    assert_eq!(reason_of(&s.conditions, ConditionType::Healthy), Some("Maintenance"));
    // A connection first applied inside the window is not verified and Ready all the same.
    let fresh = status(&object(), None, &inside(VerificationState::NotAttempted));
    assert_eq!(ready(&fresh), (ConditionStatus::True, "Unverified"));
    assert!(fresh.conditions.iter().any(|c| c.type_ == "Ready" && c.message.contains("maintenance")));
    let before = WindowPosition::Outside { until: Some("2026-03-01T12:00:05Z".parse().unwrap()) };
    let waiting =
        decide(&object(), Some(&healthy), &inputs(Some(LiveConnection { maintenance: before, ..live() })), now());
    assert_eq!(waiting.requeue_after, Duration::from_secs(5));
}

#[test]
fn an_unchanged_status_is_not_written_and_ride_along_fields_wait() {
    let old = status(&object(), None, &inputs(Some(live())));
    assert_eq!(timing::<ProviderConnection>(Some(&old), &old, Some(Duration::from_secs(9999))), Timing::Unchanged);
    let mut used = old.clone();
    used.consumers = Some(ConnectionConsumers { sync_jobs: 1, bank_routes: 0 });
    let mut ride_along = old.clone();
    ride_along.consumers = Some(ConnectionConsumers { sync_jobs: 2, bank_routes: 0 });
    assert_eq!(
        timing::<ProviderConnection>(Some(&used), &ride_along, Some(Duration::ZERO)),
        Timing::After(MIN_RIDE_ALONG_INTERVAL)
    );
    let degraded = status(&object(), Some(&old), &inputs(Some(LiveConnection { health: Health::Degraded, ..live() })));
    assert_eq!(
        timing::<ProviderConnection>(Some(&old), &degraded, Some(Duration::from_secs(1))),
        Timing::After(MIN_WRITE_INTERVAL.checked_sub(Duration::from_secs(1)).unwrap())
    );
    let unhealthy =
        status(&object(), Some(&old), &inputs(Some(LiveConnection { health: Health::Unhealthy, ..live() })));
    assert_eq!(timing::<ProviderConnection>(Some(&old), &unhealthy, Some(Duration::ZERO)), Timing::Now);
}

#[test]
fn only_the_first_good_health_may_wait_for_the_first_statuses_of_others() {
    let of = |health, effective| status(&object(), None, &inputs(Some(LiveConnection { effective, health, ..live() })));
    let (unknown, closed) = (of(Health::Unknown, EffectiveState::Closed), EffectiveState::Closed);
    let may_wait = |old: &ProviderConnectionStatus, new: &ProviderConnectionStatus| {
        <ProviderConnection as HasStatus>::may_wait(old, new)
    };
    let healthy = of(Health::Healthy, closed);
    assert!(may_wait(&unknown, &healthy));
    let requested = ProviderConnectionStatus { last_handled_reconcile_at: Some("r1".to_owned()), ..healthy.clone() };
    assert!(!may_wait(&unknown, &requested), "the requester waits for it");
    let observed = ProviderConnectionStatus { observed_generation: Some(77), ..healthy.clone() };
    assert!(!may_wait(&unknown, &observed), "another generation is observed");
    for other in
        [of(Health::Unhealthy, closed), of(Health::Degraded, closed), of(Health::Healthy, EffectiveState::Open)]
    {
        assert!(!may_wait(&unknown, &other));
        assert!(!may_wait(&other, &healthy));
    }
    let unverified = LiveConnection { verification: VerificationState::NotAttempted, ..live() };
    let unverified = status(&object(), None, &inputs(Some(unverified)));
    assert!(!may_wait(&ProviderConnectionStatus { health: unknown.health, ..unverified }, &healthy), "Ready changes");
}

#[test]
fn the_first_and_the_last_consumer_are_written_at_once_and_their_number_rides_along() {
    let status = status(&object(), None, &inputs(Some(live())));
    let used = |sync_jobs, bank_routes| ProviderConnectionStatus {
        consumers: Some(ConnectionConsumers { sync_jobs, bank_routes }),
        ..status.clone()
    };
    let timing = |old: (i32, i32), new: (i32, i32)| {
        timing::<ProviderConnection>(Some(&used(old.0, old.1)), &used(new.0, new.1), Some(Duration::ZERO))
    };
    for (none, one) in [((0, 0), (1, 0)), ((0, 0), (0, 1)), ((3, 0), (3, 1)), ((0, 2), (1, 2))] {
        assert_eq!((timing(none, one), timing(one, none)), (Timing::Now, Timing::Now), "{none:?} {one:?}");
    }
    for (some, more) in [((1, 0), (2, 0)), ((0, 1), (0, 7)), ((1, 1), (5, 4))] {
        let later = Timing::After(MIN_RIDE_ALONG_INTERVAL);
        assert_eq!((timing(some, more), timing(more, some)), (later, later), "{some:?} {more:?}");
    }
}
