//! What payouts do, input by input.

use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::*;
use crate::domain::money::Currency;

mod duplicates;
mod gate;
mod model;
mod oracle;
mod people;
mod proofs;
mod stored;
mod timeline;

/// Minutes after the registration.
fn at(minutes: i64) -> Timestamp {
    let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    start.checked_add(jiff::SignedDuration::from_mins(minutes)).unwrap()
}

/// A bank that promises all that the rules know.
fn all_promises() -> BankPromises {
    BankPromises {
        idempotency_window: Duration::from_hours(24),
        inquiry: true,
        not_found_grace: Duration::from_mins(15),
        not_found_proof: true,
        recall: true,
        scheme_timeout: Duration::from_hours(1),
        ..BankPromises::default()
    }
}

fn plan(attempt_no: u32, promises: BankPromises, send_by: Timestamp) -> AttemptPlan {
    AttemptPlan {
        attempt_no,
        bank: format!("bank-{attempt_no}"),
        candidate: format!("candidate-{attempt_no}"),
        decision_id: Uuid::from_u128(u128::from(attempt_no)),
        promises,
        send_by,
    }
}

fn limited_rules() -> StuckRules {
    StuckRules { duplicate_risk_limit: Some(Decimal::from(10_000)), ..StuckRules::default() }
}

/// A payout and what happened to it.
#[derive(Clone, Debug)]
struct Story {
    payout: Payout,
    effects: Vec<Effect>,
    transitions: Vec<Transition>,
}

impl Story {
    /// A payout with its first attempt, at minute 0.
    fn with(promises: BankPromises, rules: StuckRules) -> Self {
        let new = NewPayout {
            amount: Decimal::from(1000),
            currency: Currency::parse("USD").unwrap(),
            namespace: "team".to_owned(),
            payout_id: "p-1".to_owned(),
            route: "payouts".to_owned(),
            rules,
        };
        let applied = register(new, plan(1, promises, at(1)), at(0));
        assert_eq!(applied.refused, None);
        Self { payout: applied.payout, effects: applied.effects, transitions: applied.transitions }
    }

    fn new() -> Self {
        Self::with(all_promises(), limited_rules())
    }

    /// Applies an input, `minutes` after the registration.
    fn input(&mut self, minutes: i64, input: &PayoutInput) -> Option<Refusal> {
        let applied = apply(&self.payout, input, at(minutes));
        assert!(applied.refused.is_none() || applied.payout == self.payout, "a refused input changes nothing");
        self.payout = applied.payout;
        self.effects = applied.effects;
        self.transitions.extend(applied.transitions);
        applied.refused
    }

    fn reported(&mut self, minutes: i64, attempt_no: u32, report: BankReport, source: EvidenceSource) -> AttemptState {
        let evidence = Evidence::message(source, at(minutes), [7; 32]).answering(at(minutes));
        let refused = self.input(minutes, &PayoutInput::Report { attempt_no, report, evidence });
        assert_eq!(refused, None);
        self.state(attempt_no)
    }

    /// The bank answers an inquiry or a recall that was asked in the same minute.
    fn answer(&mut self, minutes: i64, attempt_no: u32, report: BankReport) -> AttemptState {
        self.reported(minutes, attempt_no, report, EvidenceSource::Inquiry)
    }

    fn submitter(&mut self, minutes: i64, attempt_no: u32, report: BankReport) -> AttemptState {
        self.reported(minutes, attempt_no, report, EvidenceSource::Submitter)
    }

    /// Lets the clock do all that is due until then.
    fn ticks_until(&mut self, minutes: i64) -> Vec<Effect> {
        let mut done = Vec::new();
        while let Some(due) = self.payout.next_action().filter(|due| *due <= at(minutes)) {
            let applied = apply(&self.payout, &PayoutInput::Tick, due);
            assert!(applied.payout.next_action().is_none_or(|next| next > due), "the clock stands still at {due}");
            self.payout = applied.payout;
            self.transitions.extend(applied.transitions);
            done.extend(applied.effects);
        }
        done
    }

    fn next_attempt(&mut self, minutes: i64) -> Option<Refusal> {
        let number = self.payout.next_attempt_no();
        let plan = plan(number, all_promises(), at(minutes + 1));
        self.input(minutes, &PayoutInput::Attempt(Box::new(plan)))
    }

    fn state(&self, attempt_no: u32) -> AttemptState {
        self.payout.attempt(attempt_no).unwrap().state
    }
}

/// A person, with the reference of a bank's message.
fn person(name: &str, minutes: i64) -> Evidence {
    Evidence::new(EvidenceSource::Operator, at(minutes)).by(name).referenced("letter 7")
}
