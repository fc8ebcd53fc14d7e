//! Result and reason of a run, from closed sets that alerts, status and metrics can rely on.

use std::time::Duration;

use jiff::Timestamp;

use crate::ledger::runs::RunCounts;
use crate::ledger::{LedgerError, RunResult};
use crate::profile::ResponseClass;
use crate::provider::call::{CallError, Response, TokenStoreError};

/// Why a run did not succeed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunReason {
    /// Connection failed, timed out, or the response was not HTTP.
    ProviderUnreachable,
    /// A 5xx response.
    ProviderError,
    /// The provider refused the credentials.
    AuthenticationFailed,
    /// The provider refused this account or plan (402, 403).
    AccessDenied,
    /// The requested resource was not found (404).
    NotFound,
    /// The requested resource is permanently gone (410): remove the partition from the job.
    ItemGone,
    /// Rate limited by the provider (429): retried after the provider's delay.
    RateLimited,
    /// A quota is exhausted: retried when it is renewed.
    QuotaExhausted,
    /// The provider returns no more of a longer list: a narrower window is required.
    EndOfData,
    /// Another 4xx response, or a redirect.
    RequestRejected,
    /// The circuit is open.
    CircuitOpen,
    /// The connection is suspended.
    ConnectionSuspended,
    /// The connection's settings do not permit calls.
    ConnectionInvalid,
    /// The response exceeds the size limit.
    AnswerTooLarge,
    /// The response is not JSON.
    BodyUnreadable,
    /// The records were not found at the declared pointer, or a page exceeds the budget of invalid records.
    SchemaDrifted,
    /// The currency of the account is missing or not in ISO 4217.
    CurrencyUnknown,
    /// The next page could not be determined from the response.
    PaginationUnreadable,
    /// A page led back to an earlier one.
    PaginationCycle,
    /// Too many consecutive empty pages.
    TooManyEmptyPages,
    /// The run's page limit was reached.
    PageCapReached,
    /// The provider's list kept changing during the walk.
    WindowUnstable,
    /// The run's timeout expired.
    RunTimeout,
    /// A parameter required by the stream is missing or invalid.
    ParameterInvalid,
    /// The ledger could not be read or written.
    LedgerUnavailable,
    /// The stored cursor cannot be parsed.
    CursorUnreadable,
    /// Another process acquired the lease.
    LeaseLost,
    /// Another process is running the job.
    LeaseHeld,
    /// Cancelled on request.
    StopRequested,
    /// An internal error of Busbar.
    InternalError,
}

impl RunReason {
    /// All reasons.
    pub const ALL: [Self; 30] = [
        Self::ProviderUnreachable,
        Self::ProviderError,
        Self::AuthenticationFailed,
        Self::AccessDenied,
        Self::NotFound,
        Self::ItemGone,
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::EndOfData,
        Self::RequestRejected,
        Self::CircuitOpen,
        Self::ConnectionSuspended,
        Self::ConnectionInvalid,
        Self::AnswerTooLarge,
        Self::BodyUnreadable,
        Self::SchemaDrifted,
        Self::CurrencyUnknown,
        Self::PaginationUnreadable,
        Self::PaginationCycle,
        Self::TooManyEmptyPages,
        Self::PageCapReached,
        Self::WindowUnstable,
        Self::RunTimeout,
        Self::ParameterInvalid,
        Self::LedgerUnavailable,
        Self::CursorUnreadable,
        Self::LeaseLost,
        Self::LeaseHeld,
        Self::StopRequested,
        Self::InternalError,
    ];

    /// The value in status, metrics and the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProviderUnreachable => "ProviderUnreachable",
            Self::ProviderError => "ProviderError",
            Self::AuthenticationFailed => "AuthenticationFailed",
            Self::AccessDenied => "AccessDenied",
            Self::NotFound => "NotFound",
            Self::ItemGone => "ItemGone",
            Self::RateLimited => "RateLimited",
            Self::QuotaExhausted => "QuotaExhausted",
            Self::EndOfData => "EndOfData",
            Self::RequestRejected => "RequestRejected",
            Self::CircuitOpen => "CircuitOpen",
            Self::ConnectionSuspended => "ConnectionSuspended",
            Self::ConnectionInvalid => "ConnectionInvalid",
            Self::AnswerTooLarge => "AnswerTooLarge",
            Self::BodyUnreadable => "BodyUnreadable",
            Self::SchemaDrifted => "SchemaDrifted",
            Self::CurrencyUnknown => "CurrencyUnknown",
            Self::PaginationUnreadable => "PaginationUnreadable",
            Self::PaginationCycle => "PaginationCycle",
            Self::TooManyEmptyPages => "TooManyEmptyPages",
            Self::PageCapReached => "PageCapReached",
            Self::WindowUnstable => "WindowUnstable",
            Self::RunTimeout => "RunTimeout",
            Self::ParameterInvalid => "ParameterInvalid",
            Self::LedgerUnavailable => "LedgerUnavailable",
            Self::CursorUnreadable => "CursorUnreadable",
            Self::LeaseLost => "LeaseLost",
            Self::LeaseHeld => "LeaseHeld",
            Self::StopRequested => "StopRequested",
            Self::InternalError => "InternalError",
        }
    }

    /// The result of a run that ends for this reason without committed pages.
    pub const fn result(self) -> RunResult {
        match self {
            Self::PageCapReached | Self::WindowUnstable | Self::EndOfData => RunResult::Incomplete,
            Self::StopRequested | Self::LeaseLost => RunResult::Cancelled,
            Self::LeaseHeld => RunResult::Skipped,
            _ => RunResult::Failed,
        }
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
            // Syncs have no caller, so this does not occur.
            CallError::Denied(_) => RunReason::AccessDenied,
            CallError::QuotaExhausted { retry_in } => {
                return Self { retry_in: Some(*retry_in), ..RunReason::QuotaExhausted.into() };
            }
            CallError::Throttled { retry_in } => {
                return Self { retry_in: Some(*retry_in), ..RunReason::RateLimited.into() };
            }
            CallError::TooLarge { .. } => RunReason::AnswerTooLarge,
            CallError::CredentialsRefused { status } => {
                return Self { http_status: Some(*status), ..RunReason::AuthenticationFailed.into() };
            }
            CallError::NoToken { status, .. } => {
                return Self { http_status: *status, ..RunReason::ProviderUnreachable.into() };
            }
            CallError::TokenStore(TokenStoreError::Ledger) => RunReason::LedgerUnavailable,
            CallError::InvalidRequest(_) => RunReason::ParameterInvalid,
            CallError::Client(_) | CallError::TokenStore(_) => RunReason::ConnectionInvalid,
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
            result: error.reason.result(),
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
    use std::collections::BTreeSet;

    use super::*;
    use crate::sync::tests::response;

    #[test]
    fn every_reason_has_a_distinct_name() {
        let names: BTreeSet<_> = RunReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), RunReason::ALL.len());
        assert!(names.iter().all(|name| name.chars().next().is_some_and(char::is_uppercase)));
    }

    #[test]
    fn http_statuses_map_to_reasons() {
        let reasons: Vec<_> = [302, 400, 401, 402, 404, 410, 429, 500, 503]
            .map(|status| error_from_response(&response(status, ""), Timestamp::UNIX_EPOCH).reason.as_str())
            .into();
        insta::assert_compact_debug_snapshot!(reasons, @r#"["RequestRejected", "RequestRejected", "AuthenticationFailed", "AccessDenied", "NotFound", "ItemGone", "RateLimited", "ProviderError", "ProviderError"]"#);
    }
}
