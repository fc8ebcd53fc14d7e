//! What proves that a bank did not execute an attempt, and what does not.

use super::*;
use crate::domain::payout::AttemptState::{Accepted, Inquiring, ManualReview, NeverReceived, Recalled, Recalling};

const NEVER: BankReport = BankReport::Status(BankStatus::NeverReceived);
const ACCEPTED: BankReport = BankReport::CancelAccepted { funds_back: false };

fn strong() -> BankPromises {
    BankPromises { strong_read_your_writes: true, ..all_promises() }
}

/// Timed out at minute 2, and inquired since. The permission to send ended at minute 1.
fn inquired(promises: BankPromises) -> Story {
    let mut story = Story::with(promises, limited_rules());
    story.submitter(2, 1, BankReport::Silence);
    story.ticks_until(2);
    story
}

/// The same, with a recall that was sent.
fn recalled(promises: BankPromises) -> Story {
    let mut story = inquired(promises);
    let evidence = person("ana", 2);
    assert_eq!(story.input(2, &PayoutInput::RequestRecall { attempt_no: 1, evidence }), None);
    story
}

#[test]
fn a_time_out_and_any_number_of_not_found_without_a_recall_prove_nothing() {
    let mut story = inquired(all_promises());
    for minute in [3, 10, 20, 40, 2000] {
        assert_eq!(story.answer(minute, 1, BankReport::NotFound), Inquiring);
    }
    assert!(story.next_attempt(2000).is_some());
}

#[test]
fn two_not_found_a_grace_apart_and_an_accepted_recall_are_proof_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [2, 0, 1]] {
        let mut story = recalled(all_promises());
        let states: Vec<_> = order
            .iter()
            .map(|step| match step {
                0 => story.answer(3, 1, BankReport::NotFound),
                1 => story.answer(18, 1, BankReport::NotFound),
                _ => story.answer(10, 1, ACCEPTED),
            })
            .collect();
        assert_eq!(states, [Recalling, Recalling, NeverReceived], "{order:?}");
        assert_eq!(story.next_attempt(19), None);
    }
}

#[test]
fn what_is_missing_of_that_proof_leaves_the_attempt_open() {
    let never = BankPromises { not_found_proof: false, ..all_promises() };
    for (promises, first, second, cancel) in [
        (all_promises(), 3, 17, ACCEPTED),
        (all_promises(), 3, 18, BankReport::CancelSilence),
        (never, 3, 18, ACCEPTED),
        // The first was asked while the payout could still be sent.
        (all_promises(), 0, 16, ACCEPTED),
    ] {
        let mut story = recalled(promises);
        story.answer(first, 1, BankReport::NotFound);
        story.answer(second, 1, BankReport::NotFound);
        assert_eq!(story.answer(second, 1, cancel), Recalling);
        assert!(story.next_attempt(20).is_some());
    }
}

#[test]
fn a_bank_that_knows_the_payout_cannot_have_never_received_it() {
    for known in [BankReport::Ack, BankReport::Status(BankStatus::Open)] {
        let mut story = recalled(strong());
        story.answer(3, 1, known);
        for (minute, report) in [(60, BankReport::NotFound), (100, BankReport::NotFound), (300, NEVER), (301, ACCEPTED)]
        {
            assert_eq!(story.answer(minute, 1, report), Recalling, "{known:?} {report:?}");
        }
    }
}

#[test]
fn a_bank_that_reads_its_writes_proves_it_with_one_not_found_after_the_grace() {
    let mut story = inquired(strong());
    assert_eq!(story.answer(15, 1, BankReport::NotFound), Inquiring);
    assert_eq!(story.answer(16, 1, BankReport::NotFound), NeverReceived);
    let only_strong = BankPromises { not_found_proof: false, ..strong() };
    assert_eq!(inquired(only_strong).answer(60, 1, BankReport::NotFound), Inquiring);
}

#[test]
fn never_received_counts_after_the_schemes_time_and_the_grace() {
    let mut story = inquired(all_promises());
    assert_eq!(story.answer(75, 1, NEVER), Inquiring);
    assert_eq!(story.answer(76, 1, NEVER), NeverReceived);
}

#[test]
fn an_answer_counts_from_its_question_and_without_one_proves_nothing() {
    for report in [NEVER, BankReport::NotFound] {
        let mut story = inquired(strong());
        for asked in [Some(at(5)), None] {
            let evidence = Evidence { asked_at: asked, ..Evidence::message(EvidenceSource::Inquiry, at(999), [1; 32]) };
            let input = PayoutInput::Report { attempt_no: 1, report, evidence };
            assert_eq!((story.input(999, &input), story.state(1)), (None, Inquiring), "{report:?} asked {asked:?}");
        }
    }
}

#[test]
fn a_statement_without_a_debit_is_proof_once_it_covers_a_whole_day() {
    let statement = |hours: i64| BankReport::StatementWithoutDebit { through: at(hours * 60 + 16) };
    let mut story = inquired(all_promises());
    assert_eq!(story.reported(5000, 1, statement(23), EvidenceSource::Statement), Inquiring);
    assert_eq!(story.reported(5000, 1, statement(24), EvidenceSource::Statement), NeverReceived);
    let mut known = inquired(all_promises());
    known.answer(3, 1, BankReport::Ack);
    assert_eq!(known.reported(5000, 1, statement(48), EvidenceSource::Statement), Inquiring);
}

#[test]
fn a_cancelled_payout_is_recalled_only_where_a_recall_was_sent() {
    let cancelled = BankReport::Status(BankStatus::Cancelled);
    assert_eq!(recalled(all_promises()).answer(5, 1, cancelled), Recalled);
    assert_eq!(inquired(all_promises()).answer(5, 1, cancelled), AttemptState::Rejected);
    // An answer to a recall that was never sent.
    let back = BankReport::CancelAccepted { funds_back: true };
    assert_eq!(inquired(all_promises()).answer(5, 1, back), Inquiring);
}

