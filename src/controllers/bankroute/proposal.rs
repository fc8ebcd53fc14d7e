//! Proposals of mode `Hybrid`: when one is made, when it lapses, and what the status and the events say of it. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::bank_route::{BankRouteStatus, FailoverProposal};
use crate::api::v1alpha1::reasons::EventReason;
use crate::cluster::events::EventDraft;
use crate::controllers::bankroute::inputs::{KnownProposal, RouteStep, StoredProposalView};
use crate::controllers::conditions::time;
use crate::domain::route::{Evaluation, StandingState};

/// How often a pending proposal is read again: it may be answered through any replica.
const ANSWER_INTERVAL: Duration = Duration::from_secs(5);

/// What becomes of the proposals of a route.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ProposalOutcome {
    /// The step to take.
    pub(super) step: Option<RouteStep>,
    /// What the status shows.
    pub(super) shown: Option<FailoverProposal>,
    /// When it is looked at again.
    pub(super) until: Option<Timestamp>,
}

/// What becomes of the stored proposal, and of what the forecast proposes now. A proposal is shown once it is stored:
/// only then can it be approved. It stands for its whole time, although the forecast may waver, unless it could have no
/// effect or the forecast proposes another bank.
pub(super) fn proposal(
    previous: Option<&BankRouteStatus>,
    stored: &StoredProposalView,
    evaluation: &Evaluation,
    is_hybrid: bool,
    now: Timestamp,
) -> ProposalOutcome {
    let proposed = evaluation.proposal.as_ref().filter(|_| is_hybrid);
    let make = || ProposalOutcome { step: proposed.cloned().map(RouteStep::Propose), ..ProposalOutcome::default() };
    match stored {
        // Read again soon: it may have been answered, and one may be due.
        StoredProposalView::Unknown => ProposalOutcome {
            step: None,
            shown: previous.and_then(|status| status.proposal.clone()),
            until: now.checked_add(ANSWER_INTERVAL).ok(),
        },
        StoredProposalView::Pending(known) => {
            let state = evaluation.standing(&known.candidate).map(|standing| standing.state);
            let has_effect = matches!(state, Some(StandingState::Standby | StandingState::Fallback));
            let is_other = proposed.is_some_and(|proposed| proposed.candidate != known.candidate);
            if is_hybrid && has_effect && !is_other && now < known.until {
                let shown = FailoverProposal { candidate: known.candidate.clone(), until_time: time(known.until) };
                let check = now.checked_add(ANSWER_INTERVAL).unwrap_or(known.until);
                return ProposalOutcome { step: None, shown: Some(shown), until: Some(known.until.min(check)) };
            }
            ProposalOutcome { step: Some(RouteStep::Lapse(known.id)), ..ProposalOutcome::default() }
        }
        // What was rejected is not proposed again before its time is over.
        StoredProposalView::Rejected(known) if now < known.until => {
            let again = proposed.is_some_and(|proposed| proposed.candidate == known.candidate);
            if again { ProposalOutcome { until: Some(known.until), ..ProposalOutcome::default() } } else { make() }
        }
        StoredProposalView::None
        | StoredProposalView::Approved(_)
        | StoredProposalView::Rejected(_)
        | StoredProposalView::Lapsed(_) => make(),
    }
}

/// The event of a proposal that was made, rejected or lapsed since the previous status.
pub(super) fn event(
    previous: Option<&BankRouteStatus>,
    stored: &StoredProposalView,
    shown: Option<&FailoverProposal>,
    active: Option<&str>,
) -> Option<EventDraft> {
    let before = previous.and_then(|status| status.proposal.as_ref());
    match (before, shown) {
        (before, Some(now)) if before.is_none_or(|before| before.candidate != now.candidate) => {
            let (from, to) = (active.unwrap_or("none"), &now.candidate);
            Some(EventDraft::warning(
                EventReason::FailoverProposed,
                format!(
                    "failover proposed from {from} to {to}: the forecast prefers {to}; approve or reject it (POST \
                     /api/treasury/routing/proposals/ID/approve or /reject), else it lapses"
                ),
            ))
        }
        (Some(before), None) => ended(before, stored),
        _ => None,
    }
}

fn ended(before: &FailoverProposal, stored: &StoredProposalView) -> Option<EventDraft> {
    let to = &before.candidate;
    let is_it = |known: &KnownProposal| known.candidate == *to;
    match stored {
        StoredProposalView::Rejected(known) if is_it(known) => Some(EventDraft::normal(
            EventReason::ProposalRejected,
            format!("failover to {to} rejected: the route stays as it is; not proposed again before its time is over"),
        )),
        // Approved, it is reported as a failover.
        StoredProposalView::Approved(known) if is_it(known) => None,
        StoredProposalView::Unknown => None,
        _ => Some(EventDraft::normal(
            EventReason::ProposalLapsed,
            format!(
                "proposed failover to {to} lapsed: neither approved nor rejected in time, or without effect by now; \
                 the route stays as it is"
            ),
        )),
    }
}
