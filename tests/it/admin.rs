//! The admin port over real sockets: clients that hold connections, and clients that scrape at the same time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use busbar::admin::Admin;
use busbar::admin::gates::Gates;
use busbar::admin::metrics_access::MetricsAccess;
use busbar::clock::Clock;
use busbar::http_server::connection_limits::{ConnectionLimits, WhenAddressFull};
use busbar::http_server::metrics::PortMetrics;
use busbar::metrics::{BatchCollector, Metrics};
use busbar::tasks::TaskGroup;
use futures::future::join_all;
use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Opts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::kit::http::client;
use crate::kit::metrics;
use crate::kit::wait::PATIENCE;

/// Long enough for a client on a busy machine to send its request, short enough to wait for.
const IDLE: Duration = Duration::from_millis(500);

/// Limits that the test does not wait for.
fn patient(connections: usize, per_address: usize) -> ConnectionLimits {
    let long = Duration::from_mins(10);
    let when_address_full = WhenAddressFull::EvictIdle;
    ConnectionLimits { handshake: long, idle: long, close_grace: long, connections, per_address, when_address_full }
}

/// Serves the admin port with these metrics.
async fn serve(limits: ConnectionLimits, metrics: &Metrics) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = Admin {
        gates: Gates::default(),
        metrics: metrics.clone(),
        metrics_access: MetricsAccess::open(),
        log_level: None,
        clock: Clock::system(),
        tasks: TaskGroup::default(),
        connection_metrics: Some(PortMetrics::new(metrics).unwrap().of("admin")),
    };
    tokio::spawn(admin.serve_within(limits, listener, CancellationToken::new()));
    address
}

/// A connection from the address `127.0.0.<client>`.
async fn connect(address: SocketAddr, client: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, client], 0))).unwrap();
    socket.connect(address).await.unwrap()
}

/// Reads until the server closes the connection.
async fn closed(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset ends the connection too.
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the connection is closed"));
    String::from_utf8_lossy(&said).into_owned()
}

/// The response to a GET, on a connection of its own.
async fn get(address: SocketAddr, client: u8, path: &str) -> String {
    let mut stream = connect(address, client).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    closed(&mut stream).await
}

#[tokio::test]
async fn a_client_that_sends_nothing_or_half_a_header_is_disconnected() {
    let limits = ConnectionLimits { idle: IDLE, close_grace: IDLE, ..patient(10, 10) };
    let address = serve(limits, &Metrics::new()).await;
    closed(&mut connect(address, 2).await).await;
    let (mut reading, mut writing) = connect(address, 2).await.into_split();
    let drip = tokio::spawn(async move {
        writing.write_all(b"GET /livez HTTP/1.1\r\nx-slow: ").await.unwrap();
        while writing.write_all(b"a").await.is_ok() {
            tokio::time::sleep(IDLE / 10).await;
        }
    });
    let mut said = Vec::new();
    let end = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut said)).await;
    drop(end.expect("the connection is closed"));
    drip.abort();
}

#[tokio::test]
async fn probes_are_answered_however_many_connections_others_hold() {
    let metrics = Metrics::new();
    let address = serve(patient(16, 4), &metrics).await;
    let mut held = Vec::new();
    for client in 2..20 {
        for _ in 0..6 {
            let mut stream = connect(address, client).await;
            // Half a header, which is never completed.
            drop(stream.write_all(b"GET /livez HTTP/1.1\r\n").await);
            held.push(stream);
        }
    }
    // Also for clients behind the same address.
    for (client, path) in [(200, "/livez"), (200, "/metrics"), (5, "/livez"), (5, "/livez"), (19, "/metrics")] {
        let said = get(address, client, path).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{client} {path}: {said}");
    }
    let text = metrics.render().unwrap();
    let open = metrics::value(&text, "busbar_http_connections", &[("port", "admin")]).unwrap();
    assert!(open <= 18.0, "{open} connections");
    let labels = [("port", "admin"), ("cause", "evicted")];
    assert!(metrics::value(&text, "busbar_http_connections_closed_total", &labels) > Some(0.0), "{text}");
}

/// Counts the scrapes at the same time, and takes its time.
struct Slow {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    scrapes: Arc<AtomicUsize>,
}

impl BatchCollector for Slow {
    fn collect_batches(&self, take: &mut dyn FnMut(Vec<MetricFamily>)) {
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let gauge = IntGauge::with_opts(Opts::new("busbar_scrape", "The scrape.")).unwrap();
        gauge.set(i64::try_from(self.scrapes.fetch_add(1, Ordering::SeqCst)).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        take(gauge.collect());
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_scrape_at_the_same_time_share_one_scrape() {
    let metrics = Metrics::new();
    let [now, most, scrapes] = [(); 3].map(|()| Arc::<AtomicUsize>::default());
    metrics.batch_collector(Slow { now, most: Arc::clone(&most), scrapes });
    let address = serve(patient(100, 100), &metrics).await;
    let all = join_all((0..30).map(|_| get(address, 2, "/metrics"))).await;
    for said in &all {
        assert!(said.starts_with("HTTP/1.1 200") && said.contains("\nbusbar_scrape "), "{said}");
    }
    assert_eq!(most.load(Ordering::SeqCst), 1, "one scrape at a time");
    let text = client().get(format!("http://{address}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics::value(&text, "busbar_scrape", &[]) > Some(0.0), "a later client gets a new text");
}

#[tokio::test]
async fn requests_of_the_admin_port_are_small() {
    let address = serve(patient(10, 10), &Metrics::new()).await;
    let large = "x".repeat(33 * 1024);
    let answer = client().get(format!("http://{address}/livez")).header("x-large", large).send().await;
    // Or closed before the client has sent it all.
    if let Ok(answer) = answer {
        assert_eq!(answer.status(), 431);
    }
    assert!(get(address, 2, "/livez").await.starts_with("HTTP/1.1 200"));
    let mut stream = connect(address, 2).await;
    let half = b"GET /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\nconnection: close\r\n\r\n";
    stream.write_all(half).await.unwrap();
    let said = closed(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 200"), "answered without its body: {said}");
}
