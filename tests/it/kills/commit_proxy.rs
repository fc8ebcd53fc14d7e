//! A way to PostgreSQL that loses the answer to a COMMIT.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// The server's message that a COMMIT is done: type, length, tag.
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

/// What happens to the next answer to a COMMIT.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Loss {
    /// It passes.
    None,
    /// It is withheld for ever; the connection stays open.
    Held,
    /// It is lost with the connection.
    Cut,
    /// One was lost.
    Done,
}

/// Forwards connections to a server.
pub(super) struct CommitProxy {
    address: SocketAddr,
    loss: Arc<AtomicU8>,
    stop: CancellationToken,
}

impl CommitProxy {
    /// Forwards to the server of this URL.
    pub(super) async fn start(url: &str) -> Self {
        let upstream = authority(url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy =
            Self { address: listener.local_addr().unwrap(), loss: Arc::default(), stop: CancellationToken::new() };
        let (loss, stop) = (Arc::clone(&proxy.loss), proxy.stop.clone());
        tokio::spawn(async move {
            while let Some(Ok((client, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (upstream, loss, stop) = (upstream.clone(), Arc::clone(&loss), stop.clone());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(&upstream).await else { return };
                    stop.run_until_cancelled(forward(client, server, &loss)).await;
                });
            }
        });
        proxy
    }

    /// The URL through the proxy; without TLS, so that it can read the answers.
    pub(super) fn url(&self, url: &str) -> String {
        let (location, _) = url.split_once('?').unwrap_or((url, ""));
        format!("{}?sslmode=disable", location.replacen(authority(url), &self.address.to_string(), 1))
    }

    /// Loses the next answer.
    pub(super) fn lose(&self, loss: Loss) {
        self.loss.store(loss as u8, Ordering::SeqCst);
    }

    /// Whether it was lost.
    pub(super) fn has_lost(&self) -> bool {
        self.loss.load(Ordering::SeqCst) == Loss::Done as u8
    }
}

impl Drop for CommitProxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").expect("a URL").1;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    rest[..end].rsplit('@').next().unwrap_or(rest)
}

async fn forward(client: TcpStream, server: TcpStream, loss: &AtomicU8) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = copy(from_client, to_server, None) => {}
        () = copy(from_server, to_client, Some(loss)) => {}
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, loss: Option<&AtomicU8>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(loss) = loss
            && buffer[..read].windows(COMMITTED.len()).any(|window| window == COMMITTED)
        {
            let lost = |kind: Loss| {
                loss.compare_exchange(kind as u8, Loss::Done as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            };
            if lost(Loss::Held) {
                return std::future::pending().await;
            }
            if lost(Loss::Cut) {
                return;
            }
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
