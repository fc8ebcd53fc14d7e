//! `POST /api/treasury/routing/override/{decision_id}`: another bank for a payout, chosen by operations staff.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::gateway::envelope::Envelope;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::routing::access::{RoutingRight, actor, bank, json_text};
use crate::gateway::routing::decisions::find;
use crate::gateway::routing::fields::Fields;
use crate::gateway::routing::view::DecisionView;
use crate::gateway::state::Gateway;
use crate::routing::OverrideRequest;

/// Longest reason, in characters.
const MAX_REASON: usize = 256;
/// The reason of an override whose body has none: the source's callers send none.
const NO_REASON: &str = "not stated";
/// The names of [`OverrideBody`].
const NAMES: &[&str] = &["candidate", "bank_profile_id", "reason"];

/// The bank that is to take the payout.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideBody {
    /// Name of the candidate. Either this or `bank_profile_id` is required.
    #[schema(min_length = 1, max_length = 63)]
    pub candidate: Option<String>,
    /// `bankProfileID` of the candidate.
    #[schema(min_length = 1, max_length = 128)]
    pub bank_profile_id: Option<String>,
    /// Reason, for the audit.
    #[schema(min_length = 1, max_length = 256)]
    pub reason: Option<String>,
}

/// Decides for another bank of the same route. The answer is a new decision that supersedes the old one; it is the payout's
/// next attempt, so there must be proof that no earlier attempt was executed. The bank must be able to take the payout now.
/// The same request again is answered with the same decision.
#[utoipa::path(
    post,
    path = "/api/treasury/routing/override/{decision_id}",
    operation_id = "overrideDecision",
    tag = "routing",
    params(("decision_id" = String, Path, description = "ID of the decision to replace", format = "uuid")),
    request_body = OverrideBody,
    responses((status = 200, description = "The new decision", body = Envelope<DecisionView<'static>>))
)]
pub async fn override_decision(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let replaced = find(&gateway, &subject, id, RoutingRight::OVERRIDE).await?;
    let (text, permit) = json_text(&gateway, &headers, body).await?;
    let fields = Fields::of_body(&text, NAMES)?;
    let request = OverrideRequest {
        bank: bank(&fields)?,
        decision: replaced.record.id,
        reason: fields.short_text("reason", MAX_REASON)?.unwrap_or_else(|| NO_REASON.to_owned()),
    };
    drop(permit);
    let decided = gateway.routing.override_decision(request, &actor(&subject, request_id)).await?;
    Ok(Envelope::ok(DecisionView::from(&decided)).into_response())
}
