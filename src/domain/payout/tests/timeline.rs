//! The way of an attempt from the decision to the proof.

use super::*;
use crate::domain::event::EventType;
use crate::domain::payout::AttemptState::{
    Accepted, Confirmed, Inquiring, IntentWritten, ManualReview, NeverReceived, Recalled, Recalling, Rejected,
    Returned, Submitted, Unknown,
};

#[test]
fn an_attempt_is_intended_submitted_accepted_and_confirmed() {
    let mut story = Story::new();
    assert_eq!(story.state(1), IntentWritten);
    assert_eq!(story.submitter(0, 1, BankReport::Submitted), Submitted);
    assert_eq!(story.submitter(1, 1, BankReport::Ack), Accepted);
    let confirmed = story.reported(9, 1, BankReport::Status(BankStatus::Settled), EvidenceSource::Confirmation);
    assert_eq!(confirmed, Confirmed);
    assert_eq!(story.effects, [Effect::Emit(EventType::PayoutConfirmed)]);
    assert_eq!((story.payout.next_action(), story.payout.state()), (None, PayoutState::Confirmed));
    let way: Vec<_> = story.transitions.iter().map(|moved| moved.to).collect();
    assert_eq!(way, [IntentWritten, Submitted, Accepted, Confirmed]);
    let last = &story.transitions[3].evidence;
    assert_eq!((last.source, last.message_hash, last.at), (EvidenceSource::Confirmation, Some([7; 32]), at(9)));
}

#[test]
fn silence_is_inquired_at_once_and_then_with_growing_steps() {
    let mut story = Story::new();
    assert_eq!(story.submitter(2, 1, BankReport::Silence), Unknown);
    let mut asked = Vec::new();
    for minute in 2..70 {
        let effects = story.ticks_until(minute);
        assert!(effects.iter().all(|effect| *effect != Effect::Recall { attempt_no: 1 }) || minute >= 40);
        asked.extend(effects.iter().filter(|effect| **effect == Effect::Inquire { attempt_no: 1 }).map(|_| minute));
    }
    // 0, 1, 2, 5, 10 and 20 minutes, each with up to a tenth of jitter.
    assert_eq!(asked[0], 2);
    assert!(asked[1] <= 4 && asked[2] <= 6 && asked[3] <= 12 && asked[4] <= 23 && asked[5] <= 45, "{asked:?}");
    assert_eq!(story.state(1), Recalling);
}

#[test]
fn an_accepted_attempt_is_stuck_after_the_time_of_the_route_and_not_before() {
    let mut story = Story::new();
    story.submitter(0, 1, BankReport::Submitted);
    story.submitter(0, 1, BankReport::Ack);
    assert_eq!((story.ticks_until(29), story.state(1)), (vec![], Accepted));
    assert_eq!(story.ticks_until(30), [Effect::Inquire { attempt_no: 1 }]);
    assert_eq!((story.state(1), story.payout.state()), (Inquiring, PayoutState::Stuck));
}

#[test]
fn an_attempt_of_which_nothing_is_heard_is_stuck_after_its_permission_and_that_time() {
    let mut story = Story::new();
    story.ticks_until(30);
    assert_eq!(story.state(1), IntentWritten);
    story.ticks_until(31);
    assert_eq!(story.state(1), Inquiring);
}

/// Inquired without an end; then the recall was sent.
fn recalled() -> Story {
    let mut story = Story::new();
    story.submitter(2, 1, BankReport::Silence);
    story.ticks_until(70);
    assert_eq!(story.state(1), Recalling);
    story
}

#[test]
fn a_recall_ends_in_proof_or_with_a_person() {
    type Case = (BankReport, AttemptState, Option<HoldReason>);
    let cases: [Case; 6] = [
        (BankReport::CancelAccepted { funds_back: true }, Recalled, None),
        (BankReport::CancelAccepted { funds_back: false }, Recalling, None),
        (BankReport::CancelRefused, ManualReview, Some(HoldReason::RecallRefused)),
        (BankReport::CancelPending, ManualReview, Some(HoldReason::RecallPending)),
        (BankReport::CancelSilence, Recalling, None),
        (BankReport::Confirmation, Confirmed, None),
    ];
    for (report, state, hold) in cases {
        let mut story = recalled();
        assert_eq!(story.reported(71, 1, report, EvidenceSource::Recall), state, "{report:?}");
        assert_eq!(story.payout.hold(), hold, "{report:?}");
        let told = story.effects.contains(&Effect::Emit(EventType::PayoutHeld));
        assert_eq!(told, hold.is_some(), "{report:?}");
    }
    let mut story = recalled();
    story.ticks_until(200);
    assert_eq!((story.state(1), story.payout.hold()), (ManualReview, Some(HoldReason::RecallUnanswered)));
}

