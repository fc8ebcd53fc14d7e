//! The port of a bank: listens while the bank is up, refuses connections while it is down, and stays reserved
//! throughout.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::domain::time::Mono;
use crate::testbed::sim::abortable_stream::{AbortSwitch, AbortableStream};
use crate::testbed::sim::bank::Bank;
use crate::testbed::sim::counters::increment;
use crate::testbed::sim::script::Down;
use crate::testbed::sim::serve::{ConnectionContext, respond};

/// Ten thousand clients may connect at once; the kernel limits this to `somaxconn`.
const BACKLOG: u32 = 8_192;

/// Delay after a failed accept (usually out of file descriptors), to avoid a busy loop.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(20);

/// First byte of a TLS handshake record. No HTTP method starts with it, so one port can serve both.
const TLS_HANDSHAKE: u8 = 0x16;

/// A port that stays reserved whether it listens or not.
///
/// A spare socket is bound to it at all times without listening. While none listens, connections are refused, yet the
/// kernel does not assign the port to others; to listen again, the spare starts to listen and a new spare is bound.
#[derive(Debug)]
pub(crate) struct BankPort {
    pub(crate) address: SocketAddr,
    spare: TcpSocket,
    listener: Option<TcpListener>,
}

impl BankPort {
    /// Binds the port and listens.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let spare = bound(address)?;
        let mut port = Self { address: spare.local_addr()?, spare, listener: None };
        port.listen()?;
        Ok(port)
    }

    fn listen(&mut self) -> io::Result<()> {
        if self.listener.is_none() {
            let spare = std::mem::replace(&mut self.spare, bound(self.address)?);
            self.listener = Some(spare.listen(BACKLOG)?);
        }
        Ok(())
    }

    fn refuse(&mut self) {
        self.listener = None;
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        match &self.listener {
            Some(listener) => Ok(listener.accept().await?.0),
            None => std::future::pending().await,
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves a bank until it is stopped.
pub(crate) async fn run(bank: Arc<Bank>, mut port: BankPort) {
    let mut script = bank.script_version.subscribe();
    let mut connections = bank.stop.child_token();
    let mut hanging = Vec::new();
    let mut previous = None;
    loop {
        let version = *script.borrow_and_update();
        let now = bank.clock.mono();
        let (down, change) = bank.engine().map_or((None, None), |mut e| (e.down_mode(now), e.next_change(now)));
        if down != previous {
            hanging.clear();
            if down.is_some() {
                connections.cancel();
                connections = bank.stop.child_token();
            }
            previous = down;
        }
        if down == Some(Down::Refuse) {
            port.refuse();
        } else if let Err(error) = port.listen() {
            tracing::warn!(bank = bank.config.name, %error, "cannot listen; retrying");
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
        }
        bank.applied_version.send_replace(version);
        let accepted = tokio::select! {
            () = bank.stop.cancelled() => return,
            _ = script.changed() => continue,
            () = sleep_until(&bank, change) => continue,
            accepted = port.accept() => accepted,
        };
        match (accepted, down) {
            (Ok(tcp), None) => {
                tokio::spawn(handle_connection(bank.clone(), tcp, connections.clone()));
            }
            (Ok(tcp), Some(mode)) => {
                increment(&bank.counters.turned_away);
                if mode == Down::Hang {
                    hanging.push(tcp);
                }
                if let Some(mut engine) = bank.engine() {
                    engine.on_connect(bank.clock.mono());
                }
            }
            (Err(error), _) => {
                tracing::warn!(bank = bank.config.name, %error, "accept failed; retrying");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn sleep_until(bank: &Bank, change: Option<Mono>) {
    match change {
        Some(at) => bank.clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Counts an open connection until it is dropped.
struct OpenConnection<'a>(&'a Bank);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn handle_connection(bank: Arc<Bank>, tcp: TcpStream, closing: CancellationToken) {
    let number = bank.counters.connections.fetch_add(1, Ordering::Relaxed);
    increment(&bank.counters.open);
    let _open = OpenConnection(&bank);
    tokio::select! {
        biased;
        () = closing.cancelled() => {}
        () = detect_protocol(&bank, tcp, number) => {}
    }
}

/// Serves HTTP or, if the first byte is that of a TLS handshake, HTTPS.
async fn detect_protocol(bank: &Arc<Bank>, tcp: TcpStream, connection: u64) {
    // Responses are small and requested one at a time: Nagle's algorithm would only add latency.
    let _best_effort = tcp.set_nodelay(true);
    let mut first = [0];
    let Ok(1) = tcp.peek(&mut first).await else { return };
    let abort = Arc::new(AbortSwitch::default());
    let tls = first == [TLS_HANDSHAKE];
    let context = Arc::new(ConnectionContext { bank: bank.clone(), abort: abort.clone(), connection, tls });
    let stream = AbortableStream::new(tcp, abort);
    if !tls {
        serve(context, stream).await;
    } else if let Ok(secured) = bank.tls.accept(stream).await {
        serve(context, secured).await;
    } else {
        increment(&bank.counters.tls_failed);
    }
}

async fn serve<I: AsyncRead + AsyncWrite + Unpin>(context: Arc<ConnectionContext>, io: I) {
    let service = service_fn(move |request| respond(context.clone(), request));
    // An error is a disconnect of the client or an abort by the script; the connection is closed in both cases.
    let _closed = http1::Builder::new().serve_connection(TokioIo::new(io), service).await;
}
