//! A provider that answers every request but health checks with something too large, too deep or too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const MIB: usize = 1024 * 1024;
/// What a body without an end is cut at, so that a client that reads it all fails by itself.
const MOST: usize = 64 * MIB;

/// One way to answer.
struct Attack {
    head: String,
    /// Sent over and over.
    part: Arc<str>,
    times: usize,
    /// Pause after each part.
    pause: Duration,
    end: &'static str,
}

/// The server, for as long as the runtime.
pub(crate) struct HostileProvider {
    pub(crate) url: String,
    answered: Arc<AtomicUsize>,
}

impl HostileProvider {
    /// Starts it. The attacks take turns, over all connections.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (attacks, answered) = (Arc::new(attacks()), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&answered);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (attacks, count) = (Arc::clone(&attacks), Arc::clone(&count));
                tokio::spawn(async move {
                    // The client closes in the middle of most answers.
                    let _closed = serve(socket, &attacks, &count).await;
                });
            }
        });
        Self { url, answered }
    }

    /// The number of attacks so far.
    pub(crate) fn attacks(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }
}

/// The attacks, each bounded by [`MOST`].
fn attacks() -> Vec<Attack> {
    let ok = |headers: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}\r\n")
    };
    let repeated = |text: &str| -> Arc<str> { text.repeat(MIB / text.len()).into() };
    let endless = |head: String, part: &str| {
        let part = repeated(part);
        let times = MOST / part.len();
        Attack { head, part, times, pause: Duration::ZERO, end: "" }
    };
    // 4 MB with their brackets, so that they are read and parsed as a whole.
    let whole = |start: &str, record: &str, end: &'static str| {
        let times = (4 * MIB - 64) / record.len();
        let part: Arc<str> = record.into();
        let length = start.len() + times * part.len() + end.len();
        let pause = Duration::ZERO;
        Attack { head: format!("{}{start}", ok(&format!("content-length: {length}\r\n"))), part, times, pause, end }
    };
    let text = format!("{{\"id\":\"1\",\"text\":\"{}\"}},", "x".repeat(400));
    let headers: Vec<String> = (0..90).map(|n| format!("x-{n}: {}\r\n", "h".repeat(4000))).collect();
    let slow = Attack { pause: Duration::from_millis(500), ..endless(ok(""), r#"{"id":"1"},"#) };
    vec![
        endless(format!("{}[", ok("")), r#"{"a":0},"#),
        endless(format!("{}[", ok("content-length: 16777216\r\n")), r#"{"a":0},"#),
        whole("[", r#"{"id":"1","a":{"b":[{}]}},"#, "{}]"),
        whole("[", &text, "{}]"),
        whole("[\"", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "\"]"),
        whole("[", "12345678901234567890123456789012", "]"),
        endless(ok(""), "["),
        endless(format!("{}{{", ok("")), r#""a":1,"#),
        endless(format!("{}[\"", ok("")), "x"),
        endless(ok(&headers.concat()), "x"),
        endless(ok("content-encoding: gzip\r\n"), "x"),
        endless("HTTP/1.1 500 Broken\r\nconnection: close\r\n\r\n".to_owned(), "<html>"),
        slow,
    ]
}

async fn serve(mut socket: TcpStream, attacks: &[Attack], count: &AtomicUsize) -> std::io::Result<()> {
    let mut head = Vec::new();
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await?);
        }
        if !head.starts_with(b"GET /health ") {
            break;
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await?;
    }
    let attack = &attacks[count.fetch_add(1, Ordering::Relaxed) % attacks.len()];
    socket.write_all(attack.head.as_bytes()).await?;
    for _ in 0..attack.times {
        socket.write_all(attack.part.as_bytes()).await?;
        if !attack.pause.is_zero() {
            tokio::time::sleep(attack.pause).await;
        }
    }
    socket.write_all(attack.end.as_bytes()).await
}
