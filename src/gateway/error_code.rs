//! The codes of the API's errors: one closed list, each with its HTTP status.

use axum::http::StatusCode;
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::closed_list::closed_list;

closed_list!(
    "error code",
    /// The machine-readable code of an error. Codes are never renamed.
    ErrorCode {
        InvalidRequest = "invalid_request":
            "The request is malformed, or a parameter is invalid; `details.parameter` names it."
            => "Correct the request; see /openapi.json.",
        Unauthenticated = "unauthenticated":
            "No token, or one that the API server rejects."
            => "Send `Authorization: Bearer` with a valid token of an accepted audience.",
        Forbidden = "forbidden":
            "RBAC denies the action; `details` names verb and resource."
            => "Bind a role that allows it.",
        RightsDenied = "rights_denied":
            "No licence profile of the caller allows the call; `details.reason` says why."
            => "See the reasons of denials below.",
        NotFound = "not_found":
            "The path or the dead request does not exist, or no alias connection is configured."
            => "See /openapi.json; the alias paths need --finastra-alias.",
        JobNotFound = "job_not_found":
            "The sync job does not exist in this replica's namespaces."
            => "Check namespace and name in the path.",
        ConnectionNotFound = "connection_not_found":
            "The connection does not exist or is not ready."
            => "Check the name in the path and the condition Ready of the connection.",
        OperationNotFound = "operation_not_found":
            "The profile of the connection has no such operation, or its feature is disabled."
            => "Call one of `details.operations`, or enable `details.feature` in `spec.features`.",
        ItemNotFound = "item_not_found":
            "The provider has no such item."
            => "Check the ID.",
        MethodNotAllowed = "method_not_allowed":
            "The path does not allow the method."
            => "See /openapi.json.",
        RequestTimeout = "request_timeout":
            "The request took longer than 75 s, the time to send it included."
            => "Send the request faster; set `deadline_ms` to limit the call.",
        Conflict = "conflict":
            "The state of the object does not allow the action; `details.state` names it."
            => "Read the object again; only a parked dead request can be replayed.",
        IdempotencyConflict = "idempotency_conflict":
            "The same `Idempotency-Key`, or the same resync ID, was used for another request."
            => "Use a new key or ID.",
        BodyTooLarge = "body_too_large":
            "The body is larger than 1 MiB."
            => "Send a smaller body.",
        NotCallable = "not_callable":
            "The operation cannot be called here: it moves money, or it writes and was called by GET."
            => "Use POST for operations that write; money has a path of its own.",
        ProviderRefused = "provider_refused":
            "The provider rejected the request; the same request would be rejected again."
            => "Correct the parameters; `details.status_code` is the provider's status.",
        RateLimited = "rate_limited":
            "The rate limit of the caller, or of an address without a valid token, is exceeded."
            => "Retry after `Retry-After`; see --gateway-caller-rate and --gateway-address-rate.",
        RightsQuotaExhausted = "rights_quota_exhausted":
            "The daily request quota of the licence profile is exhausted."
            => "Retry after `Retry-After`, or raise `requestsPerDay` of the profile.",
        Internal = "internal":
            "A defect of Busbar."
            => "Report it with the value of `X-Request-ID`.",
        ProviderFailed = "provider_failed":
            "The provider failed, and no fallback succeeded; `details.reason` says how."
            => "See the reasons of failures below; a stored request is retried (`dead_request_id`).",
        CircuitOpen = "circuit_open":
            "The circuit is open after repeated failures of the provider; no request was sent."
            => "Retry after `Retry-After`.",
        QuotaExhausted = "quota_exhausted":
            "The quota of the provider is exhausted, or it rate limits; `details.reason` says which."
            => "Retry after `Retry-After`.",
        BulkheadFull = "bulkhead_full":
            "Too many calls of this connection are in flight, because its provider is slow. Others are not affected."
            => "Retry after `Retry-After`; check the condition Healthy of the connection.",
        ConcurrencyLimited = "concurrency_limited":
            "The caller has its share of the concurrent requests of this replica in flight."
            => "Retry after `Retry-After`, with fewer requests at the same time.",
        Suspended = "suspended":
            "The connection is suspended; no request was sent."
            => "Set `spec.suspend` of the connection to false.",
        AuthorizationUnavailable = "authorization_unavailable":
            "The API server is unavailable for `TokenReview` or `SubjectAccessReview`."
            => "Retry after `Retry-After`.",
        Unavailable = "unavailable":
            "This replica is overloaded, or its ledger is unavailable."
            => "Retry after `Retry-After`, or call another replica.",
    }
);

impl ErrorCode {
    /// The HTTP status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::RightsDenied => StatusCode::FORBIDDEN,
            Self::NotFound
            | Self::JobNotFound
            | Self::ConnectionNotFound
            | Self::OperationNotFound
            | Self::ItemNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict | Self::IdempotencyConflict => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotCallable | Self::ProviderRefused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited | Self::RightsQuotaExhausted | Self::ConcurrencyLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ProviderFailed => StatusCode::BAD_GATEWAY,
            Self::CircuitOpen
            | Self::BulkheadFull
            | Self::QuotaExhausted
            | Self::Suspended
            | Self::AuthorizationUnavailable
            | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("The machine-readable code of an error. Codes are never renamed."))
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .into()
    }
}

impl ToSchema for ErrorCode {}