#[test]
fn a_recall_that_may_be_lost_is_sent_again_only_after_an_answer() {
    let recalls = |effects: &[Effect]| effects.iter().filter(|e| **e == Effect::Recall { attempt_no: 1 }).count();
    let mut silent = recalled();
    assert_eq!(recalls(&silent.ticks_until(200)), 0);
    let mut answered = recalled();
    answered.answer(70, 1, BankReport::Status(BankStatus::Open));
    assert_eq!(recalls(&answered.ticks_until(200)), 1);
    assert_eq!(answered.payout.attempt(1).unwrap().recalls, 2);
}

#[test]
fn a_bank_that_settles_after_all_ends_the_review() {
    let mut story = recalled();
    story.reported(71, 1, BankReport::CancelRefused, EvidenceSource::Recall);
    assert_eq!(story.ticks_until(71), [Effect::Inquire { attempt_no: 1 }], "a refusal often means executed");
    assert_eq!(story.answer(72, 1, BankReport::Status(BankStatus::Settled)), Confirmed);
    assert_eq!((story.payout.hold(), story.payout.state()), (None, PayoutState::Confirmed));
}

#[test]
fn proof_by_the_bank_proposes_the_next_attempt_until_it_is_made() {
    let mut story = Story::new();
    story.submitter(2, 1, BankReport::Silence);
    story.ticks_until(2);
    assert_eq!(story.answer(3, 1, BankReport::Status(BankStatus::Rejected)), Rejected);
    assert_eq!(story.effects, [Effect::ProposeReroute { attempt_no: 2 }]);
    assert_eq!(story.ticks_until(5), [Effect::ProposeReroute { attempt_no: 2 }], "a lost proposal is made again");
    assert_eq!(story.next_attempt(5), None);
    assert_eq!(story.effects, [Effect::Emit(EventType::PayoutRerouted)]);
    assert_eq!(story.ticks_until(30), []);
}

#[test]
fn a_day_without_a_bank_holds_the_payout() {
    let mut story = Story::new();
    story.submitter(2, 1, BankReport::Silence);
    story.answer(3, 1, BankReport::Status(BankStatus::Rejected));
    let effects = story.ticks_until(3000);
    assert!(effects.contains(&Effect::Emit(EventType::PayoutHeld)));
    assert_eq!((story.payout.hold(), story.payout.next_action()), (Some(HoldReason::NoBank), None));
    assert_eq!(story.next_attempt(3001), None, "a person may still decide it");
    assert_eq!(story.payout.hold(), None);
}

#[test]
fn an_attempt_that_costs_more_than_is_allowed_is_for_a_person_to_decide() {
    let rejected = || {
        let mut story = Story::new();
        story.answer(3, 1, BankReport::Status(BankStatus::Rejected));
        assert_eq!(story.input(3, &PayoutInput::CostsMore), None);
        assert_eq!(story.effects, [Effect::Emit(EventType::PayoutHeld)]);
        assert_eq!((story.payout.hold(), story.ticks_until(3000)), (Some(HoldReason::CostsMore), vec![]));
        story
    };
    let mut decided = rejected();
    assert_eq!((decided.next_attempt(3001), decided.payout.hold()), (None, None));
    let mut resumed = rejected();
    assert_eq!(resumed.input(3001, &PayoutInput::Resume { evidence: person("ana", 3001) }), None);
    assert!(resumed.effects.contains(&Effect::ProposeReroute { attempt_no: 2 }));
    // Nothing was proposed: there is nothing to hold.
    let mut open = Story::new();
    assert_eq!((open.input(1, &PayoutInput::CostsMore), open.payout.hold()), (None, None));
}

#[test]
fn the_submitters_own_proof_leaves_the_next_attempt_to_it() {
    for (report, state) in [(BankReport::NotSent, NeverReceived), (BankReport::Status(BankStatus::Rejected), Rejected)]
    {
        let mut story = Story::new();
        assert_eq!(story.submitter(1, 1, report), state);
        assert_eq!((story.effects.len(), story.payout.state()), (0, PayoutState::NotExecuted));
        assert_eq!(story.next_attempt(2), None);
    }
}

