//! A payout while an input is applied to it: the moves that the rules are made of. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::effect::{Applied, Effect, PayoutRefusal, Refusal, Transition};
use super::evidence::{Evidence, EvidenceSource};
use super::followed::{Attempt, Payout};
use super::ladder::{QUESTIONS, later, next_proposal, next_question, next_while_held};
use super::promises::StuckPolicy;
use super::proof::forget_not_found;
use super::state::{AttemptState, HoldReason};
use crate::domain::event::EventType;
use crate::domain::hash::mix;

/// Time for which a bank is asked about an attempt that waits for a person: banks have ten business days for a recall.
const FOLLOWED_WHILE_HELD: Duration = Duration::from_hours(14 * 24);

/// A payout while an input is applied to it.
pub(super) struct Machine {
    pub(super) payout: Payout,
    pub(super) now: Timestamp,
    pub(super) effects: Vec<Effect>,
    pub(super) transitions: Vec<Transition>,
}

/// Proposals without an attempt: about a day of them.
const MAX_PROPOSALS: u32 = 75;

/// What a rule of the machine ends with.
pub(super) type Step = Result<(), Refusal>;

/// A refusal for this reason.
pub(super) fn refuse(reason: PayoutRefusal) -> Step {
    Err(Refusal::Payout { reason })
}

impl Machine {
    pub(super) fn new(payout: Payout, now: Timestamp) -> Self {
        Self { payout, now, effects: Vec::new(), transitions: Vec::new() }
    }

    /// The place of an attempt.
    pub(super) fn place(&self, attempt_no: u32) -> Result<usize, Refusal> {
        let place = self.payout.attempts.iter().position(|attempt| attempt.plan.attempt_no == attempt_no);
        place.ok_or(Refusal::Payout { reason: PayoutRefusal::UnknownAttempt })
    }

    pub(super) fn attempt(&self, at: usize) -> &Attempt {
        &self.payout.attempts[at]
    }

    pub(super) fn attempt_mut(&mut self, at: usize) -> &mut Attempt {
        &mut self.payout.attempts[at]
    }

    /// Evidence that time passed.
    pub(super) const fn clock(&self) -> Evidence {
        Evidence::new(EvidenceSource::Clock, self.now)
    }

    /// Puts an attempt into a state. `next_action` is the caller's to set; a final state has none.
    pub(super) fn enter(&mut self, at: usize, state: AttemptState, evidence: &Evidence) {
        let attempt = &mut self.payout.attempts[at];
        let from = std::mem::replace(&mut attempt.state, state);
        if state != AttemptState::ManualReview {
            attempt.hold = None;
        }
        if state.is_final() {
            attempt.next_action = None;
            attempt.proposed = None;
        }
        if from != state {
            attempt.evidence = evidence.clone();
        }
        let (attempt_no, hold) = (attempt.plan.attempt_no, attempt.hold);
        self.transitions.push(Transition { attempt_no, from, to: state, evidence: evidence.clone(), hold });
    }

    /// Notes evidence that leaves an attempt in its state.
    pub(super) fn note(&mut self, at: usize, evidence: &Evidence) {
        let state = self.attempt(at).state;
        self.enter(at, state, evidence);
    }

    /// The number that the jitter of an attempt's questions is made of.
    fn fraction(&self, at: usize) -> u64 {
        let (high, low) = self.attempt(at).attempt_id.as_u64_pair();
        mix(high ^ low)
    }

    /// Has the clock come back for an attempt after as many questions as were asked.
    fn schedule(&mut self, at: usize) {
        let (asked, fraction) = (self.attempt(at).inquiries, self.fraction(at));
        let next = next_question(self.now, asked, self.payout.rules.after, fraction);
        self.attempt_mut(at).next_action = Some(next);
    }

    /// Asks the bank, and schedules the next question.
    pub(super) fn inquire(&mut self, at: usize) {
        let attempt = self.attempt_mut(at);
        attempt.inquiries = attempt.inquiries.saturating_add(1);
        let attempt_no = attempt.plan.attempt_no;
        self.schedule(at);
        self.effects.push(Effect::Inquire { attempt_no });
    }

    /// Whether the questions of a phase are used up.
    pub(super) fn is_exhausted(&self, at: usize) -> bool {
        self.attempt(at).inquiries >= QUESTIONS
    }

    /// When an attempt is late: not confirmed in time.
    pub(super) fn late_at(&self, at: usize) -> Timestamp {
        let attempt = self.attempt(at);
        later(attempt.sent_at.unwrap_or(attempt.send_by), self.payout.rules.after)
    }

    /// Whether the bank can be asked to cancel without a person.
    pub(super) fn recalls(&self, at: usize) -> bool {
        self.attempt(at).plan.promises.recall && self.payout.rules.policy == StuckPolicy::InquireThenRecall
    }

    /// Asks the bank to cancel an attempt; the questions after it begin again.
    pub(super) fn recall(&mut self, at: usize, evidence: &Evidence) {
        self.enter(at, AttemptState::Recalling, evidence);
        self.send_recall(at);
        let attempt = self.attempt_mut(at);
        // A bank that cannot be asked has one long step to answer the recall.
        attempt.inquiries = if attempt.plan.promises.inquiry { 1 } else { QUESTIONS };
        self.schedule(at);
    }

    /// Sends the recall of an attempt, for the first time or again with the same key.
    pub(super) fn send_recall(&mut self, at: usize) {
        let attempt = self.attempt_mut(at);
        attempt.recalls = attempt.recalls.saturating_add(1);
        attempt.answered_since_recall = false;
        let attempt_no = attempt.plan.attempt_no;
        self.effects.push(Effect::Recall { attempt_no });
    }

