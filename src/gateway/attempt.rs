//! One candidate's attempt at a request: the call, and what its answer means for the caller.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Clock;
use crate::gateway::call::CallRequest;
use crate::gateway::call_problem::{denied, invalid_operation, item_not_found, rejected};
use crate::gateway::candidates::Candidate;
use crate::gateway::fallback_code::{FallbackCode, FallbackResult};
use crate::gateway::problem::Problem;
use crate::profile::json;
use crate::profile::{Mapping, MappingError, RecordShape, ResponseClass};
use crate::provider::call::Response;
use crate::provider::failure_reason::FailureReason;
use crate::provider::invoke::{self, FailureKind, InvokeFailure, InvokeOptions, InvokeOutcome};
use crate::provider::memory::FREE_BYTES;
use crate::provider::response_buffer::{Full, ResponseBuffer};

/// A candidate's answer.
pub(super) struct Answer {
    /// The canonical record, or the provider's own body, as JSON. It keeps its memory reserved.
    pub(super) result: Bytes,
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
            let authorized = self.connection.authorize(&request.caller, &request.operation, timeout).await;
            authorized.map_err(|denial| AttemptError::Refused(denied(&denial)))?;
            let result = Bytes::from(stub.to_string());
            return Ok(Answer { result, status_code: 200, cached: false, stale: false });
        }
        match invoke::invoke(self.connection, self.settings, call, || clock.now().wall).await {
            InvokeOutcome::Success(response) => map_response(self, request.raw, response).await,
            InvokeOutcome::NotFound(response) => Err(AttemptError::Refused(item_not_found(&response))),
            InvokeOutcome::Rejected(response) => {
                Err(AttemptError::Refused(rejected(&response, self.settings.base_url())))
            }
            InvokeOutcome::Denied(denial) => Err(AttemptError::Refused(denied(&denial))),
            InvokeOutcome::Failed(failure) => Err(AttemptError::Failed(failure)),
        }
    }
}

/// Maps a response to the canonical record, or to the provider's own body.
async fn map_response(candidate: &Candidate<'_>, raw: bool, response: Response) -> Result<Answer, AttemptError> {
    let status_code = response.status.as_u16();
    let (cached, stale) = (response.meta.cached, response.meta.stale);
    let result = if response.body.is_empty() && (raw || candidate.operation.canonical.is_none()) {
        Bytes::from_static(b"null")
    } else {
        match candidate.operation.canonical.as_ref().filter(|_| !raw) {
            Some(mapping) => {
                let limit = candidate.settings.profile().max_response_bytes;
                let ended = response.classification.class == ResponseClass::EndOfData;
                match (write_canonical(mapping, limit, &response).await, mapping.shape) {
                    (Ok(record), _) => record,
                    // Some providers answer an unknown ticker with a success and no record.
                    (Err(Unmapped::Item), _) => return Err(AttemptError::Refused(item_not_found(&response))),
                    // Some providers answer a list beyond the plan's limit, which may be longer, with an error and no
                    // records.
                    (Err(Unmapped::Failed(FailureReason::UnexpectedShape)), RecordShape::List) if ended => {
                        Bytes::from_static(br#"{"complete":false,"records":[]}"#)
                    }
                    (Err(Unmapped::Failed(FailureReason::UnexpectedShape)), RecordShape::One) if ended => {
                        return Err(AttemptError::Refused(item_not_found(&response)));
                    }
                    (Err(Unmapped::Failed(reason)), _) => return Err(failed(reason, status_code)),
                }
            }
            None => own_body(&response).await.map_err(|reason| failed(reason, status_code))?,
        }
    };
    Ok(Answer { result, status_code, cached, stale })
}

/// Why a response has no canonical record.
enum Unmapped {
    /// The provider has no such item.
    Item,
    /// It cannot be mapped.
    Failed(FailureReason),
}

/// The canonical record of a response, as JSON. A large body is mapped on a thread for such work.
async fn write_canonical(mapping: &Mapping, limit: usize, response: &Response) -> Result<Bytes, Unmapped> {
    let (body, memory) = (response.body.clone(), &response.memory);
    let mut buffer = ResponseBuffer::new(limit, memory.another());
    let (written, buffer) = if body.len() <= FREE_BYTES {
        (mapping.write(&body, &mut buffer), buffer)
    } else {
        let mapping = mapping.clone();
        let work = move || (mapping.write(&body, &mut buffer), buffer);
        memory.run(response.body.len(), work).await.map_err(|_| Unmapped::Failed(FailureReason::UnexpectedShape))?
    };
    match (written, buffer.full()) {
        (Ok(()), _) => Ok(buffer.finish()),
        (Err(MappingError::NotFound), _) => Err(Unmapped::Item),
        (Err(MappingError::TooComplex), _) => Err(Unmapped::Failed(FailureReason::TooComplex)),
        (Err(_), Some(Full::Limit)) => Err(Unmapped::Failed(FailureReason::TooLarge)),
        (Err(_), Some(Full::Memory)) => Err(Unmapped::Failed(FailureReason::Overloaded)),
        (Err(_), None) => Err(Unmapped::Failed(FailureReason::UnexpectedShape)),
    }
}

/// The provider's own body, if it can be part of a response.
async fn own_body(response: &Response) -> Result<Bytes, FailureReason> {
    let body = response.body.clone();
    let check = move || json::check(&body).map(|text| body.slice_ref(text.as_bytes()));
    let checked = response.memory.run(response.body.len(), check).await.map_err(|_| FailureReason::NotJson)?;
    Ok(response.memory.clone().attach(checked.map_err(|_| FailureReason::NotJson)?))
}

/// The failure of a candidate whose response cannot be used. With other load, or another connection, the same request
/// may succeed only if we had no memory.
fn failed(reason: FailureReason, status: u16) -> AttemptError {
    let overloaded = reason == FailureReason::Overloaded;
    AttemptError::Failed(InvokeFailure {
        kind: if overloaded { FailureKind::Overloaded } else { FailureKind::Provider },
        reason,
        status: Some(status),
        retry_in: None,
        retryable: overloaded,
    })
}
