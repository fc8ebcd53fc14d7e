//! Confirmations that come late, and what is done when a payout was executed twice.

use super::*;
use crate::domain::event::EventType;
use crate::domain::payout::AttemptState::{Confirmed, IntentWritten, ManualReview, Recalled, Recalling, Returned};

const SETTLED: BankReport = BankReport::Status(BankStatus::Settled);

/// The bank rejected attempt 1, and attempt 2 is under way.
fn rerouted(promises: BankPromises) -> Story {
    let mut story = Story::new();
    story.answer(3, 1, BankReport::Status(BankStatus::Rejected));
    let plan = plan(2, promises, at(5));
    assert_eq!(story.input(4, &PayoutInput::Attempt(Box::new(plan))), None);
    story
}

#[test]
fn a_late_confirmation_recalls_the_newer_attempt_freezes_the_payout_and_pages() {
    let mut story = rerouted(all_promises());
    assert_eq!(story.reported(9, 1, SETTLED, EvidenceSource::Confirmation), Confirmed);
    assert_eq!(story.state(2), Recalling);
    let (page, recall) = (Effect::Page { reason: HoldReason::DuplicateDetected }, Effect::Recall { attempt_no: 2 });
    for effect in [Effect::Freeze, page, recall, Effect::Emit(EventType::PayoutHeld)] {
        assert_eq!(story.effects.iter().filter(|one| **one == effect).count(), 1, "{effect:?}");
    }
    assert_eq!((story.payout.state(), story.payout.hold()), (PayoutState::Frozen, Some(HoldReason::DuplicateDetected)));
    let refused = story.next_attempt(10).unwrap();
    assert!(matches!(refused, Refusal::Gate(Unresolved { why: UnresolvedReason::Frozen, .. })), "{refused:?}");
}

#[test]
fn a_second_confirmation_of_either_never_makes_two_confirmed_attempts() {
    for first in [1, 2] {
        let mut story = rerouted(all_promises());
        story.reported(9, first, SETTLED, EvidenceSource::Confirmation);
        story.reported(10, 3 - first, SETTLED, EvidenceSource::Confirmation);
        story.reported(11, first, SETTLED, EvidenceSource::Confirmation);
        story.reported(12, 3 - first, SETTLED, EvidenceSource::Confirmation);
        assert_eq!((story.state(1), story.state(2)), (Confirmed, Recalling), "first {first}");
        assert_eq!(story.payout.state(), PayoutState::Frozen);
        let recall = |moved: &&Transition| moved.attempt_no == 2 && moved.to == Recalling && moved.from != Recalling;
        assert_eq!(story.transitions.iter().filter(recall).count(), 1, "the newer one is recalled once");
    }
}

#[test]
fn a_newer_attempt_that_cannot_be_recalled_waits_for_a_person() {
    let mut story = rerouted(BankPromises::default());
    story.reported(9, 1, SETTLED, EvidenceSource::Confirmation);
    assert_eq!((story.state(1), story.state(2)), (Confirmed, ManualReview));
    assert!(!story.effects.contains(&Effect::Recall { attempt_no: 2 }));
}

#[test]
fn a_duplicate_that_comes_back_leaves_the_payout_frozen_until_it_is_released() {
    for (report, state) in [
        (BankReport::CancelAccepted { funds_back: true }, Recalled),
        (BankReport::Status(BankStatus::Returned), Returned),
    ] {
        let mut story = rerouted(all_promises());
        story.reported(9, 1, SETTLED, EvidenceSource::Confirmation);
        story.reported(10, 2, SETTLED, EvidenceSource::Confirmation);
        assert_eq!(story.reported(20, 2, report, EvidenceSource::Recall), state);
        assert_eq!(story.payout.state(), PayoutState::Frozen);
        assert_eq!(story.input(21, &PayoutInput::Resume { evidence: person("ana", 21) }), None);
        assert_eq!(story.payout.state(), PayoutState::Confirmed);
        assert!(story.next_attempt(22).is_some());
    }
}

#[test]
fn a_late_confirmation_before_a_newer_attempt_only_confirms() {
    let mut story = Story::new();
    story.answer(3, 1, BankReport::Status(BankStatus::Rejected));
    assert_eq!(story.reported(9, 1, SETTLED, EvidenceSource::Confirmation), Confirmed);
    assert_eq!((story.payout.state(), story.payout.next_action()), (PayoutState::Confirmed, None));
    assert!(story.next_attempt(10).is_some());
}

#[test]
fn a_confirmed_attempt_stays_confirmed_whatever_else_is_said() {
    let held = [
        BankReport::Status(BankStatus::Rejected),
        BankReport::Status(BankStatus::Cancelled),
        BankReport::Status(BankStatus::NeverReceived),
        BankReport::CancelAccepted { funds_back: true },
        BankReport::NotSent,
    ];
    let noted = [BankReport::NotFound, BankReport::Silence, BankReport::Ack, SETTLED, BankReport::CancelRefused];
    for (reports, hold) in [(&held, Some(HoldReason::Contradicted)), (&noted, None)] {
        for report in reports {
            let mut story = Story::new();
            story.reported(9, 1, SETTLED, EvidenceSource::Confirmation);
            assert_eq!(story.answer(900, 1, *report), Confirmed, "{report:?}");
            assert_eq!(story.payout.hold(), hold, "{report:?}");
            assert!(story.next_attempt(901).is_some());
        }
    }
}

#[test]
fn a_proof_that_is_contradicted_while_a_newer_attempt_relies_on_it_pages() {
    let mut story = Story::with(BankPromises { strong_read_your_writes: true, ..all_promises() }, limited_rules());
    story.submitter(2, 1, BankReport::Silence);
    story.answer(20, 1, BankReport::NotFound);
    assert_eq!(story.next_attempt(21), None);
    assert_eq!(story.answer(22, 1, BankReport::Status(BankStatus::Open)), ManualReview);
    assert!(story.effects.contains(&Effect::Page { reason: HoldReason::Contradicted }));
    assert_eq!(story.state(2), IntentWritten);
}

#[test]
fn a_duplicate_of_a_payout_that_is_held_already_is_told_too() {
    let mut story = rerouted(BankPromises::default());
    story.submitter(6, 2, BankReport::Silence);
    story.ticks_until(60);
    assert_eq!(story.payout.hold(), Some(HoldReason::NoInquiry));
    story.reported(70, 1, SETTLED, EvidenceSource::Confirmation);
    assert_eq!(story.payout.hold(), Some(HoldReason::DuplicateDetected));
    assert!(story.effects.contains(&Effect::Emit(EventType::PayoutHeld)), "{:?}", story.effects);
}
