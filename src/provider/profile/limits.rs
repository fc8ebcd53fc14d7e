//! How often a provider may be asked, and the headers in which it tells what is left.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Environment;
use super::wait::{WaitForm, is_header};
use crate::domain::quota::Scope;

/// One window of requests. Several apply at once.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileLimit {
    /// A name; a connection's limit of the same name replaces it.
    pub name: String,
    /// What the window is counted over.
    #[serde(default)]
    pub scope: LimitScope,
    /// Requests in one unit of time; at least 1.
    pub requests: u32,
    /// The unit of time.
    pub unit: LimitUnit,
    /// Requests that may go at once; unset: all of the unit's.
    #[serde(default)]
    pub burst: Option<u32>,
    /// The operations and streams it counts; none: all.
    #[serde(default)]
    pub operations: Vec<String>,
    /// Only in this of the provider's worlds; unset: in both.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// Headers in which the provider tells what is left of it.
    #[serde(default)]
    pub headers: Option<LimitHeaders>,
}

/// What a limit is counted over.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
pub enum LimitScope {
    /// All calls of the connection.
    #[default]
    Connection,
    /// Each partition's calls of one operation: an account's transactions, say.
    Partition,
}

impl From<LimitScope> for Scope {
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

/// The headers that speak of a limit.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitHeaders {
    /// How many requests are left.
    pub remaining: String,
    /// When there will be more.
    pub reset: ResetHeader,
}

/// The header that tells when a limit is renewed.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResetHeader {
    /// Its name.
    pub name: String,
    /// How it is written.
    #[serde(rename = "as")]
    pub form: WaitForm,
}

impl ProfileLimit {
    /// What serde cannot see.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.requests == 0 || self.burst == Some(0) {
            return Err("requests and burst must be above 0: leave the limit out instead".to_owned());
        }
        let names = self.headers.iter().flat_map(|headers| [&headers.remaining, &headers.reset.name]);
        match names.into_iter().find(|name| !is_header(name)) {
            Some(bad) => Err(format!("{bad:?} is no header name")),
            None => Ok(()),
        }
    }
}
