//! The observed state of a connection as plain values.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::breaker::{EffectiveState, Snapshot};
use crate::domain::check_failure::CheckFailure;
use crate::domain::forecast::Forecast;
use crate::domain::health::{Assessment, Health, Ppm, RiskTier};
use crate::domain::time::Mono;
use crate::provider::auth::token_fault::TokenFault;
use crate::provider::probe::{CallResult, ProbeRecord};

/// The result of verifying a connection: provider, endpoint, credentials and TLS.
///
/// It belongs to one `verification_revision`. A verified connection stays verified: a later 401 is reported by
/// [`ConnectionSnapshot::authenticated`]. A refused or inconclusive result is replaced by a better one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Verification {
    /// No attempt has completed yet.
    #[default]
    Pending,
    /// The provider accepted the credentials.
    Verified,
    /// The provider, or its token endpoint, refused the credentials.
    AuthenticationFailed {
        /// The HTTP status.
        status: u16,
    },
    /// The attempt completed without a result for the credentials.
    Inconclusive(CallResult),
}

/// The observed state of a connection.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
#[derive(Clone, Debug)]
pub struct ConnectionSnapshot {
    /// The circuit state that callers experience, override included.
    pub effective: EffectiveState,
    /// The circuit, as it is stored across restarts.
    pub circuit: Snapshot,
    /// Whether the circuit is flapping.
    pub flapping: bool,
    /// Health of the provider; Unknown while checks cannot be sent for lack of an access token.
    pub health: Health,
    /// Whether the last checks have failed, whatever prevented them from passing: routes exclude the bank.
    pub unhealthy: bool,
    /// Whether a health check has ever passed, at this endpoint and with this way to authenticate; before a restart too.
    pub ever_healthy: bool,
    /// Why its last check failed; `None` if it passed.
    pub check_failure: Option<CheckFailure>,
    /// Whether its checks succeed slowly.
    pub slow: bool,
    /// The risk tier.
    pub tier: RiskTier,
    /// The risk.
    pub risk: Ppm,
    /// The estimated share of calls that succeed.
    pub success: Ppm,
    /// The forecast that holds now; `None` until there is enough evidence for one.
    pub forecast: Option<Forecast>,
    /// The verification of the settings in force.
    pub verification: Verification,
    /// Whether the provider accepted the credentials when they last mattered; `None` if they never did.
    pub authenticated: Option<bool>,
    /// Since when the provider has refused the credentials in force; `None` while it accepts them or has not used them
    /// yet.
    pub refused_since: Option<Mono>,
    /// The last health check, if there was one.
    pub last_probe: Option<ProbeRecord>,
    /// Until when the provider rate limits us; `None` if it does not.
    pub throttled_until: Option<Timestamp>,
    /// Whether the last call failed because no access token was available.
    pub token_missing: bool,
    /// What the last token request showed to be at fault; `None` if it succeeded, or failed for another reason.
    pub token_fault: Option<TokenFault>,
    /// The revision of the settings in force.
    pub revision: Arc<str>,
    /// The revision that `verification` belongs to.
    pub verification_revision: Arc<str>,
}

/// Health and circuit of a connection at one instant.
#[derive(Copy, Clone, Debug)]
pub struct HealthReading {
    /// Health; Unknown while checks cannot be sent for lack of an access token.
    pub health: Health,
    /// Risk, success and latency.
    pub assessment: Assessment,
    /// The effective circuit state.
    pub circuit: EffectiveState,
    /// Since when the circuit's own state is what it is.
    pub since: Timestamp,
}
