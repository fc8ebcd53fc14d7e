//! The API's errors as responses.
//!
//! An error never contains text of a provider's response, only a code, a status and a size.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::gateway::envelope::Detail;
use crate::gateway::error_code::ErrorCode;
use crate::ledger::LedgerError;

/// `Retry-After` where nothing better is known: about the time of a leader change.
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(2);

/// `data` of an error response.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorData {
    /// The code.
    pub error: ErrorCode,
    /// Details by name; the names depend on the code.
    #[schema(value_type = Object)]
    pub details: Map<String, Value>,
    /// The ID of the stored dead request, if the failed request was stored for retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uuid")]
    pub dead_request_id: Option<String>,
}

/// An error response.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorEnvelope {
    /// The error.
    pub data: ErrorData,
    /// The status and a description.
    pub detail: Detail,
}

/// An error to return to the caller.
#[derive(Clone, Debug)]
pub struct Problem {
    code: ErrorCode,
    text: String,
    details: Map<String, Value>,
    retry_in: Option<Duration>,
    is_final: bool,
    dead_request: Option<Uuid>,
    is_audited: bool,
}

/// The code of an error that is not in the audit yet, as an extension of its response.
#[derive(Copy, Clone, Debug)]
pub(super) struct UnauditedError(pub(super) ErrorCode);

impl Problem {
    /// An error with this code and description.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            details: Map::new(),
            retry_in: None,
            is_final: false,
            dead_request: None,
            is_audited: false,
        }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Sets `Retry-After`.
    #[must_use]
    pub fn retry_in(mut self, wait: Duration) -> Self {
        self.retry_in = Some(wait);
        self
    }

    /// Marks the error as final: a retry would fail again. Its status is the code's final one, if it has one.
    #[must_use]
    pub fn into_final(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// Marks the error as one that the audit has, with the object that it is about.
    #[must_use]
    pub(super) fn audited(mut self) -> Self {
        self.is_audited = true;
        self
    }

    /// Sets the ID of the stored dead request.
    #[must_use]
    pub fn with_dead_request(mut self, id: Option<Uuid>) -> Self {
        self.dead_request = id;
        self
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// A detail, if there is one of that name.
    pub fn detail(&self, name: &str) -> Option<&Value> {
        self.details.get(name)
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.code.final_status().filter(|_| self.is_final).unwrap_or(self.code.status())
    }

    /// The time until a retry, if known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_in
    }

    /// The error for a ledger failure; the caller may retry.
    pub fn ledger(error: &LedgerError) -> Self {
        tracing::warn!(%error, "reading or writing the ledger failed; responding 503");
        Self::new(ErrorCode::Unavailable, "the ledger is temporarily unavailable; retry after Retry-After")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let unaudited = (!self.is_audited).then_some(UnauditedError(self.code));
        let data = ErrorData {
            error: self.code,
            details: self.details,
            dead_request_id: self.dead_request.map(|id| id.to_string()),
        };
        let mut response =
            (status, Json(ErrorEnvelope { data, detail: Detail::new(status, self.text) })).into_response();
        if let Some(error) = unaudited {
            response.extensions_mut().insert(error);
        }
        // Each 429 and 503 has a Retry-After, with a default if the time is not known.
        let retryable = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        if let Some(wait) = self.retry_in.or(retryable.then_some(DEFAULT_RETRY_AFTER)) {
            // Rounded up: a retry a moment too early would fail.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