#[test]
fn what_contradicts_a_proof_closes_the_gate_again() {
    let mut acknowledged = inquired(strong());
    acknowledged.answer(20, 1, BankReport::NotFound);
    assert_eq!(acknowledged.payout.may_attempt(2), Ok(()));
    assert_eq!(acknowledged.answer(21, 1, BankReport::Ack), ManualReview);
    assert!(acknowledged.payout.may_attempt(2).is_err());
    assert_eq!(acknowledged.payout.hold(), Some(HoldReason::Contradicted));

    let mut submitter = Story::new();
    submitter.submitter(1, 1, BankReport::NotSent);
    assert_eq!(submitter.submitter(2, 1, BankReport::Silence), ManualReview);

    let mut known = Story::new();
    assert_eq!(known.submitter(1, 1, BankReport::Ack), Accepted);
    assert_eq!(known.submitter(2, 1, BankReport::NotSent), ManualReview);
}

#[test]
fn a_late_message_of_the_way_changes_no_proof_of_the_bank() {
    for late in [BankReport::Submitted, BankReport::Silence, BankReport::CancelRefused, BankReport::NotFound] {
        let mut story = inquired(all_promises());
        story.answer(3, 1, BankReport::Status(BankStatus::Rejected));
        assert_eq!(story.submitter(4, 1, late), AttemptState::Rejected, "{late:?}");
    }
}

#[test]
fn a_key_is_good_until_the_window_less_its_margin_and_until_a_recall() {
    let mut story = inquired(all_promises());
    let attempt = |story: &Story| story.payout.attempt(1).unwrap().clone();
    // A day less its tenth.
    let end = 24 * 60 - 144;
    assert_eq!(may_resend(&attempt(&story), at(3)), Ok(at(4)));
    assert_eq!(may_resend(&attempt(&story), at(end - 1)), Ok(at(end)));
    assert_eq!(may_resend(&attempt(&story), at(end)), Err(PayoutRefusal::WindowOver));
    let short = BankPromises { idempotency_window: Duration::from_mins(15), ..all_promises() };
    assert_eq!(may_resend(&attempt(&inquired(short)), at(3)), Err(PayoutRefusal::NoWindow));
    assert_eq!(may_resend(&attempt(&recalled(all_promises())), at(3)), Err(PayoutRefusal::RecallSent));
    story.answer(3, 1, BankReport::Status(BankStatus::Rejected));
    assert_eq!(may_resend(&attempt(&story), at(4)), Err(PayoutRefusal::AlreadyFinal));
}

#[test]
fn a_permission_to_send_again_starts_the_proof_anew() {
    let mut story = inquired(strong());
    let evidence = Evidence::new(EvidenceSource::Submitter, at(10));
    assert_eq!(story.input(10, &PayoutInput::RequestResend { attempt_no: 1, evidence, target: String::new() }), None);
    assert_eq!(story.answer(16, 1, BankReport::NotFound), Inquiring);
    assert_eq!(story.answer(25, 1, BankReport::NotFound), Inquiring);
    assert_eq!(story.answer(26, 1, BankReport::NotFound), NeverReceived);
}

#[test]
fn an_attempt_is_not_sent_again_where_its_connection_leads_elsewhere() {
    let moved = BankPromises { target: "a".to_owned(), ..all_promises() };
    for (target, refused) in
        [("a", None), ("b", Some(PayoutRefusal::EndpointChanged)), ("", Some(PayoutRefusal::EndpointChanged))]
    {
        let mut story = inquired(moved.clone());
        let (evidence, target) = (Evidence::new(EvidenceSource::Submitter, at(10)), target.to_owned());
        let refusal = story.input(10, &PayoutInput::RequestResend { attempt_no: 1, evidence, target });
        assert_eq!(refusal, refused.map(|reason| Refusal::Payout { reason }));
    }
}

#[test]
fn not_sent_is_no_proof_once_the_attempt_may_have_been_sent() {
    for before in [BankReport::Submitted, BankReport::Silence] {
        let mut story = Story::new();
        story.submitter(1, 1, before);
        assert_eq!(story.submitter(2, 1, BankReport::NotSent), AttemptState::Unknown, "{before:?}");
        assert!(story.next_attempt(2).is_some(), "{before:?}");
        assert!(story.ticks_until(3).contains(&Effect::Inquire { attempt_no: 1 }), "{before:?}: the bank is asked");
    }
    // Sent, crashed, allowed to send once more, and not connected then.
    let mut again = Story::new();
    let evidence = Evidence::new(EvidenceSource::Submitter, at(1));
    assert_eq!(again.input(1, &PayoutInput::RequestResend { attempt_no: 1, evidence, target: String::new() }), None);
    assert_eq!(again.submitter(2, 1, BankReport::NotSent), AttemptState::Unknown);
}

#[test]
fn a_proof_of_the_submitter_that_is_delivered_again_ends_no_contradiction() {
    for proof in [BankReport::NotSent, BankReport::Status(BankStatus::Rejected)] {
        let mut story = Story::new();
        story.submitter(1, 1, proof);
        assert_eq!(story.submitter(2, 1, BankReport::Silence), ManualReview, "{proof:?}");
        assert_eq!(story.submitter(3, 1, proof), ManualReview, "{proof:?}");
        assert!(story.next_attempt(4).is_some(), "{proof:?}");
        // The bank itself ends it.
        assert_eq!(story.answer(5, 1, BankReport::Status(BankStatus::Rejected)), AttemptState::Rejected);
    }
}
