//! Windows: their bounds, and how far they advance the cursor. Pure.
//!
//! A window's bounds are fixed when it is opened and stored in the ledger, so that a resumed walk requests the same
//! range. The cursor is an instant, or a day if the provider only has days; a day is never treated as its midnight.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::account_tokens::TokenKey;
use crate::domain::clock_skew::is_ahead;
use crate::domain::cursor::{CursorKey, StreamKey, SyncWindow, stored_stream};
use crate::domain::record::Granularity;
use crate::profile::{Stream, TimeEncoding, WHOLE_DAY_MARGIN, WindowParameters};
use crate::settings::sync_plan::{Partition, SyncPlan};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A stored cursor that cannot be parsed, or a window format that cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cursor cannot be parsed")]
pub struct CursorError;

/// The key of a partition's cursor in its source, where the stream has several. The source may be the number of an account,
/// so it is stored as a keyed hash.
pub fn source_key(plan: &SyncPlan, partition: &Partition, token_key: &TokenKey) -> CursorKey {
    let mut key = cursor_key(plan, partition);
    if let Some(source) = plan.source(partition) {
        key.stream.stream = stored_stream(&plan.stream_name, &token_key.digest("stream source", &source));
    }
    key
}

/// The key of a partition's cursor without a source: of a stream that has only one, and of versions without sources.
pub fn cursor_key(plan: &SyncPlan, partition: &Partition) -> CursorKey {
    CursorKey {
        stream: StreamKey {
            namespace: plan.job.namespace.to_string(),
            connection: plan.connection.clone(),
            provider: plan.provider.clone(),
            environment: plan.environment.clone(),
            stream: plan.stream_name.clone(),
            partition: partition.name.clone(),
        },
        job: plan.job.name.to_string(),
    }
}

/// Granularity of a stream's cursor: a window format without an hour has only days.
pub fn granularity(stream: &Stream) -> Granularity {
    const HOURS: [&str; 9] = ["%H", "%I", "%k", "%l", "%T", "%R", "%s", "%c", "%X"];
    match &stream.window {
        // Without a format it is a number of seconds or a smaller unit.
        Some(WindowParameters { format: Some(format), .. }) if !HOURS.iter().any(|hour| format.contains(hour)) => {
            Granularity::Day
        }
        _ => Granularity::Instant,
    }
}

/// Formats a cursor for storage: `2026-09-01`, or `2026-09-01T10:00:00Z`.
pub fn format_cursor(at: Timestamp, granularity: Granularity) -> String {
    match granularity {
        Granularity::Day => at.to_zoned(TimeZone::UTC).date().to_string(),
        Granularity::Instant => at.to_string(),
    }
}

/// Parses a stored cursor as the instant at which it starts.
pub fn parse_cursor(text: &str, granularity: Granularity) -> Result<Timestamp, CursorError> {
    match granularity {
        Granularity::Day => text
            .parse::<jiff::civil::Date>()
            .and_then(|date| date.to_zoned(TimeZone::UTC))
            .map(|zoned| zoned.timestamp())
            .map_err(|_| CursorError),
        Granularity::Instant => text.parse().map_err(|_| CursorError),
    }
}

/// The greater of two cursors.
pub fn max_cursor(
    a: Option<String>,
    b: Option<String>,
    granularity: Granularity,
) -> Result<Option<String>, CursorError> {
    Ok(match (a, b) {
        (Some(a), Some(b)) => Some(if parse_cursor(&b, granularity)? > parse_cursor(&a, granularity)? { b } else { a }),
        (a, b) => a.or(b),
    })
}

/// Limits a cursor to the window's end: a record dated in the future must not advance the cursor past the window.
pub fn cap(cursor: String, end: &str, granularity: Granularity) -> Result<String, CursorError> {
    if parse_cursor(&cursor, granularity)? > parse_cursor(end, granularity)? { Ok(end.to_owned()) } else { Ok(cursor) }
}

