//! Takes connections and serves them, with a limit on everything that a caller could drag out.
//!
//! A connection that is slow to send its headers, or idle between requests, is closed; more than `CONNECTIONS` at once
//! wait. At the end no more are taken, requests under way finish, and idle connections are closed at once.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::gateway::access::Peer;

/// Connections at once: some kilobytes each. Further ones wait in the kernel's queue.
const CONNECTIONS: usize = 2_048;
/// For the whole of a request's headers; between two requests it is the idle time too.
const HEADERS_WITHIN: Duration = Duration::from_secs(20);
/// For the TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// An HTTP/2 peer that does not answer a ping in time is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Headers of a request together; a bearer token is a few kilobytes.
const HEADERS_BYTES: u16 = 60 * 1024;
/// Requests at once over one HTTP/2 connection.
const STREAMS: u32 = 100;
/// Pause after a failed accept: out of file descriptors, trying at once would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `app` until `stop`, then lets requests under way finish.
pub async fn serve(listener: TcpListener, app: Router, tls: Option<Arc<ServerConfig>>, stop: CancellationToken) {
    let acceptor = tls.map(TlsAcceptor::from);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let connection = Connection {
                    app: app.clone(),
                    peer: Peer(address),
                    watcher: graceful.watcher(),
                    stop: stop.clone(),
                    _slot: slot,
                };
                tokio::spawn(connection.open(stream, acceptor.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the gateway cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

struct Connection {
    app: Router,
    peer: Peer,
    watcher: Watcher,
    stop: CancellationToken,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn open(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        // Answers are small and somebody waits for each.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = acceptor else { return self.serve(stream).await };
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            handshake = tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)) => {
                // What is no TLS, or too slow, is the peer's affair.
                if let Ok(Ok(stream)) = handshake {
                    self.serve(stream).await;
                }
            }
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(self, stream: S) {
        let (app, peer) = (self.app, self.peer);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            app.clone().oneshot(request)
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .max_buf_size(HEADERS_BYTES.into())
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .max_header_list_size(HEADERS_BYTES.into())
            .max_concurrent_streams(STREAMS);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        // A broken connection is the peer's affair too.
        let _ = self.watcher.watch(connection.into_owned()).await;
    }
}
