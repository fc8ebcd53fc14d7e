//! The middleware that limits the number of concurrent requests: see [`crate::gateway::request_limits`].

use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::domain::key::ObjectKey;
use crate::gateway::aliases;
use crate::gateway::authenticate::authenticate;
use crate::gateway::call_problem::bulkhead_full;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::{DEFAULT_RETRY_AFTER, Problem};
use crate::gateway::request_limits::RequestLimit;
use crate::gateway::state::Gateway;

/// For a route without callers: rejects requests beyond the maximum number of concurrent ones.
/// It calls no connection: forged webhooks must not use up the calls of one.
pub async fn concurrency_limit(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    match gateway.request_limits.try_start(None) {
        Ok(_permit) => next.run(request).await,
        Err(limit) => gateway.too_many_requests(limit).into_response(),
    }
}

/// The same before the caller is known, who has a limit too.
pub async fn admit(
    State(gateway): State<Arc<Gateway>>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    let called = called_connection(&gateway, request.uri().path(), parameters.ok().as_ref());
    match gateway.request_limits.try_start(called.as_ref()) {
        Ok(permit) => authenticate(&gateway, permit, request, next).await,
        Err(limit) => gateway.too_many_requests(limit).into_response(),
    }
}

/// The connection that the path calls, if it calls one.
fn called_connection(gateway: &Gateway, path: &str, parameters: Option<&RawPathParams>) -> Option<ObjectKey> {
    if aliases::is_alias(path) {
        return gateway.finastra.clone();
    }
    let parameter = |wanted: &str| parameters?.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    Some(ObjectKey::new(parameter("namespace")?, parameter("connection")?))
}

impl Gateway {
    /// The error for a request beyond `limit`, which is counted.
    pub(super) fn too_many_requests(&self, limit: RequestLimit) -> Problem {
        self.metrics.rejected.with_label_values(&[limit.as_str()]).inc();
        let problem = match limit {
            RequestLimit::Replica => {
                let text =
                    "too many concurrent requests on this replica; retry after Retry-After, or on another replica";
                Problem::new(ErrorCode::Unavailable, text)
            }
            RequestLimit::Connection => bulkhead_full(),
            RequestLimit::Caller => {
                let text = "too many concurrent requests of this caller; wait for their responses; see Retry-After";
                Problem::new(ErrorCode::ConcurrencyLimited, text)
            }
        };
        problem.retry_in(DEFAULT_RETRY_AFTER)
    }
}
