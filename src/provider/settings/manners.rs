//! How a connection calls: how long it waits, how often it tries again, how often it may ask at all, how long it keeps answers.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::domain::backoff::Backoff;
use crate::domain::quota::{Limit, Rules, Unit};
use crate::provider::profile::{Environment, LimitUnit, Profile, ProfileLimit};
use crate::provider::settings::SettingsError;

/// Time-outs of a call.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// To a connection, TLS included.
    pub connect: Duration,
    /// One try.
    pub request: Duration,
    /// The whole call.
    pub total: Duration,
    /// Of one try, until the head of the answer is there; unset, all of its time.
    pub first_byte: Option<Duration>,
    /// Between two pieces of a body; unset, [`STALL`], or all of the try's time where that is less.
    pub read: Option<Duration>,
}

/// A body of which nothing comes for this long will not be complete: networks repair themselves sooner, and a try that
/// hangs keeps a caller, a connection and perhaps a half-open circuit's only trial.
pub const STALL: Duration = Duration::from_secs(10);

impl Timeouts {
    /// Of one try, until the head of the answer is there.
    pub fn head(&self) -> Duration {
        self.first_byte.map_or(self.request, |set| set.min(self.request))
    }

    /// Between two pieces of a body.
    pub fn stall(&self) -> Duration {
        self.read.unwrap_or(STALL).min(self.request)
    }
}

/// How a failed try is repeated.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Retry {
    /// Tries after the first.
    pub retries: u32,
    /// Before the first retry; doubled for each further one.
    pub base: Duration,
    /// The longest back-off.
    pub max: Duration,
    /// Slept after each back-off.
    pub min_pacing: Duration,
    /// Retries per 100 calls of the connection; 0: none.
    pub budget_percent: u8,
}

impl Default for Retry {
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

impl Retry {
    /// The steps between tries.
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

/// How long answers are good.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CachePolicy {
    /// As good as the provider's own word; zero: never.
    pub ttl: Duration,
    /// Better than nothing, when the circuit is open or the call failed; zero: never.
    pub max_stale: Duration,
}

impl CachePolicy {
    /// Whether any answer is worth keeping.
    pub const fn keeps(&self) -> bool {
        !self.ttl.is_zero() || !self.max_stale.is_zero()
    }

    /// How long an answer is kept.
    pub fn keep(&self) -> Duration {
        self.ttl.max(self.max_stale)
    }
}

/// The profile's own limits in one of the provider's worlds.
pub(super) fn limits_of(profile: &Profile, environment: Environment) -> Vec<Limit> {
    profile.limits(environment).map(limit_of).collect()
}

fn limit_of(limit: &ProfileLimit) -> Limit {
    Limit {
        name: limit.name.clone(),
        scope: limit.scope.into(),
        requests: limit.requests,
        unit: match limit.unit {
            LimitUnit::Second => Unit::Second,
            LimitUnit::Minute => Unit::Minute,
            LimitUnit::Hour => Unit::Hour,
            LimitUnit::Day => Unit::Day,
        },
        burst: limit.burst,
        operations: limit.operations.clone(),
    }
}

/// The rules of the quota; none without limits.
pub(super) fn quota(limits: &[Limit], money_percent: u8, zone: TimeZone) -> Result<Option<Rules>, SettingsError> {
    if limits.iter().any(|limit| limit.requests == 0 || limit.burst == Some(0)) {
        return Err(SettingsError::new("rateLimit.limits", "must allow at least one request each"));
    }
    if limits.is_empty() {
        return Ok(None);
    }
    Ok(Some(Rules { limits: limits.to_vec(), money_percent: money_percent.min(90), zone }))
}
