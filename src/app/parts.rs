//! The parts that work: registry, probes, syncs, reconcilers, and how word travels between them.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::sink::{poke_all, sink};
use super::{AppError, Parts};
use crate::cli::RunArgs;
use crate::clock::Clock;
use crate::cluster::claims::Claims;
use crate::cluster::client::Clients;
use crate::cluster::events::{Events, Outbox};
use crate::cluster::failures::{Failures, SCOUT_EVERY};
use crate::cluster::lease::Leadership;
use crate::cluster::references::References;
use crate::cluster::secrets::Secrets;
use crate::cluster::status::{Reported, StatusMetrics, StatusWriter};
use crate::cluster::stores::{KindStore, Mirror, Shared, Stores};
use crate::controllers::bankroute::Routes;
use crate::controllers::breakerpolicy::Policies;
use crate::controllers::collector::Objects;
use crate::controllers::providerconnection::Connections;
use crate::controllers::providerconnection::reread::ConnectionSecrets;
use crate::controllers::shell::{Shell, ShellMetrics};
use crate::controllers::syncjob::Jobs;
use crate::controllers::{Ctx, Reconciler};
use crate::domain::key::Kind;
use crate::ledger::sealed::Keyring;
use crate::ledger::{CredentialStore, Ledger};
use crate::metrics::Metrics;
use crate::provider::addresses::AddressRules;
use crate::provider::audit::{AuditQueue, AuditWriter, audit};
use crate::provider::auth::vault::Vault;
use crate::provider::profile::Profiles;
use crate::provider::registry::{Access, Change as Lived, Registry};
use crate::provider::rights::Licences;
use crate::telemetry::traces::Traces;
use crate::work::dead_requests::{DeadRequestWorker, Declared, WhoIs};
use crate::work::poke::Pokes;
use crate::work::pool::{PoolOptions, SyncPool};
use crate::work::probes::{ProbeDriver, ProbeKeeper};

/// Everything that was built and not yet started.
pub(super) struct Built {
    /// What reconcilers have at hand.
    pub(super) ctx: Arc<Ctx>,
    /// The watches.
    pub(super) mirrors: Vec<Mirror>,
    /// 1 while this replica leads.
    pub(super) leading: IntGauge,
    /// Rings when a failed request was kept.
    pub(super) bell: Arc<Notify>,
    /// What seals.
    pub(super) keys: Keyring,
    pub(super) audit_queue: AuditQueue,
    audit: Option<AuditWriter>,
    /// What starts once this replica leads.
    pub(super) work: Work,
}

impl Built {
    /// Starts writing the audit: every replica's own, from the start to the end.
    pub(super) fn start_audit(&mut self, stop: &CancellationToken, tasks: &mut Parts) {
        if let Some(writer) = self.audit.take() {
            let stop = stop.clone();
            tasks.spawn(async move {
                writer.run(stop).await;
                ("audit", Ok(()))
            });
        }
    }
}

/// What only the leader runs.
pub(super) struct Work {
    ctx: Arc<Ctx>,
    clients: Clients,
    driver: ProbeDriver,
    dead: DeadRequestWorker,
    keeper: Option<ProbeKeeper>,
    outbox: Outbox,
    shell_metrics: ShellMetrics,
    status_metrics: StatusMetrics,
    claims: Arc<Claims>,
    clock: Clock,
    keys: Keyring,
}

