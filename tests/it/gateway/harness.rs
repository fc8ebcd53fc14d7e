//! A gateway on a real socket, in front of simulated providers and a scripted API server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::cluster::auth::Authorizer;
use busbar::domain::key::ObjectKey;
use busbar::domain::token_buckets::BucketLimit;
use busbar::gateway::Gateway;
use busbar::gateway::access::AccessControl;
use busbar::gateway::connection_limits::ConnectionLimits;
use busbar::gateway::consumers::ConsumerAccess;
use busbar::gateway::dead_requests::recorder::DeadRequestRecorder;
use busbar::gateway::fallback_authorization::FallbackAuthorization;
use busbar::gateway::metrics::GatewayMetrics;
use busbar::gateway::rate_limit::{Rate, RateLimits};
use busbar::gateway::request_limits::{DEFAULT_MAX_REQUESTS, RequestLimits};
use busbar::gateway::router::router;
use busbar::gateway::server::Server;
use busbar::gateway::shared_rates;
use busbar::gateway::webhooks::rule::WebhookRules;
use busbar::gateway::webhooks::webhook_inbox;
use busbar::ledger::audit::{AuditEntry, AuditKind};
use busbar::ledger::encryption::Keyring;
use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profile, Profiles};
use busbar::provider::audit::audit_channel;
use busbar::provider::memory::MemoryLimits;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::provider::rights::LicenceMeter;
use busbar::routing::DecisionService;
use busbar::settings::{Draft, FallbackTarget, Settings};
use busbar::tasks::TaskGroup;
use busbar::telemetry::traces::Traces;
use busbar::testbed::sim::{BankConfig, BankHandle, Sim, SimConfig};
use busbar::work::dead_requests::{ConnectionLookup, DeadRequestDeps, DeadRequestWorker, Presence};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::scripted_hooks::ScriptedHooks;
use super::scripted_routes::{ScriptedRoutes, start_routing};
use super::syncs::FakeSyncs;

/// FMP's response for a quote.
pub(crate) const FMP_QUOTE: &str =
    r#"[{"symbol":"ACME","name":"Acme","price":101.2500,"change":1.1,"timestamp":1767225600}]"#;
/// Polygon's response for a quote.
pub(crate) const POLYGON_QUOTE: &str = r#"{"status":"OK","ticker":{"ticker":"ACME","todaysChange":1.2,"todaysChangePerc":1.1,
    "day":{"o":100.1,"h":102,"l":99,"c":101,"v":1000},"lastTrade":{"p":101.30},"prevDay":{"c":100},"updated":1767225600000000000}}"#;
/// Polygon's response for earnings.
pub(crate) const POLYGON_EARNINGS: &str =
    r#"{"results":[{"ticker":"ACME","date":"2026-10-20","actual_eps":1.5,"estimated_eps":1.4}],"status":"OK"}"#;

/// A connection that exists, whether it runs or not.
pub(crate) const LATE: &str = "late";

/// The settings of a harness.
pub(crate) struct Plan {
    pub(crate) finastra: bool,
    pub(crate) caller: Rate,
    pub(crate) address: Rate,
    pub(crate) consumer: BucketLimit,
    pub(crate) fallbacks: FallbackAuthorization,
    pub(crate) keys: Keyring,
    pub(crate) under_way: usize,
    pub(crate) memory: MemoryLimits,
    /// Calls of one connection in flight.
    pub(crate) calls: Option<u16>,
    pub(crate) traces: Traces,
    pub(crate) default_namespace: Option<&'static str>,
    pub(crate) clock: Clock,
}

impl Default for Plan {
    fn default() -> Self {
        let rate = |requests| Rate { requests, per: Duration::from_secs(1) };
        Self {
            finastra: true,
            caller: rate(100_000),
            address: rate(100_000),
            consumer: rate(100_000).into(),
            fallbacks: FallbackAuthorization::default(),
            keys: Keyring::none(),
            under_way: DEFAULT_MAX_REQUESTS,
            memory: MemoryLimits::default(),
            calls: None,
            traces: Traces::off(),
            default_namespace: None,
            clock: Clock::system(),
        }
    }
}

/// The gateway with its providers, its ledger and a client.
pub(crate) struct GatewayHarness {
    pub(crate) fmp: BankHandle,
    pub(crate) polygon: BankHandle,
    pub(crate) finastra: BankHandle,
    pub(crate) routes: Arc<ScriptedRoutes>,
    pub(crate) routing: Arc<DecisionService>,
    pub(crate) registry: Registry,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) consumers: Arc<ConsumerAccess>,
    pub(crate) hooks: Arc<ScriptedHooks>,
    pub(crate) metrics: Metrics,
    pub(crate) api: Arc<Api>,
    pub(crate) address: SocketAddr,
    /// The handlers, for requests without a socket.
    pub(crate) app: axum::Router,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: tokio::task::JoinHandle<()>,
    pub(crate) http: reqwest::Client,
    writer: tokio::task::JoinHandle<()>,
    audit_stop: CancellationToken,
    bell: Arc<Notify>,
    keys: Keyring,
    pub(crate) sim: Sim,
    dir: tempfile::TempDir,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Said {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn error(&self) -> &str {
        self.body["data"]["error"].as_str().unwrap_or_default()
    }

    pub(crate) fn meta(&self, name: &str) -> &Value {
        &self.body["data"]["meta"][name]
    }
}

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("treasury", name)
}

