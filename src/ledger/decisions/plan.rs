//! Which entries of a batch are stored, and what is written for them. Pure: the same for every engine.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::adjustment::RouteAdjustment;
use super::columns::EntryColumns;
use super::entry::{DecisionBatch, EncodedSnapshot, NewDecision, NewEntry, NewOutcome};
use super::gate::earlier_attempts;
use super::needs::{limit_day, reserved_day};
use super::outcome::{EntryOutcome, MAX_OUTCOMES, verdict};
use super::proposal::{ProposalSettlement, RouteProposal};
use super::row::{NewRow, stored_outcome};
use super::state::{BatchState, Named};
use super::stored::{ChainEnds, EntryPosition, LimitDay, StoredDecision, StoredOutcome};
use crate::domain::decision::{
    DayUsage, EarlierAttempt, EntryKind, GENESIS, OutcomeClass, RecordKind, link, may_attempt,
};
use crate::ledger::payouts::row::PayoutRow;
use crate::ledger::payouts::stored::StoredPayout;

/// What is written for a batch.
#[derive(Debug, Default)]
pub(crate) struct Plan<'b> {
    /// What became of each entry.
    pub(crate) outcomes: Vec<EntryOutcome>,
    /// The rows of the log.
    pub(crate) rows: Vec<NewRow<'b>>,
    /// The chain's new head.
    pub(crate) head: ChainEnds,
    /// The snapshots that the rows name, each with the last row that does.
    pub(crate) snapshots: Vec<(&'b EncodedSnapshot, u64)>,
    /// The counters of daily limits that changed.
    pub(crate) usage: Vec<(LimitDay, DayUsage)>,
    /// The adjustments that begin.
    pub(crate) adjustments: Vec<&'b RouteAdjustment>,
    /// The adjustments that end, and when.
    pub(crate) deleted: Vec<(Uuid, Timestamp)>,
    /// The proposals that are made.
    pub(crate) proposals: Vec<&'b RouteProposal>,
    /// The proposals that are settled.
    pub(crate) settled: Vec<&'b ProposalSettlement>,
    /// The payouts that are moved on, in order.
    pub(crate) payouts: Vec<PayoutRow<'b>>,
    /// Payouts are resumed.
    pub(crate) resumes: bool,
}

/// Plans a batch on top of what is stored.
pub(crate) fn plan<'b>(batch: &'b DecisionBatch, state: BatchState<'b>) -> Plan<'b> {
    let plan = Plan { head: state.head, rows: Vec::with_capacity(batch.entries.len()), ..Plan::default() };
    let mut planner = Planner {
        state,
        plan,
        decisions: Vec::new(),
        by_payout: HashMap::with_capacity(batch.entries.len()),
        outcomes: HashMap::new(),
        told: HashMap::new(),
        superseded: HashMap::new(),
        answered: HashSet::new(),
        changed: BTreeMap::new(),
        payouts: HashMap::new(),
    };
    planner.plan.outcomes = Vec::with_capacity(batch.entries.len());
    for entry in &batch.entries {
        let outcome = match entry {
            NewEntry::Decision(new) => planner.decision(new),
            NewEntry::Payout(commit) => planner.payout(commit, None),
            NewEntry::Attempt { decision, payout } => planner.payout(payout, Some(decision)),
            NewEntry::ResumePayouts(resume) => planner.resume(resume),
            NewEntry::Outcome(new) => planner.outcome(new),
            NewEntry::Adjustment(change) => planner.adjustment(change),
            NewEntry::Proposal(change) => planner.proposal(change),
        };
        planner.plan.outcomes.push(outcome);
    }
    let Planner { mut plan, changed, .. } = planner;
    plan.usage = changed.into_iter().collect();
    plan
}

