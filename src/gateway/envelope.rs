//! The format of every response: `{"data": …, "detail": {"status_code", "status_name", "status_description"}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The result of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// The HTTP status as text.
    #[schema(pattern = "^[2-5][0-9]{2}$", example = "200")]
    pub status_code: String,
    /// The name of the HTTP status.
    #[schema(example = "OK")]
    pub status_name: String,
    /// A description and, on an error, what to do.
    #[schema(example = "Success")]
    pub status_description: String,
}

impl Detail {
    /// A detail with a status and a description.
    pub fn new(status: StatusCode, description: impl Into<String>) -> Self {
        Self {
            status_code: status.as_str().to_owned(),
            status_name: status.canonical_reason().unwrap_or("Unknown").to_owned(),
            status_description: description.into(),
        }
    }
}

/// A response.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Envelope<T> {
    /// The requested data.
    pub data: T,
    /// The result of the request.
    pub detail: Detail,
}

impl<T> Envelope<T> {
    /// A response with status 200.
    pub fn ok(data: T) -> Self {
        Self { data, detail: Detail::new(StatusCode::OK, "Success") }
    }

    /// A response with status 202: accepted and not yet processed.
    pub fn accepted(data: T) -> Self {
        Self { data, detail: Detail::new(StatusCode::ACCEPTED, "Accepted") }
    }
}

impl<T: Serialize> IntoResponse for Envelope<T> {
    fn into_response(self) -> Response {
        let status = self.detail.status_code.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
        (status.unwrap_or(StatusCode::OK), Json(self)).into_response()
    }
}
