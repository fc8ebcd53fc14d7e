//! The errors of calls to a provider: codes, statuses and sizes of ours, nothing of the provider's text.

use std::borrow::Cow;

use reqwest::Url;

use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::provider::access_denial::AccessDenial;
use crate::provider::call::Response;
use crate::provider::failure_reason::FailureReason;
use crate::provider::invoke::{FailureKind, InvalidOperation, InvokeFailure};
use crate::provider::redirect;

/// The error for an operation that cannot be called as requested.
pub(super) fn invalid_operation(error: &InvalidOperation) -> Problem {
    match error {
        InvalidOperation::Unknown => Problem::new(ErrorCode::OperationNotFound, error.to_string()),
        InvalidOperation::FeatureDisabled(feature) => {
            Problem::new(ErrorCode::OperationNotFound, error.to_string()).with("feature", feature.as_str())
        }
        InvalidOperation::Parameter(parameter) => {
            Problem::new(ErrorCode::InvalidRequest, error.to_string()).with("parameter", parameter.field.as_str())
        }
    }
}

/// The error for an item that the provider does not have.
pub(super) fn item_not_found(answer: &Response) -> Problem {
    Problem::new(ErrorCode::ItemNotFound, "the provider has no such item").with("status_code", answer.status.as_u16())
}

/// The error for a request that the provider rejected. `base_url` is that of the connection.
pub(super) fn rejected(answer: &Response, base_url: &Url) -> Problem {
    let status = answer.status.as_u16();
    let text = match redirect::target_origin(status, &answer.headers, base_url) {
        Some(origin) => Cow::from(format!(
            "the provider redirects the request to {origin}, which is not followed; the connection's \
             spec.endpoint.baseURL is to be corrected if the provider has moved"
        )),
        None => Cow::from("the provider rejected the request; retrying the same request will fail again"),
    };
    Problem::new(ErrorCode::ProviderRefused, text).with("status_code", status).with("bytes", answer.body.len())
}

/// The error for a denial by the licence profiles.
pub(super) fn denied(denial: &AccessDenial) -> Problem {
    match denial {
        AccessDenial::Rights { action, why } => {
            let text = format!("no licence profile of the caller allows {action}");
            let problem = Problem::new(ErrorCode::RightsDenied, text).with("action", &**action);
            problem.with("reason", why.as_str()).audited()
        }
        AccessDenial::Quota { retry_in } => {
            let text = "daily request quota of the licence profile exhausted; see Retry-After";
            Problem::new(ErrorCode::RightsQuotaExhausted, text).retry_in(*retry_in).audited()
        }
    }
}

/// The text for a connection with too many requests or calls in flight.
const BULKHEAD_FULL: &str = "too many calls of this connection are in flight; no request was sent; other connections are not affected; see \
     Retry-After";

/// The error for a connection that has too many requests in flight.
pub(super) fn bulkhead_full() -> Problem {
    Problem::new(ErrorCode::BulkheadFull, BULKHEAD_FULL).with("reason", FailureReason::BulkheadFull.as_str())
}

/// The error for a failed call.
pub(super) fn provider_failed(failure: &InvokeFailure) -> Problem {
    let (code, text) = match failure.kind {
        FailureKind::Provider => (ErrorCode::ProviderFailed, "provider failed and no fallback succeeded"),
        FailureKind::CircuitOpen => (
            ErrorCode::CircuitOpen,
            "circuit open after repeated provider failures; no request was sent; see Retry-After",
        ),
        FailureKind::Quota => {
            (ErrorCode::QuotaExhausted, "provider quota exhausted or rate limited by the provider; see Retry-After")
        }
        FailureKind::Overloaded => (
            ErrorCode::Unavailable,
            "no memory left for the provider's response; the provider did not fail; retry after Retry-After",
        ),
        FailureKind::BulkheadFull => (ErrorCode::BulkheadFull, BULKHEAD_FULL),
        FailureKind::Suspended => (ErrorCode::Suspended, "connection is suspended (spec.suspend); no request was sent"),
    };
    let mut problem = Problem::new(code, text).with("reason", failure.reason.as_str());
    if let Some(status) = failure.status {
        problem = problem.with("status_code", status);
    }
    match failure.retry_in {
        Some(wait) => problem.retry_in(wait),
        None => problem,
    }
}
