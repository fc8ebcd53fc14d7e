//! Where a provider tells how long to wait, and how it writes it.
//!
//! Moments are compared with the answer's own `Date` where it has one: a provider's clock may be off, but it is off in
//! both.

use std::time::Duration;

use http::HeaderMap;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::errors::{Seen, scalar};
use crate::provider::classify::Wait;

/// One place to look for a wait.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum WaitRule {
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// How it is written.
        #[serde(rename = "as")]
        form: WaitForm,
    },
    /// A value in the body.
    Json {
        /// JSON pointer.
        pointer: String,
        /// How it is written.
        #[serde(rename = "as")]
        form: WaitForm,
    },
    /// A sentence in the body: the number of seconds that follows these words.
    Prose {
        /// JSON pointer to the sentence.
        pointer: String,
        /// The words before the number, in any case.
        after: String,
    },
    /// Until the next day of the profile's `zone` begins: a daily quota.
    NextDay,
    /// A time that the provider's documentation names.
    For {
        /// How long.
        #[serde(deserialize_with = "super::duration")]
        #[schemars(with = "String")]
        duration: Duration,
    },
}

/// How a wait is written.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WaitForm {
    /// Seconds from now.
    DeltaSeconds,
    /// Seconds since 1970.
    EpochSeconds,
    /// A date as HTTP writes it.
    HttpDate,
    /// Seconds from now or a date, as RFC 9110 allows for `Retry-After`.
    RetryAfter,
}

pub(super) fn utc() -> String {
    "UTC".to_owned()
}

impl WaitRule {
    /// `zone` is the provider's.
    pub(super) fn read(&self, seen: &Seen<'_>, now: Timestamp, zone: &TimeZone) -> Option<Wait> {
        match self {
            Self::Header { name, form } => form.read(seen.header(name)?, date(seen.headers)),
            Self::Json { pointer, form } => form.read(scalar(seen.at(pointer)?)?.trim(), date(seen.headers)),
            Self::Prose { pointer, after } => {
                let text = seen.at(pointer)?.as_str()?.to_lowercase();
                let (_, rest) = text.split_once(&after.to_lowercase())?;
                let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok().map(|seconds| Wait::For(Duration::from_secs(seconds)))
            }
            Self::NextDay => {
                let tomorrow = now.to_zoned(zone.clone()).date().tomorrow().ok()?;
                tomorrow.to_zoned(zone.clone()).ok().map(|at| Wait::Until(at.timestamp()))
            }
            Self::For { duration } => Some(Wait::For(*duration)),
        }
    }

    /// What serde cannot see.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Header { name, .. } if !is_header(name) => Err(format!("{name:?} is no header name")),
            Self::Json { pointer, .. } | Self::Prose { pointer, .. }
                if !pointer.is_empty() && !pointer.starts_with('/') =>
            {
                Err(format!("{pointer:?} is no JSON pointer: it must be empty or start with /"))
            }
            Self::Prose { after, .. } if after.trim().is_empty() => {
                Err("wait.after must name the words before the number".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl WaitForm {
    /// The wait written in `text`; `date` is the provider's own now.
    pub(super) fn read(self, text: &str, date: Option<Timestamp>) -> Option<Wait> {
        // A fraction of a second waits for the whole one.
        let seconds = || {
            let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let up = u64::from(part.bytes().any(|b| b != b'0'));
            (digits(whole) && digits(part)).then(|| whole.parse::<u64>().ok()).flatten()?.checked_add(up)
        };
        let moment = |at: Timestamp| match date {
            Some(date) => Wait::For(Duration::try_from(at.duration_since(date)).unwrap_or(Duration::ZERO)),
            None => Wait::Until(at),
        };
        match self {
            Self::DeltaSeconds => seconds().map(|seconds| Wait::For(Duration::from_secs(seconds))),
            Self::EpochSeconds => Timestamp::from_second(i64::try_from(seconds()?).ok()?).ok().map(moment),
            Self::HttpDate => http_date(text).map(moment),
            Self::RetryAfter => Self::DeltaSeconds.read(text, date).or_else(|| Self::HttpDate.read(text, date)),
        }
    }
}

/// What `Retry-After` says.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Wait> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    WaitForm::RetryAfter.read(text, date(headers))
}

/// Whether `name` can be a header's.
pub(super) fn is_header(name: &str) -> bool {
    http::HeaderName::from_bytes(name.as_bytes()).is_ok()
}

/// The answer's own time.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(headers.get(http::header::DATE)?.to_str().ok()?.trim())
}

/// One of the three forms that RFC 9110 makes a reader accept.
fn http_date(text: &str) -> Option<Timestamp> {
    if let Ok(at) = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text) {
        return Some(at);
    }
    let civil = |format| DateTime::strptime(format, text).ok();
    let old = civil("%A, %d-%b-%y %H:%M:%S GMT").or_else(|| civil("%a %b %e %H:%M:%S %Y"))?;
    old.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
}

/// Adds to a wait nothing but what it lacks: the later of the two, as seen from `now`.
pub(super) fn longer(a: Option<Wait>, b: Option<Wait>, now: Timestamp) -> Option<Wait> {
    let until = |wait: Wait| match wait {
        Wait::Until(at) => at,
        Wait::For(duration) => {
            let span = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
            now.checked_add(span).unwrap_or(Timestamp::MAX)
        }
    };
    match (a, b) {
        (Some(a), Some(b)) => Some(if until(b) > until(a) { b } else { a }),
        (a, b) => a.or(b),
    }
}
