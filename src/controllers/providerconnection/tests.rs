//! What a connection's status says in which world: values in, values out.

mod flapping;
mod series;
mod throttled;

use std::time::Duration;

use super::decide::{LiveView, Observed, Step, Target, Verdict, decide};
use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::{
    CircuitOverride, CircuitStatus, ConnectionConsumers, HealthStatus, OverrideMode, ProviderConnectionSpec,
    ProviderConnectionStatus,
};
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::cluster::status::{QUIET, Reported as _, SPACING, Timing, timing};
use crate::controllers::conditions::{read, reason_of, status_of};
use crate::controllers::resolve::Problem;
use crate::domain::breaker::{Effective, Snapshot, State, TripReason};
use crate::domain::conditions::{Status, check_invariants};
use crate::domain::health::{Health, RiskTier};
use crate::domain::time::{Mono, Now};
use crate::domain::window::Place;

const T0: &str = "2026-03-01T12:00:00Z";

fn now() -> Now {
    Now { mono: Mono::from_nanos(1_000_000_000), wall: T0.parse().unwrap() }
}

fn object() -> ProviderConnection {
    let mut object = ProviderConnection::new("bank-a", ProviderConnectionSpec::default());
    object.metadata.namespace = Some("ns".into());
    object.metadata.generation = Some(3);
    object
}

fn snapshot(state: State) -> Snapshot {
    Snapshot {
        state,
        last_transition: T0.parse().unwrap(),
        epoch: 4,
        opens: 1,
        next_trial: None,
        reason: Some(TripReason::ConsecutiveFailures),
    }
}

fn live() -> LiveView {
    LiveView {
        revision: "r1".into(),
        effective: Effective::Closed,
        snapshot: snapshot(State::Closed),
        flapping: false,
        health: Health::Healthy,
        slow: false,
        tier: RiskTier::Low,
        verdict: Verdict::Verified,
        authenticated: Some(true),
        tokenless: false,
        not_allowed: None,
        maintenance: Place::default(),
        throttled_until: None,
    }
}

fn target() -> Target {
    Target {
        revision: "r1".into(),
        host: "bank.example".into(),
        credential: Some("7".into()),
        credential_expires: None,
        uses_secrets: true,
        authenticates: true,
    }
}

fn observed(live: Option<LiveView>) -> Observed {
    Observed {
        target: Ok(target()),
        live,
        policy: None,
        unread: Vec::new(),
        consumers: ConnectionConsumers::default(),
        secrets_left: Duration::from_mins(1),
    }
}

/// Decides, and checks the rules that hold for every status.
fn status(
    object: &ProviderConnection,
    previous: Option<&ProviderConnectionStatus>,
    seen: &Observed,
) -> ProviderConnectionStatus {
    let status = decide(object, previous, seen, now()).status.expect("a status");
    let conditions: Vec<_> = status.conditions.iter().map(read).collect();
    check_invariants(&conditions).unwrap();
    status
}

fn ready(status: &ProviderConnectionStatus) -> (Status, &str) {
    (status_of(&status.conditions, ConditionType::Ready), reason_of(&status.conditions, ConditionType::Ready).unwrap())
}

#[test]
fn a_new_connection_is_applied_first_and_starts_from_the_circuit_its_status_tells() {
    let first = decide(&object(), None, &observed(None), now());
    assert_eq!((first.status, first.steps, first.next), (None, vec![Step::Apply(None, None)], Duration::ZERO));
    let mut open = live();
    (open.effective, open.snapshot) = (Effective::Open, snapshot(State::Open));
    let old = status(&object(), None, &observed(Some(open)));
    let again = decide(&object(), Some(&old), &observed(None), now());
    assert_eq!(again.steps, vec![Step::Apply(Some(snapshot(State::Open)), None)]);
    let risky = status(&object(), None, &observed(Some(LiveView { tier: RiskTier::High, ..live() })));
    let again = decide(&object(), Some(&risky), &observed(None), now());
    assert_eq!(again.steps[1..], [Step::Recall(RiskTier::High)]);
    let edited = observed(Some(LiveView { revision: "r0".into(), ..live() }));
    assert_eq!(decide(&object(), Some(&risky), &edited, now()).steps.len(), 1, "one that runs knows better");
}

