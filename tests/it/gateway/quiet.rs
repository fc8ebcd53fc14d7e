//! Clients that hold a connection without a request: each is disconnected, and no address can use up all connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::routing::get;
use busbar::clock::Clock;
use busbar::gateway::connection_limits::ConnectionLimits;
use busbar::gateway::server::Server;
use busbar::gateway::tls::ServerCertificate;
use busbar::tasks::TaskGroup;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Long enough for a client on a busy machine to send its request, short enough to wait for.
const IDLE: Duration = Duration::from_millis(500);
/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const ONE: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

fn limits() -> ConnectionLimits {
    ConnectionLimits { handshake: IDLE, idle: IDLE, close_grace: IDLE, ..ConnectionLimits::default() }
}

/// A server with a fast and a slow path.
async fn serve(limits: ConnectionLimits, certificate: Option<&Arc<ServerCertificate>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let slow = || async {
        tokio::time::sleep(IDLE * 4).await;
        "well"
    };
    let app = axum::Router::new().route("/", get(|| async { "well" })).route("/slow", get(slow));
    let tls = certificate.map(|certificate| certificate.config().unwrap());
    let (clock, tasks) = (Clock::system(), TaskGroup::default());
    let server = Server { listener, app, tls, limits, clock, tasks, metrics: None };
    tokio::spawn(server.serve(CancellationToken::new()));
    address
}

/// Reads until the server closes the connection; returns the data.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut said = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the connection is closed");
    // A reset ends the connection too.
    drop(end);
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn a_client_that_sends_nothing_or_half_a_header_is_disconnected() {
    let address = serve(limits(), None).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    closed(&mut silent).await;

    // Half of the preface that distinguishes HTTP/2 from HTTP/1.1.
    let mut undecided = TcpStream::connect(address).await.unwrap();
    undecided.write_all(b"PRI * HT").await.unwrap();
    closed(&mut undecided).await;

    let (mut reading, mut writing) = TcpStream::connect(address).await.unwrap().into_split();
    let drip = tokio::spawn(async move {
        writing.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
        while writing.write_all(b"a").await.is_ok() {
            tokio::time::sleep(IDLE / 10).await;
        }
    });
    closed(&mut reading).await;
    drip.abort();
}

#[tokio::test]
async fn a_client_that_is_silent_after_the_handshake_is_disconnected() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let certificate = ServerCertificate::open(cert, key).unwrap();
    let address = serve(limits(), Some(&certificate)).await;

    let mut mute = TcpStream::connect(address).await.unwrap();
    closed(&mut mute).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    for protocol in ["http/1.1", "h2"] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut silent = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        closed(&mut silent).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_during_a_request() {
    let address = serve(limits(), None).await;
    let mut kept = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        kept.write_all(ONE).await.unwrap();
        let mut said = [0; 15];
        kept.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"HTTP/1.1 200 OK", "the connection serves more than one");
        while kept.read_u8().await.unwrap() != b'w' {}
        kept.read_exact(&mut [0; 3]).await.unwrap();
    }
    closed(&mut kept).await;

    let mut patient = TcpStream::connect(address).await.unwrap();
    patient.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let said = closed(&mut patient).await;
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("well"), "{said}");
}

#[tokio::test]
async fn an_http_2_client_that_only_pings_is_disconnected() {
    let address = serve(limits(), None).await;
    for asks in [false, true] {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(IDLE / 5)
            .keep_alive_while_idle(true)
            .handshake::<_, Body>(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        if asks {
            let request = hyper::Request::get(format!("http://{address}/slow")).body(Body::empty()).unwrap();
            assert_eq!(client.send_request(request).await.unwrap().status(), 200);
        }
        // The client is kept until here, and would keep its connection open.
        drop(tokio::time::timeout(PATIENCE, connection).await.expect("the connection is closed"));
        drop(client);
    }
}

#[tokio::test]
async fn connections_of_one_address_are_limited_and_their_places_released() {
    let address = serve(ConnectionLimits { per_address: 2, ..ConnectionLimits::default() }, None).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(ONE).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H', "the connection is served");
        held.push(stream);
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    assert_eq!(closed(&mut third).await, "");
    held.clear();
    let again = async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if stream.write_all(ONE).await.is_ok() && stream.read_u8().await.is_ok_and(|first| first == b'H') {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("the permits are released");
}

/// A request whose headers are `bytes` large, without their end.
fn begun_request(bytes: usize) -> Vec<u8> {
    let mut request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-large: ".to_vec();
    request.resize(bytes, b'x');
    request
}

#[tokio::test]
async fn headers_beyond_32_kib_are_refused_before_their_end() {
    let address = serve(ConnectionLimits::default(), None).await;
    let mut large = TcpStream::connect(address).await.unwrap();
    large.write_all(&begun_request(32 * 1024)).await.unwrap();
    let said = closed(&mut large).await;
    assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    let mut small = TcpStream::connect(address).await.unwrap();
    small.write_all(&begun_request(30 * 1024)).await.unwrap();
    small.write_all(b"\r\n\r\n").await.unwrap();
    let said = closed(&mut small).await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[tokio::test]
async fn headers_beyond_32_kib_are_refused_with_http_2_too() {
    let address = serve(ConnectionLimits::default(), None).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut client, connection) = builder.handshake::<_, Body>(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    for (kib, status) in [(30, 200), (33, 431), (58, 431), (1, 200)] {
        let request = hyper::Request::get(format!("http://{address}/")).header("x-large", "x".repeat(kib * 1024));
        client.ready().await.unwrap();
        let answer = client.send_request(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{kib} KiB");
    }
    connection.abort();
}
