//! A proxy before the API server, with bad weather on order.
//!
//! Plain HTTP on loopback towards the operator, TLS towards the API server; requests and answers pass as they are, the
//! bodies of watches as they come. The operator is led through it by a kubeconfig with another address; everybody else
//! goes to the API server as ever.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
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
use crate::testbed::trouble::TroubleError;

/// Largest request body: far above any object of ours.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Headers that belong to one connection, not to the request.
const HOP_BY_HOP: [HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::HOST, header::CONTENT_LENGTH];

/// What happens to requests.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    /// They pass.
    #[default]
    Fair,
    /// So many of a hundred are answered with this status by the proxy, watches too.
    Storm {
        /// Status of the answer, e.g. 503 or 429.
        status: u16,
        /// How many of a hundred.
        percent: u8,
        /// `Retry-After` of the answer.
        retry_after: Option<Duration>,
    },
    /// Watches wait for other weather; everything else passes.
    NoWatches,
    /// Everything waits for other weather.
    Silence,
}

struct Shared {
    upstream: reqwest::Client,
    target: String,
    weather: watch::Sender<Weather>,
    /// Cancelled and replaced to cut every open watch.
    cut: watch::Sender<CancellationToken>,
    requests: AtomicU64,
    refused: AtomicU64,
    open_watches: AtomicU64,
}

/// A running proxy. Dropping it closes its port and its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Proxy {
    /// Starts one before the API server of `plane`.
    pub async fn start(plane: &ControlPlane) -> Result<Self, TroubleError> {
        let authority = reqwest::Certificate::from_pem(plane.ca_pem().as_bytes())?;
        let upstream = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([authority])
            // One request a connection at a time, as far as order goes: what is slow holds up nothing else.
            .http1_only()
            .build()?;
        let io = |what| move |source| TroubleError::Io { what, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(io("bind the proxy"))?;
        let address = listener.local_addr().map_err(io("bind the proxy"))?;
        let shared = Arc::new(Shared {
            upstream,
            target: plane.url().to_owned(),
            weather: watch::Sender::new(Weather::Fair),
            cut: watch::Sender::new(CancellationToken::new()),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            open_watches: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let app = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let stopped = stop.clone();
        tokio::spawn(async move {
            // Not its graceful end: that would wait for watches.
            tokio::select! {
                () = stopped.cancelled() => {}
                ended = axum::serve(listener, app) => drop(ended),
            }
        });
        Ok(Self { address, shared, stop })
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A copy of a kubeconfig, beside it, that leads through this proxy.
    pub fn kubeconfig(&self, original: &Path) -> Result<PathBuf, TroubleError> {
        let io = |what| move |source| TroubleError::Io { what, source };
        let text = std::fs::read_to_string(original).map_err(io("read a kubeconfig"))?;
        let led = text.replace(&self.shared.target, &self.url());
        let path = original.with_extension(format!("proxy-{}", self.address.port()));
        std::fs::write(&path, led).map_err(io("write a kubeconfig"))?;
        Ok(path)
    }

    /// Changes the weather. What was answered already, open watches too, goes on: see [`Proxy::cut_watches`].
    pub fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// The weather.
    pub fn weather(&self) -> Weather {
        *self.shared.weather.borrow()
    }

    /// Cuts every open watch in the middle.
    pub fn cut_watches(&self) {
        self.shared.cut.send_replace(CancellationToken::new()).cancel();
    }

    /// How many watches are open now.
    pub fn open_watches(&self) -> u64 {
        self.shared.open_watches.load(Ordering::Relaxed)
    }

    /// How many requests came, and how many of them the weather refused.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.requests.load(Ordering::Relaxed), self.shared.refused.load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        // Spawned connections outlive the listener; what they carry is cut, and what waits is answered.
        self.cut_watches();
        self.set(Weather::Storm { status: 503, percent: 100, retry_after: None });
    }
}

/// Counts an open watch for as long as it lives.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open_watches.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let number = shared.requests.fetch_add(1, Ordering::Relaxed);
    let query = request.uri().query().unwrap_or_default();
    let is_watch = query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
    if let Some(refusal) = wait_out(&shared, is_watch, number).await {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        return refusal;
    }
    // Before the request is sent: a cut that comes while it is under way is meant for it too.
    let cut = shared.cut.borrow().clone();
    // As when the API server is away: the operator's side of the connection is of no use either.
    let Ok(answer) = forward(&shared, request).await else { return broken() };
    if !is_watch {
        return answer;
    }
    shared.open_watches.fetch_add(1, Ordering::Relaxed);
    let open = Open(shared);
    let (head, body) = answer.into_parts();
    let ended = cut.clone().cancelled_owned();
    let pieces = body.into_data_stream().take_until(ended).chain(futures::stream::once(async move {
        drop(open);
        // Not the end of the body, which would be the API server's own: the connection breaks.
        if cut.is_cancelled() { Err(axum::Error::new(Cut)) } else { Ok(bytes::Bytes::new()) }
    }));
    Response::from_parts(head, Body::from_stream(pieces))
}

#[derive(Debug, thiserror::Error)]
#[error("the proxy cut the connection")]
struct Cut;

/// Waits while the weather says so; the answer if it refuses.
async fn wait_out(shared: &Shared, is_watch: bool, number: u64) -> Option<Response> {
    let mut weather = shared.weather.subscribe();
    loop {
        let now = *weather.borrow_and_update();
        match now {
            Weather::Fair => return None,
            Weather::NoWatches if !is_watch => return None,
            // The numbers are spread by a step that has no factor in common with a hundred.
            Weather::Storm { percent, .. } if number * 37 % 100 >= u64::from(percent) => return None,
            Weather::Storm { status, retry_after, .. } => return Some(refusal(status, retry_after)),
            Weather::NoWatches | Weather::Silence => {}
        }
        if weather.changed().await.is_err() {
            return None;
        }
    }
}

/// The answer of an API server that has had enough, or of a load balancer before one: text, not a `Status`.
fn refusal(status: u16, retry_after: Option<Duration>) -> Response {
    let mut response = Response::new(Body::from("no healthy upstream"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    if let Some(after) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
    }
    response
}

/// An answer that breaks before its end.
fn broken() -> Response {
    Response::new(Body::from_stream(futures::stream::once(async { Err::<bytes::Bytes, _>(Cut) })))
}

async fn forward(shared: &Shared, request: Request) -> Result<Response, Box<reqwest::Error>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else { return Ok(refusal(413, None)) };
    let answer = shared
        .upstream
        .request(head.method, format!("{}{path}", shared.target))
        .headers(end_to_end(&head.headers))
        .body(body)
        .send()
        .await
        .map_err(Box::new)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = end_to_end(answer.headers());
    *response.body_mut() = Body::from_stream(answer.bytes_stream());
    Ok(response)
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}