pub(crate) fn canned(name: &str, bodies: &[(&str, &str)]) -> BankConfig {
    let mut config = BankConfig::new(name);
    config.canned = bodies.iter().map(|(path, body)| ((*path).to_owned(), (*body).to_owned())).collect();
    config
}

impl GatewayHarness {
    pub(crate) async fn new() -> Self {
        Self::with(Plan::default()).await
    }

    pub(crate) async fn with(plan: Plan) -> Self {
        let sim = Sim::start(SimConfig::default()).await.unwrap();
        let fmp = sim.add_bank(canned("fmp", &[("/quote", FMP_QUOTE), ("/earnings", "[]")])).await.unwrap();
        let polygon = canned(
            "polygon",
            &[
                ("/v2/snapshot/locale/us/markets/stocks/tickers/ACME", POLYGON_QUOTE),
                ("/benzinga/v1/earnings", POLYGON_EARNINGS),
            ],
        );
        let polygon = sim.add_bank(polygon).await.unwrap();
        let finastra = sim.add_bank(BankConfig::new("finastra")).await.unwrap();

        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
        let (clock, metrics) = (plan.clock, Metrics::new());
        let (queue, writer) = audit_channel(ledger.clone(), clock, &metrics).unwrap();
        let licences = LicenceMeter::new(clock, ledger.clone(), queue.clone(), &metrics).unwrap();
        let reach = RegistryOptions {
            licence_meter: Some(Arc::new(licences)),
            traces: plan.traces,
            calls_per_connection: plan.calls,
            memory: plan.memory,
            ..RegistryOptions::allowing_loopback()
        };
        let registry = Registry::new(clock, &metrics, reach).unwrap();
        let (stop, audit_stop) = (CancellationToken::new(), CancellationToken::new());
        let (bell, api) = (Arc::new(Notify::new()), Arc::new(Api::default()));
        let (keys, wake) = (plan.keys.clone(), Arc::clone(&bell));
        let dead_requests = DeadRequestRecorder::new(ledger.clone(), keys, clock, wake, &metrics).unwrap();
        let (routes, routing) = start_routing(&ledger, clock, &metrics, &stop);
        let tasks = TaskGroup::default();
        let consumers = Arc::new(ConsumerAccess::new(ledger.clone(), clock, tasks.clone()));
        let hooks = Arc::new(ScriptedHooks::default());
        let rules = Arc::clone(&hooks) as Arc<dyn WebhookRules>;
        let (inbox, webhook_writer) = webhook_inbox(ledger.clone(), clock, rules, Arc::new(Notify::new()));
        tasks.spawn("api keys", Arc::clone(&consumers).run(stop.clone()));
        tasks.spawn("webhook inbox", webhook_writer.run(stop.clone()));
        let gateway = Arc::new(Gateway {
            fallback_authorization: plan.fallbacks,
            access: AccessControl::Kubernetes(Box::new(Authorizer::new(api.clone(), clock, &metrics).unwrap())),
            rate_limits: RateLimits::new(clock, plan.caller, plan.address).with_consumers(plan.consumer),
            request_limits: RequestLimits::new(plan.under_way),
            registry: registry.clone(),
            exists: Arc::new(|key| &*key.name == LATE),
            consumers: Arc::clone(&consumers),
            webhooks: Some(Arc::new(inbox)),
            ledger: ledger.clone(),
            dead_requests,
            syncs: Some(Arc::new(FakeSyncs::default())),
            routing: Arc::clone(&routing),
            default_namespace: plan.default_namespace.map(str::to_owned),
            closing: stop.clone(),
            audit: Some(queue),
            finastra: plan.finastra.then(|| key("finastra")),
            clock,
            metrics: GatewayMetrics::new(&metrics).unwrap(),
        });
        tasks.spawn("shared rates", shared_rates::run(Arc::clone(&gateway), stop.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = router(&gateway, Arc::new(|| (true, "ready\n".to_owned())));
        let (limits, tasks) = (ConnectionLimits::default(), TaskGroup::default());
        let server = Server { listener, app: app.clone(), tls: None, limits, clock, tasks, metrics: None };
        let harness = Self {
            serving: tokio::spawn(server.serve(stop.clone())),
            writer: tokio::spawn(writer.run(audit_stop.clone())),
            http: reqwest::Client::builder()
                .no_proxy()
                .tls_certs_only([])
                .timeout(Duration::from_secs(30))
                .build()
                .unwrap(),
            fmp,
            polygon,
            finastra,
            routes,
            routing,
            registry,
            ledger,
            consumers,
            hooks,
            metrics,
            api,
            address,
            app,
            stop,
            audit_stop,
            bell,
            keys: plan.keys,
            sim,
            dir,
        };
        harness.connect("fmp", &harness.fmp, |_| ());
        harness.connect("polygon", &harness.polygon, |_| ());
        harness.connect("finastra", &harness.finastra, |draft| {
            draft.parameters = BTreeMap::from([("tenant".to_owned(), "sandbox".to_owned())]);
        });
        harness
    }

    /// Applies a connection of the provider `name` to `bank`.
    pub(crate) fn connect(&self, name: &str, bank: &BankHandle, change: impl FnOnce(&mut Draft)) {
        self.connect_as(name, name, bank, change);
    }

    /// The same, under another name.
    pub(crate) fn connect_as(&self, name: &str, provider: &str, bank: &BankHandle, change: impl FnOnce(&mut Draft)) {
        self.connect_by(name, Profiles::builtin().unwrap().get(provider).unwrap(), bank, change);
    }

    /// The same, with this profile.
    pub(crate) fn connect_by(
        &self,
        name: &str,
        profile: Arc<Profile>,
        bank: &BankHandle,
        change: impl FnOnce(&mut Draft),
    ) {
        self.replace(name, &format!("uid-{name}"), profile, bank, change);
    }

    /// Applies the connection `name`, the object `uid` with the profile `profile`.
    pub(crate) fn replace(
        &self,
        name: &str,
        uid: &str,
        profile: Arc<Profile>,
        bank: &BankHandle,
        change: impl FnOnce(&mut Draft),
    ) {
        let mut draft = Draft::new(profile, Environment::Sandbox);
        draft.base_url = bank.base_url();
        draft.breaker.jitter_seed = 1;
        draft.retry.retries = 0;
        draft.limits.clear();
        draft.cache = None;
        change(&mut draft);
        self.registry.apply(&key(name), uid, Settings::resolve(draft).unwrap(), None);
    }

    /// Starts the worker of dead requests; it stops with the token.
    pub(crate) fn worker(&self, holder: &str) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        self.worker_in(holder, &Metrics::new())
    }

    /// The same, with its metrics in `metrics`.
    pub(crate) fn worker_in(
        &self,
        holder: &str,
        metrics: &Metrics,
    ) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        let registry = self.registry.clone();
        // A connection that is not running does not exist: there are no objects here.
        let lookup = move |key: &ObjectKey| {
            registry.get(key).map_or(Presence::Absent, |live| Presence::Present(live.uid().to_string()))
        };
        self.work(holder, metrics, Arc::new(lookup))
    }

