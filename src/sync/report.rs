//! Result and reason of a run, from closed sets that alerts, status and metrics can rely on.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::run_reason::RunReason;
use crate::ledger::runs::RunCounts;
use crate::ledger::{LedgerError, RunResult};
use crate::profile::ResponseClass;
use crate::provider::call::{CallError, Response, TokenStoreError};

/// The result of a run that ends for `reason` without committed pages.
pub(super) const fn result_of(reason: RunReason) -> RunResult {
    match reason {
        RunReason::PageCapReached | RunReason::WindowUnstable | RunReason::EndOfData => RunResult::Incomplete,
        RunReason::StopRequested | RunReason::LeaseLost => RunResult::Cancelled,
        RunReason::LeaseHeld | RunReason::StartingDeadlineExceeded => RunResult::Skipped,
        _ => RunResult::Failed,
    }
}

/// The error that ended a run or partition early, with the provider's HTTP status if there is one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    /// The reason.
    pub reason: RunReason,
    /// The provider's HTTP status.
    pub http_status: Option<u16>,
    /// Delay before the next run, if known.
    pub retry_in: Option<Duration>,
    /// Whether the window can be restarted.
    pub restart: bool,
}

impl From<RunReason> for RunError {
    fn from(reason: RunReason) -> Self {
        Self { reason, http_status: None, retry_in: None, restart: false }
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
            CallError::TooLarge { .. } | CallError::TooComplex => RunReason::AnswerTooLarge,
            CallError::Overloaded => RunReason::MemoryExhausted,
            CallError::CredentialsRefused { status } => {
                return Self { http_status: Some(*status), ..RunReason::AuthenticationFailed.into() };
            }
            CallError::NoToken { status, .. } => {
                return Self { http_status: *status, ..RunReason::ProviderUnreachable.into() };
            }
            CallError::TokenStore(TokenStoreError::Ledger) => RunReason::LedgerUnavailable,
            CallError::InvalidRequest(_) => RunReason::ParameterInvalid,
            CallError::Client(_) | CallError::TokenStore(_) | CallError::Superseded => RunReason::ConnectionInvalid,
            CallError::Timeout | CallError::Connect(_) | CallError::AddressRefused(_) | CallError::Malformed => {
                RunReason::ProviderUnreachable
            }
        };
        reason.into()
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
    let status = response.status.as_u16();
    let reason = match response.classification.class {
        ResponseClass::Auth => RunReason::AuthenticationFailed,
        ResponseClass::Rights => RunReason::AccessDenied,
        ResponseClass::NotFound => RunReason::NotFound,
        ResponseClass::ItemGone => RunReason::ItemGone,
        ResponseClass::RateLimited => RunReason::RateLimited,
        ResponseClass::Quota => RunReason::QuotaExhausted,
        ResponseClass::EndOfData => RunReason::EndOfData,
        ResponseClass::RestartWindow | ResponseClass::ResetCursor => RunReason::WindowUnstable,
        ResponseClass::Retry => RunReason::ProviderError,
        ResponseClass::Fatal if status >= 500 => RunReason::ProviderError,
        ResponseClass::Fatal | ResponseClass::Ok => RunReason::RequestRejected,
    };
    let restart = matches!(response.classification.class, ResponseClass::RestartWindow | ResponseClass::ResetCursor);
    RunError { reason, http_status: Some(status), retry_in: response.classification.retry_delay(now), restart }
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
    /// Whether a complete window held fewer records than the provider's total.
    pub short_of_total: bool,
}

impl RunReport {
    /// The report of a run that ended with `error` before it read a record.
    pub fn from_error(error: RunError) -> Self {
        Self {
            result: result_of(error.reason),
            reason: Some(error.reason),
            http_status: error.http_status,
            counts: RunCounts::default(),
            duplicates: 0,
            retry_in: error.retry_in,
            partitions: 0,
            failing: 0,
            empty: false,
            short_of_total: false,
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
        insta::assert_compact_debug_snapshot!(reasons, @r#"["RequestRejected", "RequestRejected", "AuthenticationFailed", "AccessDenied", "NotFound", "ItemGone", "RateLimited", "ProviderError", "ProviderError"]"#);
    }
}
