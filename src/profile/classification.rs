//! What a response means for the caller: its class, and when the provider allows the next request.
//!
//! A profile's matchers classify a response; where none matches, the status does (see `Profile::classify`).

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::breaker::MAX_THROTTLE;
use crate::domain::quota::LimitScope;

/// The class of a response: whether the request may be repeated, and how a page walk goes on.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ResponseClass {
    /// Success.
    #[default]
    Ok,
    /// A transient fault: the same request may be repeated.
    Retry,
    /// Rate limited: the whole connection is delayed.
    RateLimited,
    /// Quota exhausted: no further requests until it is renewed.
    Quota,
    /// The credentials are refused.
    Auth,
    /// The credentials are accepted, but the plan or the item is not available to them.
    Rights,
    /// The resource does not exist.
    NotFound,
    /// The resource is permanently gone: ends this partition, not the job.
    ItemGone,
    /// The list changed during the walk: restart the window.
    RestartWindow,
    /// The provider no longer accepts the cursor: discard it and start over.
    ResetCursor,
    /// The provider's rules end the list here, although more records exist.
    EndOfData,
    /// Refused permanently: the same request would be refused again.
    Fatal,
}

impl ResponseClass {
    /// All classes.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Retry,
        Self::RateLimited,
        Self::Quota,
        Self::Auth,
        Self::Rights,
        Self::NotFound,
        Self::ItemGone,
        Self::RestartWindow,
        Self::ResetCursor,
        Self::EndOfData,
        Self::Fatal,
    ];

    /// The name, as profiles write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retry => "retry",
            Self::RateLimited => "rateLimited",
            Self::Quota => "quota",
            Self::Auth => "auth",
            Self::Rights => "rights",
            Self::NotFound => "notFound",
            Self::ItemGone => "itemGone",
            Self::RestartWindow => "restartWindow",
            Self::ResetCursor => "resetCursor",
            Self::EndOfData => "endOfData",
            Self::Fatal => "fatal",
        }
    }

    /// The class of a status where no matcher of the profile matches.
    pub const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            401 => Self::Auth,
            402 | 403 => Self::Rights,
            404 => Self::NotFound,
            410 => Self::ItemGone,
            408 | 425 | 500..=599 => Self::Retry,
            429 => Self::RateLimited,
            _ => Self::Fatal,
        }
    }
}

/// When the provider allows the next request.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum RetryAfter {
    /// After this time from the moment of the response.
    Delay(Duration),
    /// At this time; may be in the past.
    At(Timestamp),
}

impl RetryAfter {
    /// The time left at `now`; zero if it is over, and at most a day: a date may be far away because a clock, ours or
    /// the provider's, is wrong.
    pub fn delay(self, now: Timestamp) -> Duration {
        let left = match self {
            Self::Delay(delay) => delay,
            Self::At(at) => Duration::try_from(at.duration_since(now)).unwrap_or_default(),
        };
        left.min(MAX_THROTTLE)
    }
}

/// A classified response.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Classification {
    /// The class.
    pub class: ResponseClass,
    /// When the next request is allowed, where the provider reports it.
    pub retry_after: Option<RetryAfter>,
    /// Of `RateLimited` and `Quota`: what is delayed.
    pub scope: LimitScope,
}

impl Classification {
    /// What a status means by itself.
    pub const fn of_status(status: u16) -> Self {
        Self { class: ResponseClass::of_status(status), retry_after: None, scope: LimitScope::Connection }
    }

    /// The delay that the provider requires, counted from `now`; `None` if it reports none or it is over.
    pub fn retry_delay(&self, now: Timestamp) -> Option<Duration> {
        let delay = self.retry_after?.delay(now);
        (!delay.is_zero()).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_date_is_at_most_a_day_away_whichever_clock_is_wrong() {
        let now: Timestamp = "2026-09-10T12:00:00Z".parse().unwrap();
        let delay = |text: &str| RetryAfter::At(text.parse().unwrap()).delay(now);
        assert_eq!(delay("2026-09-10T13:00:00Z"), Duration::from_hours(1));
        assert_eq!(delay("2027-09-10T12:00:00Z"), MAX_THROTTLE, "ours is a year behind");
        assert_eq!(delay("2025-09-10T12:00:00Z"), Duration::ZERO);
        assert_eq!(RetryAfter::Delay(Duration::MAX).delay(now), MAX_THROTTLE);
    }
}
