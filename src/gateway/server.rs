//! Takes connections and serves them, with a limit on everything that a caller could drag out.
//!
//! A peer has so long to shake hands, so long to ask, and so long between two requests ([`Patience`]); one that says
//! nothing, says half a header or only pings is closed, whatever it speaks. The numbers of connections, of all and of one
//! address, are bounded. At the end no more are taken, requests under way finish, and idle connections are closed at once.

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
use crate::gateway::access::Peer;
use crate::gateway::patience::{Patience, Pulse, Seat, Seats};

/// An HTTP/2 peer that does not answer a ping in time is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Headers of a request together; a bearer token is a few kilobytes.
const HEADERS_BYTES: u16 = 60 * 1024;
/// Requests at once over one HTTP/2 connection.
const STREAMS: u32 = 100;
/// Pause after a failed accept: out of file descriptors, trying at once would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What serves.
pub struct Server {
    /// Where connections come in.
    pub listener: TcpListener,
    /// What answers.
    pub app: Router,
    /// How TLS is spoken; `None`: not at all.
    pub tls: Option<Arc<ServerConfig>>,
    /// What peers may take.
    pub patience: Patience,
    /// Time.
    pub clock: Clock,
}

impl Server {
    /// Serves until `stop`, then lets requests under way finish.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, app, tls, patience, clock } = self;
        let acceptor = tls.map(TlsAcceptor::from);
        let slots = Arc::new(Semaphore::new(patience.connections));
        let seats = Seats::new(patience.per_address);
        let connections = TaskTracker::new();
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
                    // One that has too many already: closed without a word, for it may not even speak HTTP.
                    let Some(seat) = seats.take(address.ip()) else {
                        tracing::debug!(%address, "an address has all the connections that one may have");
                        continue;
                    };
                    let connection = Connection {
                        app: app.clone(),
                        peer: Peer(address),
                        patience,
                        clock,
                        stop: stop.clone(),
                        _places: (slot, seat),
                    };
                    connections.spawn(connection.open(stream, acceptor.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the gateway cannot take a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }
}

struct Connection {
    app: Router,
    peer: Peer,
    patience: Patience,
    clock: Clock,
    stop: CancellationToken,
    _places: (Option<OwnedSemaphorePermit>, Seat),
}

impl Connection {
    async fn open(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        // Answers are small and somebody waits for each.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = acceptor else { return self.serve(stream).await };
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            handshake = tokio::time::timeout(self.patience.handshake, acceptor.accept(stream)) => {
                // What is no TLS, or too slow, is the peer's affair.
                if let Ok(Ok(stream)) = handshake {
                    self.serve(stream).await;
                }
            }
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(self, stream: S) {
        let (app, peer, patience) = (self.app, self.peer, self.patience);
        let pulse = Pulse::new(self.clock);
        let service = {
            let pulse = Arc::clone(&pulse);
            service_fn(move |request: hyper::Request<Incoming>| {
                let under_way = pulse.begin();
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(peer);
                let answer = app.clone().oneshot(request);
                async move {
                    let answer = answer.await;
                    drop(under_way);
                    answer
                }
            })
        };
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(patience.idle)
            .max_buf_size(HEADERS_BYTES.into())
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .max_header_list_size(HEADERS_BYTES.into())
            .max_concurrent_streams(STREAMS);
        // A broken connection is the peer's affair too.
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.stop.cancelled() => {}
            asked = pulse.idle(patience.idle) => if !asked { return },
        }
        // The peer is told, in the way of its protocol; what is under way is finished.
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection.as_mut() => {}
            _ = pulse.idle(patience.idle + patience.farewell) => {}
        }
    }
}
