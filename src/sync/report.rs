//! How a run ended, in closed words: alerts, status and metrics can rely on them.

use std::time::Duration;

use jiff::Timestamp;

use crate::ledger::runs::RunCounts;
use crate::ledger::{LedgerError, RunResult};
use crate::provider::call::{Answer, CallError, KeepProblem};
use crate::provider::classify::Class;

/// Why a run did not simply succeed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunReason {
    /// No connection, no answer in time, or no HTTP.
    ProviderUnreachable,
    /// A 5xx answer.
    ProviderError,
    /// The provider refused the credentials.
    AuthenticationFailed,
    /// The provider refused this account or plan (402, 403).
    AccessDenied,
    /// What was asked for is not there (404).
    NotFound,
    /// What was asked for is gone for good (410): take the partition out of the job.
    ItemGone,
    /// Too many requests (429): the next try waits as long as the provider asks.
    RateLimited,
    /// A quota is used up: the next try waits until it is renewed.
    QuotaExhausted,
    /// The provider shows no more of the list than this, though there is more: a narrower window is needed.
    EndOfData,
    /// Another answer that means "no", or a redirect.
    RequestRejected,
    /// The circuit is open.
    CircuitOpen,
    /// The connection is suspended.
    ConnectionSuspended,
    /// The connection's own settings make calls impossible.
    ConnectionInvalid,
    /// The answer is larger than is read.
    AnswerTooLarge,
    /// The answer is not JSON.
    BodyUnreadable,
    /// The records are not where they were, or more of a page than the budget allows is invalid.
    SchemaDrifted,
    /// The currency of the account is missing or not in ISO 4217.
    CurrencyUnknown,
    /// The next page could not be read out of the answer.
    PaginationUnreadable,
    /// A page led back to an earlier one.
    PaginationCycle,
    /// Too many empty pages in a row.
    TooManyEmptyPages,
    /// The run's cap on pages.
    PageCapReached,
    /// The provider's list kept shrinking under the walk.
    WindowUnstable,
    /// The run's time was up.
    RunTimeout,
    /// A parameter that the stream needs is missing or unusable.
    ParameterInvalid,
    /// The ledger could not read or write.
    LedgerUnavailable,
    /// The stored cursor cannot be read.
    CursorUnreadable,
    /// Another process took the lease.
    LeaseLost,
    /// Another process is running the job.
    LeaseHeld,
    /// Stopped on request.
    StopRequested,
    /// A fault of Busbar's own.
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

    /// The word in status, metrics and the ledger.
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

    /// How a run ends that ends for this reason, if nothing of it was committed.
    pub const fn result(self) -> RunResult {
        match self {
            Self::PageCapReached | Self::WindowUnstable | Self::EndOfData => RunResult::Incomplete,
            Self::StopRequested | Self::LeaseLost => RunResult::Cancelled,
            Self::LeaseHeld => RunResult::Skipped,
            _ => RunResult::Failed,
        }
    }
}

/// An end before the end: the reason, and the provider's HTTP status where there is one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Why.
    pub reason: RunReason,
    /// The provider's status.
    pub http_status: Option<u16>,
    /// How long to wait before the next try, where that is known.
    pub retry_in: Option<Duration>,
    /// Whether the window may be begun again.
    pub restart: bool,
}

impl From<RunReason> for Stop {
    fn from(reason: RunReason) -> Self {
        Self { reason, http_status: None, retry_in: None, restart: false }
    }
}

impl From<&CallError> for Stop {
    fn from(error: &CallError) -> Self {
        let reason = match error {
            CallError::CircuitOpen { .. } | CallError::TokenCircuitOpen { .. } => RunReason::CircuitOpen,
            CallError::Suspended => RunReason::ConnectionSuspended,
            // A sync has no caller whose rights could be missing.
            CallError::RightsDenied { .. } | CallError::RightsQuota { .. } => RunReason::AccessDenied,
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
            CallError::NotKept(KeepProblem::Ledger) => RunReason::LedgerUnavailable,
            CallError::Request(_) => RunReason::ParameterInvalid,
            CallError::Client(_) | CallError::NotKept(_) => RunReason::ConnectionInvalid,
            CallError::Timeout | CallError::Connect(_) | CallError::Refused(_) | CallError::Malformed => {
                RunReason::ProviderUnreachable
            }
        };
        reason.into()
    }
}

impl From<&LedgerError> for Stop {
    fn from(error: &LedgerError) -> Self {
        match error {
            LedgerError::Fenced { .. } | LedgerError::StateMoved { .. } => RunReason::LeaseLost,
            _ => RunReason::LedgerUnavailable,
        }
        .into()
    }
}

/// What an answer that is none of what was asked for means to the run.
pub fn refused(answer: &Answer, now: Timestamp) -> Stop {
    let status = answer.status.as_u16();
    let reason = match answer.reading.class {
        Class::Auth => RunReason::AuthenticationFailed,
        Class::Rights => RunReason::AccessDenied,
        Class::NotFound => RunReason::NotFound,
        Class::ItemGone => RunReason::ItemGone,
        Class::RateLimited => RunReason::RateLimited,
        Class::Quota => RunReason::QuotaExhausted,
        Class::EndOfData => RunReason::EndOfData,
        Class::RestartWindow | Class::ResetCursor => RunReason::WindowUnstable,
        Class::Retry => RunReason::ProviderError,
        Class::Fatal if status >= 500 => RunReason::ProviderError,
        Class::Fatal | Class::Ok => RunReason::RequestRejected,
    };
    let restart = matches!(answer.reading.class, Class::RestartWindow | Class::ResetCursor);
    Stop { reason, http_status: Some(status), retry_in: answer.reading.asked(now), restart }
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// How.
    pub result: RunResult,
    /// Why, unless it succeeded.
    pub reason: Option<RunReason>,
    /// The provider's HTTP status that ended it, if one did.
    pub http_status: Option<u16>,
    /// What it moved. A dry run only fetches and rejects.
    pub counts: RunCounts,
    /// Records that shared their key with a later one of the same page.
    pub duplicates: u64,
    /// How long the next run should wait, where the provider told.
    pub retry_in: Option<Duration>,
    /// Partitions of the job.
    pub partitions: u32,
    /// Those that did not succeed.
    pub failing: u32,
    /// Whether it succeeded and read nothing.
    pub empty: bool,
    /// Whether a complete window held fewer records than the provider had announced.
    pub short_of_total: bool,
}

impl RunReport {
    /// A run that ended before it began.
    pub fn ended(stop: Stop) -> Self {
        Self {
            result: stop.reason.result(),
            reason: Some(stop.reason),
            http_status: stop.http_status,
            counts: RunCounts::default(),
            duplicates: 0,
            retry_in: stop.retry_in,
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
    use crate::sync::tests::answer;

    #[test]
    fn every_reason_has_its_own_word() {
        let words: BTreeSet<_> = RunReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), RunReason::ALL.len());
        assert!(words.iter().all(|w| w.chars().next().is_some_and(char::is_uppercase)));
    }

    #[test]
    fn statuses_fall_into_their_classes() {
        let classes: Vec<_> = [302, 400, 401, 402, 404, 410, 429, 500, 503]
            .map(|status| refused(&answer(status, ""), Timestamp::UNIX_EPOCH).reason.as_str())
            .into();
        insta::assert_compact_debug_snapshot!(classes, @r#"["RequestRejected", "RequestRejected", "AuthenticationFailed", "AccessDenied", "NotFound", "ItemGone", "RateLimited", "ProviderError", "ProviderError"]"#);
    }
}
