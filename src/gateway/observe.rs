//! What surrounds every request: its id, its one log line, its numbers, and the net under a panic.
//!
//! Routes are told by their template, so that no name of a caller's becomes a label; the query is told nowhere.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use prometheus::{HistogramVec, IntCounterVec, IntGauge};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::domain::time::Mono;
use crate::gateway::Gateway;
use crate::gateway::problem::{ErrorCode, Problem};
use crate::metrics::{Metrics, MetricsError};
use crate::provider::trace::Incoming;

/// The header of the correlation id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest that any request may take: the longest deadline a caller may ask for, and time to read and to answer.
const LONGEST: Duration = Duration::from_secs(75);

/// The correlation id of a request.
#[derive(Copy, Clone, Debug)]
pub struct RequestId(pub Uuid);

/// The gateway's series.
#[derive(Clone)]
pub struct Series {
    requests: IntCounterVec,
    seconds: HistogramVec,
    panics: IntCounterVec,
    in_flight: IntGauge,
}

impl Series {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            requests: metrics.counter(
                "busbar_gateway_requests_total",
                "Requests to the gateway, by route template, method and status; 499: the caller went away.",
                &["route", "method", "status"],
            )?,
            seconds: metrics.seconds("busbar_gateway_request_seconds", "Time of a request.", &["route"])?,
            panics: metrics.counter(
                "busbar_gateway_panics_total",
                "Requests whose handling panicked: defects of Busbar.",
                &["route"],
            )?,
            in_flight: metrics
                .int_gauge("busbar_gateway_requests_in_flight", "Requests being handled.", &[])?
                .with_label_values::<&str>(&[]),
        })
    }
}

/// A request that is being handled; tells of its end even if its caller goes away.
struct Open<'a> {
    gateway: &'a Gateway,
    route: String,
    method: &'static str,
    id: Uuid,
    began: Mono,
    status: u16,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let took = self.gateway.clock.mono().since(self.began);
        let series = &self.gateway.series;
        series.in_flight.dec();
        series.requests.with_label_values(&[&*self.route, self.method, &self.status.to_string()]).inc();
        series.seconds.with_label_values(&[&*self.route]).observe(took.as_secs_f64());
        tracing::info!(
            method = self.method,
            route = self.route,
            status = self.status,
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            request_id = %self.id,
            "request"
        );
    }
}

/// The outermost layer.
pub async fn observe(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    // What is no UUID could carry anything into logs and rows.
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = given.and_then(|text| Uuid::parse_str(text).ok()).unwrap_or_else(Uuid::new_v4);
    request.extensions_mut().insert(RequestId(id));
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    gateway.series.in_flight.inc();
    let mut open = Open {
        gateway: &gateway,
        route,
        method: method(request.method()),
        id,
        began: gateway.clock.mono(),
        status: 499,
    };
    let span = tracing::info_span!("gateway", request_id = %id);
    let handled = AssertUnwindSafe(tokio::time::timeout(LONGEST, next.run(request))).catch_unwind();
    let mut response = match handled.instrument(span).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Problem::new(ErrorCode::RequestTimeout, "the request took too long").into_response(),
        Err(_) => {
            gateway.series.panics.with_label_values(&[&*open.route]).inc();
            tracing::error!(route = open.route, request_id = %id, "handling a request panicked: a defect in Busbar");
            Problem::new(ErrorCode::Internal, "a defect in Busbar: tell its makers, with the request's id")
                .into_response()
        }
    };
    open.status = response.status().as_u16();
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Just inside the door: the request's span, as a child of its caller's. Whoever is not known yet begins no trace, and
/// has no say in whether there is one.
pub async fn trace(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().map_or(Uuid::nil(), |id| id.0);
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let incoming = Incoming::of(gateway.registry.traces(), gateway.clock, request.headers());
    incoming.serve((method(request.method()), &route, id), next.run(request), Response::status).await
}

/// The method as a label: callers can send any word.
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
