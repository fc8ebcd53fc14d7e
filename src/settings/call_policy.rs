//! The policies of a call: timeouts, retries, rate limits and caching.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::error::SettingsError;
use crate::domain::backoff::Backoff;
use crate::domain::quota::{Limit, QuotaRules};
use crate::profile::{Environment, Profile, ProfileLimit};

/// Timeouts of a call.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// To establish a connection, TLS included.
    pub connect: Duration,
    /// Of one try.
    pub request: Duration,
    /// Of the whole call.
    pub total: Duration,
    /// Of one try, until the response headers are complete; unset: all of the try's time.
    pub first_byte: Option<Duration>,
    /// Between two reads of a body; unset: [`DEFAULT_READ_TIMEOUT`]. At most the try's time.
    pub read: Option<Duration>,
}

/// The default of `timeout.read`. A body that stalls for longer will not complete: networks recover sooner, and a try
/// that hangs blocks a caller, a connection and possibly the only trial of a half-open circuit.
pub const DEFAULT_READ_TIMEOUT: Duration = Duration::from_secs(10);

impl Timeouts {
    /// The timeout of one try until the response headers are complete.
    pub fn first_byte_timeout(&self) -> Duration {
        self.first_byte.map_or(self.request, |set| set.min(self.request))
    }

    /// The timeout between two reads of a body.
    pub fn read_timeout(&self) -> Duration {
        self.read.unwrap_or(DEFAULT_READ_TIMEOUT).min(self.request)
    }
}

/// How a failed try is retried.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Retries after the first try.
    pub retries: u32,
    /// The backoff before the first retry; doubled for each further one.
    pub base: Duration,
    /// The longest backoff.
    pub max: Duration,
    /// A pause added to each backoff.
    pub min_pacing: Duration,
    /// The retry budget: retries per 100 calls of the connection; 0: no retries.
    pub budget_percent: u8,
}

impl Default for RetryPolicy {
    /// The defaults of `spec.retry`.
    fn default() -> Self {
        Self {
            retries: 3,
            base: Duration::from_secs(1),
            max: Duration::from_secs(30),
            min_pacing: Duration::from_millis(50),
            budget_percent: 20,
        }
    }
}

impl RetryPolicy {
    /// The backoff between tries.
    pub const fn backoff(&self) -> Backoff {
        Backoff { base: self.base, max: self.max }
    }

    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.base > self.max {
            return Err(SettingsError::new("retry.backOff.base", "must be at most retry.backOff.max"));
        }
        Ok(())
    }
}

/// How long responses are cached.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CachePolicy {
    /// How long a response is fresh; zero: never.
    pub ttl: Duration,
    /// How long a response may be served stale when the circuit is open or the call fails; zero: never.
    pub max_stale: Duration,
}

impl CachePolicy {
    /// Whether responses are cached at all.
    pub const fn is_enabled(&self) -> bool {
        !self.ttl.is_zero() || !self.max_stale.is_zero()
    }

    /// How long a response is stored.
    pub fn retention(&self) -> Duration {
        self.ttl.max(self.max_stale)
    }
}

/// The profile's limits in one environment.
pub(super) fn profile_limits(profile: &Profile, environment: Environment) -> Vec<Limit> {
    profile.limits(environment).map(limit_of).collect()
}

fn limit_of(limit: &ProfileLimit) -> Limit {
    Limit {
        name: limit.name.clone(),
        scope: limit.scope.into(),
        requests: limit.requests,
        unit: limit.unit.into(),
        burst: limit.burst,
        operations: limit.operations.clone(),
    }
}

/// The quota; `None` without limits.
pub(super) fn quota(limits: &[Limit], money_percent: u8, zone: TimeZone) -> Result<Option<QuotaRules>, SettingsError> {
    if limits.iter().any(|limit| limit.requests == 0 || limit.burst == Some(0)) {
        return Err(SettingsError::new("rateLimit.limits", "must allow at least one request each"));
    }
    if limits.is_empty() {
        return Ok(None);
    }
    Ok(Some(QuotaRules { limits: limits.to_vec(), money_percent: money_percent.min(90), zone }))
}