/// Limits a stored high-water mark to now. While the clock was ahead, a record dated in the future could move it past
/// today: records that come until then would not be read.
pub fn as_of(committed: String, now: Timestamp, granularity: Granularity) -> Result<String, CursorError> {
    let at = parse_cursor(&committed, granularity)?;
    Ok(if is_ahead(at, now) { format_cursor(now, granularity) } else { committed })
}

/// Whether a stored window reaches into the future: it was opened while the clock was ahead.
pub fn is_window_ahead(window: &SyncWindow, now: Timestamp, granularity: Granularity) -> Result<bool, CursorError> {
    Ok(is_ahead(parse_cursor(&window.to, granularity)?, now))
}

/// Where a new window starts.
#[derive(Copy, Clone, Debug, Default)]
pub struct WindowStart<'a> {
    /// The high-water mark; `None` before the first window is complete.
    pub committed: Option<&'a str>,
    /// Start of the first window, as stored: nothing before it is read.
    pub earliest: Option<&'a str>,
    /// The start that the job sets for the first window.
    pub start: Option<Timestamp>,
    /// The lookback that the job sets instead of the stream's.
    pub lookback: Option<Duration>,
}

/// Opens a window up to now minus the safety lag, starting at the cursor minus the lookback; without a cursor at the job's start, or at the
/// start of the stream's initial range. After the first window the job's start has no effect: moved past the cursor, it
/// would leave a gap.
pub fn open_window(stream: &Stream, start: WindowStart<'_>, now: Timestamp) -> Result<SyncWindow, CursorError> {
    let from = start_of_window(stream, start, now)?;
    Ok(window(whole_days_from(stream, from), end_of_window(stream, now), granularity(stream)))
}

/// Where a new window ends: now, or earlier where the provider shows new records late.
fn end_of_window(stream: &Stream, now: Timestamp) -> Timestamp {
    let lag = stream.window.as_ref().and_then(|range| range.safety_lag).unwrap_or_default();
    now.checked_sub(SignedDuration::try_from(lag).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MIN)
}

/// Where a new window starts, before what is read more for whole days.
pub fn start_of_window(stream: &Stream, start: WindowStart<'_>, now: Timestamp) -> Result<Timestamp, CursorError> {
    let granularity = granularity(stream);
    let range = stream.window.as_ref();
    let from = match start.committed {
        Some(committed) => {
            let lookback = start.lookback.or(range.map(|range| range.lookback)).unwrap_or_default();
            let back = parse_cursor(committed, granularity)?
                .checked_sub(round_to_granularity(lookback, granularity))
                .unwrap_or(Timestamp::MIN);
            let earliest = start.earliest.map(|earliest| parse_cursor(earliest, granularity)).transpose()?;
            earliest.map_or(back, |earliest| back.max(earliest))
        }
        None => start.start.unwrap_or_else(|| {
            let reach = round_to_granularity(range.map(|range| range.initial).unwrap_or_default(), granularity);
            now.checked_sub(reach).unwrap_or(Timestamp::MIN)
        }),
    };
    Ok(from.min(end_of_window(stream, now)))
}

/// Where a window that starts at `from` must start: earlier, if the stream is read in whole days. The records before that
/// day are those of the window before.
pub fn whole_days_from(stream: &Stream, from: Timestamp) -> Timestamp {
    if !stream.reads_whole_days() {
        return from;
    }
    day_of(from).and_then(|day| day.checked_sub(WHOLE_DAY_MARGIN).ok()).unwrap_or(from)
}

/// Where a window that ends at `to` must end: later, if the stream is read in whole days.
pub fn whole_days_to(stream: &Stream, to: Timestamp) -> Timestamp {
    if !stream.reads_whole_days() {
        return to;
    }
    let end = day_of(to).and_then(|day| day.checked_add(DAY).ok());
    end.and_then(|end| end.checked_add(WHOLE_DAY_MARGIN).ok()).unwrap_or(to)
}

/// The start of the instant's day in UTC.
fn day_of(at: Timestamp) -> Option<Timestamp> {
    Some(at.to_zoned(TimeZone::UTC).start_of_day().ok()?.timestamp())
}