#[test]
fn too_many_attempts_wait_for_a_person() {
    let mut story = Story::with(all_promises(), StuckRules { max_attempts: 2, ..limited_rules() });
    story.answer(1, 1, BankReport::Status(BankStatus::Rejected));
    assert_eq!(story.next_attempt(2), None);
    story.answer(3, 2, BankReport::Status(BankStatus::Rejected));
    assert_eq!(story.payout.hold(), Some(HoldReason::AttemptsExhausted));
    assert_eq!(story.effects, [Effect::Emit(EventType::PayoutHeld)]);
}

#[test]
fn what_a_bank_does_not_promise_is_not_asked_of_it() {
    let nothing = BankPromises::default();
    assert!(nothing.is_manual_only());
    let only_recall = BankPromises { recall: true, ..BankPromises::default() };
    let only_inquiry = BankPromises { inquiry: true, ..BankPromises::default() };
    let inquire = StuckRules { policy: StuckPolicy::Inquire, ..limited_rules() };
    let manual = StuckRules { policy: StuckPolicy::ManualOnly, ..limited_rules() };
    for (promises, rules, state, hold) in [
        (nothing, limited_rules(), ManualReview, Some(HoldReason::NoInquiry)),
        (only_recall, limited_rules(), ManualReview, Some(HoldReason::RecallUnanswered)),
        (only_inquiry, limited_rules(), ManualReview, Some(HoldReason::InquiryInconclusive)),
        (all_promises(), inquire, ManualReview, Some(HoldReason::InquiryInconclusive)),
        (all_promises(), manual, ManualReview, Some(HoldReason::ManualOnly)),
    ] {
        let may_recall = promises.recall && rules.policy == StuckPolicy::InquireThenRecall;
        let may_inquire = promises.inquiry && rules.policy != StuckPolicy::ManualOnly;
        let mut story = Story::with(promises, rules);
        story.submitter(2, 1, BankReport::Silence);
        let effects = story.ticks_until(300);
        assert_eq!(effects.contains(&Effect::Recall { attempt_no: 1 }), may_recall, "{hold:?}");
        assert_eq!(effects.contains(&Effect::Inquire { attempt_no: 1 }), may_inquire, "{hold:?}");
        assert_eq!((story.state(1), story.payout.hold()), (state, hold));
    }
}

#[test]
fn money_that_comes_back_after_a_confirmation_waits_for_a_person() {
    let mut story = Story::new();
    story.reported(5, 1, BankReport::Confirmation, EvidenceSource::Confirmation);
    let state = story.reported(900, 1, BankReport::Status(BankStatus::Returned), EvidenceSource::Confirmation);
    assert_eq!((state, story.payout.hold()), (Returned, Some(HoldReason::ReturnedAfterConfirmation)));
    assert_eq!(story.effects, [Effect::Emit(EventType::PayoutHeld)], "nothing is proposed");
    assert_eq!(story.payout.may_attempt(2), Ok(()), "the money is back");
}

#[test]
fn the_steps_shrink_with_the_time_of_the_route() {
    let rules = StuckRules { after: Duration::from_mins(1), ..limited_rules() };
    let mut story = Story::with(all_promises(), rules);
    story.submitter(0, 1, BankReport::Silence);
    let effects = story.ticks_until(4);
    assert!(effects.contains(&Effect::Recall { attempt_no: 1 }), "{effects:?}");
}

#[test]
fn iso_statuses_are_final_only_where_the_standard_says_so() {
    for (status, reason, want) in [
        ("ACSC", None, BankStatus::Settled),
        ("ACCC", None, BankStatus::Settled),
        ("RJCT", Some("AC03"), BankStatus::Rejected),
        ("RJCT", None, BankStatus::Rejected),
        ("RJCT", Some("AG09"), BankStatus::NeverReceived),
        ("CANC", None, BankStatus::Cancelled),
    ] {
        assert_eq!(BankStatus::from_iso(status, reason), want, "{status} {reason:?}");
    }
    for open in ["RCVD", "ACTC", "ACCP", "ACSP", "ACWC", "ACWP", "PDNG", "PART", "", "acsc", "RJCT ", "CNCL"] {
        assert_eq!(BankStatus::from_iso(open, Some("AG09")), BankStatus::Open, "{open}");
    }
}