/// What is planned so far.
pub(super) struct Planner<'b> {
    pub(super) state: BatchState<'b>,
    pub(super) plan: Plan<'b>,
    /// The decisions that this batch stores.
    decisions: Vec<(&'b NewDecision, EntryPosition)>,
    /// Their indices by payout.
    by_payout: HashMap<(&'b str, &'b str), Vec<usize>>,
    /// The outcomes that this batch stores, by decision.
    outcomes: HashMap<Uuid, Vec<StoredOutcome>>,
    /// The number and the class of each outcome of the decisions that this batch reports on.
    told: HashMap<Uuid, Vec<(u64, OutcomeClass)>>,
    /// The overrides that this batch stores, by the decision that each replaces.
    superseded: HashMap<Uuid, Uuid>,
    /// The stored decisions that an entry of this batch was answered with as its own.
    answered: HashSet<Uuid>,
    /// The counters of daily limits that this batch changes.
    pub(super) changed: BTreeMap<LimitDay, DayUsage>,
    /// The payouts that this batch moves on.
    pub(super) payouts: HashMap<(&'b str, &'b str), StoredPayout>,
}

impl<'b> Planner<'b> {
    /// A decision on its own: of a payout that is not followed.
    fn decision(&mut self, new: &'b NewDecision) -> EntryOutcome {
        self.decide(new, false)
    }

    /// A decision; `with_payout`: the attempt is stored with it.
    pub(super) fn decide(&mut self, new: &'b NewDecision, with_payout: bool) -> EntryOutcome {
        if self.state.restores.suspended {
            return EntryOutcome::PayoutsSuspended;
        }
        let payout = (new.key.namespace.as_str(), new.key.payout_id.as_str());
        let earlier = self.attempts(payout);
        if let Some(stored) = earlier.iter().find(|stored| stored.key.attempt_no == new.key.attempt_no) {
            return self.repeated(new, stored);
        }
        if let Some(refused) = new.record.supersedes.and_then(|target| cannot_supersede(target, &earlier)) {
            return refused;
        }
        let followed = self.followed(payout);
        let attempts = earlier_attempts(&earlier, followed.map(|stored| &stored.payout));
        if let Err(unresolved) = may_attempt(new.key.attempt_no, &attempts) {
            return EntryOutcome::Unresolved(unresolved);
        }
        if let Some(stored) = followed.filter(|_| !with_payout) {
            return EntryOutcome::Followed(Box::new(stored.clone()));
        }
        if let (Some(reserved), Some(day)) = (&new.record.reserved, reserved_day(new)) {
            let mut used = self.used(&day);
            if new.limit.as_ref().is_some_and(|limit| !limit.admits(&used, reserved.amount)) {
                return EntryOutcome::LimitReached(used);
            }
            used.reserve(reserved.amount);
            self.changed.insert(day, used);
        }
        EntryOutcome::Stored(self.append_decision(new, payout))
    }

    /// The outcome for an attempt that is decided already. A decision that is committed again was stored by the first entry of
    /// its batch that holds it; the others are replayed.
    fn repeated(&mut self, new: &NewDecision, stored: &StoredDecision) -> EntryOutcome {
        // The ID alone does not tell two overrides of one millisecond apart.
        let is_same = stored.id == new.record.id && stored.body == new.body;
        let is_appended = self.decisions.iter().any(|(appended, _)| appended.record.id == stored.id);
        if is_same && !is_appended && self.answered.insert(stored.id) {
            return EntryOutcome::Stored(stored.position());
        }
        // An override says what is to be chosen: the choice is a part of what is asked.
        let is_same_choice = match new.record.kind {
            RecordKind::Decision => true,
            RecordKind::Override => stored.kind == RecordKind::Override && stored.candidate == new.record.candidate,
        };
        if stored.request_hash == new.request_hash {
            if is_same_choice {
                EntryOutcome::Replayed(Box::new(stored.clone()))
            } else {
                // The request is the same: the attempt was decided for another bank.
                EntryOutcome::Superseded { by: stored.id }
            }
        } else {
            EntryOutcome::Conflict { stored: stored.request_hash }
        }
    }

