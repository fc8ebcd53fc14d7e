//! A fault-injecting proxy in front of the API server.
//!
//! Plain HTTP on loopback towards the operator, TLS towards the API server; requests and responses pass unchanged, the
//! bodies of watches as a stream. A kubeconfig with the proxy's address directs the operator through it; all other
//! clients connect to the API server directly.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::testbed::control_plane::ControlPlane;
use crate::testbed::faults::error::FaultError;

/// Largest request body: far above any object of Busbar.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Hop-by-hop headers, which are not forwarded.
const HOP_BY_HOP: [HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::HOST, header::CONTENT_LENGTH];

/// How the proxy treats requests.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum ProxyMode {
    /// All requests pass.
    #[default]
    Pass,
    /// A percentage of the requests, watches included, is rejected by the proxy.
    Reject {
        /// Status of the response, e.g. 503 or 429.
        status: u16,
        /// Percentage of the requests, 0 to 100.
        percent: u8,
        /// `Retry-After` of the response.
        retry_after: Option<Duration>,
    },
    /// Watches wait for another mode; all other requests pass.
    HoldWatches,
    /// All requests wait for another mode.
    HoldAll,
}

struct ProxyState {
    upstream: reqwest::Client,
    target: String,
    mode: watch::Sender<ProxyMode>,
    /// Cancelled and replaced to cut every open watch.
    cut: watch::Sender<CancellationToken>,
    /// The same to silence every open watch.
    silenced: watch::Sender<CancellationToken>,
    requests: AtomicU64,
    rejected: AtomicU64,
    open_watches: AtomicU64,
}

/// A running proxy. Dropping it closes its port and breaks its watches.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<ProxyState>,
    stop: CancellationToken,
}

impl Proxy {
    /// Starts a proxy in front of the API server of `plane`.
    pub async fn start(plane: &ControlPlane) -> Result<Self, FaultError> {
        let authority = reqwest::Certificate::from_pem(plane.ca_pem().as_bytes())?;
        let upstream = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([authority])
            // One request per connection at a time, so that a slow one does not delay others.
            .http1_only()
            .build()?;
        let io = |what| move |source| FaultError::Io { what, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(io("bind the proxy"))?;
        let address = listener.local_addr().map_err(io("bind the proxy"))?;
        let shared = Arc::new(ProxyState {
            upstream,
            target: plane.url().to_owned(),
            mode: watch::Sender::new(ProxyMode::Pass),
            cut: watch::Sender::new(CancellationToken::new()),
            silenced: watch::Sender::new(CancellationToken::new()),
            requests: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            open_watches: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let app = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let stopped = stop.clone();
        tokio::spawn(async move {
            // No graceful shutdown: that would wait for watches.
            tokio::select! {
                () = stopped.cancelled() => {}
                result = axum::serve(listener, app) => drop(result),
            }
        });
        Ok(Self { address, shared, stop })
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the mode for requests from now on. Open watches continue; see [`Proxy::cut_watches`].
    pub fn set(&self, mode: ProxyMode) {
        self.shared.mode.send_replace(mode);
    }

    /// The current mode.
    pub fn mode(&self) -> ProxyMode {
        *self.shared.mode.borrow()
    }

    /// Breaks the connection of every open watch.
    pub fn cut_watches(&self) {
        self.shared.cut.send_replace(CancellationToken::new()).cancel();
    }

    /// Makes every open watch half-open: its connection stays, and nothing passes any more.
    pub fn silence_watches(&self) {
        self.shared.silenced.send_replace(CancellationToken::new()).cancel();
    }

    /// Number of open watches.
    pub fn open_watches(&self) -> u64 {
        self.shared.open_watches.load(Ordering::Relaxed)
    }

    /// Number of requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Number of requests that the proxy rejected.
    pub fn rejected(&self) -> u64 {
        self.shared.rejected.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        // Connection tasks outlive the listener: watches are cut, and held requests are rejected.
        self.cut_watches();
        self.set(ProxyMode::Reject { status: 503, percent: 100, retry_after: None });
    }
}

/// Counts an open watch until it is dropped.
struct OpenWatch(Arc<ProxyState>);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.open_watches.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn pass(State(shared): State<Arc<ProxyState>>, request: Request) -> Response {
    let number = shared.requests.fetch_add(1, Ordering::Relaxed);
    let query = request.uri().query().unwrap_or_default();
    let is_watch = query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
    if let Some(rejection) = admit(&shared, is_watch, number).await {
        shared.rejected.fetch_add(1, Ordering::Relaxed);
        return rejection;
    }
    // Read before the request is sent, so that a cut during the request applies to it too.
    let (cut, silenced) = (shared.cut.borrow().clone(), shared.silenced.borrow().clone());
    // As without the proxy when the API server is down: the connection breaks.
    let Ok(response) = forward(&shared, request).await else { return broken_response() };
    if !is_watch {
        return response;
    }
    shared.open_watches.fetch_add(1, Ordering::Relaxed);
    let open = OpenWatch(shared);
    let (head, body) = response.into_parts();
    let cancelled =
        futures::future::select(Box::pin(cut.clone().cancelled_owned()), Box::pin(silenced.clone().cancelled_owned()));
    let chunks = body.into_data_stream().take_until(cancelled).chain(futures::stream::once(async move {
        if silenced.is_cancelled() {
            cut.cancelled().await;
        }
        drop(open);
        // A broken connection, not the end of the body, with which the API server ends a watch.
        if cut.is_cancelled() { Err(axum::Error::new(WatchCut)) } else { Ok(bytes::Bytes::new()) }
    }));
    Response::from_parts(head, Body::from_stream(chunks))
}

#[derive(Debug, thiserror::Error)]
#[error("the proxy cut the connection")]
struct WatchCut;

/// Waits while the mode holds the request back; the response if the mode rejects it.
async fn admit(shared: &ProxyState, is_watch: bool, number: u64) -> Option<Response> {
    let mut mode = shared.mode.subscribe();
    loop {
        let current = *mode.borrow_and_update();
        match current {
            ProxyMode::Pass => return None,
            ProxyMode::HoldWatches if !is_watch => return None,
            // 37 has no common factor with 100, so the rejected requests are spread evenly.
            ProxyMode::Reject { percent, .. } if number * 37 % 100 >= u64::from(percent) => return None,
            ProxyMode::Reject { status, retry_after, .. } => return Some(rejection(status, retry_after)),
            ProxyMode::HoldWatches | ProxyMode::HoldAll => {}
        }
        if mode.changed().await.is_err() {
            return None;
        }
    }
}

/// The response of an overloaded API server, or of a load balancer in front of one: text, not a `Status`.
fn rejection(status: u16, retry_after: Option<Duration>) -> Response {
    let mut response = Response::new(Body::from("no healthy upstream"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    if let Some(after) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
    }
    response
}

/// A response whose connection breaks before the end of the body.
fn broken_response() -> Response {
    Response::new(Body::from_stream(futures::stream::once(async { Err::<bytes::Bytes, _>(WatchCut) })))
}

async fn forward(shared: &ProxyState, request: Request) -> Result<Response, Box<reqwest::Error>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else { return Ok(rejection(413, None)) };
    let upstream = shared
        .upstream
        .request(head.method, format!("{}{path}", shared.target))
        .headers(end_to_end(&head.headers))
        .body(body)
        .send()
        .await
        .map_err(Box::new)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = upstream.status();
    *response.headers_mut() = end_to_end(upstream.headers());
    *response.body_mut() = Body::from_stream(upstream.bytes_stream());
    Ok(response)
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}
