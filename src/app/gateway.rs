//! Builds and starts the gateway: port, certificate, access control and handlers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admin::gates::Gates;
use crate::app::error::AppError;
use crate::app::process_syncs::ProcessSyncs;
use crate::app::tasks::Tasks;
use crate::app::webhook_wiring::AcceptedWebhooks;
use crate::cli::gateway::{GatewayArgs, GatewayAuth};
use crate::clock::Clock;
use crate::cluster::auth::Authorizer;
use crate::cluster::client::Clients;
use crate::cluster::kube_reviewer::KubeReviewer;
use crate::controllers::Ctx;
use crate::gateway::Gateway;
use crate::gateway::access::AccessControl;
use crate::gateway::consumers::ConsumerAccess;
use crate::gateway::dead_requests::recorder::DeadRequestRecorder;
use crate::gateway::metrics::GatewayMetrics;
use crate::gateway::rate_limit::RateLimits;
use crate::gateway::request_limits::{DEFAULT_MAX_REQUESTS, RequestLimits};
use crate::gateway::router::router;
use crate::gateway::shared_rates;
use crate::gateway::tls::ServerCertificate;
use crate::gateway::webhooks::rule::WebhookRules;
use crate::gateway::webhooks::webhook_inbox;
use crate::http_server::ConnectionMetrics;
use crate::http_server::connection_limits::ConnectionLimits;
use crate::http_server::server::Server;
use crate::ledger::encryption::Keyring;
use crate::metrics::Metrics;
use crate::provider::audit::AuditQueue;
use crate::provider::event_queues::EventQueues;
use crate::routing::DecisionService;

/// The gateway's bound port and its certificate, checked before anything else starts.
pub(super) struct BoundGateway {
    listener: TcpListener,
    certificate: Option<Arc<ServerCertificate>>,
    address: SocketAddr,
}

impl BoundGateway {
    /// The URL of the gateway.
    pub(super) fn url(&self) -> String {
        format!("{}://{}", if self.certificate.is_some() { "https" } else { "http" }, self.address)
    }
}

/// Checks the settings and binds the port; `None` if the gateway is off.
pub(super) async fn open(args: &GatewayArgs) -> Result<Option<BoundGateway>, AppError> {
    let authenticates = args.gateway_auth == GatewayAuth::Kubernetes;
    args.gateway_address.check(args.gateway_tls_cert.is_some(), authenticates)?;
    let certificate = match (&args.gateway_tls_cert, &args.gateway_tls_key) {
        (Some(cert), Some(key)) => Some(ServerCertificate::open(cert.clone(), key.clone())?),
        _ => None,
    };
    let bind = |source| AppError::BindGateway { address: args.gateway_address, source };
    let Some(listener) = args.gateway_address.bind().await.map_err(bind)? else { return Ok(None) };
    let address = listener.local_addr().map_err(bind)?;
    let gateway = BoundGateway { listener, certificate, address };
    tracing::info!(url = gateway.url(), "gateway port bound");
    if !authenticates {
        tracing::warn!("gateway authentication is off (--gateway-auth=off): any local client can call");
    }
    Ok(Some(gateway))
}

/// The components that the gateway uses.
pub(super) struct GatewayDeps<'a> {
    pub(super) args: &'a GatewayArgs,
    pub(super) ctx: &'a Arc<Ctx>,
    pub(super) clients: &'a Clients,
    pub(super) keys: &'a Keyring,
    pub(super) retry_wakeup: &'a Arc<Notify>,
    pub(super) audit: &'a AuditQueue,
    pub(super) decisions: &'a Arc<DecisionService>,
    pub(super) gates: &'a Gates,
    pub(super) clock: Clock,
    pub(super) metrics: &'a Metrics,
    pub(super) connections: ConnectionMetrics,
    pub(super) event_queues: Option<&'a Arc<dyn EventQueues>>,
    pub(super) webhooks: &'a AcceptedWebhooks,
}

/// Starts serving, on a standby too.
pub(super) fn start(
    bound: BoundGateway,
    deps: &GatewayDeps<'_>,
    stop: &CancellationToken,
    tasks: &Tasks,
) -> Result<(), AppError> {
    let GatewayDeps { args, ctx, clients, keys, retry_wakeup, audit, decisions, gates, clock, metrics, .. } = *deps;
    let access = match args.gateway_auth {
        GatewayAuth::Off => AccessControl::off(),
        GatewayAuth::Kubernetes => {
            let reviewer = Arc::new(KubeReviewer::new(clients.calls.clone(), args.gateway_audiences.clone()));
            AccessControl::Kubernetes(Box::new(Authorizer::new(reviewer, clock, metrics)?))
        }
    };
    let ledger = Arc::clone(&ctx.ledger);
    let connections = ctx.stores.connections.clone();
    let consumers = Arc::new(ConsumerAccess::new(Arc::clone(&ledger), clock, tasks.groups().effects.clone()));
    if let Some(queues) = deps.event_queues {
        consumers.set_queues(Arc::clone(queues));
    }
    let AcceptedWebhooks { rules, stored } = deps.webhooks;
    let rules = Arc::clone(rules) as Arc<dyn WebhookRules>;
    let (inbox, webhook_writer) = webhook_inbox(Arc::clone(&ledger), clock, rules, Arc::clone(stored));
    let consumer_limit = args.consumer_limit();
    let gateway = Arc::new(Gateway {
        access,
        fallback_authorization: args.fallback_authorization,
        rate_limits: RateLimits::new(clock, args.gateway_caller_rate, args.gateway_address_rate)
            .with_consumers(consumer_limit),
        request_limits: RequestLimits::new(DEFAULT_MAX_REQUESTS),
        registry: ctx.registry.clone(),
        exists: Arc::new(move |key| connections.get(key).is_some()),
        dead_requests: DeadRequestRecorder::new(
            Arc::clone(&ledger),
            keys.clone(),
            clock,
            Arc::clone(retry_wakeup),
            metrics,
        )?,
        consumers: Arc::clone(&consumers),
        webhooks: Some(Arc::new(inbox)),
        ledger,
        syncs: Some(Arc::new(ProcessSyncs::new(Arc::clone(ctx), keys.clone(), tasks.groups().effects.clone()))),
        routing: Arc::clone(decisions),
        default_namespace: args.gateway_default_namespace.clone(),
        closing: stop.clone(),
        audit: Some(audit.clone()),
        finastra: args.finastra_alias.clone(),
        clock,
        metrics: GatewayMetrics::new(metrics)?,
    });
    tasks.effect("api keys", consumers.run(stop.clone()));
    tasks.effect("shared rate limits", shared_rates::run(Arc::clone(&gateway), stop.clone()));
    tasks.writer("webhook inbox", webhook_writer.run(tasks.writers_stop()));
    let gates = gates.clone();
    let app = router(&gateway, Arc::new(move || gates.report()));
    let tls = bound.certificate.as_ref().map(ServerCertificate::config).transpose()?;
    if let Some(certificate) = bound.certificate {
        tasks.effect("certificate", certificate.watch(clock, tasks.groups().effects.clone(), stop.clone()));
    }
    let server = Server {
        listener: bound.listener,
        app,
        tls,
        limits: ConnectionLimits::default(),
        clock,
        tasks: tasks.groups().effects.clone(),
        metrics: Some(deps.connections.clone()),
    };
    tasks.effect("gateway", server.serve(stop.clone()));
    Ok(())
}
