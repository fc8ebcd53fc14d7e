//! Time windows: recurring (cron expression and length) or one-off (start and end). Pure.
//!
//! A window is open from its start, inclusive, to its end, exclusive. A length is elapsed time: a window of one hour
//! that begins before a daylight-saving change is open for one hour, whatever the wall clock shows; its start follows
//! the rules of [`Schedule`]. Windows that touch or overlap are treated as one.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::schedule::{Cron, Schedule, ScheduleError};

/// Longest chain of adjacent windows that is followed to find the end; after that the end found so far is returned, and
/// the caller evaluates again then.
const MAX_CHAIN: usize = 64;

/// One time window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TimeWindow {
    /// Opens at each slot of a cron expression for a fixed length.
    Recurring {
        /// Start of each opening.
        opens: Box<Cron>,
        /// Length of each opening.
        length: Duration,
    },
    /// Opens once.
    Once {
        /// Start, inclusive.
        from: Timestamp,
        /// End, exclusive.
        to: Timestamp,
    },
}

/// Canonical text for settings revisions.
impl fmt::Display for TimeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recurring { opens, length } => write!(f, "{opens} for {length:?}"),
            Self::Once { from, to } => write!(f, "{from} to {to}"),
        }
    }
}

impl TimeWindow {
    /// A window that opens at each slot of the cron expression `line` in an IANA time zone (`None` is UTC) for
    /// `length`.
    pub fn recurring(line: &str, time_zone: Option<&str>, length: Duration) -> Result<Self, ScheduleError> {
        match Schedule::cron(line, time_zone)? {
            Schedule::Cron(opens) if !length.is_zero() => Ok(Self::Recurring { opens, length }),
            Schedule::Cron(_) | Schedule::Interval(_) => Err(ScheduleError::ZeroInterval),
        }
    }

    /// End of the opening that contains `now`, of overlapping openings the latest end; `None` while the window is
    /// closed.
    fn end(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { from, to } => (*from <= now && now < *to).then_some(*to),
            Self::Recurring { opens, length } => {
                let length = SignedDuration::try_from(*length).ok()?;
                let since = now.checked_sub(length).ok()?;
                opens.latest(since, now)?.checked_add(length).ok()
            }
        }
    }

    /// Next start after `now`; `None` if the window never opens again.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { from, .. } => (*from > now).then_some(*from),
            Self::Recurring { opens, .. } => opens.next(now),
        }
    }
}

/// Position of an instant relative to a list of windows.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum WindowPosition {
    /// Inside at least one window.
    Inside {
        /// When the last of them closes.
        until: Timestamp,
    },
    /// Outside all windows.
    Outside {
        /// When the next window opens; `None` if none does.
        until: Option<Timestamp>,
    },
}

impl Default for WindowPosition {
    /// The position when there are no windows.
    fn default() -> Self {
        Self::Outside { until: None }
    }
}

impl WindowPosition {
    /// The position of `now` relative to `windows`.
    pub fn at(windows: &[TimeWindow], now: Timestamp) -> Self {
        let open_until = |at: Timestamp| windows.iter().filter_map(|w| w.end(at)).max();
        let Some(mut until) = open_until(now) else {
            return Self::Outside { until: windows.iter().filter_map(|w| w.next(now)).min() };
        };
        for _ in 0..MAX_CHAIN {
            match open_until(until) {
                Some(later) => until = later,
                None => break,
            }
        }
        Self::Inside { until }
    }

    /// Whether the position is inside a window.
    pub const fn is_inside(self) -> bool {
        matches!(self, Self::Inside { .. })
    }

    /// Time from `now` to the next change; `None` if there is none.
    pub fn time_left(self, now: Timestamp) -> Option<Duration> {
        self.next_change().map(|edge| Duration::try_from(edge.duration_since(now)).unwrap_or(Duration::ZERO))
    }

