//! Which commits of payouts are stored. Pure: the same for every engine.

use super::columns::EntryColumns;
use super::entry::NewDecision;
use super::gate::{earlier_attempts, is_proven};
use super::outcome::EntryOutcome;
use super::plan::Planner;
use super::row::NewRow;
use super::stored::{EntryPosition, StoredDecision};
use crate::domain::decision::{EntryKind, may_attempt};
use crate::domain::payout::{Attempt, AttemptPlan, Payout, attempt_id};
use crate::ledger::payouts::act::PayoutAct;
use crate::ledger::payouts::change::{PayoutChange, PayoutEntry, PayoutsResume};
use crate::ledger::payouts::commit::PayoutCommit;
use crate::ledger::payouts::outcome::PayoutOutcome;
use crate::ledger::payouts::row::PayoutRow;
use crate::ledger::payouts::stored::StoredPayout;

impl<'b> Planner<'b> {
    /// A followed payout is moved on; `decision` is that of its new attempt, if it is not stored yet.
    pub(super) fn payout(&mut self, commit: &'b PayoutCommit, decision: Option<&'b NewDecision>) -> EntryOutcome {
        if let Some(position) = self.position(commit.id()) {
            let decision = decision.and_then(|new| self.position(new.record.id));
            return EntryOutcome::Payout(PayoutOutcome::Stored { position, decision, version: commit.version() });
        }
        if self.state.restores.suspended && commit.registration.is_some() {
            return EntryOutcome::PayoutsSuspended;
        }
        let before = self.followed(key(&commit.payout)).cloned();
        if let Some(refused) = self.cannot_store(commit, before.as_ref()) {
            return EntryOutcome::Payout(refused);
        }
        let payout_before = before.as_ref().map(|stored| &stored.payout);
        let decided = match (added_attempt(&commit.payout, payout_before), decision) {
            (Err(defect), _) => return EntryOutcome::Payout(PayoutOutcome::Invalid(defect)),
            (Ok(None), Some(_)) => {
                return EntryOutcome::Payout(PayoutOutcome::Invalid("the decision is of no new attempt"));
            }
            (Ok(None), None) => None,
            (Ok(Some(plan)), decision) => match self.admit(commit, plan, payout_before, decision) {
                Ok(decided) => decided,
                Err(refused) => return refused,
            },
        };
        self.store_payout(commit, before, decided)
    }

    /// Payouts are registered and decided again.
    pub(super) fn resume(&mut self, resume: &PayoutsResume) -> EntryOutcome {
        if let Some(position) = self.position(resume.id()) {
            return EntryOutcome::Stored(position);
        }
        if !self.state.restores.suspended {
            return EntryOutcome::NotFound;
        }
        if self.state.restores.unreviewed {
            return EntryOutcome::Payout(PayoutOutcome::NotReviewed);
        }
        self.state.restores.suspended = false;
        self.plan.resumes = true;
        EntryOutcome::Stored(self.append_payout_entry(&PayoutEntry::Resume(resume.clone())))
    }

    /// Why the commit does not follow what is stored.
    fn cannot_store(&self, commit: &PayoutCommit, before: Option<&StoredPayout>) -> Option<PayoutOutcome> {
        if let Some(lease) = &commit.lease {
            let held = self.state.fences.get(&lease.name);
            if held.is_none_or(|(holder, fence)| *holder != lease.holder || *fence != lease.fence) {
                return Some(PayoutOutcome::Fenced);
            }
        }
        match (before, &commit.registration) {
            (None, Some(_)) if commit.expected != 0 => {
                Some(PayoutOutcome::Invalid("a registration expects no version"))
            }
            (None, Some(registration)) => {
                let key = registration.idempotency_key.as_ref()?;
                let used_for = self.state.keys.get(&(commit.payout.namespace.clone(), key.clone()))?;
                Some(PayoutOutcome::KeyReused { payout_id: used_for.clone() })
            }
            (Some(stored), Some(registration)) if stored.request_hash == registration.request_hash => {
                Some(PayoutOutcome::Replayed(Box::new(stored.clone())))
            }
            (Some(stored), Some(_)) => Some(PayoutOutcome::Conflict { stored: stored.request_hash }),
            (Some(stored), None) if stored.version == commit.expected => None,
            (stored, None) => Some(PayoutOutcome::Changed(stored.cloned().map(Box::new))),
        }
    }

