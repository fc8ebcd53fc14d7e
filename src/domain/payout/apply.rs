//! The state machine of payouts: a payout and what happens to it in, the payout then and what is to be done out. Pure
//! and total.
//!
//! The caller stores the payout, the transitions and the events in one transaction and carries the other effects out
//! after it. An inquiry or a recall is counted in the payout that is stored before the call: the stored payout is the
//! intent. A call that a crash prevents is made up for by the next question of the clock, never by sending it blindly.

use jiff::Timestamp;

use super::effect::{Applied, Effect, Refusal};
use super::evidence::{Evidence, EvidenceSource};
use super::followed::{Attempt, NewPayout, Payout, attempt_id};
use super::input::PayoutInput;
use super::ladder::later;
use super::machine::{Machine, Step};
use super::plan::AttemptPlan;
use super::resend::PERMISSION;
use super::state::{AttemptState, HoldReason};
use crate::domain::canonical::to_millis;
use crate::domain::event::EventType;

/// Registers a payout with its first attempt.
pub fn register(new: NewPayout, plan: AttemptPlan, now: Timestamp) -> Applied {
    let NewPayout { amount, currency, namespace, payout_id, route, rules } = new;
    let payout = Payout {
        amount,
        attempts: Vec::new(),
        currency,
        frozen: false,
        hold: None,
        namespace,
        payout_id,
        proposals: 0,
        propose_at: None,
        registered_at: to_millis(now),
        risk_accepted_by: Vec::new(),
        route,
        rules,
    };
    apply(&payout, &PayoutInput::Attempt(Box::new(plan)), now)
}

/// What becomes of a payout by an input.
pub fn apply(payout: &Payout, input: &PayoutInput, now: Timestamp) -> Applied {
    // The precision of what is stored: a payout that is read again is the same.
    let mut machine = Machine::new(payout.clone(), to_millis(now));
    let step = match input {
        PayoutInput::Attempt(plan) => machine.add_attempt(plan),
        PayoutInput::Report { attempt_no, report, evidence } => machine.report(*attempt_no, *report, evidence),
        PayoutInput::RequestResend { attempt_no, evidence, target } => {
            machine.request_resend(*attempt_no, evidence, target)
        }
        PayoutInput::RequestInquiry { attempt_no, evidence } => machine.request_inquiry(*attempt_no, evidence),
        PayoutInput::RequestRecall { attempt_no, evidence } => machine.request_recall(*attempt_no, evidence),
        PayoutInput::AcceptDuplicateRisk { evidence } => machine.accept_duplicate_risk(evidence),
        PayoutInput::Resolve { attempt_no, resolution, evidence } => {
            machine.resolve(*attempt_no, *resolution, evidence)
        }
        PayoutInput::Resume { evidence } => machine.resume(evidence),
        PayoutInput::CostsMore => {
            machine.costs_more();
            Ok(())
        }
        PayoutInput::Tick => {
            machine.tick();
            Ok(())
        }
        PayoutInput::RestoreWithLoss => {
            machine.restore_with_loss();
            Ok(())
        }
    };
    match step {
        Ok(()) => machine.finish(payout),
        Err(refusal) => refused(payout, refusal),
    }
}

fn refused(payout: &Payout, refusal: Refusal) -> Applied {
    Applied { payout: payout.clone(), effects: Vec::new(), transitions: Vec::new(), refused: Some(refusal) }
}

/// Whether the next attempt is what the hold waits for.
const fn is_ended_by_attempt(hold: HoldReason) -> bool {
    use HoldReason::{AttemptsExhausted, CostsMore, NoBank, ReturnedAfterConfirmation};
    matches!(hold, AttemptsExhausted | CostsMore | NoBank | ReturnedAfterConfirmation)
}

impl Machine {
    /// Adds the next attempt, if the gate lets it pass.
    fn add_attempt(&mut self, plan: &AttemptPlan) -> Step {
        self.payout.may_attempt(plan.attempt_no)?;
        let at = self.payout.attempts.len();
        self.payout.attempts.push(Attempt {
            answered_since_recall: false,
            attempt_id: attempt_id(&self.payout.namespace, &self.payout.payout_id, plan.attempt_no),
            bank_knows: false,
            cancel_accepted: false,
            confirmed_once: false,
            // A payout may be registered after its first decision: the bank may know the key since that one.
            decided_at: plan.send_by.checked_sub(PERMISSION).unwrap_or(self.now).min(self.now),
            evidence: Evidence::new(EvidenceSource::Submitter, self.now),
            hold: None,
            inquiries: 0,
            next_action: Some(later(plan.send_by, self.payout.rules.after)),
            not_found_since: None,
            not_found_twice: false,
            plan: plan.clone(),
            proposed: None,
            recalls: 0,
            reported_sent: false,
            risk_accepted_for: None,
            send_by: plan.send_by,
            sent_at: None,
            state: AttemptState::Planned,
        });
        let evidence = self.attempt(at).evidence.clone();
        self.enter(at, AttemptState::IntentWritten, &evidence);
        self.payout.risk_accepted_by.clear();
        self.payout.proposals = 0;
        self.payout.propose_at = None;
        if self.payout.hold.is_some_and(is_ended_by_attempt) {
            self.payout.hold = None;
        }
        if plan.attempt_no > 1 {
            self.effects.push(Effect::Emit(EventType::PayoutRerouted));
        }
        Ok(())
    }
}
