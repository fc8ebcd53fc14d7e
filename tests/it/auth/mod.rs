//! Authentication and addresses of calls, over real sockets: which addresses are allowed, client certificates, tokens, and
//! credentials that change while calls or syncs are running.

mod addresses;
mod certificates;
mod client_authentication;
mod redaction;
mod refresh_tokens;
mod rotation;
mod shutdown;
mod superseded;
mod sync_pages;
mod token_responses;
mod tokens;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use busbar::domain::key::ObjectKey;
use busbar::domain::time::Mono;
use busbar::provider::auth::secret_source::SecretSource;
use busbar::provider::registry::Registry;
use busbar::settings::{Draft, Settings};
use futures::FutureExt as _;
use futures::future::BoxFuture;

/// The Secret of a connection, with what the test puts into it. It is read at the speed of an API server.
struct SecretStub {
    draft: Mutex<Option<Draft>>,
    reads: AtomicUsize,
}

impl SecretStub {
    /// The Secret of all connections in `registry`: what it holds makes this draft of a connection, if any.
    fn install(registry: &Registry, draft: Option<Draft>) -> Arc<Self> {
        let stub = Arc::new(Self { draft: Mutex::new(draft), reads: AtomicUsize::new(0) });
        registry.set_secret_source(Arc::clone(&stub) as Arc<dyn SecretSource>);
        stub
    }

    /// Writes the Secret.
    fn put(&self, draft: Draft) {
        *self.draft.lock().unwrap() = Some(draft);
    }

    /// How often it was read.
    fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

impl SecretSource for SecretStub {
    fn settings<'a>(&'a self, _: &'a ObjectKey, _: Mono) -> BoxFuture<'a, Option<Arc<Settings>>> {
        async move {
            self.reads.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            let draft = self.draft.lock().unwrap().clone();
            draft.map(|draft| Arc::new(Settings::resolve(draft).unwrap()))
        }
        .boxed()
    }
}
