//! From specs to settings, plans and route inputs: what an object comes to, with its profile, its policy and its Secrets.
//!
//! Pure: values in, values out. Used by the controllers, `busbar explain`, the standby and the reload of Secrets alike,
//! so that they cannot disagree. A [`SpecError`] is never an error of a reconcile: it becomes a condition that names the
//! field, the class of value and the remedy.
//!
//! - [`connection()`]: a `ProviderConnection` as validated settings.
//! - [`breaker_policy()`]: a `BreakerPolicy` as the breaker's rules; [`select_policy`] finds that of a connection.
//! - [`sync_job()`]: a `SyncJob` as a plan; [`job_schedule`] says when it runs.
//! - [`bank_route()`]: a `BankRoute` as a reference payout and comparable candidates.

pub mod bank_route;
pub mod breaker_policy;
pub mod connection;
mod fields;
mod job_rules;
pub mod job_stream;
pub mod operator;
pub mod partitions_from;
pub mod policy_selection;
pub mod resync;
pub mod retention;
mod route_rules;
mod route_stuck;
pub mod secrets;
mod spec_error;
pub mod sync_job;

pub use bank_route::{ResolvedRoute, bank_route};
pub use breaker_policy::{BreakerRules, breaker_policy};
pub use connection::{
    ConnectionResolution, ConnectionSources, DesiredConnection, PayoutSupport, ResolvedConnection, connection,
    maintenance_windows,
};
pub use operator::{JobSupport, OperatorOptions};
pub use policy_selection::{DEFAULT_POLICY, policy_name, select_policy};
pub use retention::{Retention, RetentionSource};
pub use secrets::{ReferencedSecret, ReferencedSecrets, SecretReference, referenced_secrets};
pub use spec_error::SpecError;
pub use sync_job::{Cadence, JobSchedule, MAX_RETRY_INTERVAL, cadence, job_schedule, sync_job};
