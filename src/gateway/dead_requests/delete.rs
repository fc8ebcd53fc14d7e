//! `DELETE /api/dead-requests`: deletes dead requests, one by one or all of a connection.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::cluster::auth::UserInfo;
use crate::domain::key::ObjectKey;
use crate::gateway::dead_requests::lookup::{DeadRequestAction, access_request, find};
use crate::gateway::dead_requests::view::DeadRequestStateView;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::state::Gateway;

/// Maximum length of a namespace or connection name.
const MAX_NAME_LEN: usize = 253;

/// Selects the requests to delete.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PurgeQuery {
    /// Namespace of the connection.
    pub namespace: String,
    /// Name of the connection.
    pub connection: String,
    /// Only requests in this state. Unset: parked.
    #[param(inline)]
    pub state: Option<DeadRequestStateView>,
}

/// The result of a deletion.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Removed {
    /// Number of deleted requests.
    #[schema(minimum = 0)]
    pub removed: u64,
}

/// Deletes one dead request in any state; it is not retried.
#[utoipa::path(
    delete,
    path = "/api/dead-requests/{id}",
    operation_id = "discardDeadRequest",
    tag = "dead requests",
    params(("id" = String, Path, description = "The ID of the dead request", format = "uuid")),
    responses((status = 200, description = "The number of deleted requests, 0 or 1", body = Envelope<Removed>))
)]
pub async fn discard(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let found = find(&gateway, &subject, id, "delete").await?.request;
    let action = DeadRequestAction {
        action: "discard",
        at: gateway.clock.now().wall,
        subject: &subject,
        connection: &found.connection,
        provider: Some(&found.provider),
        request_id,
    };
    let gone =
        gateway.ledger.discard_dead_request(found.id, &action.audit_entry()).await.map_err(|e| Problem::ledger(&e))?;
    Ok(Envelope::ok(Removed { removed: gone.into() }).into_response())
}

/// Deletes the dead requests of one connection that are in one state.
#[utoipa::path(
    delete,
    path = "/api/dead-requests",
    operation_id = "purgeDeadRequests",
    tag = "dead requests",
    params(PurgeQuery),
    responses((status = 200, description = "The number of deleted requests", body = Envelope<Removed>))
)]
pub async fn purge(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    query: Result<Query<PurgeQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(PurgeQuery { namespace, connection, state }) = query.map_err(|_| {
        let text = "invalid query; required, once each: namespace, connection; optional: state (pending, parked, done)";
        Problem::new(ErrorCode::InvalidRequest, text)
    })?;
    for (name, value) in [("namespace", &namespace), ("connection", &connection)] {
        if value.is_empty() || value.len() > MAX_NAME_LEN {
            let text = "namespace and connection must have 1 to 253 characters";
            return Err(Problem::new(ErrorCode::InvalidRequest, text).with("parameter", name));
        }
    }
    gateway.access.require(&subject, access_request("delete", namespace.clone(), connection.clone())).await?;
    let connection = ObjectKey::new(namespace, connection);
    let state = state.unwrap_or(DeadRequestStateView::Parked).into();
    let action = DeadRequestAction {
        action: "purge",
        at: gateway.clock.now().wall,
        subject: &subject,
        connection: &connection,
        provider: None,
        request_id,
    };
    let gone = gateway.ledger.purge_dead_requests(&connection, state, &action.audit_entry()).await;
    Ok(Envelope::ok(Removed { removed: gone.map_err(|e| Problem::ledger(&e))? }).into_response())
}
