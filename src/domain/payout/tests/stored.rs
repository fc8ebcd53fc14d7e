//! What is stored of a payout, and the names that banks and submitters are given.

use super::*;

#[test]
fn what_is_written_is_read_at_every_step_of_a_payout() {
    let mut story = Story::new();
    let same = |story: &Story| {
        let bytes = story.payout.encode();
        assert_eq!(Payout::decode(&bytes).unwrap(), story.payout);
        assert_eq!(Payout::decode(&bytes).unwrap().encode(), bytes);
    };
    same(&story);
    story.submitter(2, 1, BankReport::Silence);
    same(&story);
    story.ticks_until(90);
    same(&story);
    story.answer(91, 1, BankReport::NotFound);
    story.reported(92, 1, BankReport::CancelRefused, EvidenceSource::Recall);
    story.input(93, &PayoutInput::AcceptDuplicateRisk { evidence: person("ana", 93) });
    same(&story);
    story.input(94, &PayoutInput::AcceptDuplicateRisk { evidence: person("bo", 94) });
    assert_eq!(story.next_attempt(95), None);
    same(&story);
    story.reported(96, 1, BankReport::Confirmation, EvidenceSource::Confirmation);
    same(&story);
}

#[test]
fn the_stored_form_is_canonical() {
    let text = String::from_utf8(Story::new().payout.encode()).unwrap();
    let start = r#"{"amount":"1000","attempts":[{"attempt_id":""#;
    assert!(text.starts_with(start), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["attempts"][0]["state"], "intent_written");
    assert_eq!(value["rules"]["policy"], "inquire_then_recall");
    assert_eq!(serde_json::to_string(&value).unwrap().len(), text.len(), "no field twice");
}

#[test]
fn an_attempt_has_the_same_names_whenever_it_is_made_and_no_other_attempt_has_them() {
    let id = attempt_id("team", "p-1", 1);
    assert_eq!(id, attempt_id("team", "p-1", 1));
    for other in [("team", "p-1", 2), ("team", "p-2", 1), ("teamp", "-1", 1)] {
        assert_ne!(id, attempt_id(other.0, other.1, other.2));
    }
    let story = Story::new();
    let attempt = story.payout.attempt(1).unwrap();
    assert_eq!(attempt.attempt_id, id);
    // ISO 20022 gives an end-to-end ID 35 characters.
    assert!(attempt.end_to_end_id().len() <= 35, "{}", attempt.end_to_end_id());
    assert_ne!(attempt.idempotency_key(), attempt.recall_key());
}

#[test]
fn outcomes_are_inputs_of_the_state() {
    for class in OutcomeClass::ALL.iter().copied() {
        let mut story = Story::new();
        let Some(report) = BankReport::from_outcome(class) else { continue };
        let state = story.submitter(1, 1, report);
        assert_eq!(state.is_not_executed(), class.is_proof(), "{class}");
        assert_eq!(story.payout.may_attempt(2).is_ok(), class.is_proof(), "{class}");
    }
}
