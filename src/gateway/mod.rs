//! The gateway: Busbar's HTTP API for payment systems, services and people.
//!
//! It serves requests and stores no state of its own. The API server authenticates callers ([`authenticate`]); RBAC and
//! the licence profiles of a connection authorize them; a call to a provider takes the same call path as every other.
//! Every replica serves, the standby too: only what needs a single writer (retrying dead requests, writing status) is
//! the leader's.
//!
//! [`server`] accepts connections, [`router`] maps the paths, [`envelope`] and [`problem`] define the response format,
//! [`observe`] adds metrics and logs, and each resource has a file. No response holds a secret, no log line a query.

pub mod access;
pub mod aliases;
pub mod audit;
pub mod authenticate;
pub mod call;
pub mod candidates;
pub mod concurrency_limit;
pub mod connection_limits;
pub mod dead_requests;
pub mod envelope;
mod extract;
pub mod fallback_access;
pub mod listen_address;
pub mod metrics;
pub mod observe;
pub mod openapi;
pub mod operation;
pub mod problem;
pub mod providers;
pub mod rate_limit;
pub mod router;
pub mod server;
pub mod tls;

use std::sync::Arc;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::gateway::access::AccessControl;
use crate::gateway::dead_requests::recorder::DeadRequestRecorder;
use crate::gateway::fallback_access::FallbackAuthorization;
use crate::gateway::metrics::GatewayMetrics;
use crate::gateway::rate_limit::RateLimits;
use crate::ledger::Ledger;
use crate::provider::audit::AuditQueue;
use crate::provider::registry::Registry;

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
    /// The running connections.
    pub registry: Registry,
    /// Whether a connection exists, even if it is not running here yet.
    pub exists: Exists,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Stores failed requests for later retries.
    pub dead_requests: DeadRequestRecorder,
    /// The audit queue, for denials before the call path.
    pub audit: Option<AuditQueue>,
    /// The connection of the Finastra alias paths.
    pub finastra: Option<ObjectKey>,
    /// The clock.
    pub clock: Clock,
    /// Metrics.
    pub metrics: GatewayMetrics,
}
