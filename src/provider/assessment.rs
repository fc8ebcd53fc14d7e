//! What the result of a call means for the breaker, for health and for the credentials.
//!
//! One table for all callers. Status 5xx, connection failures and time-outs count against the provider. TLS failures
//! and broken connections are connection failures too, with classes of their own so that a policy can tell them apart;
//! a policy may replace both lists. 401 and 403 are about the credentials and 429 is about the quota: none of them
//! trips the circuit. Any other response shows that the provider works. A health check is stricter: without the expected
//! response it has failed, whatever a policy counts of other calls.
//!
//! What a call says about the credentials is decided by the class of the response, not by its status: a rejected key
//! may come with 200, and a 401 may be about one customer's consent.

use crate::domain::breaker::{CallClass, CallOutcome};
use crate::profile::{ResponseClass, StatusPattern};
use crate::provider::call::{CallError, Response};
use crate::settings::FailureCriteria;

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
    /// What it says about the credentials.
    pub credentials: CredentialResult,
}

impl CallAssessment {
    /// The call says nothing.
    pub const NEUTRAL: Self = Self { outcome: CallOutcome::Ignored, credentials: CredentialResult::Unknown };
}

/// Assesses the result of a call. `expected` are the statuses that a health check accepts in addition; it is ignored
/// for other calls.
pub fn assess(
    criteria: &FailureCriteria,
    class: CallClass,
    expected: &[StatusPattern],
    end: Result<&Response, &CallError>,
) -> CallAssessment {
    match end {
        Ok(response) => {
            assess_response(criteria, class, expected, (response.status.as_u16(), response.classification.class))
        }
        Err(CallError::CredentialsRefused { .. }) => {
            CallAssessment { outcome: CallOutcome::Ignored, credentials: CredentialResult::Refused }
        }
        Err(error) => {
            // A health check that did not end in a response has failed, whatever the policy counts of other calls.
            let counts = |error_class| class == CallClass::Probe || criteria.failure_errors.contains(&error_class);
            let failed = error.class().is_some_and(counts);
            let outcome = if failed { CallOutcome::Failure } else { CallOutcome::Ignored };
            CallAssessment { outcome, credentials: CredentialResult::Unknown }
        }
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

fn assess_response(
    criteria: &FailureCriteria,
    call: CallClass,
    expected: &[StatusPattern],
    (status, class): (u16, ResponseClass),
) -> CallAssessment {
    let probe = call == CallClass::Probe;
    let any = |patterns: &[StatusPattern]| patterns.iter().any(|pattern| pattern.matches(status));
    let as_expected = probe && any(expected);
    // A health check that expects 401 means a plain 401, not one that the profile classifies otherwise.
    if as_expected && class == ResponseClass::of_status(status) {
        return CallAssessment { outcome: CallOutcome::Success, credentials: CredentialResult::Accepted };
    }
    let credentials = assess_credentials(status, class, probe);
    let outcome = if as_expected && class != ResponseClass::Auth {
        CallOutcome::Success
    } else if class == ResponseClass::Auth || matches!(status, 401 | 403 | 429) || any(&criteria.ignore_statuses) {
        CallOutcome::Ignored
    } else if any(&criteria.failure_statuses) || probe {
        // A health check without an expected status has failed, whatever the status is.
        CallOutcome::Failure
    } else {
        CallOutcome::Success
    };
    CallAssessment { outcome, credentials }
}

#[cfg(test)]
mod tests;
