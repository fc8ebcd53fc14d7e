//! Which changes of adjustments and proposals are stored. Pure: the same for every engine.

use super::adjustment::{AdjustmentChange, MAX_ADJUSTMENTS};
use super::columns::EntryColumns;
use super::outcome::EntryOutcome;
use super::plan::Planner;
use super::proposal::{ProposalChange, ProposalSettlement, ProposalState, StoredProposal};
use super::row::NewRow;
use crate::domain::decision::EntryKind;

impl<'b> Planner<'b> {
    /// An adjustment begins or ends.
    pub(super) fn adjustment(&mut self, change: &'b AdjustmentChange) -> EntryOutcome {
        if let Some(position) = self.position(change.id()) {
            return EntryOutcome::Stored(position);
        }
        match change {
            AdjustmentChange::Create(adjustment) => {
                let in_effect = self.state.in_effect.entry(&adjustment.namespace).or_default();
                if *in_effect >= MAX_ADJUSTMENTS {
                    return EntryOutcome::TooManyAdjustments;
                }
                *in_effect += 1;
                self.state.adjustments.insert(adjustment.id, adjustment.namespace.clone());
                self.plan.adjustments.push(adjustment);
            }
            AdjustmentChange::Delete { adjustment, at, namespace, .. } => {
                if self.state.adjustments.get(adjustment) != Some(namespace) {
                    return EntryOutcome::NotFound;
                }
                self.state.adjustments.remove(adjustment);
                if let Some(in_effect) = self.state.in_effect.get_mut(namespace.as_str()) {
                    *in_effect = in_effect.saturating_sub(1);
                }
                self.plan.deleted.push((*adjustment, *at));
            }
        }
        let columns = EntryColumns::of_adjustment(change);
        EntryOutcome::Stored(self.append(NewRow::of_columns(EntryKind::Adjustment, columns, change.encode())))
    }

    /// A proposal is made or settled.
    pub(super) fn proposal(&mut self, change: &'b ProposalChange) -> EntryOutcome {
        if let Some(position) = self.position(change.id()) {
            return EntryOutcome::Stored(position);
        }
        match change {
            ProposalChange::Create(new) => {
                let route = (new.namespace.as_str(), new.route.as_str());
                match self.state.pending.get(&route) {
                    Some(pending) if new.created_at < pending.proposal.expires_at => {
                        return EntryOutcome::ProposalPending(Box::new(pending.clone()));
                    }
                    _ => {}
                }
                self.state.pending.insert(route, StoredProposal::pending(new.clone()));
                self.state.proposals.insert(new.id, StoredProposal::pending(new.clone()));
                self.plan.proposals.push(new);
            }
            ProposalChange::Settle(settlement) => {
                if let Some(refused) = self.cannot_settle(settlement) {
                    return refused;
                }
                self.plan.settled.push(settlement);
            }
        }
        let columns = EntryColumns::of_proposal(change);
        EntryOutcome::Stored(self.append(NewRow::of_columns(EntryKind::Proposal, columns, change.encode())))
    }

    /// Why the proposal is not settled; otherwise notes that it is.
    fn cannot_settle(&mut self, settlement: &ProposalSettlement) -> Option<EntryOutcome> {
        let stored = self.state.proposals.get_mut(&settlement.proposal);
        let Some(stored) = stored.filter(|stored| stored.proposal.namespace == settlement.namespace) else {
            return Some(EntryOutcome::NotFound);
        };
        if stored.state != ProposalState::Pending {
            return Some(EntryOutcome::ProposalSettled(stored.state));
        }
        if settlement.state == ProposalState::Approved && settlement.at >= stored.proposal.expires_at {
            return Some(EntryOutcome::ProposalSettled(ProposalState::Lapsed));
        }
        stored.state = settlement.state;
        self.state.pending.retain(|_, pending| pending.proposal.id != settlement.proposal);
        None
    }
}
