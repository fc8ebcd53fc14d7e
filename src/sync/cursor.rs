//! Windows: where one starts, where it ends, and how far it lets the cursor move. Pure.
//!
//! A window's ends are pinned when it is opened and kept in the ledger, so that a resumed walk asks for the same range.
//! The cursor is a moment, or a day where the provider only knows days; a day is never taken for its midnight.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::ledger::{Granularity, Window, WindowKind};
use crate::provider::profile::{self, Stream, TimeForm};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A stored cursor that cannot be read, or a window format that cannot print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor cannot be read")]
pub struct CursorError;

/// How fine a stream's cursor is: a window format without an hour knows only days.
pub fn grain(stream: &Stream) -> Granularity {
    const HOURS: [&str; 9] = ["%H", "%I", "%k", "%l", "%T", "%R", "%s", "%c", "%X"];
    match &stream.window {
        // What is no text is a number of seconds or less.
        Some(profile::Window { format: Some(format), .. }) if !HOURS.iter().any(|hour| format.contains(hour)) => {
            Granularity::Day
        }
        _ => Granularity::Instant,
    }
}

/// A cursor as stored: `2026-09-01`, or `2026-09-01T10:00:00Z`.
pub fn print(at: Timestamp, grain: Granularity) -> String {
    match grain {
        Granularity::Day => at.to_zoned(TimeZone::UTC).date().to_string(),
        Granularity::Instant => at.to_string(),
    }
}

/// A stored cursor as the moment at which it starts.
pub fn parse(text: &str, grain: Granularity) -> Result<Timestamp, CursorError> {
    match grain {
        Granularity::Day => text
            .parse::<jiff::civil::Date>()
            .and_then(|date| date.to_zoned(TimeZone::UTC))
            .map(|zoned| zoned.timestamp())
            .map_err(|_| CursorError),
        Granularity::Instant => text.parse().map_err(|_| CursorError),
    }
}

/// The greater of two cursors.
pub fn later(a: Option<String>, b: Option<String>, grain: Granularity) -> Result<Option<String>, CursorError> {
    Ok(match (a, b) {
        (Some(a), Some(b)) => Some(if parse(&b, grain)? > parse(&a, grain)? { b } else { a }),
        (a, b) => a.or(b),
    })
}

/// The smaller of two cursors: a record dated in the future must not push the cursor past the window.
pub fn capped(cursor: String, end: &str, grain: Granularity) -> Result<String, CursorError> {
    if parse(&cursor, grain)? > parse(end, grain)? { Ok(end.to_owned()) } else { Ok(cursor) }
}

/// Opens a window: from the cursor less the lookback, or from `start`, or as far back as the stream reaches, up to now.
pub fn open(
    stream: &Stream,
    committed: Option<&str>,
    start: Option<Timestamp>,
    lookback: Option<Duration>,
    now: Timestamp,
) -> Result<Window, CursorError> {
    let grain = grain(stream);
    let range = stream.window.as_ref();
    let from = match committed {
        Some(committed) => {
            let lookback = lookback.or(range.map(|range| range.lookback)).unwrap_or_default();
            let back = parse(committed, grain)?.checked_sub(whole(lookback, grain)).unwrap_or(Timestamp::MIN);
            start.map_or(back, |start| back.max(start))
        }
        None => start.unwrap_or_else(|| {
            let reach = whole(range.map(|range| range.initial).unwrap_or_default(), grain);
            now.checked_sub(reach).unwrap_or(Timestamp::MIN)
        }),
    };
    Ok(Window {
        kind: WindowKind::Incremental,
        from: print(from.min(now), grain),
        to: print(now, grain),
        page_no: 0,
        page_token: None,
        total: None,
        candidate_hwm: None,
        seen_tokens: Vec::new(),
        rows_in: 0,
        rows_dead: 0,
    })
}

