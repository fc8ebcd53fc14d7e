//! The circuit override in the status and its events.

use super::*;
use crate::api::v1alpha1::provider_connection::{CircuitOverride, OverrideMode};

fn overridden(mode: OverrideMode, until: &str) -> ProviderConnection {
    let mut object = object();
    object.spec.circuit_override =
        Some(CircuitOverride { mode, until_time: until.to_owned().into(), reason: "a test".to_owned().into() });
    object
}

#[test]
fn an_override_is_one_event_when_applied_and_one_when_expired() {
    let reasons =
        |events: &[crate::cluster::events::EventDraft]| events.iter().map(|event| event.reason).collect::<Vec<_>>();
    let before = status(&object(), None, &inputs(Some(live())));
    let object = overridden(OverrideMode::ForcedOpen, "2026-03-01T12:10:00Z");
    let forced = inputs(Some(LiveConnection { effective: EffectiveState::ForcedOpen, ..live() }));
    let applied = decide(&object, Some(&before), &forced, now());
    assert_eq!(reasons(&applied.events), [EventReason::OverrideApplied]);
    assert!(applied.events[0].message.contains("2026-03-01T12:10:00Z"));
    let s = applied.status.unwrap();
    assert_eq!(s.circuit, Some(CircuitStatus::ForcedOpen));
    assert_eq!(reason_of(&s.conditions, ConditionType::CircuitOpen), Some("ForcedOpen"));
    assert!(ProviderConnection::is_urgent(Some(&before), &s));
    assert!(decide(&object, Some(&s), &forced, now()).events.is_empty());
    let expired = decide(&object, Some(&s), &inputs(Some(live())), now());
    assert_eq!(reasons(&expired.events), [EventReason::OverrideExpired]);
    assert!(decide(&object, expired.status.as_ref(), &inputs(Some(live())), now()).events.is_empty());
    // Removed from the spec, it did not expire.
    assert!(decide(&super::object(), Some(&s), &inputs(Some(live())), now()).events.is_empty());
}

#[test]
fn an_override_without_effect_or_already_expired_is_no_event() {
    let shadow = inputs(Some(LiveConnection { effective: EffectiveState::Shadow, ..live() }));
    let before = status(&object(), None, &shadow);
    assert_eq!(before.circuit, Some(CircuitStatus::Shadow));
    let shadowed = overridden(OverrideMode::Shadow, "2026-03-01T12:10:00Z");
    assert!(decide(&shadowed, Some(&before), &shadow, now()).events.is_empty());
    let late = overridden(OverrideMode::ForcedOpen, "2026-03-01T11:00:00Z");
    let unchanged = decide(&late, Some(&before), &shadow, now());
    assert!(unchanged.events.is_empty());
    assert_eq!(unchanged.requeue_after, Duration::from_mins(1), "only the Secret is due");
}

#[test]
fn an_override_is_requeued_at_its_expiry() {
    let soon = overridden(OverrideMode::ForcedClosed, "2026-03-01T12:00:20+00:00");
    let forced = inputs(Some(LiveConnection { effective: EffectiveState::ForcedClosed, ..live() }));
    assert_eq!(decide(&soon, None, &forced, now()).requeue_after, Duration::from_secs(21));
}
