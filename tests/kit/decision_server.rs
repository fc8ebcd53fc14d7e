//! A gateway that decides payouts, on a real socket: a route of five banks whose connections run here, a ledger of the
//! caller's choice, and callers that a scripted API server knows.
//!
//! The benches include this file too, and so it uses the library only.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use busbar::api::v1alpha1::BankRoute;
use busbar::clock::Clock;
use busbar::cluster::ApiError;
use busbar::cluster::auth::{AccessRequest, Authorizer, Reviewer, UserInfo};
use busbar::domain::forecast::prediction_book::Accepted;
use busbar::domain::forecast::{ExternalPrediction, PredictionRefused};
use busbar::domain::key::ObjectKey;
use busbar::domain::payout::BankPromises;
use busbar::domain::route::{CandidatePrediction, ConnectionState};
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
use busbar::gateway::webhooks::inbox::WebhookInbox;
use busbar::ledger::Ledger;
use busbar::ledger::encryption::Keyring;
use busbar::metrics::Metrics;
use busbar::profile::{CheckMode, Environment, Profile, Profiles};
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::resolve::bank_route::RouteScorer;
use busbar::routing::{ConnectionHealth, DecisionService, LiveRoute, PayoutFeedback, RouteSource, RoutingDeps};
use busbar::settings::{Draft, Settings};
use busbar::tasks::TaskGroup;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The namespace of the route.
pub(crate) const NAMESPACE: &str = "payments";
/// The route.
pub(crate) const ROUTE: &str = "payouts";
/// A token that may do everything.
pub(crate) const TOKEN: &str = "token-processing";
/// The path of a decision.
pub(crate) const DECIDE: &str = "/api/treasury/routing/decide";
/// The banks of the route, the cheapest first.
pub(crate) const BANKS: [&str; 5] = ["bank-a", "bank-b", "bank-c", "bank-d", "bank-e"];

/// Accepts every token that begins with `token-`, and everything its user asks for.
struct Permissive;

impl Reviewer for Permissive {
    fn review_token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<UserInfo>, ApiError>> {
        let user = token.strip_prefix("token-").map(|name| UserInfo::new(name, None, Vec::new(), BTreeMap::new()));
        Box::pin(async move { Ok(user) })
    }

    fn review_access<'a>(&'a self, _: &'a UserInfo, _: &'a AccessRequest) -> BoxFuture<'a, Result<bool, ApiError>> {
        Box::pin(async { Ok(true) })
    }
}

/// One route, and the connections of its banks.
pub(crate) struct Routes {
    registry: Registry,
    route: Arc<LiveRoute>,
}

impl Routes {
    /// The route that `spec` describes.
    pub(crate) fn new(registry: Registry, spec: &Value) -> Self {
        let object = json!({"apiVersion": "busbar.dev/v1alpha1", "kind": "BankRoute", "metadata": {"name": ROUTE}, "spec": spec});
        let object: BankRoute = serde_json::from_value(object).expect("a route");
        let resolved = busbar::resolve::bank_route(&object.spec).expect("a route that can be used");
        let route = LiveRoute {
            key: ObjectKey::new(NAMESPACE, ROUTE),
            uid: "5f0c1c9e-6a51-4d0c-8f0a-000000000001".to_owned(),
            generation: 1,
            created: jiff::Timestamp::UNIX_EPOCH,
            suspended: false,
            resolved: Ok(Arc::new(resolved)),
            incumbent: None,
        };
        Self { registry, route: Arc::new(route) }
    }
}

impl RouteSource for Routes {
    fn route(&self, key: &ObjectKey) -> Option<Arc<LiveRoute>> {
        (*key == self.route.key).then(|| Arc::clone(&self.route))
    }

    fn routes(&self, namespace: &str) -> Vec<Arc<LiveRoute>> {
        if namespace == NAMESPACE { vec![Arc::clone(&self.route)] } else { Vec::new() }
    }

    fn keys(&self) -> Vec<ObjectKey> {
        vec![self.route.key.clone()]
    }

    fn connection(&self, key: &ObjectKey, now: jiff::Timestamp) -> ConnectionState {
        self.registry.get(key).map_or(ConnectionState::Missing, |connection| connection.route_state(now))
    }

    fn predictions(&self, _: &ObjectKey, _: Option<&RouteScorer>, _: jiff::Timestamp) -> Vec<CandidatePrediction> {
        Vec::new()
    }

    fn push_prediction(&self, _: &ObjectKey, _: ExternalPrediction) -> Result<Accepted, PredictionRefused> {
        Err(PredictionRefused::UnknownBank)
    }

    fn next_trial(&self, _: &ObjectKey) -> Option<jiff::Timestamp> {
        None
    }

    fn promises(&self, key: &ObjectKey) -> BankPromises {
        let connection = self.registry.get(key);
        connection.map_or_else(BankPromises::default, |connection| connection.settings().promises().clone())
    }

    fn health(&self, _: &ObjectKey) -> Option<ConnectionHealth> {
        None
    }

    fn observe(&self, _: &ObjectKey, _: &PayoutFeedback) {}
}

