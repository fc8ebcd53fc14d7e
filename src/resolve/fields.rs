//! Converts spec fields to domain values: durations, numbers, instants, windows. Pure.

use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::api::v1alpha1::common as wire;
use crate::api::v1alpha1::reasons::Reason;
use crate::api::v1alpha1::text::CurrencyCode;
use crate::domain::duration::parse_duration;
use crate::domain::money::{Currency, parse_unsigned};
use crate::domain::window::TimeWindow;
use crate::resolve::spec_error::SpecError;

/// Parses a duration field; `default` if it is not set.
pub(super) fn duration(field: &str, text: Option<&str>, default: Duration) -> Result<Duration, SpecError> {
    text.map_or(Ok(default), |text| parse_duration(text).map_err(|e| SpecError::invalid(field, e)))
}

/// `value` converted to the domain's type, or `default` if not set; a value out of range is a spec error.
pub(super) fn number<T: TryFrom<i32>>(field: &str, value: Option<i32>, default: T) -> Result<T, SpecError> {
    value.map_or(Ok(default), |v| T::try_from(v).map_err(|_| SpecError::invalid(field, "is out of range")))
}

/// Parses an instant field.
pub(super) fn instant(field: &str, text: &str) -> Result<Timestamp, SpecError> {
    text.parse().map_err(|_| SpecError::invalid(field, "must be an RFC 3339 instant such as \"2030-01-31T18:00:00Z\""))
}

/// Parses an unsigned decimal field.
pub(super) fn amount(field: &str, text: Option<&str>) -> Result<Option<Decimal>, SpecError> {
    text.map(|text| parse_unsigned(text).map_err(|e| SpecError::invalid(field, e))).transpose()
}

/// Converts a list of currencies.
pub(super) fn currencies(field: &str, codes: Option<&[CurrencyCode]>) -> Result<Vec<Currency>, SpecError> {
    let parse = |code: &CurrencyCode| Currency::parse(code).map_err(|e| SpecError::invalid(field, e));
    codes.unwrap_or_default().iter().map(parse).collect()
}

/// The texts of a list.
pub(super) fn texts<T: ToString>(list: Option<&[T]>) -> Vec<String> {
    list.unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// Converts a list of windows.
pub(super) fn windows(field: &str, list: Option<&[wire::TimeWindow]>) -> Result<Vec<TimeWindow>, SpecError> {
    list.unwrap_or_default().iter().map(|one| window(&format!("{field}[{}]", &*one.name), one)).collect()
}

fn window(field: &str, one: &wire::TimeWindow) -> Result<TimeWindow, SpecError> {
    if let Some(line) = &one.schedule {
        let length = duration(&format!("{field}.duration"), one.duration.as_deref(), Duration::ZERO)?;
        return TimeWindow::recurring(line, one.time_zone.as_deref(), length).map_err(|e| {
            let message = format!("spec.{field}: {e}");
            SpecError::stalled(Reason::InvalidSchedule, message)
        });
    }
    match (&one.start_time, &one.end_time) {
        (Some(from), Some(to)) => Ok(TimeWindow::Once {
            from: instant(&format!("{field}.startTime"), from)?,
            to: instant(&format!("{field}.endTime"), to)?,
        }),
        _ => Err(SpecError::invalid(field, "must have schedule and duration, or startTime and endTime")),
    }
}
