//! Accepts connections and serves them, with a time-out on everything that a client could delay.
//!
//! The TLS handshake, reading the headers and the time between two requests are bounded ([`ConnectionLimits`]); a
//! connection that sends nothing, half a header or only pings is closed, with HTTP/1.1 and HTTP/2. The numbers of
//! connections, in total and per address, are bounded. On shutdown no more are accepted, active requests finish, and
//! idle connections are closed at once.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::clock::Clock;
use crate::gateway::authenticate::Peer;
use crate::gateway::connection_limits::{Activity, ConnectionLimits, PerIpLimit, PerIpPermit};

/// HTTP/2 keep-alive: ping interval, and time-out for the answer to a ping.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Maximum size of a request's headers; a bearer token is a few kilobytes.
const MAX_HEADER_BYTES: u16 = 60 * 1024;
/// Concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;
/// Delay after a failed accept: without it, a process out of file descriptors would spin.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The gateway's HTTP server.
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
}

impl Server {
    /// Serves until `stop` is cancelled, then waits for active requests to finish.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, app, tls, limits, clock } = self;
        let acceptor = tls.map(TlsAcceptor::from);
        let total_limit = Arc::new(Semaphore::new(limits.connections));
        let per_ip_limit = PerIpLimit::new(limits.per_address);
        let connections = TaskTracker::new();
        loop {
            let accepted = async {
                let total_permit = Arc::clone(&total_limit).acquire_owned().await.ok();
                (listener.accept().await, total_permit)
            };
            let (accepted, total_permit) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    // Closed without a response: the client need not speak HTTP, or TLS.
                    let Some(per_ip_permit) = per_ip_limit.try_acquire(address.ip()) else {
                        tracing::debug!(%address, "connection closed: too many connections from this address");
                        continue;
                    };
                    let connection = ClientConnection {
                        app: app.clone(),
                        peer: Peer(address),
                        limits,
                        clock,
                        stop: stop.clone(),
                        _permits: (total_permit, per_ip_permit),
                    };
                    connections.spawn(connection.open(stream, acceptor.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a gateway connection failed; retrying");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }
}

struct ClientConnection {
    app: Router,
    peer: Peer,
    limits: ConnectionLimits,
    clock: Clock,
    stop: CancellationToken,
    _permits: (Option<OwnedSemaphorePermit>, PerIpPermit),
}

impl ClientConnection {
    async fn open(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        // Responses are small and a client waits for each.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = acceptor else { return self.serve(stream).await };
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            handshake = tokio::time::timeout(self.limits.handshake, acceptor.accept(stream)) => {
                // A failed or slow handshake is the client's fault and not logged.
                if let Ok(Ok(stream)) = handshake {
                    self.serve(stream).await;
                }
            }
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(self, stream: S) {
        let (app, peer, limits) = (self.app, self.peer, self.limits);
        let activity = Activity::new(self.clock);
        let service = {
            let activity = Arc::clone(&activity);
            service_fn(move |request: hyper::Request<Incoming>| {
                let active_request = activity.start_request();
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(peer);
                let response = app.clone().oneshot(request);
                async move {
                    let response = response.await;
                    drop(active_request);
                    response
                }
            })
        };
        let mut builder = Builder::new(TokioExecutor::new());
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
            .max_concurrent_streams(MAX_STREAMS);
        // Connection errors are the client's fault and not logged.
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.stop.cancelled() => {}
            had_request = activity.wait_idle(limits.idle) => if !had_request { return },
        }
        // Closes by the protocol's means (GOAWAY or Connection: close); active requests finish.
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection.as_mut() => {}
            _ = activity.wait_idle(limits.idle + limits.close_grace) => {}
        }
    }
}