#[test]
fn nothing_is_said_before_the_first_verdict() {
    let pending = LiveView { verdict: Verdict::Pending, authenticated: None, health: Health::Unknown, ..live() };
    assert_eq!(decide(&object(), None, &observed(Some(pending)), now()).status, None);
}

#[test]
fn a_verified_connection_is_ready_healthy_and_authenticated() {
    let s = status(&object(), None, &observed(Some(live())));
    assert_eq!(ready(&s), (Status::True, "Verified"));
    assert_eq!(status_of(&s.conditions, ConditionType::Healthy), Status::True);
    assert_eq!(status_of(&s.conditions, ConditionType::Authenticated), Status::True);
    assert_eq!(
        (s.observed_generation, s.circuit, s.health),
        (Some(3), Some(CircuitStatus::Closed), Some(HealthStatus::Healthy))
    );
    assert!(s.credential.unwrap().verified_time.is_some());
}

#[test]
fn an_outage_at_the_first_apply_leaves_ready_true_and_unverified() {
    let down = LiveView { verdict: Verdict::Inconclusive, authenticated: None, health: Health::Unknown, ..live() };
    let s = status(&object(), None, &observed(Some(down)));
    assert_eq!(ready(&s), (Status::True, "Unverified"));
    assert_eq!(status_of(&s.conditions, ConditionType::Healthy), Status::Unknown);
}

#[test]
fn an_outage_later_never_takes_ready_away() {
    let before = status(&object(), None, &observed(Some(live())));
    let down =
        LiveView { effective: Effective::Open, snapshot: snapshot(State::Open), health: Health::Unhealthy, ..live() };
    let s = status(&object(), Some(&before), &observed(Some(down)));
    assert_eq!(ready(&s), (Status::True, "Verified"));
    assert_eq!(status_of(&s.conditions, ConditionType::Healthy), Status::False);
    assert_eq!(status_of(&s.conditions, ConditionType::CircuitOpen), Status::True);
    assert!(ProviderConnection::is_worse(Some(&before), &s));
}

#[test]
fn a_restart_during_an_outage_keeps_the_verdict_once_given() {
    let before = status(&object(), None, &observed(Some(live())));
    let pending = LiveView { verdict: Verdict::Pending, ..live() };
    assert_eq!(
        decide(&object(), Some(&before), &observed(Some(pending)), now()).status,
        None,
        "what was written stands"
    );
    for verdict in [Verdict::Inconclusive, Verdict::Refused] {
        let fresh = LiveView { verdict, authenticated: None, ..live() };
        assert_eq!(
            ready(&status(&object(), Some(&before), &observed(Some(fresh)))),
            (Status::True, "Verified"),
            "{verdict:?}"
        );
    }
}

#[test]
fn a_restart_writes_nothing_while_nothing_has_changed() {
    let down = LiveView { verdict: Verdict::Inconclusive, health: Health::Unhealthy, ..live() };
    for before in [live(), down] {
        let old = status(&object(), None, &observed(Some(before.clone())));
        let fresh = LiveView { health: Health::Unknown, authenticated: None, ..before };
        let pending = LiveView { verdict: Verdict::Pending, ..fresh.clone() };
        assert_eq!(decide(&object(), Some(&old), &observed(Some(pending)), now()).status, None);
        assert_eq!(status(&object(), Some(&old), &observed(Some(fresh))), old);
    }
}

