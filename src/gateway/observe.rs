//! The middleware around every request: request ID, log line, metrics and panic handler.
//!
//! Routes are reported by template, so that no name of a request becomes a label; the query is never reported.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::domain::time::Mono;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::metrics::{AnswerSource, RequestKind};
use crate::gateway::problem::Problem;
use crate::gateway::state::Gateway;
use crate::provider::trace::{IncomingRequest, IncomingSpan};

/// The header of the correlation ID.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Time-out of every request: the longest deadline that a caller may set, plus time to read and to respond.
const MAX_REQUEST_TIME: Duration = Duration::from_secs(75);

/// The correlation ID of a request.
#[derive(Copy, Clone, Debug)]
pub struct RequestId(pub Uuid);

/// A request in progress; its drop records the end, even if the client closed the connection.
struct RequestRecord<'a> {
    gateway: &'a Gateway,
    route: String,
    method: &'static str,
    id: Uuid,
    began: Mono,
    status: u16,
    source: Option<AnswerSource>,
}

impl RequestRecord<'_> {
    /// Whether the request is logged: then the number of equal lines left out before. Requests that need no token, and
    /// those that are refused or fail, can come at any rate.
    fn log_line(&self) -> Option<u64> {
        if self.status < 400 && !matches!(&*self.route, "/livez" | "/readyz") {
            return Some(0);
        }
        let kind = RequestKind { route: self.route.clone(), method: self.method, status: self.status };
        let mut lines = self.gateway.metrics.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.admit(kind, self.gateway.clock.mono())
    }
}

impl Drop for RequestRecord<'_> {
    fn drop(&mut self) {
        let took = self.gateway.clock.mono().since(self.began);
        let metrics = &self.gateway.metrics;
        metrics.in_flight.dec();
        metrics.requests.with_label_values(&[&*self.route, self.method, &self.status.to_string()]).inc();
        metrics.seconds.with_label_values(&[&*self.route]).observe(took.as_secs_f64());
        if let Some(source) = self.source {
            metrics.answer_seconds.with_label_values(&[source.as_str()]).observe(took.as_secs_f64());
        }
        let Some(omitted) = self.log_line() else { return };
        tracing::info!(
            method = self.method,
            route = self.route,
            status = self.status,
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            request_id = %self.id,
            omitted,
            "request"
        );
    }
}

/// The outermost middleware.
pub async fn observe(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    // A value that is not a UUID could inject any text into logs and rows.
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = given.and_then(|text| Uuid::parse_str(text).ok()).unwrap_or_else(Uuid::new_v4);
    request.extensions_mut().insert(RequestId(id));
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    gateway.metrics.in_flight.inc();
    let mut record = RequestRecord {
        gateway: &gateway,
        route,
        method: method(request.method()),
        id,
        began: gateway.clock.mono(),
        status: 499,
        source: None,
    };
    let span = tracing::info_span!("gateway", request_id = %id);
    let handled = AssertUnwindSafe(tokio::time::timeout(MAX_REQUEST_TIME, next.run(request))).catch_unwind();
    let mut response = match handled.instrument(span).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Problem::new(ErrorCode::RequestTimeout, "the request timed out").into_response(),
        Err(_) => {
            gateway.metrics.panics.with_label_values(&[&*record.route]).inc();
            tracing::error!(route = record.route, request_id = %id, "request handler panicked; responding 500");
            Problem::new(ErrorCode::Internal, "internal error; report it with the request ID").into_response()
        }
    };
    record.status = response.status().as_u16();
    record.source = response.extensions().get().copied();
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Middleware after authentication: the request's span, as a child of the client's span. An unauthenticated client
/// cannot start a trace or set its sampling.
pub async fn trace(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().map_or(Uuid::nil(), |id| id.0);
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let incoming = IncomingSpan::from_headers(gateway.registry.traces(), gateway.clock, request.headers());
    let shown = IncomingRequest { method: method(request.method()), route: &route, id };
    incoming.serve(&shown, next.run(request), Response::status).await
}

/// The method as a label; a client can send any word as method.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
