//! Result and reason of a run, from closed sets that alerts, status and metrics can rely on.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::failure_detail;
use crate::domain::run_failure::{self, RunFailure, size};
use crate::domain::run_reason::RunReason;
use crate::ledger::runs::RunCounts;
use crate::ledger::{LedgerError, PartitionEnd, RunResult};
use crate::profile::{ResponseClass, json};
use crate::provider::call::{CallError, Response, TokenStoreError};
use crate::provider::redirect::is_redirect;

/// The result of a run that ends for `reason` without committed pages.
pub(super) const fn result_of(reason: RunReason) -> RunResult {
    match reason {
        RunReason::PageCapReached
        | RunReason::WindowUnstable
        | RunReason::EndOfData
        | RunReason::TotalNotReached
        | RunReason::RangeNotCovered
        | RunReason::DataNotReady => RunResult::Incomplete,
        RunReason::StopRequested | RunReason::LeaseLost => RunResult::Cancelled,
        RunReason::LeaseHeld | RunReason::StartingDeadlineExceeded => RunResult::Skipped,
        _ => RunResult::Failed,
    }
}

/// The error that ended a run or partition early, with the provider's HTTP status if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    /// The reason.
    pub reason: RunReason,
    /// The provider's HTTP status.
    pub http_status: Option<u16>,
    /// Delay before the next run, if known.
    pub retry_in: Option<Duration>,
    /// Whether the window can be restarted.
    pub restart: bool,
    /// Whether the provider no longer accepts the cursor itself, beyond the window.
    pub reset: bool,
    /// What was received, or which field is at fault: our own text.
    pub detail: Option<Arc<str>>,
}

impl RunError {
    /// The error with a detail.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<Arc<str>>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

impl From<RunReason> for RunError {
    fn from(reason: RunReason) -> Self {
        Self { reason, http_status: None, retry_in: None, restart: false, reset: false, detail: None }
    }
}

impl From<&CallError> for RunError {
    fn from(error: &CallError) -> Self {
        let reason = match error {
            CallError::CircuitOpen { .. } | CallError::TokenCircuitOpen { .. } => RunReason::CircuitOpen,
            CallError::Suspended => RunReason::ConnectionSuspended,
            // Syncs have no caller, so these do not occur.
            CallError::Denied(_) => RunReason::AccessDenied,
            CallError::BulkheadFull => RunReason::RateLimited,
            CallError::QuotaExhausted { retry_in } => {
                return Self { retry_in: Some(*retry_in), ..RunReason::QuotaExhausted.into() };
            }
            CallError::Throttled { retry_in } => {
                return Self { retry_in: Some(*retry_in), ..RunReason::RateLimited.into() };
            }
            CallError::TooLarge { limit } => {
                let detail = format!("the response is larger than {}", size(*limit));
                return Self::from(RunReason::AnswerTooLarge).with_detail(detail);
            }
            CallError::TooComplex => RunReason::AnswerTooLarge,
            CallError::Overloaded => RunReason::MemoryExhausted,
            CallError::CredentialsRefused { status } => {
                let error = Self { http_status: Some(*status), ..RunReason::AuthenticationFailed.into() };
                return error.with_detail("the token endpoint rejected the credentials");
            }
            CallError::NoToken { status, .. } => {
                let error = Self { http_status: *status, ..RunReason::ProviderUnreachable.into() };
                return error.with_detail("the token endpoint returned no token");
            }
            CallError::TokenStore(TokenStoreError::Ledger) => RunReason::LedgerUnavailable,
            CallError::InvalidRequest(_) => RunReason::ParameterInvalid,
            CallError::Client(_) | CallError::TokenStore(_) | CallError::Superseded => RunReason::ConnectionInvalid,
            CallError::Malformed => RunReason::BodyUnreadable,
            CallError::Timeout | CallError::Connect(_) | CallError::AddressRefused(_) => RunReason::ProviderUnreachable,
        };
        match error {
            CallError::CircuitOpen { .. }
            | CallError::TokenCircuitOpen { .. }
            | CallError::Suspended
            | CallError::Client(_) => reason.into(),
            error => Self::from(reason).with_detail(error.to_string()),
        }
    }
}

impl From<&LedgerError> for RunError {
    fn from(error: &LedgerError) -> Self {
        match error {
            LedgerError::Fenced { .. } | LedgerError::VersionConflict { .. } => RunReason::LeaseLost,
            _ => RunReason::LedgerUnavailable,
        }
        .into()
    }
}

/// The run error for a response that is not classified as success.
pub fn error_from_response(response: &Response, now: Timestamp) -> RunError {
    let (class, status) = (response.classification.class, response.status.as_u16());
    let (reason, detail) = match class {
        ResponseClass::Auth => (RunReason::AuthenticationFailed, None),
        ResponseClass::Rights => (RunReason::AccessDenied, None),
        ResponseClass::NotFound => (RunReason::NotFound, None),
        ResponseClass::ItemGone => (RunReason::ItemGone, None),
        ResponseClass::RateLimited => (RunReason::RateLimited, None),
        ResponseClass::Quota => (RunReason::QuotaExhausted, None),
        ResponseClass::EndOfData => (RunReason::EndOfData, None),
        ResponseClass::RestartWindow | ResponseClass::ResetCursor => (RunReason::WindowUnstable, None),
        ResponseClass::Retry | ResponseClass::Fatal if response.status.is_success() => of_success(response),
        ResponseClass::Retry => (RunReason::ProviderError, None),
        ResponseClass::Fatal if status >= 500 => (RunReason::ProviderError, None),
        ResponseClass::Fatal | ResponseClass::Ok if is_redirect(status) => {
            (RunReason::Redirected, Some(failure_detail::redirect(response)))
        }
        ResponseClass::Fatal | ResponseClass::Ok => (RunReason::RequestRejected, None),
    };
    let restart = matches!(class, ResponseClass::RestartWindow | ResponseClass::ResetCursor);
    let retry_in = response.classification.retry_delay(now);
    let reset = class == ResponseClass::ResetCursor;
    RunError { reason, http_status: Some(status), retry_in, restart, reset, detail: detail.map(Arc::from) }
}

/// What a successful status stands for that is classified as a failure: a page that is not JSON, or an error in JSON that
/// a matcher of the profile recognized.
fn of_success(response: &Response) -> (RunReason, Option<String>) {
    if json::check(&response.body).is_err() {
        return (RunReason::BodyUnreadable, Some(failure_detail::not_json(response)));
    }
    let detail =
        failure_detail::error_field(&response.body).map(|field| format!("an error object, with field {field}"));
    (RunReason::ErrorInBody, detail)
}

/// Report of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// The result.
    pub result: RunResult,
    /// The reason, unless it succeeded.
    pub reason: Option<RunReason>,
    /// The provider's HTTP status that ended it, if any.
    pub http_status: Option<u16>,
    /// What it says about the cause of its end, as stored with the run.
    pub failure: RunFailure,
    /// Record counts. A dry run only fetches and rejects.
    pub counts: RunCounts,
    /// Records dropped because a later one of the same page has the same key.
    pub duplicates: u64,
    /// Delay before the next run, if the provider requested one.
    pub retry_in: Option<Duration>,
    /// Partitions of the job.
    pub partitions: u32,
    /// Partitions that did not succeed.
    pub failing: u32,
    /// Whether it succeeded without reading a record.
    pub empty: bool,
    /// How each partition ended, in the order of the plan. One that was stopped or not reached is not listed.
    pub partition_outcomes: Vec<PartitionOutcome>,
}