    /// Asks the gate for a new attempt, and stores its decision with it unless that is stored already. Returns the place of
    /// the decision that is stored with it.
    fn admit(
        &mut self,
        commit: &'b PayoutCommit,
        plan: &AttemptPlan,
        before: Option<&Payout>,
        decision: Option<&'b NewDecision>,
    ) -> Result<Option<EntryPosition>, EntryOutcome> {
        if self.state.restores.suspended {
            return Err(EntryOutcome::PayoutsSuspended);
        }
        let payout = key(&commit.payout);
        let (own, others): (Vec<_>, Vec<_>) =
            self.attempts(payout).into_iter().partition(|decision| decision.key.attempt_no == plan.attempt_no);
        may_attempt(plan.attempt_no, &earlier_attempts(&others, before)).map_err(EntryOutcome::Unresolved)?;
        let Some(new) = decision else {
            let is_own = |stored: &StoredDecision| stored.id == plan.decision_id && stored.candidate == plan.candidate;
            return if own.iter().any(is_own) { Ok(None) } else { Err(EntryOutcome::NotFound) };
        };
        let is_own = (new.key.namespace.as_str(), new.key.payout_id.as_str()) == payout
            && new.key.attempt_no == plan.attempt_no
            && new.record.id == plan.decision_id
            && new.record.candidate == plan.candidate;
        if !is_own {
            return Err(EntryOutcome::Payout(PayoutOutcome::Invalid("the attempt names another decision")));
        }
        match self.decide(new, true) {
            EntryOutcome::Stored(position) => Ok(Some(position)),
            refused => Err(refused),
        }
    }

    fn store_payout(
        &mut self,
        commit: &'b PayoutCommit,
        before: Option<StoredPayout>,
        decided: Option<EntryPosition>,
    ) -> EntryOutcome {
        if commit.changes_attempts() {
            self.count_on_limits(commit, before.as_ref().map(|stored| &stored.payout));
        }
        let position = self.append_payout_entry(&PayoutEntry::Change(PayoutChange::of(commit)));
        if let Some(key) = commit.registration.as_ref().and_then(|one| one.idempotency_key.clone()) {
            self.state.keys.insert((commit.payout.namespace.clone(), key), commit.payout.payout_id.clone());
        }
        let request_hash = match (&before, &commit.registration) {
            (Some(stored), _) => stored.request_hash,
            (None, registration) => registration.as_ref().map(|one| one.request_hash).unwrap_or_default(),
        };
        let is_reviewed = commit.registration.is_some() || commit.act == PayoutAct::Restore;
        let stored_attempts = before.as_ref().map_or(0, |stored| stored.payout.attempts.len());
        let seq = before.map_or(position.seq, |stored| stored.seq);
        self.plan.payouts.push(PayoutRow {
            commit,
            entry: position.seq,
            request_hash,
            reviewed: is_reviewed.then_some(self.state.restores.count),
            seq,
            stored_attempts,
        });
        let version = commit.version();
        let stored =
            StoredPayout { payout: Payout::clone(&commit.payout), request_hash, seq, updated_at: commit.at, version };
        self.payouts.insert(key(&commit.payout), stored);
        EntryOutcome::Payout(PayoutOutcome::Stored { position, decision: decided, version })
    }

    fn append_payout_entry(&mut self, entry: &PayoutEntry) -> EntryPosition {
        let columns = EntryColumns::of_payout(entry);
        self.append(NewRow::of_columns(EntryKind::Payout, columns, entry.encode()))
    }

    /// Gives back, or takes again, what the decisions of the payout's attempts take from daily limits.
    fn count_on_limits(&mut self, commit: &PayoutCommit, before: Option<&Payout>) {
        for decision in self.attempts(key(&commit.payout)) {
            let number = decision.key.attempt_no;
            let Some(attempt) = commit.payout.attempt(number) else { continue };
            let was_proven = match before.and_then(|payout| payout.attempt(number)) {
                Some(attempt) => attempt.state.is_not_executed(),
                None => is_proven(&decision.attempt()),
            };
            self.count_on_limit(&decision, was_proven, attempt.state.is_not_executed());
        }
    }
}

/// What a payout is found by.
fn key(payout: &Payout) -> (&str, &str) {
    (&payout.namespace, &payout.payout_id)
}

/// The attempt of a payout that is not stored yet. Attempts that are stored stay as they were decided.
fn added_attempt<'p>(payout: &'p Payout, before: Option<&Payout>) -> Result<Option<&'p AttemptPlan>, &'static str> {
    let stored = before.map_or(&[] as &[Attempt], |before| before.attempts.as_slice());
    let is_same_payout = |before: &Payout| {
        (before.amount, before.currency, &before.route, before.registered_at)
            == (payout.amount, payout.currency, &payout.route, payout.registered_at)
    };
    if !before.is_none_or(is_same_payout) {
        return Err("the payout was changed");
    }
    let is_same = |(old, new): (&Attempt, &Attempt)| (old.attempt_id, &old.plan) == (new.attempt_id, &new.plan);
    if payout.attempts.len() < stored.len() || !stored.iter().zip(&payout.attempts).all(is_same) {
        return Err("a stored attempt was changed");
    }
    match payout.attempts.get(stored.len()..).unwrap_or_default() {
        [] if before.is_some() => Ok(None),
        [new] => {
            let number = new.plan.attempt_no;
            let follows = stored.last().is_none_or(|last| last.plan.attempt_no.saturating_add(1) == number);
            if follows && new.attempt_id == attempt_id(&payout.namespace, &payout.payout_id, number) {
                Ok(Some(&new.plan))
            } else {
                Err("the new attempt does not follow the last one")
            }
        }
        _ => Err("a registration has one attempt, and a commit adds one at most"),
    }
}
