//! Reloads a connection's Secrets after a rejected credential: it may just have been rotated.
//!
//! The rules of every read apply: only Secrets that the connection references in its own namespace, and the same
//! credential with a growing interval.

use std::sync::{Arc, Weak};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::controllers::Ctx;
use crate::controllers::providerconnection::credentials::resolution;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::provider::auth::secret_source::SecretSource;
use crate::settings::Settings;

/// Reads the Secrets of connections anew, past cached copies older than the rejection.
pub struct SecretReloader {
    /// Weak: `Ctx` owns the registry, which owns this.
    ctx: Weak<Ctx>,
}

impl SecretReloader {
    /// A reloader with the stores, Secrets and profiles of `ctx`.
    pub fn new(ctx: &Arc<Ctx>) -> Self {
        Self { ctx: Arc::downgrade(ctx) }
    }
}

impl SecretSource for SecretReloader {
    fn settings<'a>(&'a self, connection: &'a ObjectKey, refused: Mono) -> BoxFuture<'a, Option<Arc<Settings>>> {
        async move {
            let ctx = self.ctx.upgrade()?;
            let object = ctx.stores.connections.get(connection)?;
            let (resolution, _) = resolution(&ctx, &object, Some(refused)).await.ok()?;
            resolution.connection.as_ref().ok().map(|resolved| Arc::clone(&resolved.settings))
        }
        .boxed()
    }
}