/// How one partition ended in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOutcome {
    /// Its name; empty for a job without partitions.
    pub name: String,
    /// Succeeded, Failed or Incomplete.
    pub result: RunResult,
    /// The reason, unless it succeeded.
    pub reason: Option<RunReason>,
    /// The provider's HTTP status that ended it, if any.
    pub http_status: Option<u16>,
    /// Records read.
    pub fetched: u64,
    /// Time that its requests took.
    pub fetch_time: Duration,
}

impl PartitionOutcome {
    /// What it counts for in the streaks of its partition.
    pub fn end(&self) -> PartitionEnd {
        PartitionEnd {
            name: self.name.clone(),
            failed: self.result == RunResult::Failed,
            empty: self.result == RunResult::Succeeded && self.fetched == 0,
        }
    }
}

/// What is stored about `error`, without partitions.
pub(super) fn failure_of(error: &RunError) -> RunFailure {
    let detail = error.detail.as_deref().map(run_failure::detail);
    let cut_short = error.reason.cuts_list_short();
    RunFailure { http_status: error.http_status, detail, cut_short, ..RunFailure::default() }
}

impl RunReport {
    /// The report of a run that ended with `error` before it read a record.
    pub fn from_error(error: &RunError) -> Self {
        Self {
            result: result_of(error.reason),
            reason: Some(error.reason),
            http_status: error.http_status,
            failure: failure_of(error),
            counts: RunCounts::default(),
            duplicates: 0,
            retry_in: error.retry_in,
            partitions: 0,
            failing: 0,
            empty: false,
            partition_outcomes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::tests::response;

    #[test]
    fn http_statuses_map_to_reasons() {
        let reasons: Vec<_> = [302, 400, 401, 402, 404, 410, 429, 500, 503]
            .map(|status| error_from_response(&response(status, ""), Timestamp::UNIX_EPOCH).reason.as_str())
            .into();
        insta::assert_compact_debug_snapshot!(reasons, @r#"["Redirected", "RequestRejected", "AuthenticationFailed", "AccessDenied", "NotFound", "ItemGone", "RateLimited", "ProviderError", "ProviderError"]"#);
    }
}
