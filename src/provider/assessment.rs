//! What the result of a call means for the breaker, for health and for the credentials.
//!
//! One table for all callers. Status 5xx, connection failures and time-outs count against the provider. TLS failures
//! and broken connections are connection failures too, with classes of their own so that a policy can tell them apart;
//! a policy may replace both lists. 401 and 403 are about the credentials and 429 is about the quota: none of them
//! trips the circuit. Any other response shows that the provider works.
//!
//! A health check is stricter, whatever a policy counts of other calls: without the expected response it has failed. A
//! failed check counts for health, and so for routes, whatever its cause: a bank that does not accept our calls cannot
//! take a payout either. For the breaker it is a failure too. One whose cause is the credentials, the quota or the token
//! endpoint counts, but does not trip: an open circuit would not help, and would outlast the cause.
//!
//! What a call says about the credentials is decided by the class of the response, not by its status: a rejected key
//! may come with 200, and a 401 may be about one customer's consent.

use http::header::CONTENT_TYPE;

use crate::domain::breaker::{CallClass, CallOutcome};
use crate::domain::content_mismatch::ContentMismatch;
use crate::profile::{CheckMode, ResponseClass, StatusPattern};
use crate::provider::call::{CallError, Response};
use crate::settings::{FailureCriteria, HealthCheck};

/// What the result of a call says about the credentials.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum CredentialResult {
    /// They were accepted.
    Accepted,
    /// They were refused.
    Refused,
    /// It says nothing about them.
    Unknown,
}

/// What the result of one call means.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CallAssessment {
    /// What the breaker records.
    pub outcome: CallOutcome,
    /// What health records: of a health check, whether it ended in the expected response.
    pub health: CallOutcome,
    /// What it says about the credentials.
    pub credentials: CredentialResult,
    /// Of a health check that has failed only because of its response's content: what differs.
    pub mismatch: Option<ContentMismatch>,
}

impl CallAssessment {
    /// The call says nothing.
    pub const NEUTRAL: Self = Self::of(CallOutcome::Ignored, CredentialResult::Unknown);

    /// The same outcome for the breaker and for health.
    const fn of(outcome: CallOutcome, credentials: CredentialResult) -> Self {
        Self { outcome, health: outcome, credentials, mismatch: None }
    }

    /// A health check that has failed; `outcome` is the breaker's.
    const fn failed_check(outcome: CallOutcome, credentials: CredentialResult) -> Self {
        Self { health: CallOutcome::Failure, ..Self::of(outcome, credentials) }
    }
}

/// Assesses the result of a call. `check` is what a health check expects; of other calls only its mode counts.
pub fn assess(
    criteria: &FailureCriteria,
    class: CallClass,
    check: &HealthCheck,
    end: Result<&Response, &CallError>,
) -> CallAssessment {
    match end {
        Ok(response) if class == CallClass::Probe => assess_check(check, response),
        Err(error) if class == CallClass::Probe => assess_unanswered_check(error),
        end => {
            let assessment = assess_call(criteria, end);
            let failed_check = check.mode == CheckMode::Passive && is_no_answer(end);
            let health = if failed_check { CallOutcome::Failure } else { assessment.health };
            CallAssessment { health, ..assessment }
        }
    }
}

/// Whether a call whose health check is the call itself (mode `Passive`) has failed, whatever a policy counts: it ended
/// in no answer of the provider, or in one that a redirect or a page of something else gave in its place. How large a
/// response is depends on the request.
fn is_no_answer(end: Result<&Response, &CallError>) -> bool {
    match end {
        Ok(response) => match response.status.as_u16() {
            200..=299 => response.classification.class == ResponseClass::Retry,
            status => status / 100 == 3,
        },
        Err(CallError::TooLarge { .. } | CallError::TooComplex) => false,
        Err(error) => error.class().is_some(),
    }
}

/// What a response of this status and class says about the credentials.
pub(crate) const fn assess_credentials(status: u16, class: ResponseClass, probe: bool) -> CredentialResult {
    match class {
        ResponseClass::Auth => CredentialResult::Refused,
        // A 403 to an ordinary call is usually about a plan or one item; only a health check is known to be allowed.
        ResponseClass::Rights if status == 403 && probe => CredentialResult::Refused,
        // A redirect may lead to a log-in page, but that is classified as `Fatal`.
        ResponseClass::Ok => CredentialResult::Accepted,
        // With 2xx the provider processed the request and reported what it found.
        ResponseClass::NotFound
        | ResponseClass::ItemGone
        | ResponseClass::RestartWindow
        | ResponseClass::ResetCursor
        | ResponseClass::EndOfData
            if status / 100 == 2 =>
        {
            CredentialResult::Accepted
        }
        _ => CredentialResult::Unknown,
    }
}

