//! Routes the stores' change notifications: work for a deleted object ends at once, and every object whose state may
//! depend on the change is enqueued for reconciliation.

use std::sync::Arc;

use crate::cluster::reconcile_backoff::ReconcileBackoff;
use crate::cluster::references::ReferenceIndex;
use crate::cluster::resource::{ChangeHandler, ObjectChange};
use crate::domain::key::{Kind, ObjectKey};
use crate::provider::registry::Registry;
use crate::work::pool::SyncPool;
use crate::work::reconcile_queue::ReconcileQueue;

/// The handler of change notifications.
pub(super) fn change_router(
    reconcile_queue: &ReconcileQueue,
    references: &Arc<ReferenceIndex>,
    registry: &Registry,
    pool: &SyncPool,
    backoff: &Arc<ReconcileBackoff>,
) -> ChangeHandler {
    let (reconcile_queue, references, registry) = (reconcile_queue.clone(), Arc::clone(references), registry.clone());
    let (pool, backoff) = (pool.clone(), Arc::clone(backoff));
    Arc::new(move |change: ObjectChange| {
        let ObjectChange { kind, key, deleted, replaced, retargeted } = change;
        // A replaced object is treated like a deleted one. The reconcile of its successor may never get as far as
        // replacing what runs (its Secret is missing, its spec is invalid).
        if deleted || replaced {
            backoff.forget(kind, &key);
            match kind {
                Kind::ProviderConnection => drop(registry.remove(&key)),
                Kind::SyncJob => pool.forget(&key),
                Kind::BankRoute | Kind::BreakerPolicy => {}
            }
        }
        enqueue_with_dependents(&reconcile_queue, &references, kind, &key);
        // The status of a policy and of a connection counts the objects that reference it; objects that depend on them
        // are not affected.
        for (kind, key) in &retargeted {
            reconcile_queue.enqueue(*kind, key);
        }
    })
}

/// Enqueues `key` and every object that refers to it: their state may depend on its state.
pub(super) fn enqueue_with_dependents(
    reconcile_queue: &ReconcileQueue,
    references: &ReferenceIndex,
    kind: Kind,
    key: &ObjectKey,
) {
    reconcile_queue.enqueue(kind, key);
    for (kind, key) in references.dependents(kind, key) {
        reconcile_queue.enqueue(kind, &key);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;
    use crate::clock::Clock;
    use crate::ledger::sqlite::SqliteLedger;
    use crate::metrics::Metrics;
    use crate::provider::registry::RegistryOptions;
    use crate::provider::testkit::draft;
    use crate::settings::Settings;
    use crate::work::pool::PoolOptions;

    #[tokio::test]
    async fn a_deleted_or_replaced_connection_ends_at_once_and_a_changed_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(SqliteLedger::open(dir.path().join("ledger.db")).await.unwrap());
        let (clock, metrics, reconcile_queue) = (Clock::system(), Metrics::new(), ReconcileQueue::new());
        let registry = Registry::new(clock, &metrics, RegistryOptions::allowing_loopback()).unwrap();
        let pool = SyncPool::new(ledger, reconcile_queue.clone(), clock, &metrics, PoolOptions::new("me")).unwrap();
        let route = change_router(&reconcile_queue, &Arc::default(), &registry, &pool, &Arc::default());
        let mut enqueued = std::pin::pin!(reconcile_queue.subscribe(Kind::ProviderConnection, None));
        let key = ObjectKey::new("team", "bank");
        for (deleted, replaced) in [(false, false), (true, false), (false, true)] {
            registry.apply(&key, "uid-1", Settings::resolve(draft()).unwrap(), None);
            let change = ObjectChange {
                kind: Kind::ProviderConnection,
                key: key.clone(),
                deleted,
                replaced,
                retargeted: Vec::new(),
            };
            route(change);
            let ended = registry.get(&key).is_none();
            assert_eq!(ended, deleted || replaced, "deleted {deleted}, replaced {replaced}");
            assert_eq!(enqueued.next().now_or_never(), Some(Some(key.clone())), "it is enqueued");
        }
        assert!(!metrics.render().unwrap().contains("connection=\"bank\""), "its series are removed with it");
    }
}
