//! Builds and connects the components: registry, probes, syncs, reconcilers and the notifications between them.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admin::gates::Gate;
use crate::app::base_deps::BaseDeps;
use crate::app::change_router::ChangeRouter;
use crate::app::decision_wiring::{self, DecisionTasks, Decisions, LeaderDecisionTasks};
use crate::app::error::AppError;
use crate::app::registry_wiring::registry_options;
use crate::app::retention_wiring::pruners;
use crate::app::route_source::ProcessRoutes;
use crate::app::sync_wiring::{job_runner, job_support, start_requests, sync_pool};
use crate::app::tasks::Tasks;
use crate::cli::RunArgs;
use crate::clock::Clock;
use crate::cluster::client::Clients;
use crate::cluster::events::{EventQueue, EventRecorder};
use crate::cluster::lease::Leadership;
use crate::cluster::object_check::ObjectCheck;
use crate::cluster::reconcile_backoff::{EARLY_RETRY_INTERVAL, ReconcileBackoff};
use crate::cluster::references::ReferenceIndex;
use crate::cluster::resource::{HasStatus, ObjectChange, ReflectorDeps};
use crate::cluster::secrets::SecretReader;
use crate::cluster::status::{StatusDeps, StatusMetrics, StatusWriter};
use crate::cluster::stores::{KindStore, ReflectorTask, Stores};
use crate::cluster::watch_monitor::{WatchLimits, WatchMonitor};
use crate::controllers::bankroute::BankRouteReconciler;
use crate::controllers::bankroute::legacy_metrics::LegacyRoutingCollector;
use crate::controllers::bankroute::metrics::{FailoverCounts, RouteCollector};
use crate::controllers::breakerpolicy::BreakerPolicyReconciler;
use crate::controllers::collector::ResourceCollector;
use crate::controllers::providerconnection::ProviderConnectionReconciler;
use crate::controllers::providerconnection::secret_reload::SecretReloader;
use crate::controllers::reconcile_runner::{ReconcileMetrics, ReconcileRunner};
use crate::controllers::resolutions::Resolutions;
use crate::controllers::syncjob::SyncJobReconciler;
use crate::controllers::{Ctx, Reconciler};
use crate::ledger::encryption::Keyring;
use crate::notify::KeyQueue;
use crate::provider::audit::pruner::AuditPruner;
use crate::provider::audit::{AuditQueue, AuditWriter, audit_channel};
use crate::provider::legacy_metrics::LegacyMetricSet;
use crate::provider::registry::Registry;
use crate::routing::DecisionService;
use crate::work::dead_requests::{ConnectionLookup, DeadRequestDeps, DeadRequestWorker, Presence};
use crate::work::event_outbox::{EventOutbox, EventOutboxWriter};
use crate::work::ledger_monitor::LedgerMonitor;
use crate::work::money_totals::MoneyTotalsMonitor;
use crate::work::probes::{ProbeDriver, ProbeLogWriter};
use crate::work::reconcile_queue::ReconcileQueue;
use crate::work::retention::RetentionPruner;

/// The components, built and not yet started.
pub(super) struct Wiring {
    /// The reconcilers' context.
    pub(super) ctx: Arc<Ctx>,
    /// The tasks that every replica runs.
    pub(super) replica_tasks: ReplicaTasks,
    /// 1 while this replica holds the leader lease.
    pub(super) leader_gauge: IntGauge,
    /// Notified when a dead request was stored or replayed.
    pub(super) retry_wakeup: Arc<Notify>,
    /// The encryption keys.
    pub(super) keys: Keyring,
    /// The queue of audit entries.
    pub(super) audit_queue: AuditQueue,
    /// Decides on payouts.
    pub(super) decisions: Arc<DecisionService>,
    /// The tasks that start once this replica holds the leader lease.
    pub(super) leader_tasks: LeaderTasks,
}

/// The tasks that every replica runs for its whole life.
pub(super) struct ReplicaTasks {
    /// The watches of the custom resources.
    reflectors: Vec<ReflectorTask>,
    router: ChangeRouter,
    ledger_monitor: LedgerMonitor,
    audit: AuditWriter,
    audit_pruner: AuditPruner,
    retention_pruner: RetentionPruner,
    decisions: DecisionTasks,
    ctx: Arc<Ctx>,
    keys: Keyring,
}

