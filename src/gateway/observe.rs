//! The middleware around every request: request ID, log line, metrics and panic handler; within it the guard of the route.
//!
//! Routes are reported by template, so that no name of a request becomes a label; the query is never reported.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use tracing::Instrument as _;
use uuid::{Builder, Uuid};

use crate::domain::time::Mono;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::guard::{RouteMethods, guarded};
use crate::gateway::metrics::{AnswerSource, RequestKind};
use crate::gateway::problem::Problem;
use crate::gateway::request_label::{RequestId, RequestLabel};
use crate::gateway::state::Gateway;

/// The header of the correlation ID.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Time-out of every request: the longest deadline that a caller may set, plus time to read and to respond.
const MAX_REQUEST_TIME: Duration = Duration::from_secs(75);

/// The route whose answers have no log line: each is a record of the audit, with the request's ID, and the route takes every
/// payout.
const RECORDED_ROUTE: &str = "/api/treasury/routing/decide";

/// The status of a request whose client closed the connection.
const CLIENT_CLOSED: (u16, &str) = (499, "499");

/// A request in progress; its drop records the end, even if the client closed the connection.
struct RequestRecord<'a> {
    gateway: &'a Gateway,
    label: RequestLabel,
    began: Mono,
    /// Of the response; `None` while there is none.
    status: Option<StatusCode>,
    source: Option<AnswerSource>,
}

impl RequestRecord<'_> {
    fn status(&self) -> u16 {
        self.status.map_or(CLIENT_CLOSED.0, |status| status.as_u16())
    }

    /// Whether the request is logged: then the number of equal lines left out before. Requests that need no token, and
    /// those that are refused or fail, can come at any rate.
    fn log_line(&self) -> Option<u64> {
        if self.status() < 400 && self.label.route() == RECORDED_ROUTE {
            return None;
        }
        if self.status() < 400 && !matches!(self.label.route(), "/livez" | "/readyz") {
            return Some(0);
        }
        let kind =
            RequestKind { route: self.label.route().to_owned(), method: self.label.method(), status: self.status() };
        let mut lines = self.gateway.metrics.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.admit(kind, self.gateway.clock.mono())
    }
}

impl Drop for RequestRecord<'_> {
    fn drop(&mut self) {
        let took = self.gateway.clock.mono().since(self.began);
        let metrics = &self.gateway.metrics;
        metrics.in_flight.dec();
        let status = self.status.as_ref().map_or(CLIENT_CLOSED.1, StatusCode::as_str);
        metrics.requests.with_label_values(&[self.label.route(), self.label.method(), status]).inc();
        metrics.seconds.with_label_values(&[self.label.route()]).observe(took.as_secs_f64());
        if let Some(source) = self.source {
            metrics.answer_seconds.with_label_values(&[source.as_str()]).observe(took.as_secs_f64());
        }
        let Some(omitted) = self.log_line() else { return };
        tracing::info!(
            method = self.label.method(),
            route = self.label.route(),
            status = self.status(),
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            request_id = %self.label.id(),
            omitted,
            "request"
        );
    }
}

/// The one middleware: each has the router clone and box what is below it, for each request.
pub(super) async fn observe(
    State((gateway, routes)): State<(Arc<Gateway>, Arc<RouteMethods>)>,
    mut request: Request,
    next: Next,
) -> Response {
    // A value that is not a UUID could inject any text into logs and rows.
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = given.and_then(|text| Uuid::parse_str(text).ok()).unwrap_or_else(random_id);
    request.extensions_mut().insert(RequestId(id));
    gateway.metrics.in_flight.inc();
    let mut record = RequestRecord {
        gateway: &gateway,
        label: RequestLabel::new(id, &request),
        began: gateway.clock.mono(),
        status: None,
        source: None,
    };
    let span = tracing::info_span!("gateway", request_id = %id);
    let handled = AssertUnwindSafe(tokio::time::timeout(
        MAX_REQUEST_TIME,
        guarded(&gateway, &routes, &record.label, request, next),
    ))
    .catch_unwind();
    let mut response = match handled.instrument(span).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Problem::new(ErrorCode::RequestTimeout, "the request timed out").into_response(),
        Err(_) => {
            gateway.metrics.panics.with_label_values(&[record.label.route()]).inc();
            tracing::error!(route = record.label.route(), request_id = %id, "request handler panicked; responding 500");
            Problem::new(ErrorCode::Internal, "internal error; report it with the request ID").into_response()
        }
    };
    record.status = Some(response.status());
    record.source = response.extensions().get().copied();
    if let Ok(value) = HeaderValue::from_str(id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer())) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A version 4 ID, without a system call for each.
fn random_id() -> Uuid {
    Builder::from_random_bytes(rand::random()).into_uuid()
}
