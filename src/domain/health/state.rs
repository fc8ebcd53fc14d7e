//! The health states.

/// Health of a provider.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Health {
    /// Checks pass in time.
    Healthy,
    /// Checks pass, but slowly or with an elevated risk.
    Degraded,
    /// Checks fail.
    Unhealthy,
    /// No check has completed yet.
    #[default]
    Unknown,
}
