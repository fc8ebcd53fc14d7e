//! A provider that plays a script on each TCP connection: responses no HTTP server would send.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::time::Mono;
use busbar::provider::connection::Connection;
use busbar::settings::Draft;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::connections::{connect, draft, with_quick_retries};

/// What the server does next on a connection; after the last action it closes.
#[derive(Clone)]
pub(super) enum Action {
    Send(Vec<u8>),
    Pause(Duration),
    /// Sends nothing more and keeps the connection open.
    Hang,
    Reset,
    /// Sends zeros until the client stops reading.
    Flood,
}

/// Sends this text.
pub(super) fn send(text: impl Into<String>) -> Action {
    Action::Send(text.into().into_bytes())
}

/// A whole response.
pub(super) fn response(status: &str, headers: &str, body: &str) -> Vec<Action> {
    let length = body.len();
    vec![send(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"))]
}

/// A good response: `{"ok":true}`.
pub(super) fn ok_response() -> Vec<Action> {
    response("200 OK", "content-type: application/json\r\n", r#"{"ok":true}"#)
}

/// The server. Each connection is one request and the next script; the last script repeats.
pub(super) struct ScriptedServer {
    pub(super) url: String,
    arrivals: Arc<Mutex<Vec<Mono>>>,
    flooded: Arc<Mutex<u64>>,
}

impl ScriptedServer {
    pub(super) async fn start(scripts: Vec<Vec<Action>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (clock, arrivals, flooded) = (Clock::system(), Arc::default(), Arc::default());
        let server = Self { url, arrivals: Arc::clone(&arrivals), flooded: Arc::clone(&flooded) };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let script = {
                    let mut arrivals = arrivals.lock().unwrap();
                    arrivals.push(clock.mono());
                    scripts.get(arrivals.len() - 1).or(scripts.last()).cloned().unwrap()
                };
                tokio::spawn(play(socket, script, Arc::clone(&flooded)));
            }
        });
        server
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> usize {
        self.arrivals.lock().unwrap().len()
    }

    /// The time between the first two requests.
    pub(super) fn gap(&self) -> Duration {
        let arrivals = self.arrivals.lock().unwrap();
        arrivals[1].since(arrivals[0])
    }

    /// Bytes that floods have sent.
    pub(super) fn flooded_bytes(&self) -> u64 {
        *self.flooded.lock().unwrap()
    }

    /// A connection to it with quick retries and a breaker that never opens, with further changes.
    pub(super) fn connect(&self, change: impl FnOnce(&mut Draft)) -> Arc<Connection> {
        let mut draft = with_quick_retries(draft(self.url.clone()));
        change(&mut draft);
        connect(draft)
    }
}

async fn play(mut socket: TcpStream, script: Vec<Action>, flooded: Arc<Mutex<u64>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    for action in script {
        match action {
            Action::Send(bytes) => {
                if socket.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Action::Pause(time) => tokio::time::sleep(time).await,
            Action::Hang => {
                let _closed_by_the_client = socket.read_u8().await;
                return;
            }
            Action::Reset => {
                let _ = socket.set_zero_linger();
                return;
            }
            Action::Flood => {
                while let Ok(n) = socket.write(&[b'0'; 16 * 1024]).await {
                    *flooded.lock().unwrap() += n as u64;
                }
                return;
            }
        }
    }
}
