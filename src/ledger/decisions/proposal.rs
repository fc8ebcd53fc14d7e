//! Proposals of Hybrid mode: what the forecast would choose, until an operator says so or it lapses.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::canonical::{instant, to_bytes, uuid_text};

/// A proposal to change the active bank of a route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouteProposal {
    /// When it was made.
    #[serde(with = "instant")]
    pub created_at: Timestamp,
    /// When it lapses.
    #[serde(with = "instant")]
    pub expires_at: Timestamp,
    /// The active bank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its ID, which is also its entry's.
    #[serde(with = "uuid_text")]
    pub id: Uuid,
    /// The namespace of the route.
    pub namespace: String,
    /// The predicted risk of the active bank, in millionths.
    pub risk: u32,
    /// The route.
    pub route: String,
    /// The proposed bank.
    pub to: String,
}

/// What became of a proposal.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalState {
    /// It waits for an operator.
    Pending,
    /// An operator approved it.
    Approved,
    /// An operator rejected it.
    Rejected,
    /// It was not answered in time, or its reason is gone.
    Lapsed,
}

impl ProposalState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Approved, Self::Rejected, Self::Lapsed];

    /// Its name in the ledger and in HTTP responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Lapsed => "lapsed",
        }
    }
}

impl std::fmt::Display for ProposalState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The end of a proposal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProposalSettlement {
    /// How long an approved proposal chooses the bank.
    #[serde(default, with = "instant::option", skip_serializing_if = "Option::is_none")]
    pub approved_until: Option<Timestamp>,
    /// When.
    #[serde(with = "instant")]
    pub at: Timestamp,
    /// The entry's ID.
    #[serde(with = "uuid_text")]
    pub id: Uuid,
    /// The namespace of the route.
    pub namespace: String,
    /// The proposal.
    #[serde(with = "uuid_text")]
    pub proposal: Uuid,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What became of it.
    pub state: ProposalState,
    /// The caller.
    pub subject: String,
}

/// A proposal is made or settled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalChange {
    /// It is made.
    Create(RouteProposal),
    /// It is settled.
    Settle(Box<ProposalSettlement>),
}

impl ProposalChange {
    /// The entry's ID.
    pub const fn id(&self) -> Uuid {
        match self {
            Self::Create(proposal) => proposal.id,
            Self::Settle(settlement) => settlement.id,
        }
    }

    /// The entry's body.
    pub fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// The change in an entry's body; `None` if it is none.
    pub fn decode(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

impl RouteProposal {
    /// As stored beside the chain.
    pub(crate) fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// As stored beside the chain; `None` if it is none.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

/// A proposal and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredProposal {
    /// The proposal.
    pub proposal: RouteProposal,
    /// What became of it.
    pub state: ProposalState,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// By which caller.
    pub settled_by: Option<String>,
    /// How long it chooses the bank.
    pub approved_until: Option<Timestamp>,
}

impl StoredProposal {
    /// A proposal that waits.
    pub(crate) const fn pending(proposal: RouteProposal) -> Self {
        let state = ProposalState::Pending;
        Self { proposal, state, settled_at: None, settled_by: None, approved_until: None }
    }
}

/// Filter for proposals. Unset fields match all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProposalFilter {
    /// Only of routes of this namespace.
    pub namespace: Option<String>,
    /// Only of routes of this name.
    pub route: Option<String>,
    /// Only this one.
    pub id: Option<Uuid>,
    /// Only in this state.
    pub state: Option<ProposalState>,
    /// Only approved ones that choose their bank after this instant.
    pub approved_after: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_proposal_is_read_back_from_its_canonical_body() {
        let at: Timestamp = "2026-11-29T10:00:00.5Z".parse().unwrap();
        let proposal = RouteProposal {
            created_at: at,
            expires_at: at,
            from: Some("a".into()),
            id: Uuid::from_u128(1),
            namespace: "pay".into(),
            risk: 700_000,
            route: "eu".into(),
            to: "b".into(),
        };
        let settlement = |state, approved_until, reason: Option<&str>| ProposalSettlement {
            approved_until,
            at,
            id: Uuid::from_u128(2),
            namespace: "pay".into(),
            proposal: proposal.id,
            reason: reason.map(Into::into),
            state,
            subject: "ops".into(),
        };
        for change in [
            ProposalChange::Create(proposal.clone()),
            ProposalChange::Create(RouteProposal { from: None, ..proposal.clone() }),
            ProposalChange::Settle(Box::new(settlement(ProposalState::Approved, Some(at), None))),
            ProposalChange::Settle(Box::new(settlement(ProposalState::Rejected, None, Some("no")))),
        ] {
            assert_eq!(ProposalChange::decode(&change.encode()), Some(change));
        }
    }
}