/// Builds the parts and wires them.
pub(super) fn build(
    args: &RunArgs,
    clients: &Clients,
    identity: &str,
    leadership: &Leadership,
    (clock, metrics, traces): (Clock, &Metrics, Traces),
    (ledger, profiles): (Arc<dyn Ledger>, Arc<Profiles>),
) -> Result<Built, AppError> {
    let pokes = Pokes::of_namespaces(args.watch_namespaces.iter().map(String::as_str));
    let references = Arc::new(References::default());
    let keys = args.key_secret.as_deref().map(Keyring::open).transpose()?.unwrap_or_default();
    let (audit_queue, audit) = audit(Arc::clone(&ledger), clock, args.gateway.audit_retention, metrics)?;
    let access = Access {
        addresses: AddressRules::allowing(args.allow_provider_addresses.iter().copied()),
        vault: Some(Vault::new(Arc::clone(&ledger) as Arc<dyn CredentialStore>, keys.clone())),
        licences: Some(Arc::new(Licences::new(clock, Arc::clone(&ledger), audit_queue.clone(), metrics)?)),
        traces,
        compat: args.telemetry.compat_metrics.iter().copied().collect(),
    };
    let registry = Registry::new(clock, metrics, access)?;
    let bell = Arc::new(Notify::new());
    let mut driver =
        ProbeDriver::new(registry.clone(), pokes.clone(), clock, metrics)?.concurrency(args.probe_concurrency.into());
    let keeper = if args.probe_retention.is_zero() {
        None
    } else {
        let keeper = ProbeKeeper::new(Arc::clone(&ledger), clock, args.probe_retention, metrics)?;
        driver = driver.logged(keeper.log());
        Some(keeper)
    };
    let options = PoolOptions { concurrency: args.sync_concurrency.into(), ..PoolOptions::new(identity) };
    let pool = SyncPool::new(Arc::clone(&ledger), pokes.clone(), clock, metrics, options)?;
    let failures = Arc::new(Failures::default());

    let claims = Arc::new(Claims::default());
    let sink = sink(&pokes, &references, &registry, &pool, &failures);
    let shared = Shared { references: Arc::clone(&references), claims: Arc::clone(&claims), sink };
    let (stores, mirrors) = Stores::new(&clients.watch, &args.watch_namespaces, &shared);
    let (again, rings) = ((registry.clone(), who_is(&stores, &args.watch_namespaces)), Arc::clone(&bell));
    let dead = DeadRequestWorker::new(Arc::clone(&ledger), again, keys.clone(), (clock, metrics), identity, rings)?;
    registry.on_change({
        let (pokes, references) = (pokes.clone(), Arc::clone(&references));
        move |change| match change {
            Lived::Applied(key) | Lived::Removed(key) | Lived::Observed(key) => {
                poke_all(&pokes, &references, Kind::ProviderConnection, key);
            }
        }
    });
    Objects::register(metrics, stores.clone());
    let leading = metrics
        .int_gauge("leader_election_master_status", "1 while this replica holds the leader lease.", &["name"])?
        .with_label_values(&[args.lease_name.as_str()]);
    let (events, outbox) = Events::new(clients.calls.clone(), clock, identity);
    let ctx = Arc::new(Ctx {
        stores,
        secrets: Secrets::new(clients.calls.clone(), clock, args.secret_refresh),
        client: clients.calls.clone(),
        events,
        failures,
        leadership: leadership.clone(),
        registry,
        prober: driver.handle(),
        pool,
        ledger,
        pokes,
        profiles,
        clock,
    });
    ctx.registry.read_secrets_by(Arc::new(ConnectionSecrets::new(&ctx)));
    let work = Work {
        ctx: Arc::clone(&ctx),
        keys: keys.clone(),
        clients: clients.clone(),
        driver,
        dead,
        keeper,
        outbox,
        shell_metrics: ShellMetrics::new(metrics)?,
        status_metrics: StatusMetrics::new(metrics)?,
        claims,
        clock,
    };
    Ok(Built { ctx, mirrors, leading, bell, keys, audit_queue, audit: Some(audit), work })
}

