//! `POST /api/treasury/payouts/resume`: payouts are registered and decided again after a restore of the ledger with loss.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::gateway::envelope::Envelope;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::routing::access::actor;
use crate::gateway::routing::fields::Fields;
use crate::gateway::routing::payouts::acts::ReasonBody;
use crate::gateway::routing::payouts::target::{MAX_REASON, PayoutRight};
use crate::gateway::state::Gateway;

/// Payouts after a resume.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResumedView {
    /// Whether payouts are suspended still; always false.
    pub suspended: bool,
    /// Whether they were not suspended before, so that nothing changed.
    pub repeated: bool,
}

/// Lets payouts be registered and decided again, after the ledger was restored with loss of newer entries. Every payout that was
/// not executed is put under review first: compare each with the bank's statement, then resolve it. Needs a cluster-wide
/// permission: the ledger is one for all namespaces.
#[utoipa::path(
    post,
    path = "/api/treasury/payouts/resume",
    operation_id = "resumePayouts",
    tag = "payouts",
    request_body = Option<ReasonBody>,
    responses((status = 200, description = "Payouts are registered and decided", body = Envelope<ResumedView>))
)]
pub async fn resume_all(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    gateway.require_payouts(&subject, PayoutRight::RESUME, "").await?;
    let text = gateway.act_text(&headers, body).await?;
    let reason = Fields::of_body(&text, &["reason"])?.short_text("reason", MAX_REASON)?;
    let resumed = gateway.routing.resume_payouts(reason, &actor(&subject, request_id)).await?;
    Ok(Envelope::ok(ResumedView { suspended: false, repeated: !resumed }).into_response())
}
