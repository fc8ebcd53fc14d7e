//! The state that all handlers share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::gateway::access::AccessControl;
use crate::gateway::consumers::access::ConsumerAccess;
use crate::gateway::dead_requests::recorder::DeadRequestRecorder;
use crate::gateway::fallback_authorization::FallbackAuthorization;
use crate::gateway::metrics::GatewayMetrics;
use crate::gateway::rate_limit::RateLimits;
use crate::gateway::request_limits::RequestLimits;
use crate::gateway::syncs::operations::SyncOperations;
use crate::gateway::webhooks::inbox::WebhookInbox;
use crate::ledger::Ledger;
use crate::provider::audit::AuditQueue;
use crate::provider::registry::Registry;
use crate::routing::DecisionService;

/// Whether an object of that name exists in this replica's stores.
pub type Exists = Arc<dyn Fn(&ObjectKey) -> bool + Send + Sync>;

/// The state shared by all handlers.
pub struct Gateway {
    /// Authentication and authorization.
    pub access: AccessControl,
    /// Whose right a fallback requires.
    pub fallback_authorization: FallbackAuthorization,
    /// Rate limits.
    pub rate_limits: RateLimits,
    /// Limits on concurrent requests.
    pub request_limits: RequestLimits,
    /// The running connections.
    pub registry: Registry,
    /// Whether a connection exists, even if it is not running here yet.
    pub exists: Exists,
    /// The keys of consumers of events.
    pub consumers: Arc<ConsumerAccess>,
    /// The inbox of webhooks; `None`: none is accepted here.
    pub webhooks: Option<Arc<WebhookInbox>>,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Stores failed requests for later retries.
    pub dead_requests: DeadRequestRecorder,
    /// The sync jobs; `None`: there are none here.
    pub syncs: Option<Arc<dyn SyncOperations>>,
    /// Decides which bank takes a payout.
    pub routing: Arc<DecisionService>,
    /// Namespace of routing requests that name none.
    pub default_namespace: Option<String>,
    /// Cancelled when the process stops: no client waits for an event any more.
    pub closing: CancellationToken,
    /// The audit queue, for denials before the call path.
    pub audit: Option<AuditQueue>,
    /// The connection of the Finastra alias paths.
    pub finastra: Option<ObjectKey>,
    /// The clock.
    pub clock: Clock,
    /// Metrics.
    pub metrics: GatewayMetrics,
}
