//! What banks and submitters say of an attempt. Pure.

use jiff::Timestamp;

use super::bank_status::BankStatus;
use super::effect::{Effect, Transition};
use super::evidence::{Evidence, EvidenceSource};
use super::input::BankReport;
use super::machine::{Machine, Step};
use super::proof::{is_never_received_proof, is_not_found_proof, is_statement_proof, note_not_found};
use super::state::{AttemptState, HoldReason};

impl Machine {
    /// Something is said of an attempt.
    pub(super) fn report(&mut self, attempt_no: u32, report: BankReport, evidence: &Evidence) -> Step {
        let at = self.place(attempt_no)?;
        if evidence.source == EvidenceSource::Inquiry && report != BankReport::InquirySilence {
            self.attempt_mut(at).answered_since_recall = true;
        }
        match self.attempt(at).state {
            AttemptState::Confirmed => self.after_confirmation(at, report, evidence),
            state if state.is_not_executed() => self.after_proof(at, report, evidence),
            _ => self.while_open(at, report, evidence),
        }
        let is_allowed = self.payout.may_attempt(self.payout.next_attempt_no()).is_ok();
        if self.is_newly_not_executed(evidence) && is_allowed {
            self.propose();
        }
        Ok(())
    }

    /// Whether this input proved the last open attempt not to have been executed, by other words than the submitter's:
    /// the submitter decides for itself.
    fn is_newly_not_executed(&self, evidence: &Evidence) -> bool {
        let proven = |moved: &Transition| moved.to.is_not_executed() && moved.from != moved.to;
        evidence.source != EvidenceSource::Submitter
            && self.payout.is_not_executed()
            && self.payout.hold.is_none()
            && self.transitions.last().is_some_and(proven)
    }

    fn while_open(&mut self, at: usize, report: BankReport, evidence: &Evidence) {
        match report {
            BankReport::Submitted => self.submitted(at, evidence),
            BankReport::Ack => self.acknowledged(at, evidence),
            BankReport::Silence => self.silent(at, evidence),
            BankReport::NotSent => self.not_sent(at, evidence),
            BankReport::Status(status) => self.status(at, status, evidence),
            BankReport::NotFound => self.not_found(at, evidence),
            BankReport::InquirySilence | BankReport::CancelSilence => self.note(at, evidence),
            BankReport::CancelAccepted { funds_back } => self.cancel_accepted(at, funds_back, evidence),
            BankReport::CancelRefused => self.cancel_undecided(at, HoldReason::RecallRefused, evidence),
            BankReport::CancelPending => self.cancel_undecided(at, HoldReason::RecallPending, evidence),
            BankReport::Confirmation => self.executed(at, evidence),
            BankReport::StatementWithoutDebit { through } => {
                if is_statement_proof(self.attempt(at), through) {
                    self.enter(at, AttemptState::NeverReceived, evidence);
                } else {
                    self.note(at, evidence);
                }
            }
        }
    }

    fn submitted(&mut self, at: usize, evidence: &Evidence) {
        let attempt = self.attempt_mut(at);
        attempt.reported_sent = true;
        attempt.sent_at = Some(attempt.sent_at.map_or(evidence.at, |sent| sent.max(evidence.at)));
        if matches!(attempt.state, AttemptState::Planned | AttemptState::IntentWritten) {
            self.enter(at, AttemptState::Submitted, evidence);
            let late = self.late_at(at);
            self.attempt_mut(at).next_action = Some(late);
        } else {
            self.note(at, evidence);
        }
    }

    fn acknowledged(&mut self, at: usize, evidence: &Evidence) {
        use AttemptState::{IntentWritten, Planned, Submitted, Unknown};
        self.bank_knows(at);
        if matches!(self.attempt(at).state, Planned | IntentWritten | Submitted | Unknown) {
            self.enter(at, AttemptState::Accepted, evidence);
            let late = self.late_at(at);
            self.attempt_mut(at).next_action = Some(late);
        } else {
            self.note(at, evidence);
        }
    }

    fn silent(&mut self, at: usize, evidence: &Evidence) {
        use AttemptState::{IntentWritten, Planned, Submitted};
        self.attempt_mut(at).reported_sent = true;
        if matches!(self.attempt(at).state, Planned | IntentWritten | Submitted) {
            self.enter(at, AttemptState::Unknown, evidence);
            self.act_now(at);
        } else {
            self.note(at, evidence);
        }
    }

    fn not_sent(&mut self, at: usize, evidence: &Evidence) {
        let attempt = self.attempt(at);
        let (bank_knows, was_sent) = (attempt.bank_knows, attempt.reported_sent);
        // Only the submitter knows, and it cannot know better than a bank that has the payout.
        if bank_knows || evidence.source != EvidenceSource::Submitter {
            self.hold(at, HoldReason::Contradicted, evidence);
        } else if was_sent {
            // A later try that was not sent, or an old report that is delivered again, says nothing of the first try.
            self.silent(at, evidence);
        } else {
            self.enter(at, AttemptState::NeverReceived, evidence);
        }
    }

