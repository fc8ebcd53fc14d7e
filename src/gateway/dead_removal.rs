//! `DELETE /api/dead-requests`: throwing away what failed for good, one by one or a connection's at once.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::cluster::auth::Subject;
use crate::domain::key::ObjectKey;
use crate::gateway::Gateway;
use crate::gateway::dead_requests::{Standing, act, entry, find};
use crate::gateway::envelope::Envelope;
use crate::gateway::observe::RequestId;
use crate::gateway::problem::{ErrorCode, Problem};

/// Longer names are nobody's.
const MAX_NAME: usize = 253;

/// Which requests to remove.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Purge {
    /// Namespace of the connection.
    pub namespace: String,
    /// Name of the connection.
    pub connection: String,
    /// Those in this state. Unset: parked.
    #[param(inline)]
    pub state: Option<Standing>,
}

/// What was removed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Removed {
    /// How many requests.
    #[schema(minimum = 0)]
    pub removed: u64,
}

/// Removes one request, wherever it stands: it is not tried again.
#[utoipa::path(
    delete,
    path = "/api/dead-requests/{id}",
    operation_id = "discardDeadRequest",
    tag = "dead requests",
    params(("id" = String, Path, description = "The request's id", format = "uuid")),
    responses((status = 200, description = "It is gone", body = Envelope<Removed>))
)]
pub async fn discard(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<Subject>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let found = find(&gateway, &subject, id, "delete").await?.request;
    let of = (&found.connection, Some(&*found.provider));
    let entry = entry(gateway.clock.now().wall, "discard", &subject, of, request_id);
    let gone = gateway.ledger.discard_dead_request(found.id, &entry).await.map_err(|e| Problem::ledger(&e))?;
    Ok(Envelope::ok(Removed { removed: gone.into() }).into_response())
}

/// Removes the requests of one connection that are in one state.
#[utoipa::path(
    delete,
    path = "/api/dead-requests",
    operation_id = "purgeDeadRequests",
    tag = "dead requests",
    params(Purge),
    responses((status = 200, description = "How many are gone", body = Envelope<Removed>))
)]
pub async fn purge(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<Subject>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    query: Result<Query<Purge>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Purge { namespace, connection, state }) = query.map_err(|_| {
        let text =
            "the query must hold namespace and connection, and may hold state (pending, parked, done), once each";
        Problem::new(ErrorCode::InvalidRequest, text)
    })?;
    for (name, value) in [("namespace", &namespace), ("connection", &connection)] {
        if value.is_empty() || value.len() > MAX_NAME {
            let text = "namespace and connection have 1 to 253 characters: whose requests are to go?";
            return Err(Problem::new(ErrorCode::InvalidRequest, text).with("parameter", name));
        }
    }
    gateway.access.require(&subject, act("delete", namespace.clone(), connection.clone())).await?;
    let connection = ObjectKey::new(namespace, connection);
    let state = state.unwrap_or(Standing::Parked).into();
    let entry = entry(gateway.clock.now().wall, "purge", &subject, (&connection, None), request_id);
    let gone = gateway.ledger.purge_dead_requests(&connection, state, &entry).await;
    Ok(Envelope::ok(Removed { removed: gone.map_err(|e| Problem::ledger(&e))? }).into_response())
}
