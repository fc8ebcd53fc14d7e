use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::*;

fn paused(until: Timestamp) -> Observed {
    observed(Some(LiveView { throttled_until: Some(until), ..live() }))
}

fn in_seconds(seconds: i64) -> Timestamp {
    now().wall + SignedDuration::from_secs(seconds)
}

fn throttled(status: &ProviderConnectionStatus) -> (Status, Option<Timestamp>) {
    let until = status.throttled_until_time.as_ref().map(|time| time.0);
    (status_of(&status.conditions, ConditionType::Throttled), until)
}

#[test]
fn a_pause_that_the_provider_asked_for_is_shown_told_once_and_looked_at_again_when_it_is_over() {
    let well = status(&object(), None, &observed(Some(live())));
    assert_eq!(throttled(&well), (Status::Unknown, None));
    let until = in_seconds(30);
    let decided = decide(&object(), Some(&well), &paused(until), now());
    let shown = decided.status.unwrap();
    assert_eq!(throttled(&shown), (Status::True, Some(until)));
    assert_eq!(reason_of(&shown.conditions, ConditionType::Throttled), Some("RateLimited"));
    assert_eq!(ready(&shown), (Status::True, "Verified"), "a provider that slows us down is not a broken one");
    assert_eq!(decided.next, Duration::from_secs(31));
    let told: Vec<_> = decided.notes.iter().map(|note| note.reason.as_str()).collect();
    assert_eq!(told, ["ProviderThrottled"]);
    assert!(ProviderConnection::is_worse(Some(&well), &shown));
    assert!(decide(&object(), Some(&shown), &paused(in_seconds(60)), now()).notes.is_empty());

    let over = decide(&object(), Some(&shown), &observed(Some(live())), now());
    assert_eq!((throttled(over.status.as_ref().unwrap()), over.notes.len()), ((Status::Unknown, None), 0));
}

#[test]
fn a_pause_of_a_second_is_not_worth_two_writes() {
    let well = status(&object(), None, &observed(Some(live())));
    let shown = status(&object(), Some(&well), &paused(in_seconds(1)));
    assert_eq!(throttled(&shown), (Status::Unknown, None));
    // One that is shown already stays until it is over.
    let long = status(&object(), Some(&well), &paused(in_seconds(30)));
    assert_eq!(throttled(&status(&object(), Some(&long), &paused(in_seconds(1)))).0, Status::True);
}

#[test]
fn a_new_process_starts_in_the_pause_that_was_written() {
    let until = in_seconds(3600);
    let written = status(&object(), None, &paused(until));
    let first = decide(&object(), Some(&written), &observed(None), now());
    assert!(matches!(&first.steps[0], Step::Apply(_, paused) if *paused == Some(until)), "{:?}", first.steps);
    let past = status(&object(), Some(&written), &paused(in_seconds(1)));
    let later = crate::domain::time::Now { wall: in_seconds(2), ..now() };
    let first = decide(&object(), Some(&past), &observed(None), later);
    assert!(matches!(&first.steps[0], Step::Apply(_, None)), "{:?}", first.steps);
}
