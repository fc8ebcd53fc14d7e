//! The provider's rate limit in the status.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::*;

fn throttled_until(until: Timestamp) -> ConnectionInputs {
    inputs(Some(LiveConnection { throttled_until: Some(until), ..live() }))
}

fn in_seconds(seconds: i64) -> Timestamp {
    now().wall + SignedDuration::from_secs(seconds)
}

fn throttled(status: &ProviderConnectionStatus) -> (ConditionStatus, Option<Timestamp>) {
    let until = status.throttled_until_time.as_ref().map(|time| time.0);
    (status_of(&status.conditions, ConditionType::Throttled), until)
}

#[test]
fn a_provider_rate_limit_is_a_condition_one_event_and_requeued_at_its_end() {
    let healthy = status(&object(), None, &inputs(Some(live())));
    assert_eq!(throttled(&healthy), (ConditionStatus::Unknown, None));
    let until = in_seconds(30);
    let decided = decide(&object(), Some(&healthy), &throttled_until(until), now());
    let shown = decided.status.unwrap();
    assert_eq!(throttled(&shown), (ConditionStatus::True, Some(until)));
    assert_eq!(reason_of(&shown.conditions, ConditionType::Throttled), Some("RateLimited"));
    assert_eq!(ready(&shown), (ConditionStatus::True, "Verified"), "a rate limit does not affect Ready");
    assert_eq!(decided.requeue_after, Duration::from_secs(31));
    let reasons: Vec<_> = decided.events.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(reasons, ["ProviderThrottled"]);
    assert!(ProviderConnection::is_urgent(Some(&healthy), &shown));
    assert!(decide(&object(), Some(&shown), &throttled_until(in_seconds(60)), now()).events.is_empty());

    let over = decide(&object(), Some(&shown), &inputs(Some(live())), now());
    assert_eq!((throttled(over.status.as_ref().unwrap()), over.events.len()), ((ConditionStatus::Unknown, None), 0));
}

#[test]
fn a_rate_limit_of_one_second_is_not_reported() {
    let healthy = status(&object(), None, &inputs(Some(live())));
    let shown = status(&object(), Some(&healthy), &throttled_until(in_seconds(1)));
    assert_eq!(throttled(&shown), (ConditionStatus::Unknown, None));
    // A rate limit already reported stays until it is over.
    let long = status(&object(), Some(&healthy), &throttled_until(in_seconds(30)));
    assert_eq!(throttled(&status(&object(), Some(&long), &throttled_until(in_seconds(1)))).0, ConditionStatus::True);
}

#[test]
fn a_restart_restores_the_rate_limit_from_the_status() {
    let until = in_seconds(3600);
    let written = status(&object(), None, &throttled_until(until));
    let first = decide(&object(), Some(&written), &inputs(None), now());
    assert!(
        matches!(&first.steps[0], ConnectionStep::Apply { throttled_until, .. } if *throttled_until == Some(until)),
        "{:?}",
        first.steps
    );
    let past = status(&object(), Some(&written), &throttled_until(in_seconds(1)));
    let later = crate::domain::time::Now { wall: in_seconds(2), ..now() };
    let first = decide(&object(), Some(&past), &inputs(None), later);
    assert!(matches!(&first.steps[0], ConnectionStep::Apply { throttled_until: None, .. }), "{:?}", first.steps);
}
