//! The format of every response: `{"data": …, "detail": {"status_code", "status_name", "status_description"}}`.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Memory for most bodies, a decision with its candidates among them: a body that grows is copied.
const USUAL_BODY: usize = 4 * 1024;

/// The result of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// The HTTP status as text.
    #[schema(pattern = "^[2-5][0-9]{2}$", example = "200")]
    pub status_code: Cow<'static, str>,
    /// The name of the HTTP status.
    #[schema(example = "OK")]
    pub status_name: Cow<'static, str>,
    /// A description and, on an error, what to do.
    #[schema(example = "Success")]
    pub status_description: Cow<'static, str>,
}

impl Detail {
    /// A detail with a status and a description.
    pub fn new(status: StatusCode, description: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status_code: status_code(status),
            status_name: Cow::Borrowed(status.canonical_reason().unwrap_or("Unknown")),
            status_description: description.into(),
        }
    }
}

/// The digits of a status; those of most answers without an allocation.
fn status_code(status: StatusCode) -> Cow<'static, str> {
    match status {
        StatusCode::OK => Cow::Borrowed("200"),
        StatusCode::ACCEPTED => Cow::Borrowed("202"),
        other => Cow::Owned(other.as_str().to_owned()),
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
        let mut body = Vec::with_capacity(USUAL_BODY);
        // Writing into memory fails only for a map whose keys are no texts, and no view has one.
        if serde_json::to_writer(&mut body, &self).is_err() {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        let json = HeaderValue::from_static("application/json");
        (status.unwrap_or(StatusCode::OK), [(header::CONTENT_TYPE, json)], body).into_response()
    }
}
