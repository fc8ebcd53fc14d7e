//! Where a provider reports how long to wait before the next request, and how it encodes that.
//!
//! Times are compared with the response's own `Date` where it has one: a provider's clock may be off, but it is off in
//! both. A number that is too large for its unit is a time far away, not no time at all; every wait is capped. What is
//! not a time is ignored: then the backoff alone decides.

use std::time::Duration;

use http::HeaderMap;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::classification::RetryAfter;
use super::header_name::check_header_name;
use super::json::{check_pointer, scalar_text};
use super::response_view::ResponseView;
use super::serde_duration::duration;

/// One place in which to look for the delay.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum RetryAfterRule {
    /// A header.
    Header {
        /// The name.
        name: String,
        /// The encoding.
        #[serde(rename = "as")]
        format: RetryAfterFormat,
    },
    /// A value in the body.
    Json {
        /// JSON pointer.
        pointer: String,
        /// The encoding.
        #[serde(rename = "as")]
        format: RetryAfterFormat,
    },
    /// A sentence in the body: the number of seconds that follows these words.
    Prose {
        /// JSON pointer to the sentence.
        pointer: String,
        /// The words before the number; case-insensitive.
        after: String,
    },
    /// Until the next day of the profile's `zone` begins: a daily quota.
    NextDay,
    /// A fixed time, from the provider's documentation.
    For {
        /// How long.
        #[serde(deserialize_with = "duration")]
        #[schemars(with = "String")]
        duration: Duration,
    },
}

/// How a delay is encoded.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RetryAfterFormat {
    /// Seconds from now.
    DeltaSeconds,
    /// Seconds since 1970.
    EpochSeconds,
    /// An HTTP date.
    HttpDate,
    /// Seconds from now or an HTTP date, as RFC 9110 allows for `Retry-After`.
    RetryAfter,
}

impl RetryAfterRule {
    /// Reads the delay from a response received at `now`; `zone` is the provider's.
    pub(super) fn read(&self, response: &ResponseView<'_>, now: Timestamp, zone: &TimeZone) -> Option<RetryAfter> {
        let date = || date(response.headers());
        match self {
            Self::Header { name, format } => format.read(response.header(name)?, date()),
            Self::Json { pointer, format } => format.read(scalar_text(response.json_at(pointer)?)?.trim(), date()),
            Self::Prose { pointer, after } => {
                let text = response.json_at(pointer)?.as_str()?.to_lowercase();
                let (_, rest) = text.split_once(&after.to_lowercase())?;
                let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
                whole_number(&digits).map(|seconds| RetryAfter::Delay(Duration::from_secs(seconds)))
            }
            Self::NextDay => {
                let tomorrow = now.to_zoned(zone.clone()).date().tomorrow().ok()?;
                tomorrow.to_zoned(zone.clone()).ok().map(|at| RetryAfter::At(at.timestamp()))
            }
            Self::For { duration } => Some(RetryAfter::Delay(*duration)),
        }
    }

    /// Checks what serde cannot.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Header { name, .. } => check_header_name(name),
            Self::Prose { pointer, after } => {
                check_pointer(pointer)?;
                if after.trim().is_empty() {
                    return Err("wait.after must name the words before the number".to_owned());
                }
                Ok(())
            }
            Self::Json { pointer, .. } => check_pointer(pointer),
            Self::NextDay | Self::For { .. } => Ok(()),
        }
    }
}

impl RetryAfterFormat {
    /// Decodes `text`; `date` is the response's own time.
    pub(super) fn read(self, text: &str, date: Option<Timestamp>) -> Option<RetryAfter> {
        // A fraction of a second is rounded up.
        let seconds = || {
            let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let up = u64::from(part.bytes().any(|b| b != b'0'));
            (digits(whole) && digits(part)).then(|| whole_number(whole)).flatten().map(|n| n.saturating_add(up))
        };
        let epoch = |seconds: u64| {
            i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or(Timestamp::MAX)
        };
        let relative = |at: Timestamp| match date {
            Some(date) => RetryAfter::Delay(Duration::try_from(at.duration_since(date)).unwrap_or(Duration::ZERO)),
            None => RetryAfter::At(at),
        };
        match self {
            Self::DeltaSeconds => seconds().map(|seconds| RetryAfter::Delay(Duration::from_secs(seconds))),
            Self::EpochSeconds => seconds().map(epoch).map(relative),
            Self::HttpDate => http_date(text).map(relative),
            Self::RetryAfter => Self::DeltaSeconds.read(text, date).or_else(|| Self::HttpDate.read(text, date)),
        }
    }
}

/// The number that these digits are; the largest one if it is larger. `None` if there are none.
fn whole_number(digits: &str) -> Option<u64> {
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX))
}

/// The value of the header `Retry-After`; the latest of several.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<RetryAfter> {
    let date = date(headers);
    let texts = headers.get_all(http::header::RETRY_AFTER).iter().filter_map(|value| value.to_str().ok());
    let read = texts.filter_map(|text| RetryAfterFormat::RetryAfter.read(text.trim(), date));
    read.fold(None, |latest, next| later(latest, Some(next), now))
}

/// The value of the header `Date`.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(headers.get(http::header::DATE)?.to_str().ok()?.trim())
}

/// One of the three date formats that RFC 9110 requires a recipient to accept.
fn http_date(text: &str) -> Option<Timestamp> {
    if let Ok(at) = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text) {
        return Some(at);
    }
    let civil = |format| DateTime::strptime(format, text).ok();
    let obsolete = || civil("%A, %d-%b-%y %H:%M:%S GMT").or_else(|| civil("%a %b %e %H:%M:%S %Y"));
    // The last days of the year 9999 are later than any instant.
    let at = obsolete().or_else(|| civil("%a, %d %b %Y %H:%M:%S GMT"))?;
    Some(at.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |at| at.timestamp()))
}

/// The later of the two, as seen from `now`.
pub(super) fn later(a: Option<RetryAfter>, b: Option<RetryAfter>, now: Timestamp) -> Option<RetryAfter> {
    let until = |retry_after: RetryAfter| match retry_after {
        RetryAfter::At(at) => at,
        RetryAfter::Delay(delay) => {
            let span = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
            now.checked_add(span).unwrap_or(Timestamp::MAX)
        }
    };
    match (a, b) {
        (Some(a), Some(b)) => Some(if until(b) > until(a) { b } else { a }),
        (a, b) => a.or(b),
    }
}
