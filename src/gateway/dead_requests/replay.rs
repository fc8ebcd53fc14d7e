//! `POST /api/dead-requests/{id}/replay`: retries a parked request.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::domain::rights::Caller;
use crate::gateway::dead_requests::lookup::{DeadRequestAction, find};
use crate::gateway::dead_requests::view::DeadRequestStateView;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::state::Gateway;

/// The result of a replay.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Replayed {
    /// The ID of the dead request.
    #[schema(format = "uuid")]
    pub id: String,
    /// Its state.
    pub state: DeadRequestStateView,
}

/// Makes a parked request pending again and resets its retry count. The leader retries it with the permissions of the
/// caller of this replay.
#[utoipa::path(
    post,
    path = "/api/dead-requests/{id}/replay",
    operation_id = "replayDeadRequest",
    tag = "dead requests",
    params(("id" = String, Path, description = "The ID of the dead request", format = "uuid")),
    responses((status = 202, description = "The request will be retried", body = Envelope<Replayed>))
)]
pub async fn replay(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let found = find(&gateway, &subject, id, "update").await?;
    let now = gateway.clock.now().wall;
    let action = DeadRequestAction {
        action: "replay",
        at: now,
        subject: &subject,
        connection: &found.request.connection,
        provider: Some(&found.request.provider),
        request_id,
    };
    let entry = action.audit_entry();
    // The first caller's permissions may have been revoked, so the retry has the replaying caller's. The declared
    // purpose stays with the request.
    let purpose = serde_json::from_str::<Caller>(&found.request.caller).ok().and_then(|first| first.purpose);
    let caller =
        Caller { user: subject.user.clone(), groups: subject.groups.clone(), profile: None, purpose, request_id: None };
    let caller = serde_json::to_string(&caller).map_err(|_| {
        Problem::new(ErrorCode::Internal, "the caller cannot be serialized; report this with the request ID")
    })?;
    let id = found.request.id;
    if !gateway.ledger.replay_dead_request(id, &caller, &entry, now).await.map_err(|e| Problem::ledger(&e))? {
        let text = "the request is not parked, or an equal one is pending; only a parked request can be replayed";
        return Err(Problem::new(ErrorCode::Conflict, text).with("state", found.state.as_str()));
    }
    gateway.dead_requests.notify();
    Ok(Envelope::accepted(Replayed { id: id.to_string(), state: DeadRequestStateView::Pending }).into_response())
}
