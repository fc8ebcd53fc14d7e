//! The admin port: `/livez`, `/readyz`, `/metrics` and the log level.
//!
//! Probes need no token here, and scrapers need one only with `--metrics-auth=kubernetes` ([`metrics_access`]). So it
//! exposes nothing but gates and metrics, and the only mutable setting, the log level, is accepted from loopback only
//! (`kubectl port-forward` connects from there).
//!
//! Any client in the cluster can connect, and a kubelet whose probe gets no answer kills the process. So the port has the
//! gateway's server with limits of its own, and scrapes are shared (`scrape`).

pub mod gates;
pub mod metrics_access;
mod scrape;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::gates::Gates;
use crate::admin::metrics_access::MetricsAccess;
use crate::admin::scrape::{ScrapeText, Scraper};
use crate::clock::Clock;
use crate::http_server::connection_limits::{ConnectionLimits, WhenAddressFull};
use crate::http_server::server::Server;
use crate::http_server::{ConnectionMetrics, Peer};
use crate::metrics::Metrics;
use crate::tasks::TaskGroup;
use crate::telemetry::LogLevel;

/// Maximum size of a request body: log directives.
const MAX_BODY: usize = 4 * 1024;
/// Time-out of a request, from its headers to the headers of the response: two reviews, or a scrape of a busy process.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections of this port: the probes of one kubelet and a few scrapers, and enough that a client with many does not
/// reach the total. Where addresses are translated, such a client may have the kubelet's address.
const LIMITS: ConnectionLimits = ConnectionLimits {
    handshake: Duration::from_secs(10),
    idle: Duration::from_secs(20),
    close_grace: Duration::from_secs(10),
    connections: 256,
    per_address: 64,
    when_address_full: WhenAddressFull::EvictIdle,
};

/// State served by the admin port.
pub struct Admin {
    /// Gates of `/readyz`.
    pub gates: Gates,
    /// Registry of `/metrics`.
    pub metrics: Metrics,
    /// Who may read `/metrics`.
    pub metrics_access: MetricsAccess,
    /// Log level of `/log-level`; `None` if this process did not install the subscriber.
    pub log_level: Option<LogLevel>,
    /// The clock.
    pub clock: Clock,
    /// The group of the port's tasks.
    pub tasks: TaskGroup,
    /// Metrics of the port's connections; `None`: nothing is counted.
    pub connection_metrics: Option<ConnectionMetrics>,
}

/// What the handlers share.
#[derive(Clone)]
struct Handlers {
    gates: Gates,
    scraper: Scraper,
    metrics_access: MetricsAccess,
    log_level: Option<LogLevel>,
}

impl Admin {
    /// Serves on `listener` until `stop` is cancelled.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        self.serve_within(LIMITS, listener, stop).await;
    }

    /// The same, with other limits on connections.
    pub async fn serve_within(self, limits: ConnectionLimits, listener: TcpListener, stop: CancellationToken) {
        let Self { gates, metrics, metrics_access, log_level, clock, tasks, connection_metrics } = self;
        let scraper = Scraper::new(metrics, tasks.clone());
        let app = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_text))
            .route("/log-level", get(get_log_level).put(set_log_level))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(from_fn(limit_time))
            .with_state(Handlers { gates, scraper, metrics_access, log_level });
        Server { listener, app, tls: None, limits, clock, tasks, metrics: connection_metrics }.serve(stop).await;
    }
}

/// Middleware: ends a request that takes too long, such as one whose body does not come.
async fn limit_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request timed out\n").into_response(),
    }
}

async fn readyz(State(admin): State<Handlers>) -> Response {
    let (ready, text) = admin.gates.report();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

async fn metrics_text(
    State(admin): State<Handlers>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    if let Err(denied) = admin.metrics_access.check(&headers, peer.ip()).await {
        return denied.into_response();
    }
    match admin.scraper.scrape().await {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], body(text)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The parts of the text, one after another.
fn body(text: Arc<ScrapeText>) -> Body {
    let parts = (0..text.len()).filter_map(move |n| text.get(n).cloned()).map(Ok::<_, std::convert::Infallible>);
    Body::from_stream(futures::stream::iter(parts))
}

async fn get_log_level(State(admin): State<Handlers>) -> Response {
    match &admin.log_level {
        Some(level) => format!("{}\n", level.get()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn set_log_level(
    State(admin): State<Handlers>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Response {
    // Before the body is read.
    if !peer.ip().is_loopback() {
        return (StatusCode::FORBIDDEN, "the log level can be changed from loopback only; use kubectl port-forward\n")
            .into_response();
    }
    let Some(level) = &admin.log_level else { return StatusCode::NOT_FOUND.into_response() };
    let directives = match String::from_request(request, &()).await {
        Ok(directives) => directives,
        Err(rejection) => return rejection.into_response(),
    };
    match level.set(directives.trim()) {
        Ok(()) => {
            tracing::info!(level = directives.trim(), "log level changed");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}
