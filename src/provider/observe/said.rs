//! What can be said of a connection: plain values, for whoever shows or judges them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::breaker::{Effective, Snapshot};
use crate::domain::health::{Health, Ppm, RiskTier};
use crate::domain::time::Mono;
use crate::provider::call::CallError;

/// What the verification of a connection's provider, endpoint, credentials and TLS came to.
///
/// It belongs to one `verdict_revision`. What was verified stays verified: a later 401 is told by
/// [`LiveStatus::authenticated`]. A refused or inconclusive verdict gives way to a better one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Verdict {
    /// No attempt has ended yet.
    #[default]
    Pending,
    /// The provider took the credentials.
    Verified,
    /// The provider, or its token endpoint, refused the credentials.
    AuthenticationFailed {
        /// The HTTP status.
        status: u16,
    },
    /// The attempt ended without saying anything about the credentials.
    Inconclusive(Ended),
}

/// How a call ended, in words for a condition: never the provider's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// With an HTTP status.
    Status(u16),
    /// Without one.
    Error(CallError),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the provider answered with status {status}"),
            Self::Error(error) => error.fmt(f),
        }
    }
}

/// The last health check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastProbe {
    /// When it ended.
    pub at: Timestamp,
    /// Whether it was answered as expected.
    pub success: bool,
    /// How long it took.
    pub elapsed: Duration,
    /// How it ended.
    pub ended: Ended,
}

/// A connection as it is now.
#[derive(Clone, Debug)]
pub struct LiveStatus {
    /// What callers of the circuit experience.
    pub effective: Effective,
    /// The circuit, as it is kept over a restart.
    pub snapshot: Snapshot,
    /// Whether it opens again and again.
    pub flapping: bool,
    /// How the provider is doing.
    pub health: Health,
    /// Whether its checks answer, but slowly.
    pub slow: bool,
    /// The band of its risk.
    pub tier: RiskTier,
    /// The risk itself.
    pub risk: Ppm,
    /// What the verification came to, for the settings in force.
    pub verdict: Verdict,
    /// Whether the provider took the credentials when they last mattered; none if they never did.
    pub authenticated: Option<bool>,
    /// Since when the provider has refused the credentials in force; none while it takes them, or has not said.
    pub refused_since: Option<Mono>,
    /// The last health check, if there was one.
    pub last_probe: Option<LastProbe>,
    /// Until when the provider asked to be left alone, while that is so.
    pub throttled_until: Option<Timestamp>,
    /// Whether the last call could not be made because no token was to be had.
    pub tokenless: bool,
    /// The revision of the settings in force.
    pub revision: Arc<str>,
    /// The revision the verdict belongs to.
    pub verdict_revision: Arc<str>,
}
