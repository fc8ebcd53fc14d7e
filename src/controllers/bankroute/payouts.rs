//! Payouts of a route that wait for a person, as its status shows them: in steps, so that each payout is not a write. Pure.

use crate::api::v1alpha1::bank_route::BankRouteStatus;
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::cluster::events::EventDraft;
use crate::controllers::conditions::Conditions;

/// The number that the status shows: 0, 1, 10 or 100, the largest that is reached.
fn step(count: u64) -> i32 {
    match count {
        0 => 0,
        1..=9 => 1,
        10..=99 => 10,
        _ => 100,
    }
}

/// The held payouts that the status shows: `count`, or what it showed before while that is not known.
pub(super) fn shown(previous: Option<&BankRouteStatus>, count: Option<u64>) -> Option<i32> {
    count.map(step).or_else(|| previous.and_then(|status| status.held_payouts))
}

/// Sets `PayoutsHeld` while payouts wait for a person.
pub(super) fn condition(conditions: &mut Conditions, held: Option<i32>) {
    conditions.set_if(
        held.is_some_and(|held| held > 0),
        ConditionType::PayoutsHeld,
        Reason::PayoutsHeld,
        "payouts wait for a person: neither execution nor non-execution could be proven, or one was executed twice; list them \
         (GET /api/treasury/payouts?state=held, and state=frozen) and resolve each with the bank's evidence",
    );
}

/// The event of more held payouts than before.
pub(super) fn event(previous: Option<&BankRouteStatus>, held: Option<i32>) -> Option<EventDraft> {
    let before = previous.and_then(|status| status.held_payouts).unwrap_or_default();
    let held = held.filter(|held| *held > before)?;
    let count = if held == 1 { "payouts held".to_owned() } else { format!("{held} payouts or more held") };
    let message = format!(
        "{count}: they are not sent again before a person resolves them; list them (GET \
         /api/treasury/payouts?state=held, and state=frozen) and resolve each with the bank's evidence"
    );
    Some(EventDraft::warning(EventReason::PayoutHeld, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn showing(held: i32) -> BankRouteStatus {
        BankRouteStatus { held_payouts: Some(held), ..BankRouteStatus::default() }
    }

    #[test]
    fn the_status_counts_in_steps_and_keeps_what_is_not_known() {
        for (count, expected) in [(0, 0), (1, 1), (9, 1), (10, 10), (99, 10), (100, 100), (u64::MAX, 100)] {
            assert_eq!(shown(None, Some(count)), Some(expected), "{count}");
        }
        assert_eq!(shown(None, None), None);
        assert_eq!(shown(Some(&showing(10)), None), Some(10));
        assert_eq!(shown(Some(&showing(10)), Some(0)), Some(0));
    }

    #[test]
    fn an_event_reports_each_higher_step_and_no_lower_one() {
        for (before, held, told) in [(0, 1, true), (1, 1, false), (1, 10, true), (100, 10, false), (10, 0, false)] {
            let event = event(Some(&showing(before)), Some(held));
            assert_eq!(event.is_some(), told, "{before} {held}");
        }
        assert!(event(None, Some(1)).is_some(), "a new leader that finds one");
        assert!(event(None, Some(0)).is_none() && event(None, None).is_none());
    }
}
