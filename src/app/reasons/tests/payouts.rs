//! Payouts that end in every state, are held for every reason, and refuse every act.

use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::Emitted;
use crate::domain::money::Currency;
use crate::domain::payout::{
    AttemptPlan, BankPromises, BankReport, BankStatus, Evidence, EvidenceSource, NewPayout, Payout, PayoutInput,
    Refusal, Resolution, StuckPolicy, StuckRules, apply, register,
};

const SETTLED: BankReport = BankReport::Status(BankStatus::Settled);
const REJECTED: BankReport = BankReport::Status(BankStatus::Rejected);

fn minute(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + 60 * minutes).unwrap()
}

fn promises() -> BankPromises {
    BankPromises {
        idempotency_window: Duration::from_hours(24),
        inquiry: true,
        not_found_proof: true,
        recall: true,
        strong_read_your_writes: true,
        ..BankPromises::default()
    }
}

fn rules() -> StuckRules {
    StuckRules { duplicate_risk_limit: Some(Decimal::ONE_THOUSAND), ..StuckRules::default() }
}

/// A payout, and what it emits.
struct Case<'e> {
    payout: Payout,
    emitted: &'e mut Emitted,
}

impl<'e> Case<'e> {
    fn new(promises: BankPromises, rules: StuckRules, emitted: &'e mut Emitted) -> Self {
        let new = NewPayout {
            amount: Decimal::ONE_HUNDRED,
            currency: Currency::parse("EUR").unwrap(),
            namespace: "team".to_owned(),
            payout_id: "p-1".to_owned(),
            route: "eu".to_owned(),
            rules,
        };
        let applied = register(new, plan(1, promises), minute(0));
        let states = applied.transitions.iter().flat_map(|moved| [moved.from, moved.to]);
        emitted.attempt_states.extend(states.map(|state| state.to_string()));
        Self { payout: applied.payout, emitted }
    }

    /// Applies an input, and does all that is due until then before.
    fn input(&mut self, minutes: i64, input: &PayoutInput) -> &mut Self {
        while let Some(due) = self.payout.next_action().filter(|due| *due < minute(minutes)) {
            self.apply(due, &PayoutInput::Tick);
        }
        self.apply(minute(minutes), input);
        self
    }

    fn apply(&mut self, now: Timestamp, input: &PayoutInput) {
        let applied = apply(&self.payout, input, now);
        let states = applied.transitions.iter().map(|moved| moved.to.to_string());
        self.emitted.attempt_states.extend(states);
        self.emitted.holds.extend(applied.payout.hold().map(|hold| hold.to_string()));
        if let Some(Refusal::Payout { reason }) = applied.refused {
            self.emitted.refusals.insert(reason.to_string());
        }
        self.payout = applied.payout;
    }

    fn hears(&mut self, minutes: i64, attempt_no: u32, report: BankReport) -> &mut Self {
        let evidence = Evidence::message(EvidenceSource::Inquiry, minute(minutes), [1; 32]).answering(minute(minutes));
        self.input(minutes, &PayoutInput::Report { attempt_no, report, evidence })
    }

    fn ticks(&mut self, minutes: i64) -> &mut Self {
        self.input(minutes, &PayoutInput::Tick)
    }

    fn attempt(&mut self, minutes: i64, promises: BankPromises) -> &mut Self {
        let plan = AttemptPlan { send_by: minute(minutes + 1), ..plan(self.payout.next_attempt_no(), promises) };
        self.input(minutes, &PayoutInput::Attempt(Box::new(plan)))
    }

    fn resends(&mut self, minutes: i64) -> &mut Self {
        let evidence = Evidence::new(EvidenceSource::Submitter, minute(minutes));
        self.input(minutes, &PayoutInput::RequestResend { attempt_no: 1, evidence, target: String::new() })
    }

    fn recalls(&mut self, minutes: i64) -> &mut Self {
        self.input(minutes, &PayoutInput::RequestRecall { attempt_no: 1, evidence: person("ana") })
    }

    fn accepts(&mut self, minutes: i64, name: &str) -> &mut Self {
        self.input(minutes, &PayoutInput::AcceptDuplicateRisk { evidence: person(name) })
    }
}

fn plan(attempt_no: u32, promises: BankPromises) -> AttemptPlan {
    AttemptPlan {
        attempt_no,
        bank: "a".to_owned(),
        candidate: "a".to_owned(),
        decision_id: Uuid::from_u128(1),
        promises,
        send_by: minute(1),
    }
}