/// Starts probes, syncs and reconcilers.
pub(super) fn start(work: Work, args: &RunArgs, stop: &CancellationToken, tasks: &mut Parts) {
    let Work { ctx, clients, driver, dead, keeper, outbox, shell_metrics, status_metrics, claims, clock, keys } = work;
    let dead_stop = stop.clone();
    tasks.spawn(async move {
        dead.run(dead_stop).await;
        ("dead requests", Ok(()))
    });
    let probes_stop = stop.clone();
    tasks.spawn(async move {
        driver.run(probes_stop).await;
        ("probes", Ok(()))
    });
    if let Some(keeper) = keeper {
        let keeper_stop = stop.clone();
        tasks.spawn(async move {
            keeper.run(keeper_stop).await;
            ("probe log", Ok(()))
        });
    }
    let events_stop = stop.clone();
    tasks.spawn(async move {
        outbox.run(events_stop).await;
        ("events", Ok(()))
    });
    let (scouting, scouts_stop) = (Arc::clone(&ctx), stop.clone());
    tasks.spawn(async move {
        while scouts_stop.run_until_cancelled(tokio::time::sleep(SCOUT_EVERY)).await.is_some() {
            if let Some((kind, key)) = scouting.failures.scout() {
                scouting.pokes.poke(kind, &key);
            }
        }
        ("scouts", Ok(()))
    });
    if keys.has_key() {
        let keys_stop = stop.clone();
        tasks.spawn(async move {
            refresh_keys(&keys, clock, &keys_stop).await;
            ("keys", Ok(()))
        });
    }
    let (swept, sweep_stop) = (Arc::clone(&ctx), stop.clone());
    tasks.spawn(async move {
        swept.secrets.keep_swept(&sweep_stop).await;
        ("secrets", Ok(()))
    });
    let (pool, pool_stop) = (ctx.pool.clone(), stop.clone());
    tasks.spawn(async move {
        pool_stop.cancelled().await;
        pool.close().await;
        ("syncs", Ok(()))
    });
    let metrics = (shell_metrics, status_metrics);
    let start = Start { ctx: &ctx, clients: &clients, claims: &claims, metrics, clock, args, stop };
    start.one::<Policies>("policies", ctx.stores.policies.clone(), tasks);
    start.one::<Connections>("connections", ctx.stores.connections.clone(), tasks);
    start.one::<Jobs>("jobs", ctx.stores.jobs.clone(), tasks);
    start.one::<Routes>("routes", ctx.stores.routes.clone(), tasks);
}

/// Reads the keys again once a minute, as the kubelet does with a mounted Secret: a new key encrypts without a restart.
async fn refresh_keys(keys: &Keyring, clock: Clock, stop: &CancellationToken) {
    const EVERY: Duration = Duration::from_mins(1);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep_until(clock.mono() + EVERY) => {}
        }
        if let Err(error) = keys.refresh() {
            tracing::warn!(%error, "the keys that were read before stay in force");
        }
    }
}

struct Start<'a> {
    ctx: &'a Arc<Ctx>,
    clients: &'a Clients,
    claims: &'a Arc<Claims>,
    metrics: (ShellMetrics, StatusMetrics),
    clock: Clock,
    args: &'a RunArgs,
    stop: &'a CancellationToken,
}

impl Start<'_> {
    fn one<R: Reconciler>(&self, name: &'static str, store: KindStore<R::Object>, tasks: &mut Parts)
    where
        R::Object: Reported,
    {
        let (metrics, status_metrics) = self.metrics.clone();
        let client = self.clients.calls.clone();
        let (leadership, claims) = (self.ctx.leadership.clone(), Arc::clone(self.claims));
        let writer =
            StatusWriter::<R::Object>::new(client, self.clock, leadership, claims, status_metrics, store.clone());
        let shell = Shell::<R>::new(Arc::clone(self.ctx), writer, metrics, self.args.reconcile_concurrency);
        let stop = self.stop.clone();
        tasks.spawn(async move {
            shell.run(store, stop).await;
            (name, Ok(()))
        });
    }
}

/// What the stores know of a connection's object: only of namespaces that are watched can it be said that it is gone.
fn who_is(stores: &Stores, namespaces: &[String]) -> WhoIs {
    let (connections, namespaces) = (stores.connections.clone(), namespaces.to_vec());
    Arc::new(move |key| match connections.get(key) {
        Some(object) => object.metadata.uid.clone().map_or(Declared::Unknown, Declared::As),
        None if namespaces.is_empty() || namespaces.iter().any(|watched| *watched == *key.namespace) => Declared::Gone,
        None => Declared::Unknown,
    })
}
