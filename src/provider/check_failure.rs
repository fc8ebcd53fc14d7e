//! The class of a failed health check, by how its call ended.

use reqwest::Url;

use crate::domain::check_failure::CheckFailure;
use crate::domain::content_mismatch::ContentMismatch;
use crate::provider::call::{CallError, ConnectError, Response};
use crate::provider::redirect;

/// Why a check that ended in `end` failed: a request below `base_url`, and what its content lacks if its status is
/// expected.
pub(crate) fn check_failure(
    end: Result<&Response, &CallError>,
    mismatch: Option<ContentMismatch>,
    base_url: &Url,
) -> CheckFailure {
    let response = match end {
        Ok(response) => response,
        Err(error) => return of_error(error),
    };
    let status = response.status.as_u16();
    match mismatch {
        Some(mismatch) => CheckFailure::Content(mismatch),
        None if redirect::is_redirect(status) => {
            CheckFailure::Redirect { status, origin: redirect::target_origin(status, &response.headers, base_url) }
        }
        None => CheckFailure::Status(status),
    }
}

fn of_error(error: &CallError) -> CheckFailure {
    match error {
        CallError::Connect(ConnectError::Dns) => CheckFailure::Dns,
        CallError::Connect(ConnectError::Reset) => CheckFailure::Reset,
        CallError::Connect(
            problem @ (ConnectError::UnknownIssuer
            | ConnectError::WrongName
            | ConnectError::Expired
            | ConnectError::CertificateRefused
            | ConnectError::Tls),
        ) => CheckFailure::Tls(problem.as_str()),
        CallError::Connect(problem @ (ConnectError::Refused | ConnectError::Network | ConnectError::TimedOut)) => {
            CheckFailure::Connect(problem.as_str())
        }
        CallError::Timeout => CheckFailure::Timeout,
        CallError::TooLarge { .. } => CheckFailure::Body("response larger than the limit"),
        CallError::TooComplex => CheckFailure::Body("response has too many values"),
        CallError::Malformed => CheckFailure::Body("response is not valid HTTP, or in an encoding not requested"),
        CallError::AddressRefused(_) => CheckFailure::Address,
        CallError::CredentialsRefused { .. } => CheckFailure::NotSent("the token endpoint rejected the credentials"),
        CallError::NoToken { .. } | CallError::TokenCircuitOpen { .. } | CallError::TokenStore(_) => {
            CheckFailure::NotSent("no access token available")
        }
        CallError::InvalidRequest(cause) => CheckFailure::NotSent(cause),
        CallError::Client(_) => CheckFailure::NotSent("HTTP client could not be built from spec.tls"),
        CallError::Overloaded => CheckFailure::NotSent("no memory was left for the response"),
        CallError::CircuitOpen { .. }
        | CallError::Suspended
        | CallError::Superseded
        | CallError::BulkheadFull
        | CallError::Denied(_)
        | CallError::QuotaExhausted { .. }
        | CallError::Throttled { .. } => CheckFailure::NotSent("the call was refused locally"),
    }
}
