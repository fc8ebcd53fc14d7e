//! The limits of a connection, as configured.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::domain::hash;

/// Time unit of a limit.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum LimitUnit {
    /// A sliding second.
    Second,
    /// A sliding minute.
    Minute,
    /// A sliding hour.
    Hour,
    /// A calendar day in the zone of the rules.
    Day,
}

impl LimitUnit {
    /// The unit's name as written in specs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "Second",
            Self::Minute => "Minute",
            Self::Hour => "Hour",
            Self::Day => "Day",
        }
    }

    /// Length of the unit; a day has 24 hours, regardless of daylight saving.
    pub const fn length(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_mins(1),
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        }
    }
}

/// Scope of a limit.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum LimitScope {
    /// All requests of the connection.
    #[default]
    Connection,
    /// The requests of one partition (an account, say) for one operation.
    Partition,
}

impl LimitScope {
    /// The scope's name as written in specs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "Connection",
            Self::Partition => "Partition",
        }
    }
}

/// One rate limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Name, unique per connection.
    pub name: String,
    /// Per connection or per partition.
    pub scope: LimitScope,
    /// Requests per unit, at least 1.
    pub requests: u32,
    /// Time unit.
    pub unit: LimitUnit,
    /// Largest burst; the remaining requests are evenly spaced. Unset: `requests`.
    pub burst: Option<u32>,
    /// Operations to which the limit applies; empty = all.
    pub operations: Vec<String>,
}

impl Limit {
    /// Whether the limit applies to `operation`.
    pub fn counts(&self, operation: &str) -> bool {
        self.operations.is_empty() || self.operations.iter().any(|one| one == operation)
    }

    /// Key of the counters: they survive a change of `requests` or `burst`, but not of the unit or scope.
    pub(super) fn id(&self) -> u64 {
        hash::stable_hash(&format!("{}\n{}\n{}", self.name, self.unit.as_str(), self.scope.as_str()))
    }
}

/// Configuration of a quota.
#[derive(Clone, PartialEq, Debug)]
pub struct QuotaRules {
    /// The limits; a request must satisfy all that apply to it.
    pub limits: Vec<Limit>,
    /// Share of each limit that is reserved for money calls, in percent, at most 90.
    pub money_percent: u8,
    /// Time zone of calendar days.
    pub zone: TimeZone,
}
