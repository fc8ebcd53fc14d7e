//! `/api/treasury/routing/proposals`: what the forecast proposes in mode `Hybrid`, and the answer of operations staff.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::cluster::auth::UserInfo;
use crate::domain::canonical;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::routing::access::{RoutingRight, actor, path_id};
use crate::gateway::routing::adjustments::NamespaceQuery;
use crate::gateway::routing::candidate_view::Share;
use crate::gateway::state::Gateway;
use crate::ledger::decisions::StoredProposal;

/// What the forecast proposes: another bank than the one that the route would choose.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProposalView {
    /// Its ID.
    #[serde(with = "canonical::uuid_text")]
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// Namespace of the route.
    pub namespace: String,
    /// Name of the route.
    pub route: String,
    /// The bank whose outage is predicted.
    pub from: Option<String>,
    /// The bank that is proposed.
    pub candidate: String,
    /// Predicted risk of the bank that would be left, from 0 to 1.
    #[schema(value_type = String)]
    pub risk: Share,
    /// `pending`, `approved`, `rejected` or `lapsed`.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// When it was made.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it lapses unless it is answered.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Until when the proposed bank takes payouts, if it was approved.
    #[serde(with = "canonical::instant::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub approved_until: Option<Timestamp>,
    /// When it was answered or lapsed.
    #[serde(with = "canonical::instant::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub settled_at: Option<Timestamp>,
    /// Who answered it.
    pub settled_by: Option<String>,
}

/// The proposals of a namespace.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProposalList {
    /// Newest first.
    pub items: Vec<ProposalView>,
}

impl From<StoredProposal> for ProposalView {
    fn from(stored: StoredProposal) -> Self {
        let StoredProposal { proposal, state, settled_at, settled_by, approved_until } = stored;
        Self {
            id: proposal.id,
            namespace: proposal.namespace,
            route: proposal.route,
            from: proposal.from,
            candidate: proposal.to,
            risk: Share(proposal.risk),
            state: state.as_str(),
            created_at: proposal.created_at,
            expires_at: proposal.expires_at,
            approved_until,
            settled_at,
            settled_by,
        }
    }
}

/// Lists what the forecast proposes, and what became of earlier proposals.
#[utoipa::path(
    get,
    path = "/api/treasury/routing/proposals",
    operation_id = "listProposals",
    tag = "routing",
    params(NamespaceQuery),
    responses((status = 200, description = "The proposals", body = Envelope<ProposalList>))
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let namespace = NamespaceQuery::read(&gateway, query)?;
    gateway.require_routing(&subject, RoutingRight::LIST_DECISIONS, &namespace, "").await?;
    let items = gateway.routing.proposals(&namespace).await?.into_iter().map(ProposalView::from).collect();
    Ok(Envelope::ok(ProposalList { items }).into_response())
}

/// Approves a proposal: for 30 minutes the proposed bank takes the payouts of the route, as long as it can.
#[utoipa::path(
    post,
    path = "/api/treasury/routing/proposals/{id}/approve",
    operation_id = "approveProposal",
    tag = "routing",
    params(("id" = String, Path, description = "ID of the proposal", format = "uuid"), NamespaceQuery),
    responses((status = 200, description = "The approved proposal", body = Envelope<ProposalView>))
)]
pub async fn approve(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (namespace, id) = target(&gateway, &subject, id, query).await?;
    let settled = gateway.routing.approve_proposal(&namespace, id, &actor(&subject, request_id)).await?;
    Ok(Envelope::ok(ProposalView::from(settled)).into_response())
}

/// Rejects a proposal: the route goes on choosing by what is observed.
#[utoipa::path(
    post,
    path = "/api/treasury/routing/proposals/{id}/reject",
    operation_id = "rejectProposal",
    tag = "routing",
    params(("id" = String, Path, description = "ID of the proposal", format = "uuid"), NamespaceQuery),
    responses((status = 200, description = "The rejected proposal", body = Envelope<ProposalView>))
)]
pub async fn reject(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (namespace, id) = target(&gateway, &subject, id, query).await?;
    let settled = gateway.routing.reject_proposal(&namespace, id, &actor(&subject, request_id)).await?;
    Ok(Envelope::ok(ProposalView::from(settled)).into_response())
}

/// Namespace and ID of a proposal that the caller may answer.
async fn target(
    gateway: &Gateway,
    subject: &UserInfo,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
) -> Result<(String, Uuid), Problem> {
    let namespace = NamespaceQuery::read(gateway, query)?;
    gateway.require_routing(subject, RoutingRight::OVERRIDE, &namespace, "").await?;
    let text = "proposal not found: it does not exist in this namespace; list the proposals";
    let id = path_id(id, ErrorCode::NotFound, text)?;
    Ok((namespace, id))
}
