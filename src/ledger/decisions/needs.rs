//! What an engine reads before a batch is planned.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::adjustment::AdjustmentChange;
use super::entry::{DecisionBatch, NewDecision, NewEntry};
use super::proposal::ProposalChange;
use super::state::{BatchState, Named};
use super::stored::{LimitDay, StoredDecision};
use crate::ledger::payouts::commit::PayoutCommit;

/// The rows that a batch depends on.
#[derive(Debug, Default)]
pub(crate) struct Needs<'b> {
    /// The decisions of these payouts, by namespace and ID.
    pub(crate) payouts: Vec<(&'b str, &'b str)>,
    /// The entries with these IDs.
    pub(crate) ids: Vec<Uuid>,
    /// The adjustments with these IDs.
    pub(crate) adjustments: Vec<Uuid>,
    /// The namespaces whose adjustments are counted, each as of the instant at which its first one in the batch begins.
    pub(crate) namespaces: BTreeMap<&'b str, Timestamp>,
    /// The proposals with these IDs.
    pub(crate) proposals: Vec<Uuid>,
    /// The pending proposals of these routes, by namespace and name.
    pub(crate) routes: Vec<(&'b str, &'b str)>,
    /// The followed payouts, by namespace and ID.
    pub(crate) followed: Vec<(&'b str, &'b str)>,
    /// The payouts with these idempotency keys, by namespace and key.
    pub(crate) keys: Vec<(&'b str, &'b str)>,
    /// The leases of these names.
    pub(crate) leases: Vec<&'b str>,
    /// Whether there are payouts that are not under review.
    pub(crate) unreviewed: bool,
}

impl<'b> Needs<'b> {
    /// What `batch` depends on, each once.
    pub(crate) fn of(batch: &'b DecisionBatch) -> Self {
        let mut needs = Self { payouts: Vec::with_capacity(batch.entries.len()), ..Self::default() };
        for entry in &batch.entries {
            match entry {
                NewEntry::Decision(new) => needs.decision(new),
                NewEntry::Payout(commit) => needs.payout(commit),
                NewEntry::Attempt { decision, payout } => {
                    needs.decision(decision);
                    needs.payout(payout);
                    needs.ids.push(decision.record.id);
                }
                NewEntry::ResumePayouts(resume) => {
                    needs.ids.push(resume.id());
                    needs.unreviewed = true;
                }
                NewEntry::Outcome(new) => needs.ids.extend([new.id, new.decision]),
                NewEntry::Adjustment(change) => {
                    needs.ids.push(change.id());
                    match change {
                        AdjustmentChange::Create(new) => {
                            needs.namespaces.entry(&new.namespace).or_insert(new.created_at);
                        }
                        AdjustmentChange::Delete { adjustment, .. } => needs.adjustments.push(*adjustment),
                    }
                }
                NewEntry::Proposal(change) => {
                    needs.ids.push(change.id());
                    match change {
                        ProposalChange::Create(new) => needs.routes.push((&new.namespace, &new.route)),
                        ProposalChange::Settle(settlement) => needs.proposals.push(settlement.proposal),
                    }
                }
            }
        }
        for pairs in [&mut needs.payouts, &mut needs.routes, &mut needs.followed, &mut needs.keys] {
            pairs.sort_unstable();
            pairs.dedup();
        }
        needs.leases.sort_unstable();
        needs.leases.dedup();
        for ids in [&mut needs.ids, &mut needs.adjustments, &mut needs.proposals] {
            ids.sort_unstable();
            ids.dedup();
        }
        needs
    }

    fn decision(&mut self, new: &'b NewDecision) {
        let payout = (new.key.namespace.as_str(), new.key.payout_id.as_str());
        self.payouts.push(payout);
        self.followed.push(payout);
    }

    fn payout(&mut self, commit: &'b PayoutCommit) {
        let payout = (commit.payout.namespace.as_str(), commit.payout.payout_id.as_str());
        self.ids.push(commit.id());
        self.followed.push(payout);
        // The gate, and the limit of an attempt that changes, need the decisions; the clock's questions do not.
        if commit.changes_attempts() {
            self.payouts.push(payout);
        }
        if let Some(key) = commit.registration.as_ref().and_then(|one| one.idempotency_key.as_deref()) {
            self.keys.push((payout.0, key));
        }
        if let Some(lease) = &commit.lease {
            self.leases.push(&lease.name);
        }
    }
}

/// The payouts of the decisions that outcomes are of, by namespace and ID: whether they are followed says what an outcome
/// means.
pub(crate) fn reported_payouts(batch: &DecisionBatch, state: &BatchState<'_>) -> Vec<(String, String)> {
    let mut payouts = BTreeSet::new();
    for entry in &batch.entries {
        if let NewEntry::Outcome(new) = entry
            && let Some(Named::Decision(decision)) = state.named.get(&new.decision)
        {
            payouts.insert((decision.key.namespace.clone(), decision.key.payout_id.clone()));
        }
    }
    payouts.into_iter().collect()
}

/// The days of limits that a batch counts on, each once.
pub(crate) fn limit_days(batch: &DecisionBatch, state: &BatchState<'_>) -> Vec<LimitDay> {
    let mut days = Vec::new();
    for entry in &batch.entries {
        match entry {
            NewEntry::Decision(new) => days.extend(reserved_day(new)),
            NewEntry::Attempt { decision, payout } => {
                days.extend(reserved_day(decision));
                days.extend(changed_days(payout, state));
            }
            NewEntry::Payout(commit) => days.extend(changed_days(commit, state)),
            NewEntry::Outcome(new) => {
                if let Some(Named::Decision(decision)) = state.named.get(&new.decision) {
                    days.extend(limit_day(decision));
                }
            }
            NewEntry::Adjustment(_) | NewEntry::Proposal(_) | NewEntry::ResumePayouts(_) => {}
        }
    }
    days.sort_unstable();
    days.dedup();
    days
}

/// The day of the limit that a new decision takes from.
pub(crate) fn reserved_day(new: &NewDecision) -> Option<LimitDay> {
    let reserved = new.record.reserved.as_ref();
    reserved.map(|reserved| LimitDay::of(&new.key.namespace, &new.route, reserved))
}

/// The days of the limits that the attempts of a payout take from, if its commit changes any.
fn changed_days<'s>(commit: &'s PayoutCommit, state: &'s BatchState<'_>) -> impl Iterator<Item = LimitDay> + 's {
    let payout = (commit.payout.namespace.as_str(), commit.payout.payout_id.as_str());
    let decisions = if commit.changes_attempts() { state.attempts.get(&payout) } else { None };
    decisions.into_iter().flatten().filter_map(limit_day)
}

/// The day of the limit that a decision takes from.
pub(crate) fn limit_day(decision: &StoredDecision) -> Option<LimitDay> {
    let reserved = decision.reserved.as_ref();
    reserved.map(|reserved| LimitDay::of(&decision.key.namespace, &decision.route, reserved))
}
