//! Keeps connections running on a standby replica, for its gateway.
//!
//! No probes, status writes or events: those are the leader's. A circuit starts from the state that the leader wrote,
//! then follows this replica's own calls. When this replica becomes the leader, all connections are removed and the
//! reconcilers start as in a new process, so that nothing the standby measured is reported as the leader's result.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::ResourceExt as _;
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::ProviderConnection;
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::Ctx;
use crate::controllers::providerconnection::{act, decide, observe, status};
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::provider::restore::Restore;

/// Interval of the check for changes; stores are in memory, so a check is cheap.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Connections updated concurrently; each may read a Secret.
const CONCURRENCY: usize = 16;

/// UID and generation of an object when it was last applied.
type AppliedVersion = (Option<String>, Option<i64>);

/// What was last applied of an object.
pub(super) struct Applied {
    pub(super) version: AppliedVersion,
    /// When its Secrets are looked for again, if it could not be used.
    pub(super) recheck_at: Option<Mono>,
}

/// Applies the specs until `stop` is cancelled, then removes all connections. Deletions are handled where the
/// stores' changes are routed, as on the leader.
pub async fn run_standby(ctx: Arc<Ctx>, stop: CancellationToken) {
    let mut applied: HashMap<ObjectKey, Applied> = HashMap::new();
    let (mut policies, mut resync_at) = (0, ctx.clock.mono());
    while !stop.is_cancelled() {
        let (now, current_policies) = (ctx.clock.mono(), policies_fingerprint(&ctx));
        // A referenced policy or Secret may have changed without a change of the connection.
        if now >= resync_at || current_policies != policies {
            (policies, resync_at) = (current_policies, now + ctx.secrets.refresh_interval());
            applied.clear();
        }
        let changed = |object: &Arc<ProviderConnection>| {
            let known = applied.get(&object.key()).filter(|known| known.version == version(object));
            known.is_none_or(|known| known.recheck_at.is_some_and(|at| at <= now))
        };
        let due: Vec<_> = ctx.stores.connections.list().into_iter().filter(changed).collect();
        let mut updates = futures::stream::iter(due).map(|object| update(&ctx, object)).buffer_unordered(CONCURRENCY);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                result = updates.next() => match result {
                    Some(Some((key, now))) => drop(applied.insert(key, now)),
                    Some(None) => {}
                    None => break,
                },
            }
        }
        drop(updates);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = ctx.clock.sleep_until(ctx.clock.mono() + CHECK_INTERVAL) => {}
        }
    }
    for live in ctx.registry.list() {
        ctx.registry.remove(live.key());
    }
}

fn version(object: &ProviderConnection) -> AppliedVersion {
    (object.uid(), object.metadata.generation)
}

/// A hash that changes whenever a policy does; independent of their order.
fn policies_fingerprint(ctx: &Ctx) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let each = ctx.stores.policies.list().into_iter().map(|policy| {
        let mut hasher = DefaultHasher::new();
        (policy.namespace(), policy.name_any(), policy.uid(), policy.metadata.generation).hash(&mut hasher);
        hasher.finish()
    });
    each.fold(1, u64::wrapping_add)
}

/// Applies the spec of one connection. `None` if a read failed; retried at the next check.
pub(super) async fn update(ctx: &Ctx, object: Arc<ProviderConnection>) -> Option<(ObjectKey, Applied)> {
    let key = object.key();
    let observation = match observe::observe(ctx, &object).await {
        Ok(observation) => observation,
        Err(error) => {
            tracing::debug!(namespace = %key.namespace, name = %key.name, %error, "connection not updated; retrying");
            return None;
        }
    };
    let unusable = observation.settings.is_none();
    let recheck_at = unusable.then(|| ctx.clock.mono() + observation.inputs.secrets_valid_for);
    match (observation.settings, observation.inputs.desired) {
        (Some(settings), _) => {
            let circuit =
                object.status.as_ref().and_then(|s| s.circuit_state.as_ref()).and_then(status::restored_circuit);
            act::apply(ctx, &object, settings, Restore { circuit, ..Restore::default() });
        }
        (None, Err(error)) if decide::requires_removal(error.reason) => drop(ctx.registry.remove(&key)),
        // As on the leader: a running connection continues.
        (None, _) => {}
    }
    Some((key, Applied { version: version(&object), recheck_at }))
}
