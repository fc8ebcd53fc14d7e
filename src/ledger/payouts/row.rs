//! What is written for a commit of a payout.

use jiff::Timestamp;

use super::commit::PayoutCommit;
use super::stored::{TimelineEvent, TimelineRow};
use crate::domain::canonical::{Hash, to_bytes};
use crate::domain::payout::{Attempt, PayoutState};

/// The rows of one commit.
#[derive(Debug)]
pub(crate) struct PayoutRow<'b> {
    /// The commit.
    pub(crate) commit: &'b PayoutCommit,
    /// The number of its entry in the chain.
    pub(crate) entry: u64,
    /// SHA-256 of the request that registered it.
    pub(crate) request_hash: Hash,
    /// The number of the restore that the payout was reviewed after, if that changes.
    pub(crate) reviewed: Option<i64>,
    /// Its place in the order of registrations.
    pub(crate) seq: u64,
    /// How many of its attempts are stored.
    pub(crate) stored_attempts: usize,
}

impl PayoutRow<'_> {
    /// Whether the payout is not stored yet.
    pub(crate) const fn is_new(&self) -> bool {
        self.commit.expected == 0
    }

    /// Where the payout stands.
    pub(crate) fn state(&self) -> PayoutState {
        self.commit.payout.state()
    }

    /// Whether nothing is expected to follow.
    pub(crate) fn is_final(&self) -> bool {
        is_final(self.state())
    }

    /// When something is to be done next.
    pub(crate) fn next_action(&self) -> Option<Timestamp> {
        self.commit.payout.next_action()
    }

    /// The bank that is to be asked then: that of the attempt whose time comes first.
    pub(crate) fn next_bank(&self) -> Option<&str> {
        let attempts = &self.commit.payout.attempts;
        let timed = attempts.iter().filter(|attempt| attempt.next_action.is_some());
        let first = timed.min_by_key(|attempt| attempt.next_action);
        first.or(attempts.last()).map(|attempt| attempt.plan.bank.as_str())
    }

    /// The attempts that are stored already, and those that are new.
    pub(crate) fn attempts(&self) -> (&[Attempt], &[Attempt]) {
        let attempts = self.commit.payout.attempts.as_slice();
        attempts.split_at(self.stored_attempts.min(attempts.len()))
    }

    /// What is told of the commit: its transitions, then its calls; the act alone if there are none.
    pub(crate) fn timeline(&self) -> Vec<TimelineRow> {
        let commit = self.commit;
        let row = |attempt_no, event, evidence, hold| TimelineRow {
            act: commit.act,
            at: commit.at,
            attempt_no,
            event,
            evidence,
            hold,
            seq: self.entry,
            place: 0,
            subject: commit.subject.clone(),
        };
        let transitions = commit.transitions.iter().map(|one| {
            let event = TimelineEvent::Transition { from: one.from, to: one.to };
            row(Some(one.attempt_no), event, Some(one.evidence.clone()), one.hold)
        });
        let fence = commit.lease.as_ref().map_or(0, |lease| lease.fence);
        let intents = commit.intents.iter().map(|one| {
            let event = TimelineEvent::Intent { call: one.call, fence };
            row(Some(one.attempt_no), event, None, None)
        });
        let mut rows: Vec<TimelineRow> = transitions.chain(intents).collect();
        if rows.is_empty() {
            rows.push(row(None, TimelineEvent::Act, None, commit.payout.hold()));
        }
        for (place, row) in (0..).zip(&mut rows) {
            row.place = place;
        }
        rows
    }
}

/// Whether nothing is expected to follow.
pub(crate) const fn is_final(state: PayoutState) -> bool {
    matches!(state, PayoutState::Confirmed | PayoutState::NotExecuted)
}

/// What an attempt's state rests on, as stored.
pub(crate) fn evidence(attempt: &Attempt) -> Vec<u8> {
    to_bytes(&attempt.evidence)
}