#[test]
fn a_refused_credential_is_reconciling_at_first_and_only_unauthenticated_later() {
    let refused = LiveView { verdict: Verdict::Refused, authenticated: Some(false), ..live() };
    let first = status(&object(), None, &observed(Some(refused.clone())));
    assert_eq!(ready(&first), (Status::False, "AuthenticationFailed"));
    assert_eq!(status_of(&first.conditions, ConditionType::Reconciling), Status::True);
    let before = status(&object(), None, &observed(Some(live())));
    let later = status(&object(), Some(&before), &observed(Some(refused)));
    assert_eq!(ready(&later).0, Status::True);
    assert_eq!(status_of(&later.conditions, ConditionType::Authenticated), Status::False);
    assert!(ProviderConnection::is_worse(Some(&before), &later));
}

#[test]
fn another_generation_needs_a_verdict_of_its_own() {
    let mut before = status(&object(), None, &observed(Some(live())));
    before.observed_generation = Some(2);
    let pending = LiveView { verdict: Verdict::Pending, ..live() };
    assert_eq!(decide(&object(), Some(&before), &observed(Some(pending)), now()).status, None);
}

#[test]
fn a_missing_secret_is_reconciling_ends_the_live_connection_and_keeps_the_circuit_in_the_status() {
    let open = LiveView { effective: Effective::Open, snapshot: snapshot(State::Open), ..live() };
    let before = status(&object(), None, &observed(Some(open.clone())));
    let mut gone = observed(Some(open));
    gone.target =
        Err(Problem::waiting(Reason::SecretNotFound, "spec.auth.bearer.secretRef names Secret \"x\": create it"));
    let decision = decide(&object(), Some(&before), &gone, now());
    assert_eq!(decision.steps, vec![Step::Remove]);
    let s = decision.status.unwrap();
    assert_eq!(ready(&s), (Status::False, "SecretNotFound"));
    assert_eq!(status_of(&s.conditions, ConditionType::Reconciling), Status::True);
    assert_eq!(s.circuit_state, before.circuit_state);
}

#[test]
fn a_bad_spec_is_stalled_and_leaves_the_running_connection_alone() {
    let mut bad = observed(Some(live()));
    bad.target = Err(Problem::stalled(Reason::InvalidSpec, "spec.endpoint.baseURL must be an https address"));
    let decision = decide(&object(), None, &bad, now());
    assert!(decision.steps.is_empty());
    let s = decision.status.unwrap();
    assert_eq!(status_of(&s.conditions, ConditionType::Stalled), Status::True);
    assert_eq!(status_of(&s.conditions, ConditionType::Reconciling), Status::Unknown, "absent");
    assert_eq!(status_of(&s.conditions, ConditionType::Healthy), Status::True);
}

#[test]
fn suspension_and_passive_checks_are_ready_and_unverified_and_say_why() {
    let mut suspended = object();
    suspended.spec.suspend = true;
    let idle = LiveView { verdict: Verdict::NoAttempt, authenticated: None, health: Health::Unknown, ..live() };
    let s = status(&suspended, None, &observed(Some(idle.clone())));
    assert_eq!(ready(&s), (Status::True, "Unverified"));
    assert_eq!(status_of(&s.conditions, ConditionType::Suspended), Status::True);
    let s = status(&object(), None, &observed(Some(idle)));
    assert_eq!(ready(&s), (Status::True, "Unverified"));
    assert!(s.conditions.iter().any(|c| c.message.contains("passive")));
}

#[test]
fn fields_that_no_code_reads_are_named_in_ready() {
    let mut seen = observed(Some(live()));
    seen.unread = vec!["rateLimit", "cache"];
    let s = status(&object(), None, &seen);
    assert!(s.conditions.iter().any(|c| c.type_ == "Ready" && c.message.contains("spec.rateLimit, spec.cache")));
}

#[test]
fn a_request_is_probed_once_and_acknowledged_at_once() {
    let mut asked = object();
    asked.metadata.annotations = Some([("busbar.dev/requestedAt".to_owned(), "1".to_owned())].into());
    let born = decide(&asked, None, &observed(Some(live())), now());
    assert!(born.steps.is_empty(), "the check at its birth is the one asked for at its birth");
    let before = status(&object(), None, &observed(Some(live())));
    let first = decide(&asked, Some(&before), &observed(Some(live())), now());
    assert_eq!(first.steps, vec![Step::Probe]);
    let told = first.status.unwrap();
    assert_eq!(timing::<ProviderConnection>(Some(&before), &told, Some(Duration::ZERO)), Timing::Now);
    let second = decide(&asked, Some(&told), &observed(Some(live())), now());
    assert!(second.steps.is_empty());
}

