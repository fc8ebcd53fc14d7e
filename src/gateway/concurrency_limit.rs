//! The middleware that limits the number of concurrent requests.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::{DEFAULT_RETRY_AFTER, Problem};
use crate::gateway::state::Gateway;

/// Rejects requests beyond the maximum number of concurrent ones, before authentication.
pub async fn concurrency_limit(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let Some(_permit) = gateway.rate_limits.try_start() else {
        let text = "too many concurrent requests on this replica; retry after Retry-After, or on another replica";
        return Problem::new(ErrorCode::Unavailable, text).retry_in(DEFAULT_RETRY_AFTER).into_response();
    };
    next.run(request).await
}
