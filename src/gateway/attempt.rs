//! One candidate's attempt at a request: the call, and what its answer means for the caller.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::clock::Clock;
use crate::gateway::call::CallRequest;
use crate::gateway::call_problem::{denied, invalid_operation, item_not_found, rejected};
use crate::gateway::candidates::Candidate;
use crate::gateway::fallback_code::{FallbackCode, FallbackResult};
use crate::gateway::problem::Problem;
use crate::profile::{MappingError, Operation, RecordShape, ResponseClass, json};
use crate::provider::call::Response;
use crate::provider::failure_reason::FailureReason;
use crate::provider::invoke::{self, FailureKind, InvokeFailure, InvokeOptions, InvokeOutcome};

/// A candidate's answer.
pub(super) struct Answer {
    /// The canonical record, or the provider's own body.
    pub(super) result: Value,
    /// The provider's HTTP status.
    pub(super) status_code: u16,
    /// Whether it is from the cache.
    pub(super) cached: bool,
    /// Whether it has expired.
    pub(super) stale: bool,
}

/// Why a candidate gave no answer.
pub(super) enum AttemptError {
    /// The request is invalid for it; nothing was sent.
    Invalid(Problem),
    /// It denied or rejected the request, or does not have the item.
    Refused(Problem),
    /// Its call failed; another candidate may succeed.
    Failed(InvokeFailure),
}

impl AttemptError {
    /// The code of a fallback that ended so.
    pub(super) const fn fallback_code(&self) -> FallbackCode {
        match self {
            Self::Failed(failure) => FallbackCode::Failed(failure.reason),
            Self::Invalid(_) | Self::Refused(_) => FallbackCode::Unused(FallbackResult::Refused),
        }
    }
}

/// How a candidate is tried.
#[derive(Copy, Clone)]
pub(super) struct AttemptOptions {
    /// Time-out of the whole attempt.
    pub(super) timeout: Duration,
    /// One try without waiting, because further candidates follow or came before.
    pub(super) single_attempt: bool,
    /// The clock.
    pub(super) clock: Clock,
}

impl Candidate<'_> {
    /// Makes the call and maps its answer.
    pub(super) async fn attempt(&self, request: &CallRequest, options: AttemptOptions) -> Result<Answer, AttemptError> {
        let AttemptOptions { timeout, single_attempt, clock } = options;
        let options =
            InvokeOptions { caller: Some(Arc::clone(&request.caller)), timeout: Some(timeout), single_attempt };
        // Parameters are validated by building the request, before anything is sent.
        let call =
            invoke::build_request(self.settings, &request.operation, self.operation, &request.parameters, options)
                .map_err(|error| AttemptError::Invalid(invalid_operation(&error.into())))?;
        if let Some(stub) = &self.operation.stub {
            // A stub makes no call, so the call path does not check the licence profiles.
            let authorized = self.connection.authorize(&request.caller, &request.operation).await;
            authorized.map_err(|denial| AttemptError::Refused(denied(&denial)))?;
            return Ok(Answer { result: stub.clone(), status_code: 200, cached: false, stale: false });
        }
        match invoke::invoke(self.connection, call, || clock.now().wall).await {
            InvokeOutcome::Success(response) => map_response(self.operation, request.raw, &response),
            InvokeOutcome::NotFound(response) => Err(AttemptError::Refused(item_not_found(&response))),
            InvokeOutcome::Rejected(response) => Err(AttemptError::Refused(rejected(&response))),
            InvokeOutcome::Denied(denial) => Err(AttemptError::Refused(denied(&denial))),
            InvokeOutcome::Failed(failure) => Err(AttemptError::Failed(failure)),
        }
    }
}

/// Maps a response to the canonical record, or to the provider's own body.
fn map_response(operation: &Operation, raw: bool, response: &Response) -> Result<Answer, AttemptError> {
    let status_code = response.status.as_u16();
    let failed = |reason| {
        let kind = FailureKind::Provider;
        AttemptError::Failed(InvokeFailure {
            kind,
            reason,
            status: Some(status_code),
            retry_in: None,
            retryable: false,
        })
    };
    let ended = response.classification.class == ResponseClass::EndOfData;
    let list = operation.canonical.as_ref().is_some_and(|mapping| mapping.shape == RecordShape::List);
    let result = match operation.canonical(&response.body).filter(|_| !raw) {
        Some(Ok(record)) => record,
        // Some providers answer an unknown ticker with a success and no record.
        Some(Err(MappingError::NotFound)) => return Err(AttemptError::Refused(item_not_found(response))),
        // Some providers answer a list beyond the plan's limit, which may be longer, with an error and no records.
        Some(Err(_)) if ended && list => serde_json::json!({ "records": [], "complete": false }),
        Some(Err(_)) if ended => return Err(AttemptError::Refused(item_not_found(response))),
        Some(Err(_)) => return Err(failed(FailureReason::UnexpectedShape)),
        None if response.body.is_empty() => Value::Null,
        // A body that is not JSON, or nested too deeply, cannot be part of a response.
        None => json::parse(&response.body).map_err(|_| failed(FailureReason::NotJson))?,
    };
    Ok(Answer { result, status_code, cached: response.meta.cached, stale: response.meta.stale })
}