/// A window with these bounds, before its first page.
pub fn window(from: Timestamp, to: Timestamp, granularity: Granularity) -> SyncWindow {
    let (from, to) = (format_cursor(from, granularity), format_cursor(to, granularity));
    SyncWindow {
        from,
        to,
        page_no: 0,
        page_token: None,
        total: None,
        candidate_hwm: None,
        seen_tokens: Vec::new(),
        rows_in: 0,
        rows_dead: 0,
    }
}

/// Rounds a lookback up to the cursor's unit: for days to whole days, at least one.
fn round_to_granularity(lookback: Duration, granularity: Granularity) -> SignedDuration {
    let exact = SignedDuration::try_from(lookback).unwrap_or(SignedDuration::MAX);
    match granularity {
        Granularity::Instant => exact,
        Granularity::Day => {
            let days = exact.as_secs().div_euclid(DAY.as_secs())
                + i64::from(exact.as_secs().rem_euclid(DAY.as_secs()) > 0 || exact.subsec_nanos() > 0);
            DAY.checked_mul(i32::try_from(days.max(1)).unwrap_or(i32::MAX)).unwrap_or(SignedDuration::MAX)
        }
    }
}

/// A window's bounds in the provider's format.
pub fn bounds(
    window: &SyncWindow,
    granularity: Granularity,
    range: &WindowParameters,
) -> Result<(String, String), CursorError> {
    let format = |cursor: &str| match (&range.format, range.encoding) {
        (Some(format), _) => format_bound(cursor, granularity, format),
        (None, TimeEncoding::EpochMilliseconds) => Ok(parse_cursor(cursor, granularity)?.as_millisecond().to_string()),
        (None, TimeEncoding::EpochNanoseconds) => Ok(parse_cursor(cursor, granularity)?.as_nanosecond().to_string()),
        (None, TimeEncoding::EpochSeconds | TimeEncoding::Text) => {
            Ok(parse_cursor(cursor, granularity)?.as_second().to_string())
        }
    };
    // For an exclusive end, the next unit is requested: a record too many is read twice, one too few is lost.
    let to = match (range.end_exclusive, granularity) {
        (false, _) => window.to.clone(),
        (true, granularity) => {
            let step = if granularity == Granularity::Day { DAY } else { SignedDuration::from_secs(1) };
            format_cursor(
                parse_cursor(&window.to, granularity)?.checked_add(step).unwrap_or(Timestamp::MAX),
                granularity,
            )
        }
    };
    Ok((format(&window.from)?, format(&to)?))
}

