//! How the call path reads the Secrets of a connection, without knowing Kubernetes.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::settings::Settings;

/// Reads the Secrets of a connection. Used when a credential is refused: the Secret may have been rotated meanwhile.
pub trait SecretSource: Send + Sync + 'static {
    /// The settings of `connection` with the current content of its Secrets; `None` if they cannot be read. The
    /// credential in use is refused since `refused`, so a copy of the Secret that is older than that must not be used.
    fn settings<'a>(&'a self, connection: &'a ObjectKey, refused: Mono) -> BoxFuture<'a, Option<Arc<Settings>>>;
}
