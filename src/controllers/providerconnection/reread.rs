//! A connection's Secret, read at this moment. The token endpoint refused a refresh token: before that is believed, the
//! Secret is asked whether somebody has just put another one there.

use std::sync::{Arc, Weak};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use secrecy::SecretString;

use crate::controllers::Ctx;
use crate::controllers::providerconnection::plan;
use crate::controllers::resolve::Found;
use crate::domain::key::ObjectKey;
use crate::provider::auth::vault::SecretSource;

/// Reads the Secrets of connections past every copy.
pub struct ConnectionSecrets {
    /// Weak: what reconcilers have at hand holds the registry, which holds this.
    ctx: Weak<Ctx>,
}

impl ConnectionSecrets {
    /// Reads by what `ctx` has at hand.
    pub fn new(ctx: &Arc<Ctx>) -> Self {
        Self { ctx: Arc::downgrade(ctx) }
    }
}

impl SecretSource for ConnectionSecrets {
    fn refresh_token<'a>(&'a self, connection: &'a ObjectKey) -> BoxFuture<'a, Option<SecretString>> {
        async move {
            let ctx = self.ctx.upgrade()?;
            let object = ctx.stores.connections.get(connection)?;
            let (field, name) = plan::needed_secrets(&object.spec).0?;
            // As one who is refused at this moment: no copy is young enough.
            let now = ctx.clock.mono();
            let data = ctx.secrets.get(&connection.sibling(name), Some(now)).await.ok()?.data;
            Found { field, name: name.to_owned(), data }.text("refresh-token").ok()
        }
        .boxed()
    }
}
