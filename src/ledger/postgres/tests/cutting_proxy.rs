//! A proxy before a server, which cuts a connection around a COMMIT.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::store::database;
use crate::testbed::postgres::{PostgresServer, USER};

/// The message that ends a transaction, as the driver sends it.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// How the transactions begin that write, and those that only read.
const WRITING: &[u8] = b"READ COMMITTED\0";
const READING: &[u8] = b"READ ONLY\0";

/// Where the next COMMIT of a write is cut.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It reaches the server, whose answer is lost.
    Answer,
    /// It never reaches the server.
    Message,
}

/// A running proxy.
pub(super) struct CuttingProxy {
    port: u16,
    armed: Arc<AtomicBool>,
    serving: JoinHandle<()>,
}

impl CuttingProxy {
    pub(super) async fn start(server: &PostgresServer, cut: Cut) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (port, armed) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let (socket, armed_too) = (server.socket(), Arc::clone(&armed));
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, socket.clone(), cut, Arc::clone(&armed_too)));
            }
        });
        Self { port, armed, serving }
    }

    /// The URL of a database of the server, through the proxy.
    pub(super) fn url(&self, url: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{}?sslmode=disable", self.port, database(url))
    }

    /// The next COMMIT is cut.
    pub(super) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Whether a COMMIT has been cut since.
    pub(super) fn has_cut(&self) -> bool {
        !self.armed.load(Ordering::SeqCst)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Forwards one connection until an end closes it or it is cut.
async fn forward(mut client: TcpStream, socket: PathBuf, cut: Cut, armed: Arc<AtomicBool>) {
    let Ok(mut server) = UnixStream::connect(socket).await else { return };
    let has = |message: &[u8], text: &[u8]| message.windows(text.len()).any(|part| part == text);
    let mut writes = false;
    let (mut sent, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut sent) => {
                let Ok(length @ 1..) = read else { return };
                let message = &sent[..length];
                writes = (writes || has(message, WRITING)) && !has(message, READING);
                let is_cut = writes && has(message, COMMIT) && armed.swap(false, Ordering::SeqCst);
                if is_cut && cut == Cut::Message {
                    return;
                }
                if server.write_all(message).await.is_err() {
                    return;
                }
                if is_cut {
                    // The server has answered, so it has committed.
                    drop(server.read(&mut answered).await);
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
