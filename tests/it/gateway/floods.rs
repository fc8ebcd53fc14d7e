//! Clients that flood the server: half-open handshakes, idle connections, and HTTP/2 used against its purpose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::routing::{get, post};
use busbar::clock::Clock;
use busbar::http_server::connection_limits::ConnectionLimits;
use busbar::http_server::metrics::PortMetrics;
use busbar::http_server::server::Server;
use busbar::metrics::Metrics;
use busbar::tasks::TaskGroup;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::kit::wait::{PATIENCE, eventually};

const ONE: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// Limits that the test does not wait for: it is not a time-out that makes room.
fn patient(connections: usize, per_address: usize) -> ConnectionLimits {
    let long = Duration::from_mins(10);
    ConnectionLimits {
        handshake: long,
        idle: long,
        close_grace: long,
        connections,
        per_address,
        ..ConnectionLimits::default()
    }
}

/// A server that counts its requests; those for `/hold` end with their connection.
struct Flooded {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    holding: Arc<AtomicUsize>,
    max_holding: Arc<AtomicUsize>,
    metrics: Metrics,
}

/// Counts a request while it lives.
struct Holding(Arc<AtomicUsize>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Flooded {
    async fn start(limits: ConnectionLimits, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let [requests, holding, max_holding] = [(); 3].map(|()| Arc::<AtomicUsize>::default());
        let count = Arc::clone(&requests);
        let one = move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { "well" }
        };
        let (now, most) = (Arc::clone(&holding), Arc::clone(&max_holding));
        let hold = move || {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let held = Holding(Arc::clone(&now));
            async move {
                std::future::pending::<()>().await;
                drop(held);
            }
        };
        let echo = |body: Result<Bytes, BytesRejection>| async move { if body.is_ok() { "whole" } else { "failed" } };
        let app = axum::Router::new().route("/", get(one)).route("/hold", get(hold)).route("/echo", post(echo));
        let metrics = Metrics::new();
        let port = PortMetrics::new(&metrics).unwrap().of("gateway");
        let (clock, tasks) = (Clock::system(), TaskGroup::default());
        let server = Server { listener, app, tls, limits, clock, tasks, metrics: Some(port) };
        tokio::spawn(server.serve(CancellationToken::new()));
        Self { address, requests, holding, max_holding, metrics }
    }

    /// A connection from the address `127.0.0.<client>`.
    async fn connect(&self, client: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, client], 0))).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// The same, after one request.
    async fn served(&self, client: u8) -> TcpStream {
        let mut stream = self.connect(client).await;
        request(&mut stream).await.expect("the connection is served");
        stream
    }

    /// Connections closed for `cause`.
    fn closed(&self, cause: &str) -> f64 {
        let labels = [("port", "gateway"), ("cause", cause)];
        crate::kit::metrics::value(&self.metrics.render().unwrap(), "busbar_http_connections_closed_total", &labels)
            .unwrap_or_default()
    }
}

/// Makes a request and reads its response.
async fn request(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(ONE).await?;
    let mut said = Vec::new();
    while !said.ends_with(b"well") {
        said.push(stream.read_u8().await?);
    }
    Ok(())
}

/// Waits until the server closes the connection; returns what it sent.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset ends the connection too.
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the connection is closed"));
    said
}

#[tokio::test]
async fn half_open_handshakes_of_two_addresses_keep_no_third_one_out() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let tls = busbar::gateway::tls::ServerCertificate::open(cert, key).unwrap().config().unwrap();
    let server = Flooded::start(patient(8, 4), Some(tls)).await;
    let mut half_open = Vec::new();
    for client in [2, 3] {
        for _ in 0..4 {
            let mut stream = server.connect(client).await;
            // The beginning of a ClientHello.
            stream.write_all(&[0x16, 0x03, 0x01, 0x02]).await.unwrap();
            half_open.push(stream);
        }
    }
    let mut fifth = server.connect(2).await;
    assert!(closed(&mut fifth).await.is_empty(), "one address has four places");
    assert!(server.closed("address") >= 1.0);
    let root = reqwest::Certificate::from_pem(pair.cert.pem().as_bytes()).unwrap();
    let client =
        reqwest::Client::builder().no_proxy().tls_certs_only([root]).local_address(Some([127, 0, 0, 4].into()));
    let url = format!("https://localhost:{}/", server.address.port());
    let answer = client.timeout(PATIENCE).build().unwrap().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(server.closed("evicted") >= 1.0);
    closed(&mut half_open[0]).await;
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_a_new_client_but_not_for_its_own_address() {
    let server = Flooded::start(patient(4, 3), None).await;
    let mut oldest = server.served(2).await;
    let mut others = vec![server.served(2).await, server.served(2).await];
    let mut lone = server.served(3).await;
    others.push(server.served(4).await);
    closed(&mut oldest).await;
    // More of the addresses that have most take their own places.
    others.push(server.served(2).await);
    request(&mut lone).await.expect("an address with one connection keeps it");
}