    fn append_decision(&mut self, new: &'b NewDecision, payout: (&'b str, &'b str)) -> EntryPosition {
        let kind = match new.record.kind {
            RecordKind::Decision => EntryKind::Decision,
            RecordKind::Override => EntryKind::Override,
        };
        let position = self.append(NewRow {
            seq: 0,
            kind,
            at: new.record.at,
            id: Some(new.record.id),
            namespace: Some(Cow::Borrowed(&new.key.namespace)),
            payout_id: Some(&new.key.payout_id),
            attempt_no: Some(new.key.attempt_no),
            request_hash: Some(&new.request_hash),
            route: Some(Cow::Borrowed(&new.route)),
            candidate: Some(&new.record.candidate),
            snapshot: Some(&new.snapshot.id),
            about: new.record.supersedes,
            reserved: new.record.reserved.as_ref(),
            body: Cow::Borrowed(&new.body),
            hash: GENESIS,
        });
        match self.plan.snapshots.iter_mut().rev().find(|(snapshot, _)| snapshot.id == new.snapshot.id) {
            Some((_, last)) => *last = position.seq,
            None => self.plan.snapshots.push((&new.snapshot, position.seq)),
        }
        if let Some(target) = new.record.supersedes {
            self.superseded.insert(target, new.record.id);
        }
        self.by_payout.entry(payout).or_default().push(self.decisions.len());
        self.decisions.push((new, position));
        position
    }

    fn outcome(&mut self, new: &'b NewOutcome) -> EntryOutcome {
        let Some(decision) = self.find(new.decision) else { return EntryOutcome::NotFound };
        let decision = Box::new(decision);
        if let Some(position) = self.position(new.id) {
            let is_equal = self.is_stored_as(new);
            let before = self.told(new.decision).iter().filter(|(seq, _)| *seq < position.seq);
            let earlier = before.map(|(_, class)| *class).collect();
            return EntryOutcome::OutcomeStored { position, decision, earlier, repeated: true, is_equal };
        }
        let earlier: Vec<OutcomeClass> = self.told(new.decision).iter().map(|(_, class)| *class).collect();
        // What the outcomes say by themselves, also of a followed payout, whose state they are inputs of.
        let before = EarlierAttempt { attempt_no: decision.key.attempt_no, outcomes: earlier, followed: None };
        let mut after = before.clone();
        after.outcomes.push(new.class);
        let (was, is) = (verdict(&before), verdict(&after));
        if before.outcomes.len() >= MAX_OUTCOMES && was == is {
            return EntryOutcome::OutcomesFull;
        }
        let columns = EntryColumns::of_outcome(new);
        let position = self.append(NewRow::of_columns(EntryKind::Outcome, columns, new.encode()));
        self.release(&decision, was.is_none(), is.is_none());
        self.told(new.decision).push((position.seq, new.class));
        self.outcomes.entry(new.decision).or_default().push(stored_outcome(position.seq, new.clone()));
        let earlier = before.outcomes;
        EntryOutcome::OutcomeStored { position, decision, earlier, repeated: false, is_equal: false }
    }

    /// The number and the class of each outcome of a decision as of now.
    fn told(&mut self, decision: Uuid) -> &mut Vec<(u64, OutcomeClass)> {
        let named = self.state.named.get(&decision);
        self.told.entry(decision).or_insert_with(|| match named {
            Some(Named::Decision(stored)) => stored.outcomes.iter().map(|one| (one.seq, one.class)).collect(),
            _ => Vec::new(),
        })
    }

    /// Whether an earlier batch stored an outcome that is equal to `new`.
    fn is_stored_as(&self, new: &NewOutcome) -> bool {
        let Some(Named::Decision(decision)) = self.state.named.get(&new.decision) else { return false };
        let stored = decision.outcomes.iter().find(|one| one.id == new.id);
        stored.is_some_and(|one| *one == stored_outcome(one.seq, new.clone()))
    }

    /// Gives back what a decision takes from the limit of its day when its payout is known not to have been made. For a
    /// followed payout its state says so, not the outcome.
    fn release(&mut self, decision: &StoredDecision, was_proven: bool, is_proven: bool) {
        let payout = (decision.key.namespace.as_str(), decision.key.payout_id.as_str());
        if self.followed(payout).is_some_and(|stored| stored.payout.attempt(decision.key.attempt_no).is_some()) {
            return;
        }
        self.count_on_limit(decision, was_proven, is_proven);
    }