    fn status(&mut self, at: usize, status: BankStatus, evidence: &Evidence) {
        let attempt = self.attempt(at);
        let was_recalled = attempt.recalls > 0;
        // The submitter contradicted itself: its old word may be delivered again, so that only others end the doubt.
        let is_doubted = attempt.hold == Some(HoldReason::Contradicted) && evidence.source == EvidenceSource::Submitter;
        match status {
            BankStatus::Settled => self.executed(at, evidence),
            BankStatus::Open => self.acknowledged(at, evidence),
            BankStatus::Returned => self.returned(at, evidence),
            BankStatus::Cancelled if was_recalled => self.enter(at, AttemptState::Recalled, evidence),
            BankStatus::Cancelled | BankStatus::Rejected if attempt.confirmed_once || is_doubted => {
                self.hold(at, HoldReason::Contradicted, evidence);
            }
            BankStatus::Rejected if was_recalled && attempt.cancel_accepted => {
                self.enter(at, AttemptState::Recalled, evidence);
            }
            BankStatus::Cancelled | BankStatus::Rejected => self.enter(at, AttemptState::Rejected, evidence),
            BankStatus::NeverReceived => {
                if evidence.asked_at.is_some_and(|asked| is_never_received_proof(attempt, asked)) {
                    self.enter(at, AttemptState::NeverReceived, evidence);
                } else {
                    self.note(at, evidence);
                }
            }
        }
    }

    /// The money came back. What was confirmed before is not attempted again without a person.
    fn returned(&mut self, at: usize, evidence: &Evidence) {
        if self.attempt(at).confirmed_once && !self.payout.frozen {
            self.payout.hold = Some(HoldReason::ReturnedAfterConfirmation);
        }
        self.bank_knows(at);
        self.enter(at, AttemptState::Returned, evidence);
    }

    fn not_found(&mut self, at: usize, evidence: &Evidence) {
        let proven = evidence.asked_at.is_some_and(|asked| {
            let attempt = self.attempt_mut(at);
            note_not_found(attempt, asked);
            is_not_found_proof(attempt, asked)
        });
        if proven {
            self.enter(at, AttemptState::NeverReceived, evidence);
        } else {
            self.note(at, evidence);
        }
    }

    fn cancel_accepted(&mut self, at: usize, funds_back: bool, evidence: &Evidence) {
        // An answer to a recall that was never sent concludes nothing.
        if self.attempt(at).recalls == 0 {
            self.note(at, evidence);
            return;
        }
        self.attempt_mut(at).cancel_accepted = true;
        if funds_back {
            self.enter(at, AttemptState::Recalled, evidence);
        } else if is_not_found_proof(self.attempt(at), self.now_or_earlier(at)) {
            self.enter(at, AttemptState::NeverReceived, evidence);
        } else {
            // Accepted is not returned: the questions begin again, until the bank shows where the money is.
            self.enter(at, AttemptState::Recalling, evidence);
            self.attempt_mut(at).inquiries = 0;
            self.act_now(at);
        }
    }

    /// The instant up to which "not found" may be taken for answered: the first one that counts.
    fn now_or_earlier(&self, at: usize) -> Timestamp {
        self.attempt(at).not_found_since.unwrap_or(self.now)
    }

    fn cancel_undecided(&mut self, at: usize, reason: HoldReason, evidence: &Evidence) {
        if self.attempt(at).recalls == 0 {
            self.note(at, evidence);
            return;
        }
        self.bank_knows(at);
        self.hold(at, reason, evidence);
        // A bank that refuses has often executed the payout: its status says so.
        if self.attempt(at).next_action.is_some() {
            self.act_now(at);
        }
    }

    /// A confirmed attempt stays confirmed: only a return of the money changes it.
    fn after_confirmation(&mut self, at: usize, report: BankReport, evidence: &Evidence) {
        use BankStatus::{Cancelled, NeverReceived, Rejected, Returned};
        match report {
            BankReport::Status(Returned) => self.returned(at, evidence),
            BankReport::Status(Cancelled | NeverReceived | Rejected)
            | BankReport::NotSent
            | BankReport::CancelAccepted { .. } => {
                self.note(at, evidence);
                self.payout.hold = self.payout.hold.or(Some(HoldReason::Contradicted));
            }
            _ => self.note(at, evidence),
        }
    }

    /// An attempt that is proven not to have been executed: whatever contradicts the proof closes the gate again.
    fn after_proof(&mut self, at: usize, report: BankReport, evidence: &Evidence) {
        let attempt = self.attempt(at);
        let (state, proof) = (attempt.state, attempt.evidence.source);
        let by_submitter = proof == EvidenceSource::Submitter && evidence.source == EvidenceSource::Submitter;
        match report {
            // A return follows an execution: its late confirmation says nothing new, but a person must look.
            BankReport::Confirmation | BankReport::Status(BankStatus::Settled) if state == AttemptState::Returned => {
                self.reopen(at, evidence);
            }
            BankReport::Confirmation | BankReport::Status(BankStatus::Settled) => self.executed(at, evidence),
            BankReport::Status(BankStatus::Returned) if state != AttemptState::Returned => self.returned(at, evidence),
            BankReport::Submitted | BankReport::Ack | BankReport::Silence if by_submitter => self.reopen(at, evidence),
            BankReport::Ack | BankReport::Status(BankStatus::Open) if state == AttemptState::NeverReceived => {
                self.bank_knows(at);
                self.reopen(at, evidence);
            }
            BankReport::CancelRefused if state == AttemptState::Recalled => self.reopen(at, evidence),
            _ => self.note(at, evidence),
        }
    }

    /// The proof of an attempt is contradicted: it is followed again, and the gate is closed. If a newer attempt relies
    /// on the proof, a person is paged.
    fn reopen(&mut self, at: usize, evidence: &Evidence) {
        let relied_on = self.payout.attempts.iter().skip(at + 1).any(|newer| !newer.state.is_not_executed());
        if relied_on {
            self.effects.push(Effect::Page { reason: HoldReason::Contradicted });
        }
        self.attempt_mut(at).reported_sent = true;
        self.hold(at, HoldReason::Contradicted, evidence);
        if self.attempt(at).next_action.is_some() {
            self.act_now(at);
        }
    }
}
