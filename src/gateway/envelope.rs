//! The form of every answer: `{"data": …, "detail": {"status_code", "status_name", "status_description"}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the request ended, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// The HTTP status as text.
    #[schema(pattern = "^[2-5][0-9]{2}$", example = "200")]
    pub status_code: String,
    /// Its name.
    #[schema(example = "OK")]
    pub status_name: String,
    /// What happened and, on an error, what to do.
    #[schema(example = "Success")]
    pub status_description: String,
}

impl Detail {
    /// Of a status and its description.
    pub fn new(status: StatusCode, description: impl Into<String>) -> Self {
        Self {
            status_code: status.as_str().to_owned(),
            status_name: status.canonical_reason().unwrap_or("Unknown").to_owned(),
            status_description: description.into(),
        }
    }
}

/// An answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Envelope<T> {
    /// What was asked for.
    pub data: T,
    /// How the request ended.
    pub detail: Detail,
}

impl<T> Envelope<T> {
    /// A good answer.
    pub fn ok(data: T) -> Self {
        Self { data, detail: Detail::new(StatusCode::OK, "Success") }
    }

    /// An order that was taken and will be carried out.
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
