//! How a provider encodes times in JSON.

use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, Zoned};
use schemars::JsonSchema;
use serde::Deserialize;

/// The encoding of a time.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TimeEncoding {
    /// RFC 3339, or a date.
    #[default]
    Text,
    /// Seconds since 1970.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMilliseconds,
    /// Nanoseconds since 1970.
    EpochNanoseconds,
}

impl TimeEncoding {
    /// Decodes an instant.
    pub fn instant(self, text: &str) -> Option<Timestamp> {
        let number = || text.parse::<i64>().ok();
        match self {
            Self::Text => {
                text.parse::<Timestamp>().ok().or_else(|| text.parse::<Zoned>().ok().map(|zoned| zoned.timestamp()))
            }
            Self::EpochSeconds => Timestamp::from_second(number()?).ok(),
            Self::EpochMilliseconds => Timestamp::from_millisecond(number()?).ok(),
            Self::EpochNanoseconds => Timestamp::from_nanosecond(i128::from(number()?)).ok(),
        }
    }

    /// Decodes a day.
    pub(super) fn day(self, text: &str) -> Option<Date> {
        match self {
            Self::Text => text.parse::<DateTime>().map(DateTime::date).ok().or_else(|| {
                // The day as written, in the provider's own zone.
                text.get(..10)?.parse::<Date>().ok()
            }),
            _ => Some(self.instant(text)?.to_zoned(jiff::tz::TimeZone::UTC).date()),
        }
    }
}