/// A call that is no health check.
fn assess_call(criteria: &FailureCriteria, end: Result<&Response, &CallError>) -> CallAssessment {
    let response = match end {
        Ok(response) => response,
        Err(CallError::CredentialsRefused { .. }) => {
            return CallAssessment::of(CallOutcome::Ignored, CredentialResult::Refused);
        }
        Err(error) => {
            let failed = error.class().is_some_and(|error_class| criteria.failure_errors.contains(&error_class));
            let outcome = if failed { CallOutcome::Failure } else { CallOutcome::Ignored };
            return CallAssessment::of(outcome, CredentialResult::Unknown);
        }
    };
    let (status, class) = (response.status.as_u16(), response.classification.class);
    let any = |patterns: &[StatusPattern]| patterns.iter().any(|pattern| pattern.matches(status));
    let ours = class == ResponseClass::Auth || matches!(status, 401 | 403 | 429);
    let outcome = if ours || any(&criteria.ignore_statuses) {
        CallOutcome::Ignored
    } else if any(&criteria.failure_statuses) {
        CallOutcome::Failure
    } else {
        CallOutcome::Success
    };
    CallAssessment::of(outcome, assess_credentials(status, class, false))
}

/// A health check with a response.
fn assess_check(check: &HealthCheck, response: &Response) -> CallAssessment {
    let (status, class) = (response.status.as_u16(), response.classification.class);
    let credentials = assess_credentials(status, class, true);
    // A health check that expects 401 means a plain 401, not one that the profile classifies otherwise.
    let plain = class == ResponseClass::of_status(status);
    let expected = check.expected_statuses.iter().any(|pattern| pattern.matches(status));
    // An error that the profile recognizes in a good response is no expected one; an error status that the connection
    // expects is, however the profile classifies it.
    let excused = status / 100 != 2 && class != ResponseClass::Auth;
    if expected && (plain || excused || reports_a_result(class)) {
        return match content_mismatch(check, response) {
            None => {
                let credentials = if plain { CredentialResult::Accepted } else { credentials };
                CallAssessment::of(CallOutcome::Success, credentials)
            }
            // A page of something else in front of the provider proves nothing about the credentials either.
            mismatch => {
                let failed = CallAssessment::failed_check(CallOutcome::Failure, CredentialResult::Unknown);
                CallAssessment { mismatch, ..failed }
            }
        };
    }
    let ours = matches!(status, 401 | 403 | 429)
        || matches!(
            class,
            ResponseClass::Auth | ResponseClass::Rights | ResponseClass::RateLimited | ResponseClass::Quota
        );
    let outcome = if ours { CallOutcome::OwnFault } else { CallOutcome::Failure };
    let mismatch = expected.then_some(ContentMismatch::ReportedError);
    CallAssessment { mismatch, ..CallAssessment::failed_check(outcome, credentials) }
}

/// A health check without a response.
const fn assess_unanswered_check(error: &CallError) -> CallAssessment {
    match error {
        // Not a check: we did not make it, or could not keep its response.
        CallError::CircuitOpen { .. }
        | CallError::Suspended
        | CallError::Superseded
        | CallError::BulkheadFull
        | CallError::Denied(_)
        | CallError::QuotaExhausted { .. }
        | CallError::Throttled { .. }
        | CallError::Overloaded => CallAssessment::NEUTRAL,
        CallError::CredentialsRefused { .. } => {
            CallAssessment::failed_check(CallOutcome::OwnFault, CredentialResult::Refused)
        }
        error => {
            let outcome = if error.class().is_some() { CallOutcome::Failure } else { CallOutcome::OwnFault };
            CallAssessment::failed_check(outcome, CredentialResult::Unknown)
        }
    }
}

/// Whether a response of this class says that the provider processed the request, where its status is an expected one.
const fn reports_a_result(class: ResponseClass) -> bool {
    match class {
        ResponseClass::Ok
        | ResponseClass::NotFound
        | ResponseClass::ItemGone
        | ResponseClass::RestartWindow
        | ResponseClass::ResetCursor
        | ResponseClass::EndOfData => true,
        ResponseClass::Auth
        | ResponseClass::Rights
        | ResponseClass::RateLimited
        | ResponseClass::Quota
        | ResponseClass::Retry
        | ResponseClass::Fatal => false,
    }
}

/// What differs from the content that the health check expects.
fn content_mismatch(check: &HealthCheck, response: &Response) -> Option<ContentMismatch> {
    if check.expected_content.is_any() {
        return None;
    }
    let status = response.status.as_u16();
    if matches!(status, 204 | 205 | 304) {
        let named = check.expected_statuses.contains(&StatusPattern::Exact(status));
        return (!named).then_some(ContentMismatch::WithoutBody);
    }
    let content_type = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    check.expected_content.check(content_type, &response.body).err()
}

#[cfg(test)]
mod tests;