    /// The same, for a replica that does not know which connections exist.
    pub(crate) fn worker_that_sweeps_nothing(&self, holder: &str) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        self.work(holder, &Metrics::new(), Arc::new(|_| Presence::Unknown))
    }

    fn work(
        &self,
        holder: &str,
        metrics: &Metrics,
        lookup: ConnectionLookup,
    ) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        let stop = CancellationToken::new();
        let deps = DeadRequestDeps {
            ledger: self.ledger.clone(),
            registry: self.registry.clone(),
            lookup,
            keys: self.keys.clone(),
            clock: Clock::system(),
            wakeup: Arc::clone(&self.bell),
        };
        let worker = DeadRequestWorker::new(deps, holder, metrics);
        (stop.clone(), tokio::spawn(worker.unwrap().run(stop)))
    }

    /// The ledger's file.
    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("l.db")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends a GET as ann.
    pub(crate) async fn get(&self, path: &str) -> Said {
        self.ask("GET", path, "token-ann", &[]).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, token: &str, headers: &[(&str, &str)]) -> Said {
        let mut request = self.http.request(method.parse().unwrap(), self.url(path));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        said(request).await
    }

    /// Stops the audit writer and returns the entries about calls and acts, oldest first.
    pub(crate) async fn audit(&mut self) -> Vec<AuditEntry> {
        self.whole_audit().await.into_iter().filter(|entry| entry.kind != AuditKind::Request).collect()
    }

    /// The same with the requests that were answered with an error.
    pub(crate) async fn whole_audit(&mut self) -> Vec<AuditEntry> {
        self.audit_stop.cancel();
        (&mut self.writer).await.unwrap();
        let all = self.ledger.list_audit(None, None, 1_000).await.unwrap();
        all.into_iter().rev().map(|stored| stored.entry).collect()
    }
}

/// Sends the request and reads the response.
pub(crate) async fn said(request: reqwest::RequestBuilder) -> Said {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    Said { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

/// A fallback for all operations.
pub(crate) fn fallback(connection: &str) -> FallbackTarget {
    FallbackTarget { name: connection.to_owned(), operations: None, connection: connection.to_owned() }
}
