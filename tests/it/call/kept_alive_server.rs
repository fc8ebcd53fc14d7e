//! Providers that end kept-alive connections: over HTTP/1.1 between two requests, over HTTP/2 by GOAWAY.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use busbar::metrics::Metrics;
use busbar::provider::connection::Connection;
use busbar::settings::Draft;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::kit::connections::{apply, draft, registry};
use crate::kit::metrics::value;

/// How a connection ends at its second request.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// The request is read, then the connection is closed without an answer.
    CloseAfterRequest,
    /// The same by a reset.
    ResetAfterRequest,
    /// The connection is closed while the request arrives.
    CloseAtFirstByte,
    /// Closed without an answer, as is each further connection.
    CloseForGood,
    /// HTTP/2: GOAWAY with this last stream; the request is stream 3.
    GoAway(u32),
    /// HTTP/2: the stream is refused.
    RefusedStream,
    /// HTTP/2: the stream is reset with another error.
    ResetStream,
    /// HTTP/2: closed without a frame.
    CloseHttp2,
}

impl Ending {
    const fn is_http2(self) -> bool {
        matches!(self, Self::GoAway(_) | Self::RefusedStream | Self::ResetStream | Self::CloseHttp2)
    }
}

/// What the server has seen.
#[derive(Default, Debug)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// The server: the first request of each connection is answered, the second one ends the connection.
pub(super) struct KeptAliveServer {
    pub(super) url: String,
    ca: Option<Vec<u8>>,
    seen: Arc<Seen>,
}

impl KeptAliveServer {
    pub(super) async fn start(ending: Ending) -> Self {
        Self::answering(ending, "{}").await
    }

    /// Answers with this body; over HTTP/2 always with `{}`.
    pub(super) async fn answering(ending: Ending, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Seen>::default();
        let shared = Arc::clone(&seen);
        let (ca, acceptor) = if ending.is_http2() {
            let (ca, acceptor) = tls();
            (Some(ca), Some(acceptor))
        } else {
            (None, None)
        };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (seen, acceptor) = (Arc::clone(&shared), acceptor.clone());
                let nth = seen.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // The client may close first.
                    let _closed = match acceptor {
                        Some(acceptor) => match acceptor.accept(socket).await {
                            Ok(socket) => http2(socket, ending, &seen).await,
                            Err(error) => Err(error),
                        },
                        None => http1(socket, ending, body, nth, &seen).await,
                    };
                });
            }
        });
        let scheme = if ca.is_some() { "https" } else { "http" };
        Self { url: format!("{scheme}://127.0.0.1:{port}"), ca, seen }
    }

    /// Connections so far.
    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Requests that arrived so far, whatever became of them.
    pub(super) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// A connection to it, and what reads the number of requests that were sent again.
    pub(super) fn connect(&self, change: impl FnOnce(&mut Draft)) -> (Arc<Connection>, impl Fn() -> u64) {
        let mut draft = draft(self.url.clone());
        draft.tls.ca.clone_from(&self.ca);
        change(&mut draft);
        let (registry, metrics) = registry();
        (apply(&registry, draft), move || resends(&metrics))
    }
}

/// The number of requests that were sent again.
pub(super) fn resends(metrics: &Metrics) -> u64 {
    let found = value(&metrics.render().unwrap(), "busbar_provider_resends_total", &[("provider", "generic")]);
    found.map_or(0, |count| count.to_string().parse().unwrap())
}

async fn http1(mut socket: TcpStream, ending: Ending, body: &str, nth: usize, seen: &Seen) -> std::io::Result<()> {
    read_request(&mut socket).await?;
    seen.requests.fetch_add(1, Ordering::SeqCst);
    if ending == Ending::CloseForGood && nth > 0 {
        return Ok(());
    }
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
    socket.write_all(format!("{head} {length}\r\n\r\n{body}").as_bytes()).await?;
    if ending == Ending::CloseAtFirstByte {
        socket.read_u8().await?;
        seen.requests.fetch_add(1, Ordering::SeqCst);
        return Ok(());
    }
    read_request(&mut socket).await?;
    seen.requests.fetch_add(1, Ordering::SeqCst);
    if ending == Ending::ResetAfterRequest {
        socket.set_zero_linger()?;
    }
    Ok(())
}

/// Reads a whole request: what is left of its body would be taken for the next one.
async fn read_request(socket: &mut TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    socket.read_exact(&mut vec![0; length.unwrap_or(0)]).await?;
    Ok(())
}

/// Frames of HTTP/2 (RFC 9113), as few as it takes.
async fn http2(mut socket: impl AsyncRead + AsyncWrite + Unpin, ending: Ending, seen: &Seen) -> std::io::Result<()> {
    const HEADERS: u8 = 1;
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).await?;
    socket.write_all(&frame(4, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], stream) {
            // SETTINGS without ACK.
            (4, _) if head[4] & 1 == 0 => socket.write_all(&frame(4, 1, 0, &[])).await?,
            (HEADERS, 1) => {
                seen.requests.fetch_add(1, Ordering::SeqCst);
                // `:status: 200` of the static table, then `{}`.
                socket.write_all(&frame(HEADERS, 4, 1, &[0x88])).await?;
                socket.write_all(&frame(0, 1, 1, b"{}")).await?;
            }
            (HEADERS, _) => {
                seen.requests.fetch_add(1, Ordering::SeqCst);
                let code = |code: u32| code.to_be_bytes();
                match ending {
                    Ending::GoAway(last) => {
                        let payload = [code(last), code(0)].concat();
                        socket.write_all(&frame(7, 0, 0, &payload)).await?;
                    }
                    Ending::RefusedStream => socket.write_all(&frame(3, 0, stream, &code(7))).await?,
                    Ending::ResetStream => socket.write_all(&frame(3, 0, stream, &code(2))).await?,
                    _ => {}
                }
                socket.flush().await?;
                socket.shutdown().await?;
                // Until the client has read it all and closes too.
                while socket.read(&mut [0; 1024]).await? > 0 {}
                return Ok(());
            }
            _ => {}
        }
        socket.flush().await?;
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A CA to trust, PEM, and an acceptor that speaks HTTP/2.
fn tls() -> (Vec<u8>, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (made.cert.pem().into_bytes(), TlsAcceptor::from(Arc::new(config)))
}
