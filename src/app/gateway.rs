//! The gateway's parts, put together: its port, its certificate, who may call, and what it keeps.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{AppError, Parts};
use crate::admin::gates::Gates;
use crate::cli::gateway::{GatewayArgs, GatewayAuth};
use crate::clock::Clock;
use crate::cluster::auth::{ApiServer, Authorizer};
use crate::cluster::client::Clients;
use crate::controllers::Ctx;
use crate::gateway::Gateway;
use crate::gateway::access::Access;
use crate::gateway::keep::Keep;
use crate::gateway::limit::Limits;
use crate::gateway::observe::Series;
use crate::gateway::patience::Patience;
use crate::gateway::router::router;
use crate::gateway::server::Server;
use crate::gateway::tls::Certificate;
use crate::ledger::sealed::Keyring;
use crate::metrics::Metrics;
use crate::provider::audit::AuditQueue;

/// The gateway's port and its certificate, checked before anything else starts.
pub(super) struct Door {
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    address: SocketAddr,
}

impl Door {
    /// Where it is reached.
    pub(super) fn url(&self) -> String {
        format!("{}://{}", if self.certificate.is_some() { "https" } else { "http" }, self.address)
    }
}

/// Binds, if there is to be a gateway and the settings allow it.
pub(super) async fn open(args: &GatewayArgs) -> Result<Option<Door>, AppError> {
    let authenticates = args.gateway_auth == GatewayAuth::Kubernetes;
    args.gateway_address.check(args.gateway_tls_cert.is_some(), authenticates)?;
    let certificate = match (&args.gateway_tls_cert, &args.gateway_tls_key) {
        (Some(cert), Some(key)) => Some(Certificate::open(cert.clone(), key.clone())?),
        _ => None,
    };
    let bind = |source| AppError::BindGateway { place: args.gateway_address, source };
    let Some(listener) = args.gateway_address.bind().await.map_err(bind)? else { return Ok(None) };
    let address = listener.local_addr().map_err(bind)?;
    let door = Door { listener, certificate, address };
    tracing::info!(url = door.url(), "gateway port bound");
    if !authenticates {
        tracing::warn!("the gateway's authentication is OFF (--gateway-auth=off): whoever reaches it may call");
    }
    Ok(Some(door))
}

/// What the gateway needs of the others.
pub(super) struct Needs<'a> {
    pub(super) args: &'a GatewayArgs,
    pub(super) ctx: &'a Arc<Ctx>,
    pub(super) clients: &'a Clients,
    pub(super) keys: &'a Keyring,
    pub(super) bell: &'a Arc<Notify>,
    pub(super) audit: &'a AuditQueue,
    pub(super) gates: &'a Gates,
    pub(super) clock: Clock,
    pub(super) metrics: &'a Metrics,
}

/// Starts serving: on a standby too.
pub(super) fn start(
    door: Door,
    needs: &Needs<'_>,
    stop: &CancellationToken,
    tasks: &mut Parts,
) -> Result<(), AppError> {
    let Needs { args, ctx, clients, keys, bell, audit, gates, clock, metrics } = *needs;
    let access = match args.gateway_auth {
        GatewayAuth::Off => Access::off(),
        GatewayAuth::Kubernetes => {
            let reviewer = Arc::new(ApiServer::new(clients.calls.clone(), args.gateway_audiences.clone()));
            Access::Kubernetes(Box::new(Authorizer::new(reviewer, clock, metrics)?))
        }
    };
    let ledger = Arc::clone(&ctx.ledger);
    let connections = ctx.stores.connections.clone();
    let gateway = Arc::new(Gateway {
        access,
        limits: Limits::new(clock, args.gateway_caller_rate, args.gateway_address_rate),
        registry: ctx.registry.clone(),
        declared: Arc::new(move |key| connections.get(key).is_some()),
        keep: Keep::new(Arc::clone(&ledger), keys.clone(), clock, Arc::clone(bell), metrics)?,
        ledger,
        audit: Some(audit.clone()),
        finastra: args.finastra_alias.clone(),
        clock,
        series: Series::new(metrics)?,
    });
    let gates = gates.clone();
    let app = router(&gateway, Arc::new(move || gates.report()));
    let tls = door.certificate.as_ref().map(Certificate::config).transpose()?;
    if let Some(certificate) = door.certificate {
        let stop = stop.clone();
        tasks.spawn(async move {
            certificate.follow(clock, stop).await;
            ("certificate", Ok(()))
        });
    }
    let stop = stop.clone();
    tasks.spawn(async move {
        Server { listener: door.listener, app, tls, patience: Patience::default(), clock }.serve(stop).await;
        ("gateway", Ok(()))
    });
    Ok(())
}
