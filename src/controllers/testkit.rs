//! A reconcilers' context for unit tests.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tempfile::TempDir;

use crate::clock::Clock;
use crate::cluster::events::EventRecorder;
use crate::cluster::lease::Leadership;
use crate::cluster::object_check::ObjectCheck;
use crate::cluster::reconcile_backoff::ReconcileBackoff;
use crate::cluster::resource::ReflectorDeps;
use crate::cluster::secrets::SecretReader;
use crate::cluster::stores::Stores;
use crate::controllers::Ctx;
use crate::controllers::bankroute::metrics::FailoverCounts;
use crate::ledger::{self, LedgerUrl, OpenMode};
use crate::metrics::Metrics;
use crate::profile::Profiles;
use crate::provider::registry::{Registry, RegistryOptions};
use crate::resolve::JobSupport;
use crate::work::event_outbox::EventOutbox;
use crate::work::pool::{PoolOptions, SyncPool};
use crate::work::probes::ProbeDriver;
use crate::work::reconcile_queue::ReconcileQueue;

/// A context of a leader with empty stores, which reads each Secret anew; and the ledger's folder.
pub(crate) async fn context(client: &Client, metrics: &Metrics) -> (Ctx, TempDir) {
    let (clock, reconcile_queue) = (Clock::system(), ReconcileQueue::new());
    let directory = TempDir::new().unwrap();
    let url = LedgerUrl::Sqlite(directory.path().join("ledger.db"));
    let ledger = ledger::open(&url, OpenMode::Migrate).await.unwrap();
    let registry = Registry::new(clock, metrics, RegistryOptions::allowing_loopback()).unwrap();
    let driver = ProbeDriver::new(registry.clone(), clock, metrics).unwrap();
    let pool =
        SyncPool::new(Arc::clone(&ledger), reconcile_queue.clone(), clock, metrics, PoolOptions::new("me")).unwrap();
    let (outbox, _) = EventOutbox::new(Arc::clone(&ledger), clock, metrics).unwrap();
    let (stores, _) = Stores::new(client, &[], &ReflectorDeps::default());
    let leadership = Leadership::default();
    leadership.record_renewal(Some(clock.mono()));
    let ctx = Ctx {
        stores,
        client: client.clone(),
        secrets: SecretReader::new(client.clone(), clock, Duration::ZERO),
        connection_check: ObjectCheck::new(client.clone(), clock),
        events: EventRecorder::new(client.clone(), clock, "me").0,
        backoff: Arc::new(ReconcileBackoff::default()),
        leadership,
        registry,
        prober: driver.handle(),
        pool,
        jobs: None,
        job_support: JobSupport::default(),
        ledger,
        reconcile_queue,
        profiles: Arc::new(Profiles::builtin().unwrap()),
        failovers: FailoverCounts::default(),
        outbox,
        routing: None,
        resolutions: Arc::default(),
        clock,
    };
    (ctx, directory)
}