#[test]
fn transitions_are_told_as_events_once() {
    let before = status(&object(), None, &observed(Some(live())));
    let open = LiveView { effective: Effective::Open, snapshot: snapshot(State::Open), ..live() };
    let opened = decide(&object(), Some(&before), &observed(Some(open.clone())), now());
    let reasons = |notes: &[crate::cluster::events::Note]| notes.iter().map(|n| n.reason).collect::<Vec<_>>();
    assert_eq!(reasons(&opened.notes), vec![EventReason::CircuitOpened]);
    let still = decide(&object(), opened.status.as_ref(), &observed(Some(open)), now());
    assert!(still.notes.is_empty());
    let closed = decide(&object(), opened.status.as_ref(), &observed(Some(live())), now());
    assert_eq!(reasons(&closed.notes), vec![EventReason::CircuitClosed]);
}

#[test]
fn the_band_of_risk_is_shown_and_a_raised_one_degrades_for_a_reason_of_its_own() {
    use Health::{Degraded, Unhealthy};
    let well = status(&object(), None, &observed(Some(live())));
    assert_eq!(well.risk.as_ref().map(|r| r.as_str()), Some("Low"));
    let shown = |health, slow, tier| {
        let s = status(&object(), Some(&well), &observed(Some(LiveView { health, slow, tier, ..live() })));
        let reason = reason_of(&s.conditions, ConditionType::Healthy).unwrap().to_owned();
        (status_of(&s.conditions, ConditionType::Healthy), reason, s.risk.unwrap().as_str())
    };
    assert_eq!(shown(Degraded, false, RiskTier::High), (Status::True, "RiskElevated".into(), "High"));
    assert_eq!(shown(Degraded, true, RiskTier::Elevated), (Status::True, "ResponsesSlow".into(), "Elevated"));
    assert_eq!(shown(Unhealthy, false, RiskTier::Critical), (Status::False, "ChecksFailing".into(), "Critical"));
}

#[test]
fn in_a_maintenance_window_health_is_unknown_ready_stays_and_the_edge_is_waited_for() {
    let well = status(&object(), None, &observed(Some(live())));
    let maintenance = Place::Inside { until: "2026-03-01T12:00:30Z".parse().unwrap() };
    let inside = |verdict| observed(Some(LiveView { verdict, maintenance, ..live() }));
    let decision = decide(&object(), Some(&well), &inside(Verdict::Verified), now());
    assert_eq!(decision.next, Duration::from_secs(30));
    let s = decision.status.unwrap();
    assert_eq!((ready(&s), s.health), ((Status::True, "Verified"), Some(HealthStatus::Unknown)));
    assert_eq!(reason_of(&s.conditions, ConditionType::Healthy), Some("Maintenance"));
    // One that was first applied within the window has no verdict, and is Ready all the same.
    let fresh = status(&object(), None, &inside(Verdict::NoAttempt));
    assert_eq!(ready(&fresh), (Status::True, "Unverified"));
    assert!(fresh.conditions.iter().any(|c| c.type_ == "Ready" && c.message.contains("maintenance")));
    let before = Place::Outside { until: Some("2026-03-01T12:00:05Z".parse().unwrap()) };
    let waiting = decide(&object(), Some(&well), &observed(Some(LiveView { maintenance: before, ..live() })), now());
    assert_eq!(waiting.next, Duration::from_secs(5));
}

fn overridden(mode: OverrideMode, until: &str) -> ProviderConnection {
    let mut object = object();
    object.spec.circuit_override =
        Some(CircuitOverride { mode, until_time: until.to_owned().into(), reason: "a test".to_owned().into() });
    object
}

