//! A bank's port: listens while the bank is up, refuses while it is down, and stays the bank's own in between.

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

use crate::testbed::sim::arrivals::bump;
use crate::testbed::sim::bank::Bank;
use crate::testbed::sim::script::Down;
use crate::testbed::sim::serve::{Visit, answer};
use crate::testbed::sim::wire::{Cut, Wire};

/// Ten thousand clients may come at once; the kernel cuts this to `somaxconn`.
const BACKLOG: u32 = 8_192;

/// After a failed accept (mostly: no file descriptors left), so that the loop does not spin.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(20);

/// First byte of a TLS handshake record. No HTTP method begins so, and one port can serve both.
const TLS_HANDSHAKE: u8 = 0x16;

/// A port that is kept, listening or not.
///
/// A second socket is bound to it all the time without listening. While nobody listens connections are refused, yet
/// the kernel hands the port out to nobody who asks for a free one; to listen again, the spare listens and a new spare is bound.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    spare: TcpSocket,
    listener: Option<TcpListener>,
}

impl Port {
    /// Takes the port and listens.
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
pub(crate) async fn run(bank: Arc<Bank>, mut port: Port) {
    let mut script = bank.wished.subscribe();
    let mut connections = bank.stop.child_token();
    let mut hanging = Vec::new();
    let mut before = None;
    loop {
        let version = *script.borrow_and_update();
        let now = bank.clock.mono();
        let (line, change) = bank.playing().map_or((None, None), |mut e| (e.line(now), e.next_change(now)));
        if line != before {
            hanging.clear();
            if line.is_some() {
                connections.cancel();
                connections = bank.stop.child_token();
            }
            before = line;
        }
        if line == Some(Down::Refuse) {
            port.refuse();
        } else if let Err(error) = port.listen() {
            tracing::warn!(bank = bank.config.name, %error, "cannot listen again");
            tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
        }
        bank.in_force.send_replace(version);
        let accepted = tokio::select! {
            () = bank.stop.cancelled() => return,
            _ = script.changed() => continue,
            () = until(&bank, change) => continue,
            accepted = port.accept() => accepted,
        };
        match (accepted, line) {
            (Ok(tcp), None) => {
                tokio::spawn(connection(bank.clone(), tcp, connections.clone()));
            }
            (Ok(tcp), Some(how)) => {
                bump(&bank.counters.turned_away);
                if how == Down::Hang {
                    hanging.push(tcp);
                }
                if let Some(mut engine) = bank.playing() {
                    engine.on_connect(bank.clock.mono());
                }
            }
            (Err(error), _) => {
                tracing::warn!(bank = bank.config.name, %error, "accept failed");
                tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
            }
        }
    }
}

async fn until(bank: &Bank, change: Option<crate::domain::time::Mono>) {
    match change {
        Some(at) => bank.clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Counts a connection for as long as it lives.
struct Open<'a>(&'a Bank);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(bank: Arc<Bank>, tcp: TcpStream, closing: CancellationToken) {
    let number = bank.counters.connections.fetch_add(1, Ordering::Relaxed);
    bump(&bank.counters.open);
    let _open = Open(&bank);
    tokio::select! {
        biased;
        () = closing.cancelled() => {}
        () = talk(&bank, tcp, number) => {}
    }
}

async fn talk(bank: &Arc<Bank>, tcp: TcpStream, connection: u64) {
    // Answers are small and asked for one by one: waiting to fill a segment would only be latency.
    let _best_effort = tcp.set_nodelay(true);
    let mut first = [0];
    let Ok(1) = tcp.peek(&mut first).await else { return };
    let cut = Arc::new(Cut::default());
    let tls = first == [TLS_HANDSHAKE];
    let visit = Arc::new(Visit { bank: bank.clone(), cut: cut.clone(), connection, tls });
    let wire = Wire::new(tcp, cut);
    if !tls {
        serve(visit, wire).await;
    } else if let Ok(secured) = bank.tls.accept(wire).await {
        serve(visit, secured).await;
    } else {
        bump(&bank.counters.tls_failed);
    }
}

async fn serve<I: AsyncRead + AsyncWrite + Unpin>(visit: Arc<Visit>, io: I) {
    let service = service_fn(move |request| answer(visit.clone(), request));
    // An error here is the peer's going or a cut of our own: either way this connection is over.
    let _over = http1::Builder::new().serve_connection(TokioIo::new(io), service).await;
}
