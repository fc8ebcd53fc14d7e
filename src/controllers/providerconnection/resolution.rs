//! Resolves connections through the cache: anew only when the object, its profile, its policy or its Secrets changed.

use std::sync::Arc;

use crate::api::v1alpha1::ProviderConnection;
use crate::controllers::resolution_cache::{ObjectStamp, ResolutionCache};
use crate::profile::Profile;
use crate::resolve::{self, ConnectionResolution, ConnectionSources, ReferencedSecret};
use crate::settings::secret_data::SecretState;

/// The resolved connections.
pub type ConnectionCache = ResolutionCache<ConnectionStamp, Arc<ConnectionResolution>>;

/// The versions of everything that a connection was resolved from.
#[derive(Debug)]
pub struct ConnectionStamp {
    object: ObjectStamp,
    profile: Option<Arc<Profile>>,
    policy: Option<ObjectStamp>,
    auth: Option<SecretStamp>,
    tls: Option<SecretStamp>,
}

/// The version of a referenced Secret.
#[derive(Debug)]
enum SecretStamp {
    Version { uid: String, resource_version: String },
    NotFound,
    Forbidden,
}

impl SecretStamp {
    fn of(secret: &ReferencedSecret<'_>) -> Self {
        match &secret.state {
            SecretState::Found(data) => {
                Self::Version { uid: data.uid.clone(), resource_version: data.resource_version.clone() }
            }
            SecretState::NotFound => Self::NotFound,
            SecretState::Forbidden(_) => Self::Forbidden,
        }
    }

    fn matches(&self, secret: &ReferencedSecret<'_>) -> bool {
        match (self, &secret.state) {
            (Self::Version { uid, resource_version }, SecretState::Found(data)) => {
                *uid == data.uid && *resource_version == data.resource_version
            }
            (Self::NotFound, SecretState::NotFound) | (Self::Forbidden, SecretState::Forbidden(_)) => true,
            _ => false,
        }
    }
}

impl ConnectionStamp {
    fn of(object: &ProviderConnection, sources: &ConnectionSources<'_>) -> Self {
        Self {
            object: ObjectStamp::of(object),
            profile: sources.profile.cloned(),
            policy: sources.policy.map(ObjectStamp::of),
            auth: sources.secrets.auth.as_ref().map(SecretStamp::of),
            tls: sources.secrets.tls.as_ref().map(SecretStamp::of),
        }
    }

    /// Whether the connection would be resolved from the same sources. The operator's options never change while the
    /// process lives.
    fn matches(&self, object: &ProviderConnection, sources: &ConnectionSources<'_>) -> bool {
        let ConnectionSources { profile, policy, secrets, .. } = sources;
        self.object.matches(object)
            && same(self.profile.as_ref(), *profile, Arc::ptr_eq)
            && same(self.policy.as_ref(), *policy, ObjectStamp::matches)
            && same(self.auth.as_ref(), secrets.auth.as_ref(), SecretStamp::matches)
            && same(self.tls.as_ref(), secrets.tls.as_ref(), SecretStamp::matches)
    }
}

/// Whether both are absent, or both present and equal by `eq`.
fn same<A, B>(one: Option<&A>, other: Option<&B>, eq: impl FnOnce(&A, &B) -> bool) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// The resolution of `object` in the cache, if none of its sources changed.
pub fn cached(
    cache: &ConnectionCache,
    object: &ProviderConnection,
    sources: &ConnectionSources<'_>,
) -> Option<Arc<ConnectionResolution>> {
    cache.get(sources.key, |stamp| stamp.matches(object, sources))
}

/// Resolves `object` and caches that. `exists` tells whether the object is still stored.
pub fn resolve(
    cache: &ConnectionCache,
    object: &ProviderConnection,
    sources: &ConnectionSources<'_>,
    exists: impl FnOnce() -> bool,
) -> Arc<ConnectionResolution> {
    let resolution = Arc::new(resolve::connection(sources));
    cache.insert(sources.key, ConnectionStamp::of(object, sources), Arc::clone(&resolution), exists);
    resolution
}
