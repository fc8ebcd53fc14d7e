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
            "No token, API key or signature, or one that is not valid."
            => "Send `Authorization: Bearer` with a valid token of an accepted audience; consumers send `X-API-Key`, providers \
                sign their webhooks.",
        Forbidden = "forbidden":
            "RBAC denies the action; `details` names verb and resource."
            => "Bind a role that allows it.",
        RightsDenied = "rights_denied":
            "No licence profile of the caller allows the call; `details.reason` says why."
            => "See the reasons of denials below.",
        NotFound = "not_found":
            "The path, the dead request, the event, the consumer, the adjustment or the proposal does not exist, or no alias \
             connection or broker is configured."
            => "See /openapi.json; the alias paths need --finastra-alias, dead-letter queues --amqp.",
        JobNotFound = "job_not_found":
            "The sync job does not exist in this replica's namespaces."
            => "Check namespace and name in the path.",
        RouteNotFound = "route_not_found":
            "The bank route does not exist, or no route of the namespace applies to the payout."
            => "Check namespace and route, or extend `spec.match` of a route.",
        DecisionNotFound = "decision_not_found":
            "The decision does not exist, or the ledger does not keep it any more."
            => "Check the ID; decisions are kept for --decision-retention.",
        PayoutNotFound = "payout_not_found":
            "The payout is not registered in the namespace, has no such attempt, or the ledger does not keep it any more."
            => "Check the ID, `namespace` and the number of the attempt.",
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
            => "Read the object again; the text says which states allow the action.",
        IdempotencyConflict = "idempotency_conflict":
            "The same `Idempotency-Key`, resync ID, or `payout_id` with `attempt_no`, was used for another request."
            => "Use a new key or ID; for a payout send the body of the first request again.",
        AttemptUnresolved = "attempt_unresolved":
            "An earlier attempt of the payout may have been executed; `details.attempt_no` names it, `details.reason` says why."
            => "Report its outcome `not_sent` or `rejected` first, if that is true; expiry is no proof.",
        PayoutRefused = "payout_refused":
            "The state of the payout does not allow the act; `details.reason` says why, `details.state` where it stands."
            => "See the reasons of refused acts below, and the timeline of the payout.",
        PayoutsSuspended = "payouts_suspended":
            "The ledger was restored with loss of newer entries: attempts may be missing, so none is decided."
            => "Compare with the banks' statements, then POST /api/treasury/payouts/resume.",
        BodyTooLarge = "body_too_large":
            "The body is larger than 1 MiB."
            => "Send a smaller body.",
        NotCallable = "not_callable":
            "The operation cannot be called here: it moves money, or it writes and was called by GET."
            => "Use POST for operations that write; money has a path of its own.",
        ProviderRefused = "provider_refused":
            "The provider rejected the request; the same request would be rejected again."
            => "Correct the parameters; `details.status_code` is the provider's status.",
        NoRoute = "no_route":
            "No bank of the route can take the payout, or the route is suspended or not valid; `details.candidates` has the \
             reason of each bank. 422 if banks are missing and `spec.whenNoneAvailable` is `Reject`."
            => "503: hold the payout and retry after `Retry-After`. 422: reject it. See the reasons of candidates.",
        RateLimited = "rate_limited":
            "The rate limit of the caller, or of an address without a valid token, key or signature, is exceeded."
            => "Retry after `Retry-After`; see --gateway-caller-rate, --gateway-consumer-rate and --gateway-address-rate.",
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
            "This replica is overloaded, its ledger is unavailable, or it runs a simulation or a verification for another call."
            => "Retry after `Retry-After`, or call another replica.",
    }
);

impl ErrorCode {
    /// The HTTP status, unless the error is final and has a [`final_status`](Self::final_status).
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::RightsDenied => StatusCode::FORBIDDEN,
            Self::NotFound
            | Self::JobNotFound
            | Self::RouteNotFound
            | Self::DecisionNotFound
            | Self::PayoutNotFound
            | Self::ConnectionNotFound
            | Self::OperationNotFound
            | Self::ItemNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict | Self::IdempotencyConflict | Self::AttemptUnresolved | Self::PayoutRefused => {
                StatusCode::CONFLICT
            }
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotCallable | Self::ProviderRefused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited | Self::RightsQuotaExhausted | Self::ConcurrencyLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ProviderFailed => StatusCode::BAD_GATEWAY,
            Self::CircuitOpen
            | Self::BulkheadFull
            | Self::QuotaExhausted
            | Self::Suspended
            | Self::NoRoute
            | Self::PayoutsSuspended
            | Self::AuthorizationUnavailable
            | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The HTTP status of the same code where a retry would fail again, if it has one.
    pub const fn final_status(self) -> Option<StatusCode> {
        match self {
            Self::NoRoute => Some(StatusCode::UNPROCESSABLE_ENTITY),
            _ => None,
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
