//! What people do about a payout: they ask, accept a risk, resolve and release. Pure.

use super::effect::{Effect, PayoutRefusal, Refusal};
use super::evidence::Evidence;
use super::machine::{Machine, Step, refuse};
use super::resolution::{ProposedResolution, Resolution};
use super::state::{AttemptState, HoldReason};

/// The person of an act.
fn person(evidence: &Evidence) -> Result<&str, Refusal> {
    let subject = evidence.subject.as_deref().filter(|subject| !subject.is_empty());
    subject.ok_or(Refusal::Payout { reason: PayoutRefusal::NoSubject })
}

impl Machine {
    /// Notes that a person acted on an attempt.
    fn audited(&mut self, at: usize, evidence: &Evidence) {
        self.note(at, evidence);
        self.effects.push(Effect::Audit);
    }

    /// A person asks for an inquiry.
    pub(super) fn request_inquiry(&mut self, attempt_no: u32, evidence: &Evidence) -> Step {
        person(evidence)?;
        let at = self.place(attempt_no)?;
        let attempt = self.attempt(at);
        if attempt.state.is_final() {
            return refuse(PayoutRefusal::AlreadyFinal);
        }
        if !attempt.plan.promises.inquiry {
            return refuse(PayoutRefusal::NoInquiry);
        }
        self.audited(at, evidence);
        // The question does not count as one of the clock's, whose next one stays where it is.
        self.effects.push(Effect::Inquire { attempt_no });
        Ok(())
    }

    /// A person asks for a recall.
    pub(super) fn request_recall(&mut self, attempt_no: u32, evidence: &Evidence) -> Step {
        person(evidence)?;
        let at = self.place(attempt_no)?;
        let attempt = self.attempt(at);
        if attempt.state.is_final() {
            return refuse(PayoutRefusal::AlreadyFinal);
        }
        if !attempt.plan.promises.recall {
            return refuse(PayoutRefusal::NoRecall);
        }
        self.recall(at, evidence);
        self.effects.push(Effect::Audit);
        Ok(())
    }

    /// A person accepts the risk that the next attempt is a duplicate; the second one opens the gate for it.
    pub(super) fn accept_duplicate_risk(&mut self, evidence: &Evidence) -> Step {
        use AttemptState::{Accepted, IntentWritten, Planned, Submitted};
        let subject = person(evidence)?;
        if self.payout.frozen {
            return refuse(PayoutRefusal::Frozen);
        }
        if self.payout.is_executed() {
            return refuse(PayoutRefusal::Executed);
        }
        if self.payout.is_not_executed() {
            return refuse(PayoutRefusal::NothingOpen);
        }
        let is_on_its_way = |state| matches!(state, Planned | IntentWritten | Submitted | Accepted);
        if self.payout.attempts.iter().any(|attempt| is_on_its_way(attempt.state)) {
            return refuse(PayoutRefusal::NotStuck);
        }
        if self.payout.rules.duplicate_risk_limit.is_none_or(|limit| self.payout.amount > limit) {
            return refuse(PayoutRefusal::AboveLimit);
        }
        if self.payout.risk_accepted_by.iter().any(|earlier| earlier.subject.as_deref() == Some(subject)) {
            return refuse(PayoutRefusal::SameSubject);
        }
        self.payout.risk_accepted_by.push(evidence.clone());
        let is_accepted = self.payout.risk_accepted_by.len() >= 2;
        let next = self.payout.next_attempt_no();
        for at in 0..self.payout.attempts.len() {
            if !self.attempt(at).state.is_not_executed() {
                if is_accepted {
                    self.attempt_mut(at).risk_accepted_for = Some(next);
                }
                self.note(at, evidence);
            }
        }
        self.effects.push(Effect::Audit);
        if is_accepted {
            self.payout.hold = None;
            self.payout.proposals = 0;
            self.propose_again();
        }
        Ok(())
    }

    /// A person says what became of an attempt. That it was not executed needs a second person who says the same.
    pub(super) fn resolve(&mut self, attempt_no: u32, resolution: Resolution, evidence: &Evidence) -> Step {
        let subject = person(evidence)?;
        let at = self.place(attempt_no)?;
        if evidence.message_hash.is_none() && evidence.message_id.as_deref().is_none_or(str::is_empty) {
            return refuse(PayoutRefusal::NoEvidence);
        }
        if self.attempt(at).state.is_final() {
            return refuse(PayoutRefusal::AlreadyFinal);
        }
        if resolution == Resolution::Confirmed {
            self.executed(at, evidence);
            self.effects.push(Effect::Audit);
            return Ok(());
        }
        let first = self.attempt(at).proposed.as_ref().filter(|proposed| proposed.resolution == resolution);
        if first.is_some_and(|proposed| proposed.evidence.subject.as_deref() == Some(subject)) {
            return refuse(PayoutRefusal::SameSubject);
        }
        if first.is_none() {
            self.attempt_mut(at).proposed = Some(ProposedResolution { evidence: evidence.clone(), resolution });
            self.audited(at, evidence);
            return Ok(());
        }
        self.enter(at, resolution.state(), evidence);
        self.effects.push(Effect::Audit);
        self.release_restored();
        if self.payout.hold == Some(HoldReason::Contradicted) {
            self.payout.hold = None;
        }
        let is_allowed = self.payout.may_attempt(self.payout.next_attempt_no()).is_ok();
        if self.payout.is_not_executed() && self.payout.hold.is_none() && is_allowed {
            self.propose();
        }
        Ok(())
    }

    /// Two people who say what became of the last open attempt of a restored payout have compared it with the bank.
    fn release_restored(&mut self) {
        let is_restored = self.payout.hold == Some(HoldReason::RestoredWithLoss);
        if is_restored && self.payout.attempts.iter().all(|attempt| attempt.state.is_final()) {
            self.payout.frozen = false;
            self.payout.hold = None;
        }
    }

    /// A person releases the payout. Its attempts stay as they are, and so does what the gate asks of them.
    pub(super) fn resume(&mut self, evidence: &Evidence) -> Step {
        person(evidence)?;
        if !self.payout.frozen && self.payout.hold.is_none() {
            return refuse(PayoutRefusal::NotFrozen);
        }
        self.payout.frozen = false;
        self.payout.hold = None;
        self.payout.proposals = 0;
        for at in 0..self.payout.attempts.len() {
            self.note(at, evidence);
        }
        self.effects.push(Effect::Audit);
        // The gate says whether there is something to propose.
        self.propose_again();
        Ok(())
    }
}
