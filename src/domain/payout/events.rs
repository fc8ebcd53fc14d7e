//! The events of payouts for the outbox: `payout.held`, `payout.rerouted`, `payout.confirmed`. Pure.
//!
//! An ID says which version of the payout caused the event, not when it was noticed: an act that is stored again after
//! a crash gives the same event. The newest decision is a part of it: after a restore with loss of newer entries a version
//! is made a second time, and consumers that have the lost event must not take the new attempt for it.

use serde_json::{Value, json};
use uuid::Uuid;

use super::effect::{Applied, Effect};
use super::followed::{Attempt, Payout};
use crate::domain::canonical::instant_text;
use crate::domain::event::{EventType, OutboxEvent, event_id};

/// The aggregate of a payout.
pub fn payout_aggregate(namespace: &str, payout_id: &str) -> String {
    format!("payout/{namespace}/{payout_id}")
}

/// The events that `applied` asks for. `version` is the version of the payout that the same commit makes.
pub fn payout_events(version: u64, applied: &Applied, correlation_id: Uuid) -> Vec<OutboxEvent> {
    let payout = &applied.payout;
    let aggregate = payout_aggregate(&payout.namespace, &payout.payout_id);
    let emitted = applied.effects.iter().filter_map(|effect| match effect {
        Effect::Emit(event_type) => Some(*event_type),
        _ => None,
    });
    let decision = payout.attempts.last().map(|attempt| attempt.plan.decision_id).unwrap_or_default();
    let event = |event_type| OutboxEvent {
        id: event_id(event_type, &aggregate, &[&version.to_be_bytes(), decision.as_bytes()]),
        event_type,
        namespace: payout.namespace.clone(),
        aggregate: aggregate.clone(),
        payload: payload(event_type, payout).to_string(),
        correlation_id,
    };
    emitted.map(event).collect()
}

/// What an event says: where the payout stands, and what the receiver needs to act on it.
fn payload(event_type: EventType, payout: &Payout) -> Value {
    let mut payload = json!({
        "amount": payout.amount.normalize().to_string(),
        "currency": payout.currency.to_string(),
        "namespace": payout.namespace,
        "payout_id": payout.payout_id,
        "route": payout.route,
        "state": payout.state().as_str(),
    });
    let Some(fields) = payload.as_object_mut() else { return payload };
    if let Some(hold) = payout.hold() {
        fields.insert("hold".to_owned(), hold.as_str().into());
        fields.insert("remedy".to_owned(), hold.remedy().into());
    }
    let told = match event_type {
        // What is to be sent next, complete: the receiver submits it as it is.
        EventType::PayoutRerouted => payout.attempts.last().map(next_attempt),
        _ => payout.attempts.last().map(attempt),
    };
    fields.extend(told.map(|attempt| ("attempt".to_owned(), attempt)));
    payload
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "attempt_id": attempt.attempt_id.to_string(),
        "attempt_no": attempt.plan.attempt_no,
        "bank": attempt.plan.bank,
        "candidate": attempt.plan.candidate,
        "decision_id": attempt.plan.decision_id.to_string(),
        "end_to_end_id": attempt.end_to_end_id(),
        "state": attempt.state.as_str(),
    })
}

fn next_attempt(next: &Attempt) -> Value {
    let mut told = attempt(next);
    if let Some(fields) = told.as_object_mut() {
        fields.insert("expires_at".to_owned(), instant_text(next.send_by).into());
        fields.insert("idempotency_key".to_owned(), next.idempotency_key().into());
    }
    told
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rust_decimal::Decimal;

    use super::*;
    use crate::domain::money::Currency;
    use crate::domain::payout::{
        AttemptPlan, BankPromises, BankReport, Evidence, EvidenceSource, NewPayout, PayoutInput, StuckRules, apply,
        register,
    };

    fn plan(attempt_no: u32, bank: &str) -> AttemptPlan {
        AttemptPlan {
            attempt_no,
            bank: bank.to_owned(),
            candidate: bank.to_owned(),
            decision_id: Uuid::from_u128(u128::from(attempt_no)),
            promises: BankPromises::default(),
            send_by: Timestamp::from_second(1_700_000_060).unwrap(),
        }
    }

    fn registered() -> Applied {
        let new = NewPayout {
            amount: Decimal::new(1050, 2),
            currency: Currency::parse("EUR").unwrap(),
            namespace: "team".to_owned(),
            payout_id: "po-1".to_owned(),
            route: "eu".to_owned(),
            rules: StuckRules::default(),
        };
        register(new, plan(1, "a"), Timestamp::from_second(1_700_000_000).unwrap())
    }

    #[test]
    fn a_registration_tells_nothing() {
        assert!(payout_events(1, &registered(), Uuid::nil()).is_empty());
    }

    #[test]
    fn a_rerouted_payout_hands_out_the_next_attempt_whole() {
        let now = Timestamp::from_second(1_700_000_100).unwrap();
        let refused = BankReport::NotSent;
        let evidence = Evidence::new(EvidenceSource::Submitter, now);
        let report = PayoutInput::Report { attempt_no: 1, report: refused, evidence };
        let not_sent = apply(&registered().payout, &report, now);
        let next = apply(&not_sent.payout, &PayoutInput::Attempt(Box::new(plan(2, "b"))), now);
        let events = payout_events(3, &next, Uuid::nil());
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0].event_type, EventType::PayoutRerouted);
        assert_eq!(events[0].aggregate, "payout/team/po-1");
        let payload: Value = serde_json::from_str(&events[0].payload).unwrap();
        let attempt = &next.payout.attempts[1];
        assert_eq!(payload["amount"], "10.5");
        assert_eq!(payload["attempt"]["bank"], "b");
        assert_eq!(payload["attempt"]["end_to_end_id"], attempt.end_to_end_id());
        assert_eq!(payload["attempt"]["idempotency_key"], attempt.idempotency_key());
        assert_eq!(payload["attempt"]["attempt_no"], 2);
    }

    #[test]
    fn the_same_act_gives_the_same_event_and_another_version_another_one() {
        let now = Timestamp::from_second(1_700_000_100).unwrap();
        let confirmation = PayoutInput::Report {
            attempt_no: 1,
            report: BankReport::Confirmation,
            evidence: Evidence::new(EvidenceSource::Confirmation, now),
        };
        let applied = apply(&registered().payout, &confirmation, now);
        let first = payout_events(2, &applied, Uuid::nil());
        assert_eq!(first[0].event_type, EventType::PayoutConfirmed);
        assert_eq!(first, payout_events(2, &applied, Uuid::nil()));
        assert_ne!(first[0].id, payout_events(3, &applied, Uuid::nil())[0].id);
    }

    #[test]
    fn a_version_made_again_after_a_loss_with_another_decision_is_another_event() {
        let now = Timestamp::from_second(1_700_000_100).unwrap();
        let evidence = Evidence::new(EvidenceSource::Submitter, now);
        let report = PayoutInput::Report { attempt_no: 1, report: BankReport::NotSent, evidence };
        let not_sent = apply(&registered().payout, &report, now);
        let rerouted = |decision: u128| {
            let next = AttemptPlan { decision_id: Uuid::from_u128(decision), ..plan(2, "b") };
            let applied = apply(&not_sent.payout, &PayoutInput::Attempt(Box::new(next)), now);
            payout_events(3, &applied, Uuid::nil()).remove(0).id
        };
        assert_eq!(rerouted(2), rerouted(2));
        assert_ne!(rerouted(2), rerouted(7));
    }
}