/// A lookback in the cursor's own unit: at least one day where only days are known, and never part of one.
fn whole(lookback: Duration, grain: Granularity) -> SignedDuration {
    let exact = SignedDuration::try_from(lookback).unwrap_or(SignedDuration::MAX);
    match grain {
        Granularity::Instant => exact,
        Granularity::Day => {
            let days = exact.as_secs().div_euclid(DAY.as_secs())
                + i64::from(exact.as_secs().rem_euclid(DAY.as_secs()) > 0 || exact.subsec_nanos() > 0);
            DAY.checked_mul(i32::try_from(days.max(1)).unwrap_or(i32::MAX)).unwrap_or(SignedDuration::MAX)
        }
    }
}

/// A window's two ends as the provider wants to read them.
pub fn ends(window: &Window, grain: Granularity, range: &profile::Window) -> Result<(String, String), CursorError> {
    let write = |cursor: &str| match (&range.format, range.form) {
        (Some(format), _) => wire(cursor, grain, format),
        (None, TimeForm::EpochMilliseconds) => Ok(parse(cursor, grain)?.as_millisecond().to_string()),
        (None, TimeForm::EpochNanoseconds) => Ok(parse(cursor, grain)?.as_nanosecond().to_string()),
        (None, TimeForm::EpochSeconds | TimeForm::Text) => Ok(parse(cursor, grain)?.as_second().to_string()),
    };
    // Whoever leaves the end itself out is asked for the one behind it: a record too many is read twice, one too few never.
    let to = match (range.end_exclusive, grain) {
        (false, _) => window.to.clone(),
        (true, grain) => {
            let step = if grain == Granularity::Day { DAY } else { SignedDuration::from_secs(1) };
            print(parse(&window.to, grain)?.checked_add(step).unwrap_or(Timestamp::MAX), grain)
        }
    };
    Ok((write(&window.from)?, write(&to)?))
}

/// A window's end as the provider wants to read it.
pub fn wire(cursor: &str, grain: Granularity, format: &str) -> Result<String, CursorError> {
    let at = parse(cursor, grain)?.to_zoned(TimeZone::UTC);
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
        let window = open(&stream(10), committed, start.map(at), lookback, at("2026-09-10T23:30:00Z")).unwrap();
        (window.from, window.to)
    }

    #[test]
    fn a_first_window_starts_where_asked_or_where_the_stream_reaches() {
        let end = "2026-09-10".to_owned();
        assert_eq!(window(None, None, None), ("2026-06-12".into(), end.clone()));
        assert_eq!(window(None, Some("2026-09-01T12:00:00Z"), None), ("2026-09-01".into(), end.clone()));
        assert_eq!(window(None, Some("2027-01-01T00:00:00Z"), None), (end.clone(), end));
    }

    #[test]
    fn a_later_window_looks_back_whole_days_and_never_before_the_start() {
        for (hours, from) in
            [(None, "2026-09-04"), (Some(0), "2026-09-04"), (Some(25), "2026-09-03"), (Some(72), "2026-09-02")]
        {
            assert_eq!(window(Some("2026-09-05"), None, hours).0, from, "{hours:?}");
        }
        assert_eq!(window(Some("2026-09-05"), Some("2026-09-05T00:00:00Z"), Some(72)).0, "2026-09-05");
    }

    #[test]
    fn a_record_from_the_future_does_not_push_the_cursor() {
        let day = Granularity::Day;
        assert_eq!(capped("2099-01-01".into(), "2026-09-10", day).unwrap(), "2026-09-10");
        assert_eq!(capped("2026-09-09".into(), "2026-09-10", day).unwrap(), "2026-09-09");
        assert_eq!(later(Some("2026-09-09".into()), None, day).unwrap().as_deref(), Some("2026-09-09"));
    }

    #[test]
    fn a_day_is_written_as_the_provider_wants_it() {
        assert_eq!(wire("2026-09-05", Granularity::Day, "%d-%m-%Y").unwrap(), "05-09-2026");
        assert_eq!(wire("yesterday", Granularity::Day, "%d-%m-%Y"), Err(CursorError));
    }
}
