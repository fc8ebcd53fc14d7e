//! What the stores' word of a change does: whatever ran for an object that is no more ends at once, and everyone whose
//! state the change may decide is poked.

use std::sync::Arc;

use crate::cluster::failures::Failures;
use crate::cluster::references::References;
use crate::cluster::stores::{Change, Sink};
use crate::domain::key::{Kind, ObjectKey};
use crate::provider::registry::Registry;
use crate::work::poke::Pokes;
use crate::work::pool::SyncPool;

/// Takes word of changes.
pub(super) fn sink(
    pokes: &Pokes,
    references: &Arc<References>,
    registry: &Registry,
    pool: &SyncPool,
    failures: &Arc<Failures>,
) -> Sink {
    let (pokes, references, registry) = (pokes.clone(), Arc::clone(references), registry.clone());
    let (pool, failures) = (pool.clone(), Arc::clone(failures));
    Arc::new(move |change: Change| {
        let Change { kind, key, gone, replaced, touched } = change;
        // An object that another of its name replaced is as gone as one whose end was told. Its successor may never come to
        // run (its Secret is missing, its spec is wrong), and would not end what it does not know.
        if gone || replaced {
            failures.forget(kind, &key);
            match kind {
                Kind::ProviderConnection => drop(registry.remove(&key)),
                Kind::SyncJob => pool.forget(&key),
                Kind::BankRoute | Kind::BreakerPolicy => {}
            }
        }
        poke_all(&pokes, &references, kind, &key);
        // A policy's status counts the connections it guards; nobody who depends on the policy has to hear of that.
        for (kind, key) in touched.iter().filter(|(kind, _)| *kind == Kind::BreakerPolicy) {
            pokes.poke(*kind, key);
        }
    })
}

/// Pokes `key` and everyone who refers to it: its state may decide theirs.
pub(super) fn poke_all(pokes: &Pokes, references: &References, kind: Kind, key: &ObjectKey) {
    pokes.poke(kind, key);
    for (kind, key) in references.dependents(kind, key) {
        pokes.poke(kind, &key);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;
    use crate::clock::Clock;
    use crate::ledger::sqlite::SqliteLedger;
    use crate::metrics::Metrics;
    use crate::provider::registry::Access;
    use crate::provider::settings::Settings;
    use crate::provider::testkit::draft;
    use crate::work::pool::PoolOptions;

    #[tokio::test]
    async fn a_connection_that_is_gone_or_was_replaced_ends_at_once_and_one_that_changed_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(SqliteLedger::open(dir.path().join("ledger.db")).await.unwrap());
        let (clock, metrics, pokes) = (Clock::system(), Metrics::new(), Pokes::new());
        let registry = Registry::new(clock, &metrics, Access::local()).unwrap();
        let pool = SyncPool::new(ledger, pokes.clone(), clock, &metrics, PoolOptions::new("me")).unwrap();
        let sink = sink(&pokes, &Arc::default(), &registry, &pool, &Arc::default());
        let mut heard = std::pin::pin!(pokes.subscribe(Kind::ProviderConnection, None));
        let key = ObjectKey::new("team", "bank");
        for (gone, replaced) in [(false, false), (true, false), (false, true)] {
            registry.apply(&key, "uid-1", Settings::resolve(draft()).unwrap(), None);
            let change =
                Change { kind: Kind::ProviderConnection, key: key.clone(), gone, replaced, touched: Vec::new() };
            sink(change);
            let ended = registry.get(&key).is_none();
            assert_eq!(ended, gone || replaced, "gone {gone}, replaced {replaced}");
            assert_eq!(heard.next().now_or_never(), Some(Some(key.clone())), "and it is looked at");
        }
        assert!(!metrics.render().unwrap().contains("connection=\"bank\""), "its series ended with it");
    }
}
