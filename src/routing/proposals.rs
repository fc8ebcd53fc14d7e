//! Proposals of mode `Hybrid`: what the forecast would choose, until an operator approves or rejects it or it lapses.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::domain::canonical::to_millis;
use crate::domain::key::ObjectKey;
use crate::domain::route::Proposal;
use crate::ledger::decisions::{
    EntryOutcome, NewEntry, ProposalChange, ProposalFilter, ProposalSettlement, ProposalState, RouteProposal,
    StoredProposal,
};
use crate::routing::entry_id::new_id;
use crate::routing::error::RoutingError;
use crate::routing::service::{Actor, DecisionService};

/// How long an approved proposal chooses the bank: the horizon of the forecast that it is about.
const APPROVAL_TIME: SignedDuration = SignedDuration::from_mins(30);

impl DecisionService {
    /// The proposals of a namespace, newest first.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn proposals(&self, namespace: &str) -> Result<Vec<StoredProposal>, RoutingError> {
        self.read_proposals(&ProposalFilter { namespace: Some(namespace.to_owned()), ..ProposalFilter::default() })
            .await
    }

    /// Stores what the forecast proposes for a route, until `until`. While a proposal of the route is pending, that one is
    /// answered and nothing is stored.
    ///
    /// # Errors
    /// If the ledger does not store it.
    pub async fn propose(
        &self,
        route: &ObjectKey,
        proposal: &Proposal,
        until: Timestamp,
    ) -> Result<StoredProposal, RoutingError> {
        // As it is stored, so that the answer is what is listed later.
        let now = to_millis(self.clock.now().wall);
        let proposal = RouteProposal {
            created_at: now,
            expires_at: to_millis(until),
            from: Some(proposal.from.clone()),
            id: new_id(now),
            namespace: route.namespace.to_string(),
            risk: proposal.risk,
            route: route.name.to_string(),
            to: proposal.candidate.clone(),
        };
        match self.queue.commit(NewEntry::Proposal(ProposalChange::Create(proposal.clone()))).await? {
            EntryOutcome::Stored(_) => Ok(StoredProposal {
                proposal,
                state: ProposalState::Pending,
                settled_at: None,
                settled_by: None,
                approved_until: None,
            }),
            EntryOutcome::ProposalPending(pending) => Ok(*pending),
            _ => Err(RoutingError::Defect("the ledger answered a proposal with the outcome of another entry")),
        }
    }

    /// Approves a pending proposal: from now on its bank is chosen while it is available, for 30 minutes.
    ///
    /// # Errors
    /// If it is not pending or has expired.
    pub async fn approve_proposal(
        &self,
        namespace: &str,
        id: Uuid,
        actor: &Actor,
    ) -> Result<StoredProposal, RoutingError> {
        self.settle(namespace, id, ProposalState::Approved, actor).await
    }

    /// Rejects a pending proposal.
    ///
    /// # Errors
    /// If it is not pending.
    pub async fn reject_proposal(
        &self,
        namespace: &str,
        id: Uuid,
        actor: &Actor,
    ) -> Result<StoredProposal, RoutingError> {
        self.settle(namespace, id, ProposalState::Rejected, actor).await
    }

    /// Ends a pending proposal that has expired, or whose reason is gone.
    ///
    /// # Errors
    /// If it is not pending.
    pub async fn lapse_proposal(
        &self,
        namespace: &str,
        id: Uuid,
        actor: &Actor,
    ) -> Result<StoredProposal, RoutingError> {
        self.settle(namespace, id, ProposalState::Lapsed, actor).await
    }

    async fn settle(
        &self,
        namespace: &str,
        id: Uuid,
        state: ProposalState,
        actor: &Actor,
    ) -> Result<StoredProposal, RoutingError> {
        let now = self.clock.now().wall;
        let known = self.proposal(namespace, id).await?;
        let pending = known.state == ProposalState::Pending;
        if state == ProposalState::Approved && pending && known.proposal.expires_at <= now {
            return Err(RoutingError::ProposalClosed { id, state: ProposalState::Lapsed });
        }
        let settlement = ProposalSettlement {
            approved_until: (state == ProposalState::Approved).then(|| now + APPROVAL_TIME),
            at: now,
            id: new_id(now),
            namespace: namespace.to_owned(),
            proposal: id,
            reason: None,
            state,
            subject: actor.subject.clone(),
        };
        match self.queue.commit(NewEntry::Proposal(ProposalChange::Settle(Box::new(settlement)))).await? {
            EntryOutcome::Stored(_) => {
                self.apply_now().await;
                self.ops.publish(&ObjectKey::new(namespace, &*known.proposal.route));
                self.proposal(namespace, id).await
            }
            EntryOutcome::ProposalSettled(state) => Err(RoutingError::ProposalClosed { id, state }),
            EntryOutcome::NotFound => Err(RoutingError::ProposalNotFound { id }),
            _ => Err(RoutingError::Defect("the ledger answered a proposal with the outcome of another entry")),
        }
    }

    async fn proposal(&self, namespace: &str, id: Uuid) -> Result<StoredProposal, RoutingError> {
        let filter =
            ProposalFilter { namespace: Some(namespace.to_owned()), id: Some(id), ..ProposalFilter::default() };
        self.read_proposals(&filter).await?.pop().ok_or(RoutingError::ProposalNotFound { id })
    }

    async fn read_proposals(&self, filter: &ProposalFilter) -> Result<Vec<StoredProposal>, RoutingError> {
        let read = self.ledger.proposals(filter).await;
        read.map_err(|error| RoutingError::ledger("reading proposals", &error))
    }
}
