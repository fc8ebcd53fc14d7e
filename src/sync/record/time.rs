//! The times of a record: a day, and the instant if the provider gave one.

use std::ops::RangeInclusive;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::Value;

use super::rejection::{Rejection, reject};
use crate::domain::record::{BookingTime, Granularity};
use crate::domain::rejection_reason::RejectionReason;
use crate::profile::{TimeEncoding, TimeField};

/// Plausible years; others indicate a wrong unit or a placeholder.
const YEARS: RangeInclusive<i16> = 1990..=2100;
/// Plausible years of the day of an observation: series go back to the first statistics.
const OBSERVED_YEARS: RangeInclusive<i16> = 1600..=2200;

/// The time of `record` in `field`, which must be there.
pub(super) fn required(record: &Value, field: &TimeField, granularity: Granularity) -> Result<BookingTime, Rejection> {
    match optional(record, field, granularity)? {
        Some(time) => Ok(time),
        None => reject(RejectionReason::TimeMissing, &field.pointer),
    }
}

/// The time of `record` in `field`, if it is there.
pub(super) fn optional(
    record: &Value,
    field: &TimeField,
    granularity: Granularity,
) -> Result<Option<BookingTime>, Rejection> {
    let found = std::iter::once(&field.pointer).chain(&field.or).find_map(|path| {
        let value = record.pointer(path)?;
        let is_blank = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
        (!is_blank).then_some((path, value))
    });
    let Some((path, value)) = found else { return Ok(None) };
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) if field.encoding != TimeEncoding::Text => number.to_string(),
        _ => return reject(RejectionReason::TimeInvalid, path),
    };
    let Some((on, at)) = read_time(&text, field) else { return reject(RejectionReason::TimeInvalid, path) };
    let at = at.filter(|_| !field.day_only);
    if !YEARS.contains(&on.year()) {
        return reject(RejectionReason::TimeOutOfRange, path);
    }
    let granularity = if at.is_none() { Granularity::Day } else { granularity };
    Ok(Some(BookingTime { on, at, text, granularity }))
}

/// The day of an observation, which is never an instant.
pub(super) fn observed_day(record: &Value, field: &TimeField) -> Result<Date, Rejection> {
    let path = &field.pointer;
    let text = match record.pointer(path) {
        None | Some(Value::Null) => return reject(RejectionReason::TimeMissing, path),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) if field.encoding != TimeEncoding::Text => number.to_string(),
        Some(_) => return reject(RejectionReason::TimeInvalid, path),
    };
    match read_time(&text, field) {
        Some((on, _)) if OBSERVED_YEARS.contains(&on.year()) => Ok(on),
        Some(_) => reject(RejectionReason::TimeOutOfRange, path),
        None => reject(RejectionReason::TimeInvalid, path),
    }
}

/// The booking day as written, and the instant if the text holds one.
fn read_time(text: &str, field: &TimeField) -> Option<(Date, Option<Timestamp>)> {
    let zone = field.zone.as_ref().and_then(|zone| TimeZone::get(zone).ok());
    if field.encoding != TimeEncoding::Text {
        let at = field.encoding.instant(text)?;
        return Some((at.to_zoned(zone.unwrap_or(TimeZone::UTC)).date(), Some(at)));
    }
    // A day and time without a zone are an instant only if the profile names the time zone.
    let civil = |at: DateTime, timed: bool| {
        let zoned = zone.filter(|_| timed).and_then(|zone| at.to_zoned(zone).ok());
        Some((at.date(), zoned.map(|zoned| zoned.timestamp())))
    };
    if let Some(format) = &field.format {
        let read = jiff::fmt::strtime::parse(format, text).ok()?;
        let timed = read.hour().is_some();
        if timed && let Ok(at) = read.to_timestamp() {
            return Some((read.to_date().ok()?, Some(at)));
        }
        let at = if timed { read.to_datetime() } else { read.to_date().map(|date| date.at(0, 0, 0, 0)) };
        return civil(at.ok()?, timed);
    }
    // `Z` and offsets first: the booking day is the day as written, in the provider's zone.
    if let Ok(at) = text.parse::<Timestamp>() {
        let on = text.get(..10).and_then(|day| day.parse::<Date>().ok())?;
        return Some((on, Some(at)));
    }
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Some((zoned.date(), Some(zoned.timestamp())));
    }
    // A date without a time is not an instant.
    civil(text.parse::<DateTime>().ok()?, text.contains([':', 'T', 't']))
}
