//! A connection's Secrets, read at this moment. The provider or the token endpoint refused a credential: before that is
//! believed, the Secrets are asked whether somebody has just put another one there. By the rules of every reading: those
//! that the connection names in its own namespace, and the same credential ever more seldom.

use std::sync::{Arc, Weak};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::controllers::Ctx;
use crate::controllers::providerconnection::{guard, observe, plan};
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::provider::auth::vault::SecretSource;
use crate::provider::settings::Settings;

/// Reads the Secrets of connections past copies that are too old for it.
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
    fn settings<'a>(&'a self, connection: &'a ObjectKey, refused: Mono) -> BoxFuture<'a, Option<Settings>> {
        async move {
            let ctx = self.ctx.upgrade()?;
            let object = ctx.stores.connections.get(connection)?;
            let provider = &object.spec.provider;
            let profile = plan::profile(provider, ctx.profiles.get(provider)).ok()?;
            let find = |policy: &ObjectKey| ctx.stores.policies.get(policy);
            let (rules, _) = guard::rules(&object.spec, connection, &profile, find).ok()?;
            let (secrets, _) = observe::secrets(&ctx, &object, connection, Some(refused)).await.ok()?;
            plan::settings(&object.spec, profile, rules, &secrets).ok()
        }
        .boxed()
    }
}