/// A window's bound in the provider's format.
pub fn format_bound(cursor: &str, granularity: Granularity, format: &str) -> Result<String, CursorError> {
    let at = parse_cursor(cursor, granularity)?.to_zoned(TimeZone::UTC);
    jiff::fmt::strtime::format(format, &at).map_err(|_| CursorError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::tests::stream;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn window(committed: Option<&str>, start: Option<&str>, lookback_hours: Option<u64>) -> (String, String) {
        let lookback = lookback_hours.map(|hours| Duration::from_secs(hours * 3600));
        let start = WindowStart { committed, earliest: None, start: start.map(at), lookback };
        let window = open_window(&stream(10), start, at("2026-09-10T23:30:00Z")).unwrap();
        (window.from, window.to)
    }

    #[test]
    fn a_first_window_starts_at_start_or_at_the_streams_initial_range() {
        let end = "2026-09-10".to_owned();
        assert_eq!(window(None, None, None), ("2026-06-12".into(), end.clone()));
        assert_eq!(window(None, Some("2026-09-01T12:00:00Z"), None), ("2026-09-01".into(), end.clone()));
        assert_eq!(window(None, Some("2027-01-01T00:00:00Z"), None), (end.clone(), end));
    }

    #[test]
    fn a_later_window_starts_at_the_lookback_whatever_start_is_set_to() {
        for start in [None, Some("2026-09-05T00:00:00Z"), Some("2026-09-09T00:00:00Z"), Some("2020-01-01T00:00:00Z")] {
            assert_eq!(window(Some("2026-09-05"), start, None).0, "2026-09-04", "{start:?}");
        }
    }

    #[test]
    fn a_later_window_looks_back_whole_days_but_not_before_the_first_one() {
        for (hours, from) in
            [(None, "2026-09-04"), (Some(0), "2026-09-04"), (Some(25), "2026-09-03"), (Some(72), "2026-09-02")]
        {
            assert_eq!(window(Some("2026-09-05"), None, hours).0, from, "{hours:?}");
        }
        let first = WindowStart {
            committed: Some("2026-09-05"),
            earliest: Some("2026-09-05"),
            lookback: Some(Duration::from_hours(72)),
            ..WindowStart::default()
        };
        assert_eq!(open_window(&stream(10), first, at("2026-09-10T23:30:00Z")).unwrap().from, "2026-09-05");
    }

    #[test]
    fn no_window_of_whole_days_starts_before_the_first_one() {
        let mut stream = stream(10);
        stream.window.as_mut().unwrap().format = Some("%Y-%m-%dT%H:%M:%SZ".to_owned());
        let now = at("2026-09-10T23:30:00Z");
        let first = WindowStart { start: Some(at("2026-09-05T10:00:00Z")), ..WindowStart::default() };
        let earliest = start_of_window(&stream, first, now).unwrap().to_string();
        let second = WindowStart {
            committed: Some("2026-09-06T00:00:00Z"),
            earliest: Some(&earliest),
            lookback: Some(Duration::from_hours(1000)),
            start: None,
        };
        let from = |start| open_window(&stream, start, now).unwrap().from;
        assert_eq!((from(first), from(second)), ("2026-09-04T10:00:00Z".into(), "2026-09-04T10:00:00Z".into()));
    }

    #[test]
    fn a_window_ends_before_what_the_provider_may_not_show_yet() {
        let mut stream = stream(10);
        let range = |stream: &Stream, committed: Option<&str>| {
            let start = WindowStart { committed, ..WindowStart::default() };
            let window = open_window(stream, start, at("2026-09-10T00:30:00Z")).unwrap();
            (window.from, window.to)
        };
        stream.window.as_mut().unwrap().safety_lag = Some(Duration::from_hours(1));
        assert_eq!(range(&stream, Some("2026-09-05")), ("2026-09-04".into(), "2026-09-09".into()));
        stream.window.as_mut().unwrap().format = Some("%Y-%m-%dT%H:%M:%SZ".to_owned());
        assert_eq!(range(&stream, Some("2026-09-05T00:00:00Z")).1, "2026-09-09T23:30:00Z");
        // A cursor within the lag: the stream got it later than the cursor moved there.
        stream.window.as_mut().unwrap().safety_lag = Some(Duration::from_hours(1000));
        let (from, to) = range(&stream, Some("2026-09-10T00:00:00Z"));
        assert!(parse_cursor(&from, Granularity::Instant).unwrap() <= parse_cursor(&to, Granularity::Instant).unwrap());
        stream.window.as_mut().unwrap().safety_lag = Some(Duration::MAX);
        assert!(open_window(&stream, WindowStart::default(), at("2026-09-10T00:30:00Z")).is_ok());
    }

    #[test]
    fn a_record_dated_in_the_future_does_not_advance_the_cursor() {
        let day = Granularity::Day;
        assert_eq!(cap("2099-01-01".into(), "2026-09-10", day).unwrap(), "2026-09-10");
        assert_eq!(cap("2026-09-09".into(), "2026-09-10", day).unwrap(), "2026-09-09");
        assert_eq!(max_cursor(Some("2026-09-09".into()), None, day).unwrap().as_deref(), Some("2026-09-09"));
    }

    #[test]
    fn a_bound_is_formatted_in_the_providers_format() {
        assert_eq!(format_bound("2026-09-05", Granularity::Day, "%d-%m-%Y").unwrap(), "05-09-2026");
        assert_eq!(format_bound("yesterday", Granularity::Day, "%d-%m-%Y"), Err(CursorError));
    }
}