    /// Has an attempt wait for a person; the bank is still asked where it can be.
    pub(super) fn hold(&mut self, at: usize, reason: HoldReason, evidence: &Evidence) {
        self.attempt_mut(at).hold = Some(reason);
        self.enter(at, AttemptState::ManualReview, evidence);
        self.follow_while_held(at);
    }

    /// Schedules the next question about an attempt that waits for a person.
    pub(super) fn follow_while_held(&mut self, at: usize) {
        let attempt = self.attempt(at);
        let is_asked = attempt.plan.promises.inquiry
            && self.payout.rules.policy != StuckPolicy::ManualOnly
            && self.now < later(attempt.decided_at, FOLLOWED_WHILE_HELD);
        let next = next_while_held(self.now, attempt.decided_at, self.payout.rules.after, self.fraction(at));
        self.attempt_mut(at).next_action = is_asked.then_some(next);
    }

    /// Has the clock come back at once.
    pub(super) fn act_now(&mut self, at: usize) {
        self.attempt_mut(at).next_action = Some(self.now);
    }

    /// The bank is known to know an attempt.
    pub(super) fn bank_knows(&mut self, at: usize) {
        let attempt = self.attempt_mut(at);
        attempt.bank_knows = true;
        forget_not_found(attempt);
    }

    /// An attempt was executed. If another one was, or may be, the newer of both is recalled at once, the payout is
    /// frozen, and a person is paged.
    pub(super) fn executed(&mut self, at: usize, evidence: &Evidence) {
        if self.payout.hold == Some(HoldReason::RestoredWithLoss) {
            // Whatever the restored ledger lacks: the payout was executed, and the gate stays closed for that.
            self.payout.frozen = false;
            self.payout.hold = None;
        }
        self.bank_knows(at);
        self.attempt_mut(at).confirmed_once = true;
        let older_is_executed =
            self.payout.attempts[..at].iter().any(|attempt| attempt.state == AttemptState::Confirmed);
        if older_is_executed {
            self.duplicate(at, evidence);
            return;
        }
        self.enter(at, AttemptState::Confirmed, evidence);
        for newer in at + 1..self.payout.attempts.len() {
            if !self.attempt(newer).state.is_not_executed() {
                self.duplicate(newer, evidence);
            }
        }
    }

    /// An attempt is a duplicate of an older one that was executed.
    fn duplicate(&mut self, at: usize, evidence: &Evidence) {
        if !self.payout.frozen || self.payout.hold != Some(HoldReason::DuplicateDetected) {
            self.payout.frozen = true;
            self.payout.hold = Some(HoldReason::DuplicateDetected);
            self.effects.push(Effect::Freeze);
            self.effects.push(Effect::Page { reason: HoldReason::DuplicateDetected });
        }
        let attempt = self.attempt(at);
        let state = attempt.state;
        if matches!(state, AttemptState::Recalling | AttemptState::ManualReview) && attempt.recalls > 0 {
            self.note(at, evidence);
        } else if attempt.plan.promises.recall {
            self.recall(at, evidence);
        } else {
            self.hold(at, HoldReason::DuplicateDetected, evidence);
        }
    }

    /// Proposes the next attempt, or holds the payout where it may not be made without a person.
    pub(super) fn propose(&mut self) {
        let attempts = u32::try_from(self.payout.attempts.len()).unwrap_or(u32::MAX);
        if attempts >= self.payout.rules.max_attempts {
            self.payout.hold = Some(HoldReason::AttemptsExhausted);
        } else {
            self.payout.proposals = 0;
            self.propose_again();
        }
    }

    /// Proposes the next attempt once more: the last proposal may have been lost, or no bank was available.
    pub(super) fn propose_again(&mut self) {
        let attempt_no = self.payout.next_attempt_no();
        if self.payout.may_attempt(attempt_no).is_err() {
            self.payout.propose_at = None;
            return;
        }
        self.payout.proposals = self.payout.proposals.saturating_add(1);
        if self.payout.proposals > MAX_PROPOSALS {
            self.payout.propose_at = None;
            self.payout.hold = Some(HoldReason::NoBank);
            return;
        }
        let fraction = self.payout.attempts.len().checked_sub(1).map_or(0, |last| self.fraction(last));
        let next = next_proposal(self.now, self.payout.proposals, self.payout.rules.after, fraction);
        self.payout.propose_at = Some(next);
        self.effects.push(Effect::ProposeReroute { attempt_no });
    }

    /// The proposed attempt is for a person to decide.
    pub(super) fn costs_more(&mut self) {
        let Some(last) = self.payout.attempts.len().checked_sub(1) else { return };
        if self.payout.propose_at.take().is_some() {
            self.payout.hold = Some(HoldReason::CostsMore);
            let clock = self.clock();
            self.note(last, &clock);
        }
    }

    /// What became of the payout, compared with what it was.
    pub(super) fn finish(mut self, before: &Payout) -> Applied {
        if self.payout.propose_at.is_some() && self.payout.may_attempt(self.payout.next_attempt_no()).is_err() {
            self.payout.propose_at = None;
        }
        if self.payout.is_executed() && !before.is_executed() {
            self.effects.push(Effect::Emit(EventType::PayoutConfirmed));
        }
        // A duplicate is told also of a payout that was held for less.
        let is_newly_duplicate =
            self.payout.hold == Some(HoldReason::DuplicateDetected) && before.hold != self.payout.hold;
        if self.payout.hold().is_some() && (before.hold().is_none() || is_newly_duplicate) {
            self.effects.push(Effect::Emit(EventType::PayoutHeld));
        }
        Applied { payout: self.payout, effects: self.effects, transitions: self.transitions, refused: None }
    }
}
