//! The columns by which an entry is found, and what its body says about them.

use jiff::Timestamp;
use uuid::Uuid;

use super::adjustment::AdjustmentChange;
use super::entry::NewOutcome;
use super::proposal::ProposalChange;
use crate::domain::decision::{EntryKind, Hash, Reservation};
use crate::ledger::payouts::change::PayoutEntry;

/// What an entry is found by. Not hashed: a verification compares it with the body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryColumns {
    /// Its ID; checkpoints have none.
    pub id: Option<Uuid>,
    /// Its time.
    pub at: Timestamp,
    /// The namespace.
    pub namespace: Option<String>,
    /// The payout of a decision.
    pub payout_id: Option<String>,
    /// The attempt of a decision.
    pub attempt_no: Option<u32>,
    /// The route.
    pub route: Option<String>,
    /// The bank of a decision.
    pub candidate: Option<String>,
    /// SHA-256 of a decision's canonical request.
    pub request_hash: Option<Hash>,
    /// What a decision was decided on.
    pub snapshot: Option<Hash>,
    /// What it is about: the decision that an override replaces or that an outcome is of, the adjustment that ends, the
    /// proposal that is settled.
    pub about: Option<Uuid>,
    /// What a decision takes of the bank's daily limit.
    pub reserved: Option<Reservation>,
}

impl EntryColumns {
    /// Columns with a time alone.
    pub(crate) const fn at(at: Timestamp) -> Self {
        Self {
            id: None,
            at,
            namespace: None,
            payout_id: None,
            attempt_no: None,
            route: None,
            candidate: None,
            request_hash: None,
            snapshot: None,
            about: None,
            reserved: None,
        }
    }

    /// The columns that the body of an outcome, an adjustment, a proposal or a payout calls for; `None` for other kinds, and
    /// if the body cannot be read.
    pub fn of_body(kind: EntryKind, body: &[u8]) -> Option<Self> {
        match kind {
            EntryKind::Outcome => NewOutcome::decode(body).map(|outcome| Self::of_outcome(&outcome)),
            EntryKind::Adjustment => AdjustmentChange::decode(body).map(|change| Self::of_adjustment(&change)),
            EntryKind::Proposal => ProposalChange::decode(body).map(|change| Self::of_proposal(&change)),
            EntryKind::Payout => PayoutEntry::decode(body).map(|entry| Self::of_payout(&entry)),
            EntryKind::Decision | EntryKind::Override | EntryKind::Checkpoint => None,
        }
    }

    pub(super) fn of_outcome(outcome: &NewOutcome) -> Self {
        Self { id: Some(outcome.id), about: Some(outcome.decision), ..Self::at(outcome.at) }
    }

    pub(super) fn of_adjustment(change: &AdjustmentChange) -> Self {
        match change {
            AdjustmentChange::Create(adjustment) => Self {
                id: Some(adjustment.id),
                namespace: Some(adjustment.namespace.clone()),
                route: adjustment.route.clone(),
                ..Self::at(adjustment.created_at)
            },
            AdjustmentChange::Delete { adjustment, at, id, namespace, .. } => {
                Self { id: Some(*id), namespace: Some(namespace.clone()), about: Some(*adjustment), ..Self::at(*at) }
            }
        }
    }

    /// Without the payout's ID: that column says that an entry is a decision.
    pub(super) fn of_payout(entry: &PayoutEntry) -> Self {
        match entry {
            PayoutEntry::Change(change) => Self {
                id: Some(change.id),
                namespace: Some(change.namespace.clone()),
                route: Some(change.route.clone()),
                ..Self::at(change.at)
            },
            PayoutEntry::Resume(resume) => Self { id: Some(resume.id()), ..Self::at(resume.at) },
        }
    }

    pub(super) fn of_proposal(change: &ProposalChange) -> Self {
        match change {
            ProposalChange::Create(proposal) => Self {
                id: Some(proposal.id),
                namespace: Some(proposal.namespace.clone()),
                route: Some(proposal.route.clone()),
                ..Self::at(proposal.created_at)
            },
            ProposalChange::Settle(settlement) => Self {
                id: Some(settlement.id),
                namespace: Some(settlement.namespace.clone()),
                about: Some(settlement.proposal),
                ..Self::at(settlement.at)
            },
        }
    }
}
