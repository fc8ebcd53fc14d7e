//! Invokes one operation of one connection and maps the result for the caller.
//!
//! The gateway invokes for its callers, and the dead-request worker retries: both must map results alike, or a request
//! stored as retryable would be given up at its first retry, or the other way round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::breaker::CallClass;
use crate::domain::rights::Caller;
use crate::profile::{Operation, ParameterError, ResponseClass};
use crate::provider::access_denial::AccessDenial;
use crate::provider::call::{CallError, Request, Response};
use crate::provider::connection::Connection;
use crate::provider::failure_reason::FailureReason;
use crate::settings::Settings;

/// A caller waits for the response: rate limits that end within this time, about the delay between two tries, are
/// waited for; longer ones are returned to the caller with their end.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Options of one invocation.
#[derive(Clone, Debug, Default)]
pub struct InvokeOptions {
    /// The caller. Unset: the operator itself.
    pub caller: Option<Arc<Caller>>,
    /// Time-out of the whole call.
    pub timeout: Option<Duration>,
    /// One try without waiting: the caller has a fallback, or will retry later anyway.
    pub single_attempt: bool,
}

/// Why an operation cannot be invoked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidOperation {
    /// The profile does not have it.
    #[error("operation not found in the provider's profile")]
    Unknown,
    /// Its feature is disabled.
    #[error("operation disabled; set spec.features.{0} to Enabled")]
    FeatureDisabled(String),
    /// A parameter is missing, unknown or out of bounds.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}

/// The result of an invocation.
#[derive(Clone, Debug)]
pub enum InvokeOutcome {
    /// The provider returned the result.
    Success(Response),
    /// The provider does not have the item.
    NotFound(Response),
    /// The provider rejected the request; a retry would be rejected too.
    Rejected(Response),
    /// The caller lacks the right.
    Denied(AccessDenial),
    /// The call failed.
    Failed(InvokeFailure),
}

/// The kind of a failure.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// The provider failed, was not reachable, or sent an invalid response.
    Provider,
    /// The circuit is open.
    CircuitOpen,
    /// A quota is exhausted, or the provider rate limits.
    Quota,
    /// The connection is suspended.
    Suspended,
    /// Too many calls of the connection are in flight.
    BulkheadFull,
    /// We have no capacity for the call now; the provider did not fail.
    Overloaded,
}

/// A failed invocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvokeFailure {
    /// Its kind.
    pub kind: FailureKind,
    /// The machine-readable code.
    pub reason: FailureReason,
    /// The provider's HTTP status, if it answered.
    pub status: Option<u16>,
    /// When a retry may succeed, if known.
    pub retry_in: Option<Duration>,
    /// Whether the same request may succeed later without intervention.
    pub retryable: bool,
}

/// The operation of that name, if the connection offers it.
pub fn find_operation<'a>(settings: &'a Settings, name: &str) -> Result<&'a Operation, InvalidOperation> {
    let operation = settings.profile().operations.get(name).ok_or(InvalidOperation::Unknown)?;
    match operation.feature.as_deref().filter(|feature| !settings.feature(feature)) {
        Some(feature) => Err(InvalidOperation::FeatureDisabled(feature.to_owned())),
        None => Ok(operation),
    }
}

/// Builds the request of an operation.
pub fn build_request(
    settings: &Settings,
    name: &str,
    operation: &Operation,
    parameters: &BTreeMap<String, String>,
    options: InvokeOptions,
) -> Result<Request, ParameterError> {
    let mut request = Request::from_operation(name, operation.request(parameters, settings.parameters())?);
    request.caller = options.caller;
    request.timeout = options.timeout;
    request.no_wait = options.single_attempt;
    request.max_tries = options.single_attempt.then_some(1);
    request.max_wait = Some(MAX_WAIT);
    Ok(request)
}

/// Whether the request may be repeated when its result is unknown: only if it changes nothing.
///
/// `Money` and `Write` may not. A payment whose response was lost may have been made, and a second one would pay twice;
/// only the caller knows whether a write may be repeated, and under which key.
pub fn is_repeatable(operation: &Operation) -> bool {
    operation.class() == CallClass::Read
}

/// Makes the call of a request that was built for `settings`, and maps its result.
pub async fn invoke(
    live: &Connection,
    settings: &Arc<Settings>,
    request: Request,
    now: impl FnOnce() -> Timestamp,
) -> InvokeOutcome {
    match live.call_with(settings, request).await {
        Ok(response) => outcome_of(response, now()),
        Err(error) => outcome_of_error(&error),
    }
}

fn outcome_of(response: Response, now: Timestamp) -> InvokeOutcome {
    let class = response.classification.class;
    let failure = |kind, reason, retryable| {
        let retry_in = response.classification.retry_after.map(|wait| wait.delay(now));
        InvokeOutcome::Failed(InvokeFailure {
            kind,
            reason,
            status: Some(response.status.as_u16()),
            retry_in,
            retryable,
        })
    };
    match class {
        ResponseClass::Ok | ResponseClass::EndOfData => InvokeOutcome::Success(response),
        ResponseClass::NotFound | ResponseClass::ItemGone => InvokeOutcome::NotFound(response),
        ResponseClass::Fatal | ResponseClass::RestartWindow | ResponseClass::ResetCursor => {
            InvokeOutcome::Rejected(response)
        }
        ResponseClass::RateLimited => failure(FailureKind::Quota, FailureReason::RateLimited, true),
        ResponseClass::Quota => failure(FailureKind::Quota, FailureReason::QuotaExhausted, true),
        ResponseClass::Retry => failure(FailureKind::Provider, FailureReason::ProviderError, true),
        // A credential that was just rotated is accepted at the next try.
        ResponseClass::Auth => failure(FailureKind::Provider, FailureReason::CredentialsRefused, true),
        ResponseClass::Rights => failure(FailureKind::Provider, FailureReason::NotInPlan, false),
    }
}

fn outcome_of_error(error: &CallError) -> InvokeOutcome {
    let reason = match error.reason() {
        Ok(reason) => reason,
        Err(denial) => return InvokeOutcome::Denied(denial.clone()),
    };
    let (kind, retry_in, retryable) = match error {
        CallError::CircuitOpen { retry_in } => (FailureKind::CircuitOpen, *retry_in, true),
        CallError::QuotaExhausted { retry_in } | CallError::Throttled { retry_in } => {
            (FailureKind::Quota, Some(*retry_in), true)
        }
        CallError::Suspended => (FailureKind::Suspended, None, false),
        CallError::BulkheadFull => (FailureKind::BulkheadFull, None, true),
        CallError::Overloaded => (FailureKind::Overloaded, None, true),
        // A retry would get the same: response too large or complex, request invalid, address forbidden.
        CallError::TooLarge { .. }
        | CallError::TooComplex
        | CallError::InvalidRequest(_)
        | CallError::AddressRefused(_)
        | CallError::Client(_) => (FailureKind::Provider, None, false),
        _ => (FailureKind::Provider, None, true),
    };
    let status = match error {
        CallError::CredentialsRefused { status } => Some(*status),
        CallError::NoToken { status, .. } => *status,
        _ => None,
    };
    InvokeOutcome::Failed(InvokeFailure { kind, reason, status, retry_in, retryable })
}
