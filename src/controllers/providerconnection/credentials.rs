//! Reads the Secrets of a connection for exactly the version of the object that is reconciled, and resolves it.
//!
//! A credential must never be combined with an address that it was not meant for, so a resolution is made only from
//! Secrets that belonged to this version at one moment:
//! 1. The Secrets are read after the version was first seen ([`FirstSeen`](super::first_seen::FirstSeen)): no copy of a
//!    former tenant of the namespace, of a deleted Secret or of the time before a change of the address is used.
//! 2. After the read the API server is asked whether the object still is at this version, unless both were resolved
//!    together before. If so, address and Secrets existed together between the two. A watch that lags behind cannot show
//!    that ([`ObjectCheck`](crate::cluster::object_check::ObjectCheck)).
//! 3. A credential that would move to another host unchanged is held back for [`SETTLE_TIME`], and the Secret is then
//!    read again: tools that apply both changes write one after the other. Until then the connection goes on as it is.
//!
//! A Secret that is missing, forbidden or without a required key is looked for again after 1, 2, 4 … s: it is often
//! created right after the connection.

use std::sync::Arc;
use std::time::Duration;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::reasons::Reason;
use crate::cluster::resource::WatchedResource as _;
use crate::cluster::secrets::{Freshness, ReadMark};
use crate::controllers::providerconnection::first_seen::Seen;
use crate::controllers::providerconnection::resolution::{cached, resolve};
use crate::controllers::resolution_cache::ObjectStamp;
use crate::controllers::{Ctx, ReconcileError};
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::profile::Profile;
use crate::resolve::{
    ConnectionResolution, ConnectionSources, ReferencedSecret, ReferencedSecrets, ResolvedConnection, policy_name,
    referenced_secrets,
};

/// How long an unchanged credential is not yet sent to another host. `kubectl apply` of a folder writes its objects
/// within a second or two, in the order of the file names: the connection often comes before its Secret.
const SETTLE_TIME: Duration = Duration::from_secs(5);
/// Delay of the next reconcile of an object that changed during this one. The watch enqueues it sooner, unless its current
/// form cannot be decoded: then it continues as last decoded, with the credential that it has.
const CHANGED_REQUEUE: Duration = Duration::from_secs(10);

/// A resolution, and how long its Secrets may be used before they are read again.
pub(super) type Resolved = (Arc<ConnectionResolution>, Duration);

/// Reads what the connection is resolved from and resolves it.
///
/// `rejected_since`: when the provider first rejected the credential; an older copy is not used.
///
/// # Errors
/// [`ReconcileError::Deferred`] if the object changed meanwhile, or its credential is held back.
pub(super) async fn resolution(
    ctx: &Ctx,
    object: &ProviderConnection,
    rejected_since: Option<Mono>,
) -> Result<Resolved, ReconcileError> {
    let key = object.key();
    let profile = ctx.profiles.get(&object.spec.provider);
    let seen = first_seen(ctx, object, &key, profile.as_ref());
    let version =
        Version { object, key: &key, profile: profile.as_ref(), rejected_since, unusable_since: seen.unusable };
    let resolved = read_and_resolve(ctx, &version, seen.mark).await?;
    let moved = |resolved: &Resolved| resolved.0.connection.as_ref().is_ok_and(|to| moves(ctx, object, to));
    if seen.settled || !moved(&resolved) {
        return Ok(resolved);
    }
    let remaining = (seen.at + SETTLE_TIME).since(ctx.clock.mono());
    if !remaining.is_zero() {
        tracing::info!(
            namespace = %key.namespace, name = %key.name,
            "address changed and the Secret did not: the credential is sent to the new address after a delay"
        );
        return Err(ReconcileError::Deferred(remaining));
    }
    let mark = ctx.secrets.mark();
    ctx.resolutions.first_seen.settle(object, mark);
    read_and_resolve(ctx, &version, mark).await
}

/// When this version of the object was first seen.
fn first_seen(ctx: &Ctx, object: &ProviderConnection, key: &ObjectKey, profile: Option<&Arc<Profile>>) -> Seen {
    let seen = &ctx.resolutions.first_seen;
    let now = || Seen { mark: ctx.secrets.mark(), at: ctx.clock.mono(), ..Seen::default() };
    if seen.is_empty() {
        // At the start all objects are seen at once, so that those that name one Secret share its first read.
        let start = now();
        for other in ctx.stores.connections.list() {
            seen.of(&other, ctx.profiles.get(&other.spec.provider).as_ref(), || start);
        }
    }
    let version = seen.of(object, profile, now);
    // It may have been deleted before the entry was made: its end was handled before this.
    if ctx.stores.connections.get(key).is_none() {
        seen.forget(key);
    }
    version
}

/// The version of a connection that is resolved.
struct Version<'a> {
    object: &'a ProviderConnection,
    key: &'a ObjectKey,
    profile: Option<&'a Arc<Profile>>,
    rejected_since: Option<Mono>,
    unusable_since: Option<Mono>,
}

