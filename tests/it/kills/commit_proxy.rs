//! A way to PostgreSQL that loses the answer to a COMMIT.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// The server's message that a COMMIT is done: type, length, tag.
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

/// What happens to the next answer to a COMMIT.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Loss {
    /// It passes.
    None,
    /// It is withheld forever; the connection stays open.
    Held,
    /// It is lost with the connection.
    Cut,
    /// One was lost.
    Done,
}

/// Forwards connections to a server's socket.
pub(super) struct CommitProxy {
    /// The folder of its own socket.
    folder: tempfile::TempDir,
    loss: Arc<AtomicU8>,
    stop: CancellationToken,
}

impl CommitProxy {
    /// Forwards to this socket.
    pub(super) fn start(upstream: PathBuf) -> Self {
        // Short: the path of a socket has 107 bytes at most.
        let folder = tempfile::Builder::new().prefix("bb-").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(folder.path().join(upstream.file_name().unwrap())).unwrap();
        let (loss, stop) = (Arc::<AtomicU8>::default(), CancellationToken::new());
        let proxy = Self { folder, loss: Arc::clone(&loss), stop: stop.clone() };
        tokio::spawn(async move {
            while let Some(Ok((client, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (upstream, loss, stop) = (upstream.clone(), Arc::clone(&loss), stop.clone());
                tokio::spawn(async move {
                    let Ok(server) = UnixStream::connect(&upstream).await else { return };
                    stop.run_until_cancelled(forward(client, server, &loss)).await;
                });
            }
        });
        proxy
    }

    /// The URL through the proxy.
    pub(super) fn url(&self, url: &str) -> String {
        let (before, rest) = url.split_once("host=").expect("a URL of a socket");
        let end = rest.find('&').unwrap_or(rest.len());
        format!("{before}host={}{}", self.folder.path().display(), &rest[end..])
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

async fn forward(client: UnixStream, server: UnixStream, loss: &AtomicU8) {
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
            let is_lost = |kind: Loss| {
                loss.compare_exchange(kind as u8, Loss::Done as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            };
            if is_lost(Loss::Held) {
                return std::future::pending().await;
            }
            if is_lost(Loss::Cut) {
                return;
            }
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