impl ReplicaTasks {
    /// Starts them.
    pub(super) fn start(self, stop: &CancellationToken, tasks: &Tasks) {
        let Self { reflectors, router, ledger_monitor, audit, audit_pruner, retention_pruner, decisions, ctx, keys } =
            self;
        decision_wiring::start(decisions, stop, tasks);
        // Of a standby too: its gateway reads Secrets and decrypts what the leader has encrypted with a new key.
        if keys.has_key() {
            let (clock, keys_stop) = (ctx.clock, stop.clone());
            tasks.effect("keys", async move { refresh_keys(&keys, clock, &keys_stop).await });
        }
        let secrets_stop = stop.clone();
        tasks.effect("secrets", async move { ctx.secrets.run_eviction(&secrets_stop).await });
        tasks.writer("audit", audit.run(tasks.writers_stop()));
        tasks.effect("audit pruning", audit_pruner.run(stop.clone()));
        tasks.effect("retention", retention_pruner.run(stop.clone()));
        tasks.effect("changes", router.run(stop.clone()));
        tasks.writer("ledger monitor", ledger_monitor.run(tasks.writers_stop()));
        for reflector in reflectors {
            let stop = stop.clone();
            tasks.effect("reflector", async move {
                tokio::select! {
                    () = reflector => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

/// The tasks that only the leader runs.
pub(super) struct LeaderTasks {
    ctx: Arc<Ctx>,
    /// Changes of objects, for the router.
    changes: Arc<KeyQueue<ObjectChange>>,
    driver: ProbeDriver,
    dead_request_worker: DeadRequestWorker,
    money_totals: MoneyTotalsMonitor,
    probe_log_writer: Option<ProbeLogWriter>,
    event_queue: EventQueue,
    outbox_writer: EventOutboxWriter,
    decisions: LeaderDecisionTasks,
    route_source: Arc<ProcessRoutes>,
    reconcile_metrics: ReconcileMetrics,
    status_metrics: StatusMetrics,
}

/// The monitor of the watches; `/readyz` says what fails.
fn watch_monitor(base: &BaseDeps<'_>) -> Result<WatchMonitor, AppError> {
    let watches = WatchMonitor::new(base.clock, WatchLimits::default());
    watches.register(base.metrics)?;
    let failing = watches.clone();
    base.gates.explain(Gate::Stores, move || failing.failures());
    Ok(watches)
}

fn leader_gauge(base: &BaseDeps<'_>) -> Result<IntGauge, AppError> {
    let help = "1 while this replica holds the leader lease.";
    let gauge = base.metrics.int_gauge("leader_election_master_status", help, &["name"])?;
    Ok(gauge.with_label_values(&[base.args.lease_name.as_str()]))
}

/// Builds the components and connects them.
pub(super) fn build(
    base: &BaseDeps<'_>,
    clients: &Clients,
    identity: &str,
    leadership: &Leadership,
) -> Result<Wiring, AppError> {
    let BaseDeps { args, clock, metrics, ledger, .. } = base;
    let (clock, ledger) = (*clock, Arc::clone(ledger));
    let reconcile_queue = ReconcileQueue::for_namespaces(args.watch_namespaces.iter().map(String::as_str));
    let references = Arc::new(ReferenceIndex::default());
    let keys = args.key_secret.as_deref().map(Keyring::open).transpose()?.unwrap_or_default();
    let (audit_queue, audit) = audit_channel(Arc::clone(&ledger), clock, metrics)?;
    let (audit_pruner, retention_pruner) = pruners(base, identity)?;
    let options = registry_options(base, &keys, &audit_queue)?;
    let registry = Registry::new(clock, metrics, options)?;
    let retry_wakeup = Arc::new(Notify::new());
    let (driver, probe_log_writer) = probes(base, identity, &registry)?;
    let pool = sync_pool(base, identity, &keys, &reconcile_queue)?;
    let backoff = Arc::new(ReconcileBackoff::default());

    let resolutions = Arc::new(Resolutions::default());
    let watches = watch_monitor(base)?;
    let reflector_deps = ReflectorDeps { references: Arc::clone(&references), changes: Arc::default(), watches };
    let (stores, reflectors) = Stores::new(&clients.watch, &args.watch_namespaces, &reflector_deps);
    let Decisions { service: decisions, routes: route_source, tasks: decision_tasks, leader: leader_decisions } =
        decision_wiring::decisions(base, &stores, &registry, &resolutions, identity)?;
    // Subscribed before anything changes: every change is routed.
    let router = ChangeRouter {
        routes: decisions.subscribe_changes(),
        objects: Arc::clone(&reflector_deps.changes),
        connections: registry.subscribe_changes(),
        reconcile_queue: reconcile_queue.clone(),
        references,
        registry: registry.clone(),
        pool: pool.clone(),
        backoff: Arc::clone(&backoff),
        resolutions: Arc::clone(&resolutions),
        ledger: ledger.health(),
        jobs: stores.jobs.clone(),
    };
    let dead_request_deps = DeadRequestDeps {
        ledger: Arc::clone(&ledger),
        registry: registry.clone(),
        lookup: connection_lookup(&stores, &args.watch_namespaces),
        keys: keys.clone(),
        clock,
        wakeup: Arc::clone(&retry_wakeup),
    };
    ResourceCollector::register(metrics, stores.clone());
    let failovers = FailoverCounts::default();
    RouteCollector::register(metrics, stores.routes.clone(), failovers.clone());
    if args.telemetry.compat_metrics.contains(&LegacyMetricSet::Routing) {
        let (objects, service) = (stores.routes.clone(), Arc::clone(&decisions));
        LegacyRoutingCollector::register(metrics, objects, registry.clone(), failovers.clone(), service);
    }
    reconcile_queue.register(metrics)?;
    let leader_gauge = leader_gauge(base)?;
    let (events, event_queue) = EventRecorder::new(clients.calls.clone(), clock, identity);
    let (outbox, outbox_writer) = EventOutbox::new(Arc::clone(&ledger), clock, metrics)?;
    let ctx = Arc::new(Ctx {
        stores,
        secrets: SecretReader::new(clients.calls.clone(), clock, args.secret_refresh),
        connection_check: ObjectCheck::new(clients.calls.clone(), clock),
        client: clients.calls.clone(),
        events,
        backoff,
        leadership: leadership.clone(),
        registry,
        prober: driver.handle(),
        pool,
        jobs: job_runner(args, clients)?,
        job_support: job_support(args),
        ledger,
        reconcile_queue,
        profiles: Arc::clone(&base.profiles),
        resolutions,
        failovers,
        outbox,
        routing: Some(Arc::clone(&decisions)),
        clock,
    });
    ctx.registry.set_secret_source(Arc::new(SecretReloader::new(&ctx)));
    let leader_tasks = LeaderTasks {
        ctx: Arc::clone(&ctx),
        changes: reflector_deps.changes,
        driver,
        dead_request_worker: DeadRequestWorker::new(dead_request_deps, identity, metrics)?,
        money_totals: MoneyTotalsMonitor::new(Arc::clone(&ctx.ledger), clock, metrics)?,
        probe_log_writer,
        event_queue,
        outbox_writer,
        decisions: leader_decisions,
        route_source,
        reconcile_metrics: ReconcileMetrics::new(metrics)?,
        status_metrics: StatusMetrics::new(metrics)?,
    };
    let replica_tasks = ReplicaTasks {
        reflectors,
        router,
        ledger_monitor: LedgerMonitor::new(Arc::clone(&ctx.ledger), clock, metrics)?,
        audit,
        audit_pruner,
        retention_pruner,
        decisions: decision_tasks,
        ctx: Arc::clone(&ctx),
        keys: keys.clone(),
    };
    Ok(Wiring { ctx, replica_tasks, leader_gauge, retry_wakeup, keys, audit_queue, decisions, leader_tasks })
}

/// The driver of the probes, and the writer of their results if they are kept.
fn probes(
    base: &BaseDeps<'_>,
    identity: &str,
    registry: &Registry,
) -> Result<(ProbeDriver, Option<ProbeLogWriter>), AppError> {
    let BaseDeps { args, clock, metrics, ledger, .. } = base;
    let driver = ProbeDriver::new(registry.clone(), *clock, metrics)?.with_concurrency(args.probe_concurrency.into());
    if args.probe_retention.is_zero() {
        return Ok((driver, None));
    }
    let writer = ProbeLogWriter::new(Arc::clone(ledger), *clock, args.probe_retention, identity, metrics)?;
    Ok((driver.with_log(writer.log()), Some(writer)))
}

/// Starts probes, syncs and reconcilers.
pub(super) fn start(leader_tasks: LeaderTasks, args: &RunArgs, stop: &CancellationToken, tasks: &Tasks) {
    let LeaderTasks {
        ctx,
        changes,
        driver,
        dead_request_worker,
        money_totals,
        probe_log_writer,
        event_queue,
        outbox_writer,
        decisions,
        route_source,
        reconcile_metrics,
        status_metrics,
    } = leader_tasks;
    route_source.set_probing();
    decision_wiring::lead(decisions, stop, tasks);
    tasks.effect("money totals", money_totals.run(stop.clone()));
    tasks.effect("dead requests", dead_request_worker.run(stop.clone()));
    tasks.effect("probes", driver.run(stop.clone()));
    if let Some(probe_log_writer) = probe_log_writer {
        tasks.writer("probe log", probe_log_writer.run(tasks.writers_stop()));
    }
    tasks.writer("events", event_queue.run(tasks.writers_stop()));
    tasks.writer("event outbox", outbox_writer.run(tasks.writers_stop()));
    let (retry_ctx, retry_stop) = (Arc::clone(&ctx), stop.clone());
    tasks.effect("early retries", async move {
        while retry_stop.run_until_cancelled(tokio::time::sleep(EARLY_RETRY_INTERVAL)).await.is_some() {
            if let Some((kind, key)) = retry_ctx.backoff.next_early_retry() {
                retry_ctx.reconcile_queue.enqueue(kind, &key);
            }
        }
    });
    start_requests(&ctx, &changes, &args.watch_namespaces, stop, tasks);
    let (pool, pool_stop) = (ctx.pool.clone(), stop.clone());
    tasks.effect("syncs", async move {
        pool_stop.cancelled().await;
        pool.close().await;
    });
    let status = StatusDeps {
        client: ctx.client.clone(),
        clock: ctx.clock,
        leadership: ctx.leadership.clone(),
        metrics: status_metrics,
    };
    let concurrency = args.reconcile_concurrency;
    let spawner = ReconcilerSpawner { ctx: &ctx, status, metrics: reconcile_metrics, concurrency, stop };
    spawner.spawn::<BreakerPolicyReconciler>("policies", ctx.stores.policies.clone(), tasks);
    spawner.spawn::<ProviderConnectionReconciler>("connections", ctx.stores.connections.clone(), tasks);
    spawner.spawn::<SyncJobReconciler>("jobs", ctx.stores.jobs.clone(), tasks);
    spawner.spawn::<BankRouteReconciler>("routes", ctx.stores.routes.clone(), tasks);
}

/// Rereads the keys once a minute, as the kubelet updates a mounted Secret: a new key takes effect without a restart.
async fn refresh_keys(keys: &Keyring, clock: Clock, stop: &CancellationToken) {
    const INTERVAL: Duration = Duration::from_mins(1);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep_until(clock.mono() + INTERVAL) => {}
        }
        if let Err(error) = keys.reload() {
            tracing::warn!(%error, "rereading the encryption keys failed; the previous keys stay in use");
        }
    }
}

/// Spawns a reconciler for each kind.
struct ReconcilerSpawner<'a> {
    ctx: &'a Arc<Ctx>,
    status: StatusDeps,
    metrics: ReconcileMetrics,
    concurrency: u16,
    stop: &'a CancellationToken,
}

impl ReconcilerSpawner<'_> {
    fn spawn<R: Reconciler>(&self, name: &'static str, store: KindStore<R::Object>, tasks: &Tasks)
    where
        R::Object: HasStatus,
    {
        let writer = StatusWriter::<R::Object>::new(self.status.clone(), store.clone());
        let runner = ReconcileRunner::<R>::new(Arc::clone(self.ctx), writer, self.metrics.clone(), self.concurrency);
        let stop = self.stop.clone();
        tasks.effect(name, runner.run(store, stop));
    }
}

/// Looks up connections in the stores: an object can be known to be absent only in a watched namespace.
fn connection_lookup(stores: &Stores, namespaces: &[String]) -> ConnectionLookup {
    let (connections, namespaces) = (stores.connections.clone(), namespaces.to_vec());
    Arc::new(move |key| match connections.get(key) {
        Some(object) => object.metadata.uid.clone().map_or(Presence::Unknown, Presence::Present),
        None if namespaces.is_empty() || namespaces.iter().any(|watched| *watched == *key.namespace) => {
            Presence::Absent
        }
        None => Presence::Unknown,
    })
}
