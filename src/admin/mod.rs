//! The admin port: `/livez`, `/readyz`, `/metrics` and the log level.
//!
//! Probes need no token here, and scrapers need one only with `--metrics-auth=kubernetes` ([`metrics_access`]). So it
//! exposes nothing but gates and metrics, and the only mutable setting, the log level, is accepted from loopback only
//! (`kubectl port-forward` connects from there).

pub mod gates;
pub mod metrics_access;

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::gates::Gates;
use crate::admin::metrics_access::MetricsAccess;
use crate::metrics::Metrics;
use crate::telemetry::LogLevel;

/// State served by the admin port.
#[derive(Clone)]
pub struct Admin {
    /// Gates of `/readyz`.
    pub gates: Gates,
    /// Registry of `/metrics`.
    pub metrics: Metrics,
    /// Who may read `/metrics`.
    pub metrics_access: MetricsAccess,
    /// Log level of `/log-level`; `None` if this process did not install the subscriber.
    pub log_level: Option<LogLevel>,
}

impl Admin {
    /// Serves on `listener` until `stop` is cancelled.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        let app = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/log-level", get(log_level).put(set_log_level))
            .with_state(self)
            .into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let (ready, text) = admin.gates.report();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

async fn metrics(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    if let Err(denied) = admin.metrics_access.check(&headers, peer.ip()).await {
        return denied.into_response();
    }
    // Some hundred milliseconds at ten thousand connections: must not block an async worker that probes need.
    match tokio::task::spawn_blocking(move || admin.metrics.scrape()).await {
        Ok(Ok(parts)) => {
            let parts = parts.into_iter().map(Ok::<_, std::convert::Infallible>);
            let body = Body::from_stream(futures::stream::iter(parts));
            ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], body).into_response()
        }
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal error: the scrape panicked\n").into_response(),
    }
}

async fn log_level(State(admin): State<Admin>) -> Response {
    match &admin.log_level {
        Some(level) => format!("{}\n", level.get()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn set_log_level(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    body: String,
) -> Response {
    if !peer.ip().is_loopback() {
        return (StatusCode::FORBIDDEN, "the log level can be changed from loopback only; use kubectl port-forward\n")
            .into_response();
    }
    let Some(level) = &admin.log_level else { return StatusCode::NOT_FOUND.into_response() };
    match level.set(body.trim()) {
        Ok(()) => {
            tracing::info!(level = body.trim(), "log level changed");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}
