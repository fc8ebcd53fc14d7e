//! The gateway: Busbar's HTTP API for payment systems, services and people.
//!
//! It answers; it decides nothing that lasts. Who calls is said by the API server ([`access`]), what he may do by RBAC and
//! by the licence profiles of a connection; a call to a provider takes the one call path like everybody's. Every replica
//! serves, the standby too: only what needs a single hand (retrying dead requests, writing status) waits for the leader.
//!
//! [`server`] takes connections, [`router`] knows the paths, [`envelope`] and [`problem`] give every answer its form,
//! [`observe`] counts and logs, and each resource has a file. No answer holds a secret, no log line a query.

pub mod access;
pub mod address;
pub mod aliases;
pub mod dead_removal;
pub mod dead_requests;
pub mod envelope;
pub mod keep;
pub mod limit;
pub mod observe;
pub mod offer;
pub mod openapi;
pub mod operation;
pub mod patience;
pub mod problem;
pub mod providers;
pub mod refused;
pub mod router;
pub mod server;
pub mod tls;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::gateway::access::Access;
use crate::gateway::keep::Keep;
use crate::gateway::limit::Limits;
use crate::gateway::observe::Series;
use crate::ledger::Ledger;
use crate::provider::audit::AuditQueue;
use crate::provider::registry::Registry;

/// Whether an object of that name exists, as far as this replica has heard.
pub type Exists = Arc<dyn Fn(&ObjectKey) -> bool + Send + Sync>;

/// What the handlers have at hand. Shared by all of them.
pub struct Gateway {
    /// Who may call.
    pub access: Access,
    /// How often.
    pub limits: Limits,
    /// The running connections.
    pub registry: Registry,
    /// Whether a connection is declared, although it does not run here (yet).
    pub declared: Exists,
    /// What must survive.
    pub ledger: Arc<dyn Ledger>,
    /// Keeps what failed for good.
    pub keep: Keep,
    /// Where refusals are written that no call path sees.
    pub audit: Option<AuditQueue>,
    /// The connection that the Finastra aliases speak of.
    pub finastra: Option<ObjectKey>,
    /// Time.
    pub clock: Clock,
    /// Numbers.
    pub series: Series,
}

/// How long a caller should wait where nobody knows better: the length of a hand-over.
pub const SOON: Duration = Duration::from_secs(2);