    /// Instant of the next change; `None` if there is none.
    pub const fn next_change(self) -> Option<Timestamp> {
        match self {
            Self::Inside { until } => Some(until),
            Self::Outside { until } => until,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn inside(until: &str) -> WindowPosition {
        WindowPosition::Inside { until: at(until) }
    }

    fn outside(until: &str) -> WindowPosition {
        WindowPosition::Outside { until: Some(at(until)) }
    }

    fn nightly(zone: &str, hours: u64) -> Vec<TimeWindow> {
        vec![TimeWindow::recurring("0 2 * * *", Some(zone), Duration::from_hours(hours)).unwrap()]
    }

    #[test]
    fn the_start_is_inclusive_and_the_end_exclusive() {
        let windows = nightly("UTC", 1);
        let place = |text| WindowPosition::at(&windows, at(text));
        assert_eq!(place("2026-01-10T01:59:59Z"), outside("2026-01-10T02:00:00Z"));
        assert_eq!(place("2026-01-10T02:00:00Z"), inside("2026-01-10T03:00:00Z"));
        assert_eq!(place("2026-01-10T02:59:59.999Z"), inside("2026-01-10T03:00:00Z"));
        assert_eq!(place("2026-01-10T03:00:00Z"), outside("2026-01-11T02:00:00Z"));
    }

    #[test]
    fn a_one_off_window_does_not_recur() {
        let windows = [TimeWindow::Once { from: at("2026-01-10T22:00:00Z"), to: at("2026-01-11T04:00:00Z") }];
        assert_eq!(WindowPosition::at(&windows, at("2026-01-10T00:00:00Z")), outside("2026-01-10T22:00:00Z"));
        assert_eq!(WindowPosition::at(&windows, at("2026-01-11T00:00:00Z")), inside("2026-01-11T04:00:00Z"));
        assert_eq!(WindowPosition::at(&windows, at("2026-01-11T04:00:00Z")), WindowPosition::Outside { until: None });
        assert_eq!(WindowPosition::at(&[], at("2026-01-11T04:00:00Z")), WindowPosition::Outside { until: None });
    }

    #[test]
    fn a_start_inside_a_dst_gap_opens_after_the_gap_for_the_full_length() {
        // Oslo, 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC.
        let windows = nightly("Europe/Oslo", 2);
        assert_eq!(WindowPosition::at(&windows, at("2026-03-29T00:59:59Z")), outside("2026-03-29T01:00:00Z"));
        assert_eq!(WindowPosition::at(&windows, at("2026-03-29T02:59:59Z")), inside("2026-03-29T03:00:00Z"));
        assert_eq!(WindowPosition::at(&windows, at("2026-03-29T03:00:00Z")), outside("2026-03-30T00:00:00Z"));
    }

    #[test]
    fn a_repeated_hour_opens_the_window_once() {
        // Oslo, 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC; two o'clock is at 00:00 and at 01:00 UTC.
        let windows = nightly("Europe/Oslo", 1);
        assert_eq!(WindowPosition::at(&windows, at("2026-10-25T00:30:00Z")), inside("2026-10-25T01:00:00Z"));
        assert_eq!(WindowPosition::at(&windows, at("2026-10-25T01:30:00Z")), outside("2026-10-26T01:00:00Z"));
    }

    #[test]
    fn adjacent_and_overlapping_windows_end_with_the_last_one() {
        let once = |from, to| TimeWindow::Once { from: at(from), to: at(to) };
        let windows = [
            once("2026-01-10T10:00:00Z", "2026-01-10T12:00:00Z"),
            once("2026-01-10T12:00:00Z", "2026-01-10T13:00:00Z"),
            once("2026-01-10T12:30:00Z", "2026-01-10T14:00:00Z"),
            once("2026-01-10T15:00:00Z", "2026-01-10T16:00:00Z"),
        ];
        assert_eq!(WindowPosition::at(&windows, at("2026-01-10T11:00:00Z")), inside("2026-01-10T14:00:00Z"));
        // Openings closer together than the length: always open, with an end later than now.
        let always = [TimeWindow::recurring("0 * * * *", None, Duration::from_hours(2)).unwrap()];
        let place = WindowPosition::at(&always, at("2026-01-10T11:30:00Z"));
        assert!(place.is_inside() && place.next_change().unwrap() > at("2026-01-10T11:30:00Z"));
    }

    #[test]
    fn invalid_windows_are_rejected() {
        let hour = Duration::from_hours(1);
        assert!(TimeWindow::recurring("0 2 * *", None, hour).is_err());
        assert!(TimeWindow::recurring("0 2 * * *", Some("Mars/Olympus"), hour).is_err());
        assert!(TimeWindow::recurring("0 2 * * *", None, Duration::ZERO).is_err());
    }

    proptest! {
        #[test]
        fn the_next_change_is_in_the_future_and_changes_the_position(
            minute in 0u32..60, hour in 0u32..24, minutes in 1u64..2000, now in 1_767_225_600i64..1_798_761_600,
        ) {
            let line = format!("{minute} {hour} * * *");
            let windows = [TimeWindow::recurring(&line, Some("America/New_York"), Duration::from_mins(minutes)).unwrap()];
            let now = Timestamp::from_second(now).unwrap();
            let place = WindowPosition::at(&windows, now);
            let edge = place.next_change().unwrap();
            prop_assert!(edge > now);
            if minutes < 1300 {
                prop_assert_ne!(WindowPosition::at(&windows, edge).is_inside(), place.is_inside());
                let before = edge.checked_sub(SignedDuration::from_millis(1)).unwrap();
                prop_assert_eq!(WindowPosition::at(&windows, before).is_inside(), place.is_inside());
            }
        }
    }
}