async fn read_and_resolve(ctx: &Ctx, version: &Version<'_>, mark: ReadMark) -> Result<Resolved, ReconcileError> {
    let began = ctx.clock.mono();
    let (resolution, valid_for) = read_sources(ctx, version, mark).await?;
    let unusable = resolution.connection.as_ref().is_err_and(|error| is_about_a_secret(error.reason));
    let since = ctx.resolutions.first_seen.set_unusable(version.object, unusable, began);
    let valid_for = match since {
        Some(since) => valid_for.min(ctx.secrets.recheck_after(since, ctx.clock.mono())),
        // It has just been read, as a copy that could not be used.
        None if version.unusable_since.is_some() => ctx.secrets.refresh_interval(),
        None => valid_for,
    };
    Ok((resolution, valid_for))
}

/// Whether the reason is one that a change of a Secret, or of the right to read it, resolves.
fn is_about_a_secret(reason: Reason) -> bool {
    use Reason::{SecretForbidden, SecretKeyInvalid, SecretKeyMissing, SecretNotFound};
    matches!(reason, SecretNotFound | SecretKeyMissing | SecretKeyInvalid | SecretForbidden)
}

async fn read_sources(ctx: &Ctx, version: &Version<'_>, mark: ReadMark) -> Result<Resolved, ReconcileError> {
    let Version { object, key, profile, rejected_since, unusable_since } = *version;
    let (spec, uid) = (&object.spec, object.metadata.uid.as_deref().unwrap_or_default());
    let policy = ctx.stores.policies.get(&key.sibling(policy_name(spec)));
    let mut valid_for = ctx.secrets.refresh_interval();
    let mut secrets = ReferencedSecrets::default();
    // A connection that cannot be used anyway needs no Secret.
    if profile.is_some() && (policy.is_some() || spec.breaker_policy_ref.is_none()) {
        let required = Freshness { after: mark, rejected: rejected_since, unusable: unusable_since };
        (secrets, valid_for) = read_secrets(ctx, object, key, required).await?;
    }
    let (policy, operator) = (policy.as_deref(), ctx.operator_options());
    let sources = ConnectionSources { key, uid, spec, profile, policy, secrets, operator };
    let cache = &ctx.resolutions.connections;
    if let Some(resolution) = cached(cache, object, &sources) {
        return Ok((resolution, valid_for));
    }
    if sources.secrets.any_found() && !is_current(ctx, object, key).await? {
        return Err(ReconcileError::Deferred(CHANGED_REQUEUE));
    }
    let exists = || ctx.stores.connections.get(key).is_some();
    Ok((resolve(cache, object, &sources, exists), valid_for))
}

/// The Secrets of `auth` and `tls`, and how long they may be used. One Secret for both is read once: its two halves
/// belong together.
async fn read_secrets<'a>(
    ctx: &Ctx,
    object: &'a ProviderConnection,
    key: &ObjectKey,
    required: Freshness,
) -> Result<(ReferencedSecrets<'a>, Duration), ReconcileError> {
    let (auth, tls) = referenced_secrets(&object.spec);
    let mut valid_for = ctx.secrets.refresh_interval();
    let mut read: Option<ReferencedSecret<'a>> = None;
    let mut secrets = ReferencedSecrets::default();
    if let Some((field, name)) = auth {
        let secret = ctx.secrets.get(&key.sibling(name), required).await?;
        valid_for = valid_for.min(secret.valid_for);
        read = Some(ReferencedSecret { field, name, state: secret.state });
        secrets.auth.clone_from(&read);
    }
    if let Some((field, name)) = tls {
        let shared = read.filter(|auth| auth.name == name);
        let state = if let Some(auth) = shared {
            auth.state
        } else {
            let secret = ctx.secrets.get(&key.sibling(name), required).await?;
            valid_for = valid_for.min(secret.valid_for);
            secret.state
        };
        secrets.tls = Some(ReferencedSecret { field, name, state });
    }
    Ok((secrets, valid_for))
}

/// Whether the API server still has the object at this generation.
async fn is_current(ctx: &Ctx, object: &ProviderConnection, key: &ObjectKey) -> Result<bool, ReconcileError> {
    let version = ObjectStamp::of(object);
    Ok(ctx.connection_check.is_current(&ctx.stores.connections, key, |meta| version.matches_meta(meta)).await?)
}

/// Whether the credential would go to another host than before, and is the same as before: that of the running
/// connection, or, in a process that has just started, that which the status reports.
fn moves(ctx: &Ctx, object: &ProviderConnection, to: &ResolvedConnection) -> bool {
    let running = ctx.registry.get(&object.key());
    if let Some(running) = running.filter(|it| Some(&**it.uid()) == object.metadata.uid.as_deref()) {
        let from = running.settings();
        return !from.same_hosts(&to.settings) && to.settings.carries_over(&from);
    }
    object.status.as_ref().is_some_and(|status| {
        let version = status.credential.as_ref().and_then(|credential| credential.secret_resource_version.as_ref());
        let unchanged = version.is_some() && version == to.desired.credential.as_ref();
        to.desired.authenticates && unchanged && status.host.as_ref().is_some_and(|host| *host != to.desired.host)
    })
}
