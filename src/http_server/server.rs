//! Accepts connections and serves them, with a time-out on everything that a client could delay.
//!
//! The TLS handshake, reading headers and bodies and the time between two requests are bounded ([`ConnectionLimits`]); a
//! connection that sends nothing, half a header or only pings is closed, with HTTP/1.1 and HTTP/2. The numbers of
//! connections, in total and per address, are bounded before TLS, and so is what one connection can make the server
//! hold. On shutdown no more are accepted, active requests finish, and idle connections are closed at once.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::clock::Clock;
use crate::domain::log_limit::LogLimit;
use crate::http_server::activity::Activity;
use crate::http_server::body_deadline::with_deadline;
use crate::http_server::connection_limits::ConnectionLimits;
use crate::http_server::connection_table::{ConnectionTable, Place};
use crate::http_server::metrics::{Closed, ConnectionMetrics};
use crate::http_server::peer::Peer;
use crate::tasks::TaskGroup;

/// HTTP/2 keep-alive: ping interval, and time-out for the answer to a ping.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Maximum size of a request's headers, `CONTINUATION` frames included, which each HTTP/1.1 connection can make the server
/// hold before its token is known; a bearer token is a few kilobytes.
const MAX_HEADER_BYTES: u16 = 32 * 1024;
/// Concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;
/// Body bytes of one HTTP/2 connection that may be in memory before a handler reads them: the least that the protocol
/// allows, because bodies are parameters.
const BODY_WINDOW: u32 = 65_535;
/// Response bytes of one HTTP/2 request that wait in memory for a client that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// HTTP/2 requests that the client took back before they were handled, and errors that the client caused: beyond these
/// the connection is closed.
const MAX_RESET_STREAMS: usize = 20;
const MAX_STREAM_ERRORS: usize = 128;
/// Delay after a failed accept: without it, a process out of file descriptors would spin.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Time in which a connection that is closed for another one may end by the protocol's means: its place is needed.
const EVICTION_GRACE: Duration = Duration::from_millis(50);

/// An HTTP server on one port.
pub struct Server {
    /// The bound listener.
    pub listener: TcpListener,
    /// The request handler.
    pub app: Router,
    /// The TLS settings; `None`: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Limits on client connections.
    pub limits: ConnectionLimits,
    /// The clock.
    pub clock: Clock,
    /// The group of the connections' tasks.
    pub tasks: TaskGroup,
    /// The metrics of this port; `None`: nothing is counted.
    pub metrics: Option<ConnectionMetrics>,
}

impl Server {
    /// Serves until `stop` is cancelled, then waits for active requests to finish.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, app, tls, limits, clock, tasks, metrics } = self;
        let acceptor = tls.map(TlsAcceptor::from);
        let table = ConnectionTable::new(limits, metrics);
        let tasks = tasks.child();
        let mut lines = LogLimit::new(1);
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let activity = Activity::new(clock);
                    // Closed without a response: the client need not speak HTTP, or TLS.
                    let Some(place) = table.admit(address.ip(), &activity) else {
                        tracing::debug!(%address, "connection closed: too many connections");
                        continue;
                    };
                    let evicting = place.evicting;
                    let connection = ClientConnection {
                        app: app.clone(),
                        address,
                        limits,
                        activity,
                        stop: stop.clone(),
                        table: table.clone(),
                        place,
                        tasks: tasks.clone(),
                    };
                    tasks.spawn("connection", connection.open(stream, acceptor.clone()));
                    if evicting {
                        // The connection that made room closes, also if others wait to be accepted.
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) => {
                    if let Some(omitted) = lines.admit((), clock.mono()) {
                        tracing::warn!(%error, omitted, "accepting a connection failed; retrying");
                    }
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
        drop(listener);
        tasks.wait().await;
    }
}

struct ClientConnection {
    app: Router,
    address: SocketAddr,
    limits: ConnectionLimits,
    activity: Arc<Activity>,
    stop: CancellationToken,
    table: ConnectionTable,
    place: Place,
    tasks: TaskGroup,
}

impl ClientConnection {
    async fn open(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        // Responses are small and a client waits for each.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = acceptor else { return self.serve(stream).await };
        let (stop, evicted) = (self.stop.clone(), self.place.evicted.clone());
        tokio::select! {
            () = stop.cancelled() => {}
            () = evicted.cancelled() => {}
            handshake = tokio::time::timeout(self.limits.handshake, acceptor.accept(stream)) => match handshake {
                Ok(Ok(stream)) => self.serve(stream).await,
                // The client's fault: counted and not logged.
                Ok(Err(_)) | Err(_) => self.table.count(Closed::Handshake),
            }
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(self, stream: S) {
        let Self { app, address, limits, activity, stop, place, tasks, .. } = self;
        let service = {
            let activity = Arc::clone(&activity);
            service_fn(move |request: hyper::Request<Incoming>| {
                let active_request = activity.start_request();
                let mut request = request.map(|body| with_deadline(body, limits.idle));
                request.extensions_mut().insert(Peer(address));
                let response = app.clone().oneshot(request);
                async move {
                    let response = response.await;
                    drop(active_request);
                    response
                }
            })
        };
        let builder = builder(limits, tasks);
        // Connection errors are the client's fault and not logged.
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let evicted = async {
            place.evicted.cancelled().await;
            tokio::time::sleep(EVICTION_GRACE).await;
            activity.wait_idle(Duration::ZERO).await
        };
        let mut evicted = pin!(evicted);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.cancelled() => {}
            () = place.evicted.cancelled() => if !activity.had_request() { return },
            had_request = activity.wait_idle(limits.idle) => if !had_request { return },
        }
        // Closes by the protocol's means (GOAWAY or Connection: close); active requests finish.
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection.as_mut() => {}
            _ = activity.wait_idle(limits.idle + limits.close_grace) => {}
            _ = evicted.as_mut() => {}
        }
    }
}

/// Runs the requests of an HTTP/2 connection as tasks of the server's group.
#[derive(Clone)]
struct GroupExecutor(TaskGroup);

impl<F: Future<Output: Send + 'static> + Send + 'static> hyper::rt::Executor<F> for GroupExecutor {
    fn execute(&self, task: F) {
        self.0.spawn("http request", task);
    }
}

/// The protocol's settings.
fn builder(limits: ConnectionLimits, tasks: TaskGroup) -> Builder<GroupExecutor> {
    let mut builder = Builder::new(GroupExecutor(tasks));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(MAX_HEADER_BYTES.into())
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_header_list_size(MAX_HEADER_BYTES.into())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(BODY_WINDOW)
        .initial_connection_window_size(BODY_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_STREAM_ERRORS);
    builder
}
