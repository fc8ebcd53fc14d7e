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

impl Health {
    /// The name, as in `status.health`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Unhealthy => "Unhealthy",
            Self::Unknown => "Unknown",
        }
    }
}