/// Five banks with two fee entries each, all of them for the payouts of [`body`].
pub(crate) fn route_spec() -> Value {
    let candidates: Vec<Value> = BANKS
        .iter()
        .enumerate()
        .map(|(n, name)| {
            json!({
                "name": name,
                "connectionRef": {"name": name},
                "bankProfileID": format!("profile-{name}"),
                "fees": [
                    {"name": "sepa", "rails": ["SEPA"], "basisPoints": "12.5", "fixed": format!("0.{}", 20 + n), "max": "5"},
                    {"name": "all", "fixed": "1.50"},
                ],
            })
        })
        .collect();
    json!({"referenceCurrency": "EUR", "candidates": candidates})
}

/// The body of a decision about the payout `id`.
pub(crate) fn body(id: &str) -> Value {
    json!({
        "namespace": NAMESPACE, "route": ROUTE, "payout_id": id, "amount": "1250.00", "currency": "EUR", "country": "DE",
        "rail": "SEPA",
    })
}

/// A connection whose health is that of its calls, and of which nothing is called here.
pub(crate) fn passive() -> Draft {
    // Read once: the files of all profiles are parsed for it.
    static GENERIC: OnceLock<Arc<Profile>> = OnceLock::new();
    let builtin = || Profiles::builtin().expect("the built-in profiles").get("generic").expect("the generic profile");
    let mut draft = Draft::new(Arc::clone(GENERIC.get_or_init(builtin)), Environment::Sandbox);
    "http://127.0.0.1:9".clone_into(&mut draft.base_url);
    draft.health_check.mode = CheckMode::Passive;
    draft.breaker.jitter_seed = 1;
    draft
}

/// Puts the bank `name` into service.
pub(crate) fn connect(registry: &Registry, name: &str, uid: &str, draft: Draft) -> Arc<Connection> {
    let settings = Settings::resolve(draft).expect("settings");
    registry.apply(&ObjectKey::new(NAMESPACE, name), uid, settings, None)
}

/// A service without a gateway.
pub(crate) struct RunningDecisions {
    pub(crate) service: Arc<DecisionService>,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskGroup,
    pub(crate) clock: Clock,
}

impl RunningDecisions {
    /// Decides on the route of [`route_spec`], with all of its banks running, into `ledger`.
    pub(crate) fn start(ledger: &Arc<dyn Ledger>) -> Self {
        let (clock, metrics, tasks) = (Clock::system(), Metrics::new(), TaskGroup::default());
        let registry = Registry::new(clock, &metrics, RegistryOptions::allowing_loopback()).expect("a registry");
        for name in BANKS {
            connect(&registry, name, name, passive());
        }
        let deps = RoutingDeps {
            clock,
            ledger: Arc::clone(ledger),
            routes: Arc::new(Routes::new(registry.clone(), &route_spec())),
            tasks: tasks.clone(),
        };
        let (service, running) = DecisionService::new(deps, &metrics).expect("a service");
        let stop = CancellationToken::new();
        tasks.spawn("committer", running.committer.run(stop.clone()));
        tasks.spawn("ops_refresh", running.ops_refresh.run(stop.clone()));
        Self { service, registry, metrics, stop, tasks, clock }
    }

    /// Serves the gateway on `listener` until [`Self::stop`] is cancelled; the address.
    pub(crate) fn serve(
        &self,
        ledger: &Arc<dyn Ledger>,
        listener: TcpListener,
        webhooks: Option<Arc<WebhookInbox>>,
    ) -> SocketAddr {
        let (clock, metrics) = (self.clock, &self.metrics);
        let rate = Rate { requests: 1_000_000, per: Duration::from_secs(1) };
        let authorizer = Authorizer::new(Arc::new(Permissive), clock, metrics).expect("an authorizer");
        let wakeup = Arc::new(Notify::new());
        let gateway = Arc::new(Gateway {
            fallback_authorization: FallbackAuthorization::default(),
            access: AccessControl::Kubernetes(Box::new(authorizer)),
            rate_limits: RateLimits::new(clock, rate, rate),
            request_limits: RequestLimits::new(DEFAULT_MAX_REQUESTS),
            registry: self.registry.clone(),
            exists: Arc::new(|_| false),
            consumers: Arc::new(ConsumerAccess::new(Arc::clone(ledger), clock, self.tasks.clone())),
            webhooks,
            ledger: Arc::clone(ledger),
            dead_requests: DeadRequestRecorder::new(Arc::clone(ledger), Keyring::none(), clock, wakeup, metrics)
                .expect("a recorder"),
            syncs: None,
            closing: self.stop.clone(),
            audit: None,
            finastra: None,
            routing: Arc::clone(&self.service),
            default_namespace: None,
            clock,
            metrics: GatewayMetrics::new(metrics).expect("the gateway's metrics"),
        });
        let address = listener.local_addr().expect("an address");
        let app = router(&gateway, Arc::new(|| (true, "ready\n".to_owned())));
        let (limits, tasks) = (ConnectionLimits::default(), self.tasks.clone());
        let server = Server { listener, app, tls: None, limits, clock, tasks, metrics: None };
        self.tasks.spawn("gateway", server.serve(self.stop.clone()));
        address
    }
}