    /// Gives back what a decision takes from the limit of its day, and takes it again if something contradicts that: each
    /// once, because it follows the change of what is known.
    pub(super) fn count_on_limit(&mut self, decision: &StoredDecision, was_proven: bool, is_proven: bool) {
        let (Some(reserved), Some(day)) = (&decision.reserved, limit_day(decision)) else { return };
        let mut used = self.used(&day);
        match (was_proven, is_proven) {
            (false, true) => used.release(reserved.amount),
            (true, false) => used.reserve(reserved.amount),
            _ => return,
        }
        self.changed.insert(day, used);
    }

    /// Appends a row to the chain.
    pub(super) fn append(&mut self, mut row: NewRow<'b>) -> EntryPosition {
        let head = &mut self.plan.head;
        row.seq = head.seq + 1;
        row.hash = link(&head.hash, row.seq, row.kind, &row.body);
        (head.seq, head.hash) = (row.seq, row.hash);
        let position = row.position();
        self.plan.rows.push(row);
        position
    }

    /// The decisions of a payout as of now, by attempt.
    pub(super) fn attempts(&self, payout: (&str, &str)) -> Vec<StoredDecision> {
        let stored = self.state.attempts.get(&payout).into_iter().flatten().cloned();
        let appended = self.by_payout.get(&payout).into_iter().flatten();
        let appended = appended.filter_map(|index| self.decisions.get(*index)).map(appended_decision);
        stored.chain(appended).map(|decision| self.current(decision)).collect()
    }

    /// The decision with this ID as of now, without its outcomes: there may be many, and each report of a batch asks.
    fn find(&self, id: Uuid) -> Option<StoredDecision> {
        let found = match self.state.named.get(&id) {
            Some(Named::Decision(decision)) => Some(decision.without_outcomes()),
            Some(Named::Other(_)) => None,
            None => self.decisions.iter().find(|(new, _)| new.record.id == id).map(appended_decision),
        };
        found.map(|decision| self.overridden(decision))
    }

    fn current(&self, mut decision: StoredDecision) -> StoredDecision {
        decision.outcomes.extend(self.outcomes.get(&decision.id).into_iter().flatten().cloned());
        self.overridden(decision)
    }

    fn overridden(&self, mut decision: StoredDecision) -> StoredDecision {
        if let Some(by) = self.superseded.get(&decision.id) {
            decision.superseded_by = Some(*by);
        }
        decision
    }

    /// The place of the entry with this ID.
    pub(super) fn position(&self, id: Uuid) -> Option<EntryPosition> {
        match self.state.named.get(&id) {
            Some(Named::Decision(decision)) => Some(decision.position()),
            Some(Named::Other(position)) => Some(*position),
            None => self.plan.rows.iter().find(|row| row.id == Some(id)).map(NewRow::position),
        }
    }

    /// The followed payout as of now.
    pub(super) fn followed<'s>(&'s self, payout: (&'s str, &'s str)) -> Option<&'s StoredPayout> {
        let stored = || self.state.payouts.get(&(payout.0.to_owned(), payout.1.to_owned()));
        self.payouts.get(&payout).or_else(stored)
    }

    fn used(&self, day: &LimitDay) -> DayUsage {
        let used = self.changed.get(day).or_else(|| self.state.usage.get(day));
        used.copied().unwrap_or(DayUsage::none(day.day))
    }
}

/// Why `target` cannot be replaced: only the last decision of the payout can.
fn cannot_supersede(target: Uuid, earlier: &[StoredDecision]) -> Option<EntryOutcome> {
    let Some(found) = earlier.iter().find(|decision| decision.id == target) else {
        return Some(EntryOutcome::NotFound);
    };
    let last = earlier.last().filter(|last| last.id != target).map(|last| last.id);
    found.superseded_by.or(last).map(|by| EntryOutcome::Superseded { by })
}

pub(crate) fn appended_decision((new, position): &(&NewDecision, EntryPosition)) -> StoredDecision {
    StoredDecision {
        seq: position.seq,
        hash: position.hash,
        id: new.record.id,
        kind: new.record.kind,
        key: new.key.clone(),
        request_hash: new.request_hash,
        route: new.route.clone(),
        candidate: new.record.candidate.clone(),
        snapshot: new.snapshot.id,
        reserved: new.record.reserved.clone(),
        at: new.record.at,
        body: new.body.clone(),
        outcomes: Vec::new(),
        superseded_by: None,
    }
}