fn person(name: &str) -> Evidence {
    Evidence::new(EvidenceSource::Operator, minute(0)).by(name).referenced("letter 1")
}

pub(super) fn emit(emitted: &mut Emitted) {
    states_and_holds(emitted);
    refusals(emitted);
}

fn states_and_holds(emitted: &mut Emitted) {
    let nothing = BankPromises::default;
    let manual = StuckRules { policy: StuckPolicy::ManualOnly, ..rules() };
    let inquire = StuckRules { policy: StuckPolicy::Inquire, ..rules() };
    let silence = BankReport::Silence;
    Case::new(promises(), rules(), emitted).hears(0, 1, BankReport::Submitted).hears(0, 1, BankReport::Ack).ticks(90);
    Case::new(promises(), manual, emitted).hears(1, 1, silence).ticks(2);
    Case::new(promises(), inquire, emitted).hears(1, 1, silence).ticks(200);
    Case::new(nothing(), rules(), emitted).hears(1, 1, silence).ticks(200);
    Case::new(promises(), rules(), emitted).hears(1, 1, silence).ticks(400);
    Case::new(promises(), rules(), emitted).hears(16, 1, BankReport::NotFound).ticks(4000);
    Case::new(promises(), rules(), emitted).hears(1, 1, REJECTED).input(1, &PayoutInput::CostsMore);
    let back = BankReport::CancelAccepted { funds_back: true };
    for answer in [BankReport::CancelRefused, BankReport::CancelPending, back] {
        Case::new(promises(), rules(), emitted).recalls(1).hears(2, 1, answer);
    }
    let contradicted = BankStatus::Rejected;
    Case::new(promises(), rules(), emitted).hears(1, 1, SETTLED).hears(2, 1, BankReport::Status(contradicted));
    let returned = BankReport::Status(BankStatus::Returned);
    Case::new(promises(), rules(), emitted).hears(1, 1, SETTLED).hears(2, 1, returned);
    Case::new(promises(), rules(), emitted).hears(1, 1, REJECTED).attempt(2, nothing()).hears(3, 1, SETTLED);
    let once = StuckRules { max_attempts: 1, ..rules() };
    Case::new(promises(), once, emitted).hears(1, 1, REJECTED);
    Case::new(promises(), rules(), emitted).input(1, &PayoutInput::RestoreWithLoss);
}

fn refusals(emitted: &mut Emitted) {
    let resume = PayoutInput::Resume { evidence: person("ana") };
    let resolve = |evidence| PayoutInput::Resolve { attempt_no: 1, resolution: Resolution::Confirmed, evidence };
    let bare = Evidence::new(EvidenceSource::Operator, minute(0));
    let inquiry = PayoutInput::RequestInquiry { attempt_no: 1, evidence: person("ana") };
    // An unknown attempt, one in time, no person, no message, nothing to resume.
    let mut case = Case::new(promises(), rules(), emitted);
    case.hears(0, 7, BankReport::Ack).accepts(0, "ana").accepts(0, "").input(0, &resume);
    case.input(0, &resolve(bare.clone().by("ana")));
    // A late attempt: the same person twice, then another; a recall ends resends.
    case.hears(1, 1, BankReport::Silence).accepts(2, "ana").accepts(3, "ana").recalls(4).resends(5);
    case.hears(6, 1, SETTLED).accepts(7, "bo").recalls(8);
    let mut windows = Case::new(promises(), rules(), emitted);
    let target = String::new();
    windows.apply(minute(24 * 60), &PayoutInput::RequestResend { attempt_no: 1, evidence: bare, target });
    let elsewhere = BankPromises { target: "elsewhere".to_owned(), ..promises() };
    Case::new(elsewhere, rules(), emitted).hears(1, 1, BankReport::Silence).resends(2);
    let no_limit = StuckRules::default();
    Case::new(promises(), no_limit, emitted).hears(1, 1, BankReport::Silence).accepts(2, "ana");
    Case::new(BankPromises::default(), rules(), emitted).recalls(0).input(0, &inquiry).resends(0);
    Case::new(promises(), rules(), emitted).hears(1, 1, REJECTED).accepts(2, "ana");
    Case::new(promises(), rules(), emitted).input(1, &PayoutInput::RestoreWithLoss).accepts(2, "ana");
}
