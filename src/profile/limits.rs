//! A provider's rate limits and quotas, and the headers in which it reports what is left of them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::environment::Environment;
use super::header_name::check_header_name;
use super::retry_after::RetryAfterFormat;
use crate::domain::quota;

/// One limit on requests per unit of time. Several apply at once.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileLimit {
    /// The name; a connection's limit of the same name replaces it.
    pub name: String,
    /// Which calls share the limit.
    #[serde(default)]
    pub scope: LimitScope,
    /// Requests per unit of time; at least 1.
    pub requests: u32,
    /// The unit of time.
    pub unit: LimitUnit,
    /// Requests that may be sent at once; unset: all of the unit's.
    #[serde(default)]
    pub burst: Option<u32>,
    /// The operations and streams that it counts; empty: all.
    #[serde(default)]
    pub operations: Vec<String>,
    /// The only environment in which it applies; unset: both.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// Headers in which the provider reports what is left of it.
    #[serde(default)]
    pub headers: Option<LimitHeaders>,
}

/// Which calls share a limit.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
pub enum LimitScope {
    /// All calls of the connection.
    #[default]
    Connection,
    /// The calls of one operation for one partition, for example one account's transactions.
    Partition,
}

impl From<LimitScope> for quota::LimitScope {
    fn from(scope: LimitScope) -> Self {
        match scope {
            LimitScope::Connection => Self::Connection,
            LimitScope::Partition => Self::Partition,
        }
    }
}

/// A unit of time. `Day` is the calendar day of the profile's `zone`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
pub enum LimitUnit {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl From<LimitUnit> for quota::LimitUnit {
    fn from(unit: LimitUnit) -> Self {
        match unit {
            LimitUnit::Second => Self::Second,
            LimitUnit::Minute => Self::Minute,
            LimitUnit::Hour => Self::Hour,
            LimitUnit::Day => Self::Day,
        }
    }
}

/// The headers that report the state of a limit.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitHeaders {
    /// The header with the number of requests left.
    pub remaining: String,
    /// The header with the time of the reset.
    pub reset: ResetHeader,
}

/// The header that reports when a limit is reset.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResetHeader {
    /// The name.
    pub name: String,
    /// The encoding.
    #[serde(rename = "as")]
    pub format: RetryAfterFormat,
}

impl ProfileLimit {
    /// Checks what serde cannot.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.requests == 0 || self.burst == Some(0) {
            return Err("requests and burst must be above 0: remove the limit instead".to_owned());
        }
        let mut names = self.headers.iter().flat_map(|headers| [&headers.remaining, &headers.reset.name]);
        names.try_for_each(|name| check_header_name(name))
    }
}
