//! What a standby does for connections: it keeps them running for its gateway, as their specs say, and nothing else.
//!
//! No probe, no status, no event: those are the leader's. A circuit starts from what the leader wrote, and from then on
//! goes by this replica's own calls. When this replica becomes the leader, all of them are given up and the reconcilers
//! begin like those of a new process, so that nothing a standby found out on its own is taken for the leader's word.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::ResourceExt as _;
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::ProviderConnection;
use crate::cluster::stores::Watched as _;
use crate::controllers::Ctx;
use crate::controllers::providerconnection::{decide, observe, status};
use crate::domain::key::ObjectKey;

/// How often changes are looked for: stores are in memory, so a look is cheap.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Connections looked into at once: each may read a Secret.
const AT_ONCE: usize = 16;

/// What an object was when it was last applied.
type Seen = (Option<String>, Option<i64>);

/// Follows the specs until `stop`, then gives all connections up. Ends of objects reach the registry by themselves.
pub async fn follow(ctx: Arc<Ctx>, stop: CancellationToken) {
    let mut applied: HashMap<ObjectKey, Seen> = HashMap::new();
    let (mut policies, mut sweep_at) = (0, ctx.clock.mono());
    while !stop.is_cancelled() {
        let (now, known) = (ctx.clock.mono(), policies_mark(&ctx));
        // What a connection refers to, a policy or a Secret, may have changed without it.
        let sweep = now >= sweep_at || known != policies;
        if sweep {
            (policies, sweep_at) = (known, now + ctx.secrets.refresh());
            applied.clear();
        }
        let new = |object: &Arc<ProviderConnection>| applied.get(&object.key()) != Some(&mark(object));
        let due: Vec<_> = ctx.stores.connections.list().into_iter().filter(new).collect();
        let mut looks = futures::stream::iter(due).map(|object| look(&ctx, object)).buffer_unordered(AT_ONCE);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                done = looks.next() => match done {
                    Some(Some((key, seen))) => drop(applied.insert(key, seen)),
                    Some(None) => {}
                    None => break,
                },
            }
        }
        drop(looks);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = ctx.clock.sleep_until(ctx.clock.mono() + LOOK_EVERY) => {}
        }
    }
    for live in ctx.registry.list() {
        ctx.registry.remove(live.key());
    }
}

fn mark(object: &ProviderConnection) -> Seen {
    (object.uid(), object.metadata.generation)
}

/// Changes whenever a policy does.
fn policies_mark(ctx: &Ctx) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let each = ctx.stores.policies.list().into_iter().map(|policy| {
        let mut hasher = DefaultHasher::new();
        (policy.namespace(), policy.name_any(), policy.uid(), policy.metadata.generation).hash(&mut hasher);
        hasher.finish()
    });
    each.fold(1, u64::wrapping_add)
}

/// Brings one connection to what its spec says. `None` if that could not be found out: tried again at the next look.
async fn look(ctx: &Ctx, object: Arc<ProviderConnection>) -> Option<(ObjectKey, Seen)> {
    let key = object.key();
    let seen = match observe::observe(ctx, &object).await {
        Ok(seen) => seen,
        Err(error) => {
            tracing::debug!(namespace = %key.namespace, name = %key.name, %error, "a standby could not look");
            return None;
        }
    };
    match (seen.settings, seen.view.target) {
        (Some(settings), _) => {
            let written = object.status.as_ref().and_then(|s| s.circuit_state.as_ref()).and_then(status::snapshot);
            ctx.registry.apply(&key, &object.uid().unwrap_or_default(), settings, written.as_ref());
        }
        (None, Err(problem)) if decide::ends(problem.reason) => drop(ctx.registry.remove(&key)),
        // As the leader does: what runs goes on as it was.
        (None, _) => {}
    }
    Some((key, mark(&object)))
}
