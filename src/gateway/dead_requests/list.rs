//! `GET /api/dead-requests`: lists dead requests.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::cluster::auth::UserInfo;
use crate::gateway::dead_requests::lookup::access_request;
use crate::gateway::dead_requests::view::{DeadRequestPage, DeadRequestStateView, DeadRequestView};
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::state::Gateway;
use crate::ledger::dead_requests::{DeadRequestFilter, DeadRequestState};

/// Filters and page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only requests of connections in this namespace. Unset: all namespaces, which needs a cluster-wide permission.
    pub namespace: Option<String>,
    /// Only requests of this connection.
    pub connection: Option<String>,
    /// Only requests in this state.
    #[param(inline)]
    pub state: Option<DeadRequestStateView>,
    /// The `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Maximum number of requests on a page. Unset: 50.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// Lists dead requests, newest first.
#[utoipa::path(
    get,
    path = "/api/dead-requests",
    operation_id = "listDeadRequests",
    tag = "dead requests",
    params(ListQuery),
    responses((status = 200, description = "A page", body = Envelope<DeadRequestPage>))
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let invalid = |text: &str, name: &str| Problem::new(ErrorCode::InvalidRequest, text).with("parameter", name);
    let Query(query_params) = query.map_err(|_| {
        let text =
            "invalid query; allowed, once each: namespace, connection, state (pending, parked, done), cursor, limit";
        Problem::new(ErrorCode::InvalidRequest, text)
    })?;
    let limit = query_params.limit.unwrap_or(50);
    if !(1..=500).contains(&limit) {
        return Err(invalid("limit must be from 1 to 500", "limit"));
    }
    let before = match &query_params.cursor {
        None => None,
        Some(text) => {
            Some(decode_cursor(text).ok_or_else(|| invalid("cursor must be the next_cursor of a page", "cursor"))?)
        }
    };
    if query_params.namespace.as_ref().or(query_params.connection.as_ref()).is_some_and(|name| name.len() > 253) {
        return Err(invalid("namespace and connection have at most 253 characters", "namespace"));
    }
    let namespace = query_params.namespace.clone().unwrap_or_default();
    gateway.access.require(&subject, access_request("list", namespace, String::new())).await?;
    let filter = DeadRequestFilter {
        namespace: query_params.namespace,
        connection: query_params.connection,
        state: query_params.state.map(DeadRequestState::from),
        before,
    };
    let found = gateway.ledger.list_dead_requests(&filter, limit + 1).await.map_err(|e| Problem::ledger(&e))?;
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let next_cursor = match found.get(page.saturating_sub(1)) {
        Some(last) if found.len() > page => Some(URL_SAFE_NO_PAD.encode(last.seq.to_be_bytes())),
        _ => None,
    };
    let items = found.into_iter().take(page).map(DeadRequestView::from).collect();
    Ok(Envelope::ok(DeadRequestPage { items, next_cursor }).into_response())
}

/// The position that a cursor encodes.
fn decode_cursor(cursor: &str) -> Option<i64> {
    let bytes: [u8; 8] = URL_SAFE_NO_PAD.decode(cursor).ok()?.try_into().ok()?;
    Some(i64::from_be_bytes(bytes)).filter(|seq| *seq > 0)
}
