//! Inputs of [`decide`](super::decide): what the spec was resolved to, and the running connection.
//!
//! Plain values: shared by `decide`, `restore`, `throttle` and `status`, built by `observe`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::provider_connection::{ConnectionConsumers, PolicyStatus};
use crate::domain::breaker::{EffectiveState, Snapshot};
use crate::domain::check_failure::CheckFailure;
use crate::domain::health::{Health, RiskTier};
use crate::domain::window::WindowPosition;
use crate::resolve::{DesiredConnection, SpecError};

/// Result of the first verification attempt for the current settings.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum VerificationState {
    /// In progress.
    Pending,
    /// The provider accepted a call.
    Verified,
    /// The provider rejected the credential.
    Rejected,
    /// No result: a timeout, a 5xx, no connection.
    Inconclusive,
    /// No attempt is made: the check is passive, the connection is suspended or inside a maintenance window.
    NotAttempted,
}

/// State of the running connection.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
#[derive(Clone, Debug, PartialEq)]
pub struct LiveConnection {
    /// Revision of the settings it runs with.
    pub revision: Arc<str>,
    /// Circuit state in effect, overrides included.
    pub effective: EffectiveState,
    /// The breaker's own state.
    pub circuit: Snapshot,
    /// Whether the circuit opened repeatedly within the last hour.
    pub flapping: bool,
    /// Health of the provider.
    pub health: Health,
    /// Why the last health check failed; `None` if it passed.
    pub check_failure: Option<CheckFailure>,
    /// Whether a health check has ever passed, at this endpoint and with this way to authenticate.
    pub ever_healthy: bool,
    /// Whether health checks pass but are slow.
    pub slow: bool,
    /// Tier of its failure risk.
    pub tier: RiskTier,
    /// Verification result for these settings.
    pub verification: VerificationState,
    /// Whether the last call that could show it had its credential accepted.
    pub authenticated: Option<bool>,
    /// Whether calls fail for lack of an access token.
    pub token_missing: bool,
    /// What the last token request showed to be at fault, and the remedy.
    pub token_fault: Option<&'static str>,
    /// Why the address that its host name resolves to is not allowed.
    pub address_refused: Option<String>,
    /// Position relative to the maintenance windows.
    pub maintenance: WindowPosition,
    /// End of the provider's rate limit, while it applies.
    pub throttled_until: Option<Timestamp>,
}

/// Inputs of `decide`: the result of `observe` without the settings themselves.
#[derive(Clone, Debug)]
pub struct ConnectionInputs {
    /// The connection that the spec describes, or why the spec cannot be used.
    pub desired: Result<Arc<DesiredConnection>, SpecError>,
    /// The running connection of this object (same UID), if any.
    pub live: Option<LiveConnection>,
    /// The breaker policy in effect.
    pub policy: Option<Arc<PolicyStatus>>,
    /// Set fields that this version does not use.
    pub unused_fields: Vec<&'static str>,
    /// Objects that use the connection.
    pub consumers: ConnectionConsumers,
    /// How long the Secrets may be used before they are read again.
    pub secrets_valid_for: Duration,
}
