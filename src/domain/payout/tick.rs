//! What is due: inquiries, recalls, and holds. Pure.

use super::evidence::{Evidence, EvidenceSource};
use super::machine::Machine;
use super::promises::StuckPolicy;
use super::state::{AttemptState, HoldReason};

/// Recalls of an attempt without a person, all with one key.
const MAX_RECALLS: u32 = 3;

impl Machine {
    /// Does what is due.
    pub(super) fn tick(&mut self) {
        for at in 0..self.payout.attempts.len() {
            if self.attempt(at).next_action.is_some_and(|due| due <= self.now) {
                self.act(at);
            }
        }
        if self.payout.propose_at.is_some_and(|due| due <= self.now) {
            self.propose_again();
        }
    }

    fn act(&mut self, at: usize) {
        match self.attempt(at).state {
            AttemptState::Planned | AttemptState::IntentWritten | AttemptState::Submitted | AttemptState::Accepted => {
                let clock = self.clock();
                self.enter(at, AttemptState::Stuck, &clock);
                self.begin_inquiries(at);
            }
            AttemptState::Unknown | AttemptState::Stuck => self.begin_inquiries(at),
            AttemptState::Inquiring => self.go_on_inquiring(at),
            AttemptState::Recalling => self.go_on_recalling(at),
            AttemptState::ManualReview => self.ask_while_held(at),
            AttemptState::Confirmed
            | AttemptState::Rejected
            | AttemptState::Returned
            | AttemptState::Recalled
            | AttemptState::NeverReceived => self.attempt_mut(at).next_action = None,
        }
    }

    fn begin_inquiries(&mut self, at: usize) {
        let clock = self.clock();
        if self.payout.rules.policy == StuckPolicy::ManualOnly {
            self.hold(at, HoldReason::ManualOnly, &clock);
        } else if self.attempt(at).plan.promises.inquiry {
            self.enter(at, AttemptState::Inquiring, &clock);
            self.attempt_mut(at).inquiries = 0;
            self.inquire(at);
        } else {
            // Without inquiries a confirmation is all that can be waited for, until the attempt is late.
            self.wait_or_conclude(at, HoldReason::NoInquiry);
        }
    }

    fn go_on_inquiring(&mut self, at: usize) {
        if self.is_exhausted(at) {
            self.wait_or_conclude(at, HoldReason::InquiryInconclusive);
        } else {
            self.inquire(at);
        }
    }

    /// Recalls an attempt that is late, or holds it where it cannot be recalled; waits while it is not late.
    fn wait_or_conclude(&mut self, at: usize, reason: HoldReason) {
        let late = self.late_at(at);
        let clock = self.clock();
        if self.now < late {
            self.attempt_mut(at).next_action = Some(late);
        } else if self.recalls(at) {
            self.recall(at, &clock);
        } else {
            self.hold(at, reason, &clock);
        }
    }

    fn go_on_recalling(&mut self, at: usize) {
        let attempt = self.attempt(at);
        let (recalls, asks) = (attempt.recalls, attempt.plan.promises.inquiry);
        // The recall may have been lost. It is sent again with the same key, and only after the bank has answered an
        // inquiry in between: never blindly.
        let again = !attempt.cancel_accepted && attempt.answered_since_recall && recalls < MAX_RECALLS;
        if self.is_exhausted(at) || !asks {
            let clock = self.clock();
            self.hold(at, HoldReason::RecallUnanswered, &clock);
            return;
        }
        if again {
            self.send_recall(at);
        }
        self.inquire(at);
    }

    fn ask_while_held(&mut self, at: usize) {
        self.inquire(at);
        self.follow_while_held(at);
    }

    /// The ledger was restored with loss: whatever it says of open attempts may be old, and attempts may be missing.
    pub(super) fn restore_with_loss(&mut self) {
        if self.payout.is_executed() {
            return;
        }
        let evidence = Evidence::new(EvidenceSource::Restore, self.now);
        for at in 0..self.payout.attempts.len() {
            if !self.attempt(at).state.is_final() {
                // A later permission to send may be lost: "not found" proves nothing any more.
                self.bank_knows(at);
                let attempt = self.attempt_mut(at);
                attempt.risk_accepted_for = None;
                // One person said it of the attempt as it was before the loss; two have to say it anew.
                attempt.proposed = None;
                self.hold(at, HoldReason::RestoredWithLoss, &evidence);
            }
        }
        self.payout.risk_accepted_by.clear();
        self.payout.propose_at = None;
        if !self.payout.frozen {
            self.payout.frozen = true;
            self.payout.hold = Some(HoldReason::RestoredWithLoss);
        }
    }
}
