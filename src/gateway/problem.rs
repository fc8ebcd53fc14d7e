//! Every error that the API answers: one closed list of codes, each with its HTTP status.
//!
//! Texts are ours. What a provider said stays with the caller's own answers; an error shows a code, a status and a size.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::gateway::SOON;
use crate::gateway::envelope::Detail;
use crate::ledger::LedgerError;

/// The machine-readable code of an error. Codes are never renamed.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the request is malformed, or a parameter breaks its rule.
    InvalidRequest,
    /// 401: no token, or none that the API server knows.
    Unauthenticated,
    /// 403: RBAC does not allow it.
    Forbidden,
    /// 403: no licence profile of the caller allows it.
    RightsDenied,
    /// 404: there is nothing at this path.
    NotFound,
    /// 404: no such connection is in service.
    ConnectionNotFound,
    /// 404: the provider's profile has no such operation.
    OperationNotFound,
    /// 404: the provider has no such item.
    ItemNotFound,
    /// 405: the path is known, the method is not.
    MethodNotAllowed,
    /// 408: the request did not arrive in time.
    RequestTimeout,
    /// 409: the object is not in a state that allows it.
    Conflict,
    /// 413: the body is larger than 1 MiB.
    BodyTooLarge,
    /// 422: the operation cannot be called here.
    NotCallable,
    /// 422: the provider understood and refused; asking again will not help.
    ProviderRefused,
    /// 429: the caller asks too often.
    RateLimited,
    /// 429: the licence profile's requests of the day are used up.
    RightsQuotaExhausted,
    /// 500: a defect of Busbar.
    Internal,
    /// 502: the provider failed.
    ProviderFailed,
    /// 503: the circuit is open.
    CircuitOpen,
    /// 503: the provider's quota is used up, or it asked to be left alone.
    QuotaExhausted,
    /// 503: the connection is suspended.
    Suspended,
    /// 503: the API server did not say who the caller is or what he may do.
    AuthorizationUnavailable,
    /// 503: this replica cannot answer just now (it starts, takes over, or its ledger is in trouble).
    Unavailable,
}

impl ErrorCode {
    /// The HTTP status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::RightsDenied => StatusCode::FORBIDDEN,
            Self::NotFound | Self::ConnectionNotFound | Self::OperationNotFound | Self::ItemNotFound => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotCallable | Self::ProviderRefused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited | Self::RightsQuotaExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ProviderFailed => StatusCode::BAD_GATEWAY,
            Self::CircuitOpen
            | Self::QuotaExhausted
            | Self::Suspended
            | Self::AuthorizationUnavailable
            | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What `data` is on an error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorData {
    /// The code.
    pub error: ErrorCode,
    /// More about it, by name; which names there are depends on the code.
    #[schema(value_type = Object)]
    pub details: Map<String, Value>,
    /// Where the failed request was kept for retrying, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uuid")]
    pub dead_request_id: Option<String>,
}

/// An error as it is answered.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorEnvelope {
    /// What went wrong.
    pub data: ErrorData,
    /// The same in words.
    pub detail: Detail,
}

/// An error on its way to the caller.
#[derive(Clone, Debug)]
pub struct Problem {
    code: ErrorCode,
    text: String,
    details: Map<String, Value>,
    retry_in: Option<Duration>,
    dead_request: Option<Uuid>,
}

impl Problem {
    /// An error of this code, in words.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), details: Map::new(), retry_in: None, dead_request: None }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Says when to come again.
    #[must_use]
    pub fn retry_in(mut self, wait: Duration) -> Self {
        self.retry_in = Some(wait);
        self
    }

    /// Says where the request was kept.
    #[must_use]
    pub fn kept(mut self, id: Option<Uuid>) -> Self {
        self.dead_request = id;
        self
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// When to come again, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_in
    }

    /// The ledger is in trouble: the caller may come again.
    pub fn ledger(error: &LedgerError) -> Self {
        tracing::warn!(%error, "the gateway could not use the ledger");
        Self::new(ErrorCode::Unavailable, "the ledger is in trouble: try again")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let data = ErrorData {
            error: self.code,
            details: self.details,
            dead_request_id: self.dead_request.map(|id| id.to_string()),
        };
        let mut response =
            (status, Json(ErrorEnvelope { data, detail: Detail::new(status, self.text) })).into_response();
        // Each 429 and 503 says when to come again, known or not.
        let comes_again = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        if let Some(wait) = self.retry_in.or(comes_again.then_some(SOON)) {
            // Rounded up: who comes a moment early comes in vain.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
