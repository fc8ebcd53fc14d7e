//! Reads the inputs of a route's reconcile, and takes its steps: proposals of the forecast in the ledger.

use std::time::Duration;

use crate::api::v1alpha1::BankRoute;
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::Ctx;
use crate::controllers::bankroute::inputs::{KnownProposal, RouteInputs, RouteStep, StoredProposalView};
use crate::controllers::bankroute::resolution;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::route::{ConnectionState, RouteMode};
use crate::ledger::decisions::{ProposalFilter, ProposalState, StoredProposal};
use crate::resolve::ResolvedRoute;
use crate::routing::Actor;

/// How long a reconcile waits for the ledger: a failover must not wait for it.
const LEDGER_TIMEOUT: Duration = Duration::from_millis(250);

/// The operator itself, as it is recorded with what it proposes.
const SUBJECT: &str = "busbar";

/// Reads stores, the registry, and what the decision service and the ledger hold for the route.
pub(super) async fn observe(ctx: &Ctx, object: &BankRoute) -> RouteInputs {
    let key = object.key();
    let now = ctx.clock.now().wall;
    let candidates = object.spec.candidates.iter();
    let connections = candidates.map(|candidate| {
        let connection = key.sibling(&*candidate.connection_ref.name);
        match ctx.stores.connections.get(&connection) {
            None => ConnectionState::Missing,
            Some(stored) => match ctx.registry.get(&connection) {
                Some(live) if Some(&**live.uid()) == stored.metadata.uid.as_deref() => live.route_state(now),
                _ => ConnectionState::NotReady,
            },
        }
    });
    let exists = || ctx.stores.routes.get(&key).is_some();
    let route = resolution::resolve(&ctx.resolutions.routes, &key, object, exists);
    let mut inputs = RouteInputs::of(route, connections.collect());
    let scorer = object.spec.scorer.as_ref().map(|scorer| key.sibling(&*scorer.connection_ref.name));
    inputs.scorer_missing = scorer.is_some_and(|scorer| ctx.stores.connections.get(&scorer).is_none());
    inputs.held_payouts = ctx.routing.as_ref().and_then(|routing| routing.held_payouts(&key));
    let (Ok(resolved), Some(routing)) = (&inputs.route, &ctx.routing) else { return inputs };
    inputs.rules = Some(routing.rules_of(&key, resolved));
    inputs.predictions = resolved
        .candidates
        .iter()
        .map(|candidate| routing.predictions_of(&key, &candidate.connection, resolved, now))
        .collect();
    if needs_proposals(object, resolved) {
        inputs.proposal = newest_proposal(ctx, &key).await;
    }
    inputs
}

/// Whether the route may have a proposal: also one of the time before its mode was changed.
fn needs_proposals(object: &BankRoute, resolved: &ResolvedRoute) -> bool {
    let is_shown = object.status.as_ref().is_some_and(|status| status.proposal.is_some());
    resolved.rules.mode == RouteMode::Hybrid || is_shown
}

async fn newest_proposal(ctx: &Ctx, key: &ObjectKey) -> StoredProposalView {
    let filter = ProposalFilter {
        namespace: Some(key.namespace.to_string()),
        route: Some(key.name.to_string()),
        ..ProposalFilter::default()
    };
    match tokio::time::timeout(LEDGER_TIMEOUT, ctx.ledger.proposals(&filter)).await {
        // The pending one before the newest: by a clock that was ahead, a settled one is newer for as long.
        Ok(Ok(proposals)) => {
            let pending = proposals.iter().position(|one| one.state == ProposalState::Pending).unwrap_or_default();
            proposals.into_iter().nth(pending).map_or(StoredProposalView::None, view)
        }
        Ok(Err(error)) => {
            tracing::debug!(namespace = %key.namespace, name = %key.name, %error, "proposals not read; status kept");
            StoredProposalView::Unknown
        }
        Err(_) => StoredProposalView::Unknown,
    }
}

fn view(stored: StoredProposal) -> StoredProposalView {
    let StoredProposal { proposal, state, .. } = stored;
    let known = KnownProposal { id: proposal.id, candidate: proposal.to, until: proposal.expires_at };
    match state {
        ProposalState::Pending => StoredProposalView::Pending(known),
        ProposalState::Approved => StoredProposalView::Approved(known),
        ProposalState::Rejected => StoredProposalView::Rejected(known),
        ProposalState::Lapsed => StoredProposalView::Lapsed(known),
    }
}

/// Takes the steps. What the ledger does not take is decided again with the next reconcile: the status must not wait
/// for it.
pub(super) async fn act(ctx: &Ctx, object: &BankRoute, steps: Vec<RouteStep>) {
    let (Some(routing), key) = (&ctx.routing, object.key()) else { return };
    for step in steps {
        let result = match &step {
            RouteStep::Propose(proposal) => {
                let proposed = routing.propose(&key, proposal, proposal.valid_until);
                tokio::time::timeout(LEDGER_TIMEOUT, proposed).await.map(|result| result.map(drop))
            }
            RouteStep::Lapse(id) => {
                let actor = Actor { request_id: None, subject: SUBJECT.to_owned() };
                let lapsed = routing.lapse_proposal(&key.namespace, *id, &actor);
                tokio::time::timeout(LEDGER_TIMEOUT, lapsed).await.map(|result| result.map(drop))
            }
        };
        let (namespace, name) = (&*key.namespace, &*key.name);
        match result {
            // The status shows it with the next reconcile.
            Ok(Ok(())) => ctx.reconcile_queue.enqueue(Kind::BankRoute, &key),
            Ok(Err(error)) => tracing::warn!(namespace, name, %error, "proposal not stored; retrying"),
            Err(_) => tracing::warn!(namespace, name, "proposal not stored: the ledger did not respond; retrying"),
        }
    }
}