#[tokio::test]
async fn connections_with_a_request_are_not_closed_for_others() {
    let server = Flooded::start(patient(2, 2), None).await;
    let mut held = Vec::new();
    for client in [2, 3] {
        let mut stream = server.connect(client).await;
        stream.write_all(b"GET /hold HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        held.push(stream);
    }
    eventually("both requests are held", async || server.holding.load(Ordering::SeqCst) == 2).await;
    let mut third = server.connect(4).await;
    assert!(closed(&mut third).await.is_empty());
    assert!(server.closed("full") >= 1.0);
    drop(held);
    eventually("the places are free", async || request(&mut server.connect(4).await).await.is_ok()).await;
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_ends_its_request() {
    let limits = ConnectionLimits { idle: Duration::from_secs(2), ..patient(2, 2) };
    let server = Flooded::start(limits, None).await;
    let mut stream = server.connect(2).await;
    stream.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let drip = tokio::spawn(async move {
        while writing.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut said = Vec::new();
    drop(tokio::time::timeout(PATIENCE, reading.read_to_end(&mut said)).await.expect("the connection is closed"));
    drip.abort();
    let said = String::from_utf8_lossy(&said);
    assert!(said.ends_with("failed"), "{said}");
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The preface of a client.
fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

/// The header block of a GET.
fn get_block(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    // From the static table: GET, http; literals: the path, the authority.
    [&[0x82, 0x86, 0x44, length], path.as_bytes(), &[0x41, 0x01, b'x']].concat()
}

#[tokio::test]
async fn a_client_that_opens_and_resets_streams_is_disconnected() {
    const STREAMS: u32 = 20_000;
    let server = Flooded::start(ConnectionLimits::default(), None).await;
    let mut stream = server.connect(2).await;
    let mut flood = preface();
    for n in 0..STREAMS {
        let id = n * 2 + 1;
        flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, id, &get_block("/")));
        flood.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    let (mut reading, mut writing) = stream.split();
    let mut said = Vec::new();
    let write = async {
        // Fails when the server has closed the connection.
        drop(writing.write_all(&flood).await);
    };
    let read = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut said));
    let (read, ()) = tokio::join!(read, write);
    drop(read.expect("the connection is closed"));
    let handled = server.requests.load(Ordering::SeqCst);
    assert!(handled < 2_000, "{handled} of {STREAMS} requests were handled");
    server.served(3).await;
}

#[tokio::test]
async fn a_client_whose_headers_do_not_end_is_disconnected() {
    let server = Flooded::start(ConnectionLimits::default(), None).await;
    let mut stream = server.connect(2).await;
    stream.write_all(&preface()).await.unwrap();
    stream.write_all(&frame(HEADERS, END_STREAM, 1, &get_block("/"))).await.unwrap();
    // Literal headers `a: b` without an index.
    let more = frame(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b'].repeat(3_000));
    let (mut reading, mut writing) = stream.split();
    let flood = async {
        let mut sent = 0;
        // The kernel's buffers take some megabytes.
        while sent < 256 << 20 && writing.write_all(&more).await.is_ok() {
            sent += more.len();
        }
        sent
    };
    let mut said = Vec::new();
    let (read, sent) = tokio::join!(tokio::time::timeout(PATIENCE, reading.read_to_end(&mut said)), flood);
    drop(read.expect("the connection is closed"));
    assert!(sent < 64 << 20, "{sent} bytes of headers");
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
    server.served(3).await;
}

#[tokio::test]
async fn one_http_2_connection_has_a_hundred_requests_in_flight() {
    let server = Flooded::start(ConnectionLimits::default(), None).await;
    let mut stream = server.connect(2).await;
    let mut flood = preface();
    for n in 0..200 {
        flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, n * 2 + 1, &get_block("/hold")));
    }
    stream.write_all(&flood).await.unwrap();
    eventually("requests are held", async || server.max_holding.load(Ordering::SeqCst) >= 100).await;
    server.served(3).await;
    assert_eq!(server.max_holding.load(Ordering::SeqCst), 100);
    drop(stream);
    eventually("they end with their connection", async || server.holding.load(Ordering::SeqCst) == 0).await;
}
