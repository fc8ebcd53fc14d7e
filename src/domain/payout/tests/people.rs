//! What people do, and what takes two of them.

use super::*;
use crate::domain::payout::AttemptState::{Confirmed, ManualReview, NeverReceived, Recalling, Rejected, Returned};

/// Held after a refused recall.
fn held(rules: StuckRules) -> Story {
    let mut story = Story::with(all_promises(), rules);
    story.submitter(2, 1, BankReport::Silence);
    let evidence = person("ana", 2);
    assert_eq!(story.input(2, &PayoutInput::RequestRecall { attempt_no: 1, evidence }), None);
    assert!(story.effects.contains(&Effect::Audit) && story.effects.contains(&Effect::Recall { attempt_no: 1 }));
    assert_eq!(story.state(1), Recalling);
    story.reported(3, 1, BankReport::CancelRefused, EvidenceSource::Recall);
    assert_eq!(story.state(1), ManualReview);
    story
}

fn reason(refusal: Option<Refusal>) -> Option<PayoutRefusal> {
    match refusal? {
        Refusal::Payout { reason } => Some(reason),
        Refusal::Gate(_) => None,
    }
}

fn accept(story: &mut Story, name: &str) -> Option<PayoutRefusal> {
    reason(story.input(5, &PayoutInput::AcceptDuplicateRisk { evidence: person(name, 5) }))
}

fn resolve(story: &mut Story, name: &str, resolution: Resolution) -> Option<PayoutRefusal> {
    let input = PayoutInput::Resolve { attempt_no: 1, resolution, evidence: person(name, 6) };
    reason(story.input(6, &input))
}

#[test]
fn two_different_people_accept_the_risk_of_one_more_attempt() {
    let mut story = held(limited_rules());
    assert_eq!(accept(&mut story, "ana"), None);
    assert!(story.next_attempt(5).is_some(), "one person is not enough");
    assert_eq!(accept(&mut story, "ana"), Some(PayoutRefusal::SameSubject));
    assert!(story.next_attempt(5).is_some(), "the same person twice is one");
    assert_eq!(accept(&mut story, "bo"), None);
    assert_eq!(story.effects, [Effect::Audit, Effect::ProposeReroute { attempt_no: 2 }]);
    assert_eq!((story.payout.hold(), story.next_attempt(6)), (None, None));
    // The acceptance was for attempt 2 alone.
    story.answer(7, 2, BankReport::Status(BankStatus::Rejected));
    assert!(story.next_attempt(8).is_some());
    assert_eq!(story.payout.state(), PayoutState::Held);
}

#[test]
fn the_risk_is_accepted_within_a_limit_and_not_for_an_attempt_in_time_or_executed() {
    let exact = StuckRules { duplicate_risk_limit: Some(Decimal::from(1000)), ..StuckRules::default() };
    assert_eq!(accept(&mut held(exact), "ana"), None);
    let below = StuckRules { duplicate_risk_limit: Some(Decimal::from(999)), ..StuckRules::default() };
    assert_eq!(accept(&mut held(below), "ana"), Some(PayoutRefusal::AboveLimit));
    assert_eq!(accept(&mut held(StuckRules::default()), "ana"), Some(PayoutRefusal::AboveLimit));
    assert_eq!(accept(&mut Story::new(), "ana"), Some(PayoutRefusal::NotStuck));
    assert_eq!(accept(&mut held(limited_rules()), ""), Some(PayoutRefusal::NoSubject));
    let mut confirmed = held(limited_rules());
    assert_eq!((accept(&mut confirmed, "ana"), accept(&mut confirmed, "bo")), (None, None));
    confirmed.answer(5, 1, BankReport::Confirmation);
    assert!(confirmed.next_attempt(6).is_some(), "a confirmation ends what people accepted");
    assert_eq!(accept(&mut confirmed, "cy"), Some(PayoutRefusal::Executed));
    let mut rejected = held(limited_rules());
    rejected.answer(5, 1, BankReport::Status(BankStatus::Rejected));
    assert_eq!(accept(&mut rejected, "ana"), Some(PayoutRefusal::NothingOpen));
}

#[test]
fn not_executed_takes_two_people_who_say_the_same_and_executed_takes_one() {
    for (resolution, state) in
        [(Resolution::Rejected, Rejected), (Resolution::Returned, Returned), (Resolution::NeverReceived, NeverReceived)]
    {
        let mut story = held(limited_rules());
        assert_eq!(resolve(&mut story, "ana", resolution), None);
        assert_eq!(story.state(1), ManualReview);
        assert_eq!(resolve(&mut story, "ana", resolution), Some(PayoutRefusal::SameSubject));
        assert_eq!(resolve(&mut story, "bo", resolution), None);
        assert_eq!(story.state(1), state);
        assert_eq!(story.next_attempt(7), None);
    }
    let mut differ = held(limited_rules());
    assert_eq!(resolve(&mut differ, "ana", Resolution::Returned), None);
    assert_eq!(resolve(&mut differ, "bo", Resolution::Rejected), None);
    assert_eq!(differ.state(1), ManualReview);
    let mut executed = held(limited_rules());
    assert_eq!(resolve(&mut executed, "ana", Resolution::Confirmed), None);
    assert_eq!(executed.state(1), Confirmed);
    assert_eq!(resolve(&mut executed, "bo", Resolution::Returned), Some(PayoutRefusal::AlreadyFinal));
}