#[test]
fn an_override_is_told_once_when_it_takes_effect_and_once_when_its_time_is_over() {
    let reasons = |notes: &[crate::cluster::events::Note]| notes.iter().map(|n| n.reason).collect::<Vec<_>>();
    let before = status(&object(), None, &observed(Some(live())));
    let object = overridden(OverrideMode::ForcedOpen, "2026-03-01T12:10:00Z");
    let forced = observed(Some(LiveView { effective: Effective::ForcedOpen, ..live() }));
    let applied = decide(&object, Some(&before), &forced, now());
    assert_eq!(reasons(&applied.notes), [EventReason::OverrideApplied]);
    assert!(applied.notes[0].message.contains("2026-03-01T12:10:00Z"));
    let s = applied.status.unwrap();
    assert_eq!(s.circuit, Some(CircuitStatus::ForcedOpen));
    assert_eq!(reason_of(&s.conditions, ConditionType::CircuitOpen), Some("ForcedOpen"));
    assert!(ProviderConnection::is_worse(Some(&before), &s));
    assert!(decide(&object, Some(&s), &forced, now()).notes.is_empty());
    let expired = decide(&object, Some(&s), &observed(Some(live())), now());
    assert_eq!(reasons(&expired.notes), [EventReason::OverrideExpired]);
    assert!(decide(&object, expired.status.as_ref(), &observed(Some(live())), now()).notes.is_empty());
    // Taken away by hand, it did not expire.
    assert!(decide(&self::object(), Some(&s), &observed(Some(live())), now()).notes.is_empty());
}

#[test]
fn an_override_over_a_shadow_policy_says_nothing_new_and_one_that_was_over_before_it_came_has_no_effect() {
    let shadow = observed(Some(LiveView { effective: Effective::Shadow, ..live() }));
    let before = status(&object(), None, &shadow);
    assert_eq!(before.circuit, Some(CircuitStatus::Shadow));
    let over = overridden(OverrideMode::Shadow, "2026-03-01T12:10:00Z");
    assert!(decide(&over, Some(&before), &shadow, now()).notes.is_empty());
    let late = overridden(OverrideMode::ForcedOpen, "2026-03-01T11:00:00Z");
    let unmoved = decide(&late, Some(&before), &shadow, now());
    assert!(unmoved.notes.is_empty());
    assert_eq!(unmoved.next, Duration::from_mins(1), "nothing to wait for but the Secret");
}

#[test]
fn an_override_is_looked_at_again_when_its_time_is_over() {
    let soon = overridden(OverrideMode::ForcedClosed, "2026-03-01T12:00:20+00:00");
    let forced = observed(Some(LiveView { effective: Effective::ForcedClosed, ..live() }));
    assert_eq!(decide(&soon, None, &forced, now()).next, Duration::from_secs(21));
}

#[test]
fn an_unchanged_world_is_never_written_again_and_ride_along_fields_wait() {
    let old = status(&object(), None, &observed(Some(live())));
    assert_eq!(timing::<ProviderConnection>(Some(&old), &old, Some(Duration::from_secs(9999))), Timing::Unchanged);
    let mut ride_along = old.clone();
    ride_along.consumers = Some(ConnectionConsumers { sync_jobs: 1, bank_routes: 0 });
    assert_eq!(timing::<ProviderConnection>(Some(&old), &ride_along, Some(Duration::ZERO)), Timing::In(QUIET));
    let degraded = status(&object(), Some(&old), &observed(Some(LiveView { health: Health::Degraded, ..live() })));
    assert_eq!(
        timing::<ProviderConnection>(Some(&old), &degraded, Some(Duration::from_secs(1))),
        Timing::In(SPACING.checked_sub(Duration::from_secs(1)).unwrap())
    );
    let unhealthy = status(&object(), Some(&old), &observed(Some(LiveView { health: Health::Unhealthy, ..live() })));
    assert_eq!(timing::<ProviderConnection>(Some(&old), &unhealthy, Some(Duration::ZERO)), Timing::Now);
}
