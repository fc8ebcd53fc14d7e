//! The effective settings of one connection, validated: the spec over the profile, the policy and the Secrets' values.
//! And the plan of one sync job ([`sync_plan`]).
//!
//! [`resolve`](crate::resolve) fills a [`Draft`]; [`Settings::resolve`] validates it and computes two revisions.
//! `verification_revision` changes with everything that a verification of the credentials depends on (provider,
//! endpoint, auth, TLS); `revision` changes with every field. Both are computed from the Secrets' resource versions,
//! never from their values. This layer makes no calls.

pub mod addresses;
mod auth;
mod call_policy;
mod certificate_expiry;
pub(crate) mod digest;
mod draft;
mod equivalence;
mod error;
mod failure_criteria;
mod fallback;
mod resolved;
pub mod secret_data;
pub mod sync_plan;
#[cfg(test)]
pub(crate) mod testkit;
pub(crate) mod tls;
mod url;
pub mod validation;

pub use auth::{Auth, ClientAuthentication, DEFAULT_REFRESH_BEFORE, Placement, TokenClient};
pub use call_policy::{CachePolicy, DEFAULT_READ_TIMEOUT, RetryPolicy, Timeouts};
pub(crate) use digest::short_digest;
pub use draft::{CircuitOverride, Draft, HealthCheck};
pub use error::SettingsError;
pub use failure_criteria::{ErrorClass, FailureCriteria};
pub use fallback::FallbackTarget;
pub use resolved::Settings;
pub use tls::{ClientCertificate, MinVersion, Tls};
pub use url::url_with_path;

#[cfg(test)]
mod tests;