#[test]
fn a_resolution_names_a_message_of_the_bank() {
    let mut story = held(limited_rules());
    let evidence = Evidence::new(EvidenceSource::Operator, at(6)).by("ana");
    for evidence in [evidence.clone(), evidence.referenced("")] {
        let input = PayoutInput::Resolve { attempt_no: 1, resolution: Resolution::Confirmed, evidence };
        assert_eq!(reason(story.input(6, &input)), Some(PayoutRefusal::NoEvidence));
    }
}

#[test]
fn acts_name_an_attempt_and_what_its_bank_offers() {
    let mut story = Story::with(BankPromises::default(), limited_rules());
    let inquiry = |attempt_no| PayoutInput::RequestInquiry { attempt_no, evidence: person("ana", 1) };
    let recall = |attempt_no| PayoutInput::RequestRecall { attempt_no, evidence: person("ana", 1) };
    assert_eq!(reason(story.input(1, &inquiry(2))), Some(PayoutRefusal::UnknownAttempt));
    assert_eq!(reason(story.input(1, &inquiry(1))), Some(PayoutRefusal::NoInquiry));
    assert_eq!(reason(story.input(1, &recall(1))), Some(PayoutRefusal::NoRecall));
    let resume = PayoutInput::Resume { evidence: person("ana", 1) };
    assert_eq!(reason(story.input(1, &resume)), Some(PayoutRefusal::NotFrozen));
    let mut able = Story::new();
    assert_eq!(able.input(1, &inquiry(1)), None);
    assert_eq!(able.effects, [Effect::Audit, Effect::Inquire { attempt_no: 1 }]);
    able.answer(2, 1, BankReport::Confirmation);
    assert_eq!(reason(able.input(3, &recall(1))), Some(PayoutRefusal::AlreadyFinal));
}

#[test]
fn a_restore_with_loss_holds_every_open_payout_and_believes_no_not_found() {
    let mut story = Story::with(BankPromises { strong_read_your_writes: true, ..all_promises() }, limited_rules());
    story.submitter(2, 1, BankReport::Silence);
    assert_eq!(story.input(3, &PayoutInput::RestoreWithLoss), None);
    assert_eq!((story.state(1), story.payout.hold()), (ManualReview, Some(HoldReason::RestoredWithLoss)));
    assert_eq!(story.payout.state(), PayoutState::Held);
    assert_eq!(story.answer(500, 1, BankReport::NotFound), ManualReview);
    // A newer attempt may be missing: even the bank's rejection opens nothing before people have compared it.
    let mut rejected = story.clone();
    rejected.answer(501, 1, BankReport::Status(BankStatus::Rejected));
    assert!(rejected.next_attempt(502).is_some());
    assert_eq!(rejected.input(503, &PayoutInput::Resume { evidence: person("ana", 503) }), None);
    assert_eq!(rejected.next_attempt(504), None);
    // Two people who resolve the last attempt have compared it.
    let mut resolved = story.clone();
    assert_eq!(resolve(&mut resolved, "ana", Resolution::NeverReceived), None);
    assert_eq!(resolve(&mut resolved, "bo", Resolution::NeverReceived), None);
    assert_eq!(resolved.next_attempt(7), None);
    story.answer(501, 1, BankReport::Confirmation);
    assert_eq!(story.payout.state(), PayoutState::Confirmed);
}

#[test]
fn a_restore_with_loss_closes_the_gate_of_a_payout_without_an_open_attempt() {
    let mut story = Story::new();
    story.answer(3, 1, BankReport::Status(BankStatus::Rejected));
    assert_eq!(story.input(4, &PayoutInput::RestoreWithLoss), None);
    assert!(story.next_attempt(5).is_some());
    let mut confirmed = Story::new();
    confirmed.answer(3, 1, BankReport::Confirmation);
    let before = confirmed.payout.clone();
    assert_eq!(confirmed.input(4, &PayoutInput::RestoreWithLoss), None);
    assert_eq!(confirmed.payout, before);
}

#[test]
fn what_one_person_said_before_a_restore_with_loss_is_forgotten() {
    let mut story = held(limited_rules());
    assert_eq!(resolve(&mut story, "ana", Resolution::NeverReceived), None);
    assert_eq!(story.input(6, &PayoutInput::RestoreWithLoss), None);
    assert_eq!(resolve(&mut story, "bo", Resolution::NeverReceived), None);
    assert_eq!(story.state(1), ManualReview, "one person is not enough");
    assert_eq!(resolve(&mut story, "ana", Resolution::NeverReceived), None);
    assert_eq!(story.state(1), NeverReceived);
}

#[test]
fn an_attempt_is_not_sent_again_once_people_accepted_the_risk_of_the_next_one() {
    let mut story = Story::new();
    story.submitter(2, 1, BankReport::Silence);
    let resend = |story: &mut Story| {
        let evidence = Evidence::new(EvidenceSource::Submitter, at(5));
        reason(story.input(5, &PayoutInput::RequestResend { attempt_no: 1, evidence, target: String::new() }))
    };
    assert_eq!(resend(&mut story), None);
    assert_eq!((accept(&mut story, "ana"), resend(&mut story)), (None, None), "one person is not enough");
    assert_eq!((accept(&mut story, "bo"), resend(&mut story)), (None, Some(PayoutRefusal::AlreadyFinal)));
}
