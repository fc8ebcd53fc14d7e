//! Stretches of time that come again (a cron line and a length) or come once (from, to). Pure.
//!
//! A window is open from each opening, inclusive, to its end, exclusive. A length is real time: a window of one hour that
//! begins before a change to or from daylight saving is open for one hour, not until the clock on the wall says so; when
//! it opens follows the rules of [`Schedule`]. Windows that touch or overlap are one as far as their edges go.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::schedule::{Cron, Schedule, ScheduleError};

/// So many windows that follow one another without a gap are looked through for the end; then the end found so far is
/// good enough to look again.
const MAX_CHAIN: usize = 64;

/// One window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Window {
    /// Opens at the slots of a cron line, each time for so long.
    Again {
        /// When it opens.
        opens: Box<Cron>,
        /// For how long.
        length: Duration,
    },
    /// Comes once.
    Once {
        /// When it opens.
        from: Timestamp,
        /// When it is over.
        to: Timestamp,
    },
}

/// What tells it from another: for revisions.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Again { opens, length } => write!(f, "{opens} for {length:?}"),
            Self::Once { from, to } => write!(f, "{from} to {to}"),
        }
    }
}

impl Window {
    /// Opens at the slots of `line` in a zone of the IANA database (`None` is UTC), for `length` each.
    pub fn again(line: &str, time_zone: Option<&str>, length: Duration) -> Result<Self, ScheduleError> {
        match Schedule::cron(line, time_zone)? {
            Schedule::Cron(opens) if !length.is_zero() => Ok(Self::Again { opens, length }),
            Schedule::Cron(_) | Schedule::Interval(_) => Err(ScheduleError::ZeroInterval),
        }
    }

    /// The end of the opening that holds `now`; `None` while it is shut. Of openings that overlap, the last one's.
    fn end(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { from, to } => (*from <= now && now < *to).then_some(*to),
            Self::Again { opens, length } => {
                let length = SignedDuration::try_from(*length).ok()?;
                let since = now.checked_sub(length).ok()?;
                opens.latest(since, now)?.checked_add(length).ok()
            }
        }
    }

    /// When it opens next, after `now`; `None` if never again.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { from, .. } => (*from > now).then_some(*from),
            Self::Again { opens, .. } => opens.next(now),
        }
    }
}

/// Where `now` lies with regard to a list of windows.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Within at least one.
    Inside {
        /// When none of them is open any more.
        until: Timestamp,
    },
    /// Within none.
    Outside {
        /// When the next one opens; `None` if none ever does.
        until: Option<Timestamp>,
    },
}

impl Default for Place {
    /// Where there are no windows.
    fn default() -> Self {
        Self::Outside { until: None }
    }
}

impl Place {
    /// Of `now` in `windows`.
    pub fn of(windows: &[Window], now: Timestamp) -> Self {
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

    /// Whether it is within a window.
    pub const fn is_inside(self) -> bool {
        matches!(self, Self::Inside { .. })
    }

    /// How long until it changes; `None` if it never does.
    pub fn left(self, now: Timestamp) -> Option<Duration> {
        self.edge().map(|edge| Duration::try_from(edge.duration_since(now)).unwrap_or(Duration::ZERO))
    }

    /// When it changes next.
    pub const fn edge(self) -> Option<Timestamp> {
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

    fn inside(until: &str) -> Place {
        Place::Inside { until: at(until) }
    }

    fn outside(until: &str) -> Place {
        Place::Outside { until: Some(at(until)) }
    }

    fn nightly(zone: &str, hours: u64) -> Vec<Window> {
        vec![Window::again("0 2 * * *", Some(zone), Duration::from_hours(hours)).unwrap()]
    }

    #[test]
    fn a_window_is_open_from_its_opening_on_and_shut_at_its_end() {
        let windows = nightly("UTC", 1);
        let place = |text| Place::of(&windows, at(text));
        assert_eq!(place("2026-01-10T01:59:59Z"), outside("2026-01-10T02:00:00Z"));
        assert_eq!(place("2026-01-10T02:00:00Z"), inside("2026-01-10T03:00:00Z"));
        assert_eq!(place("2026-01-10T02:59:59.999Z"), inside("2026-01-10T03:00:00Z"));
        assert_eq!(place("2026-01-10T03:00:00Z"), outside("2026-01-11T02:00:00Z"));
    }

    #[test]
    fn a_window_that_comes_once_never_comes_again() {
        let windows = [Window::Once { from: at("2026-01-10T22:00:00Z"), to: at("2026-01-11T04:00:00Z") }];
        assert_eq!(Place::of(&windows, at("2026-01-10T00:00:00Z")), outside("2026-01-10T22:00:00Z"));
        assert_eq!(Place::of(&windows, at("2026-01-11T00:00:00Z")), inside("2026-01-11T04:00:00Z"));
        assert_eq!(Place::of(&windows, at("2026-01-11T04:00:00Z")), Place::Outside { until: None });
        assert_eq!(Place::of(&[], at("2026-01-11T04:00:00Z")), Place::Outside { until: None });
    }

    #[test]
    fn a_swallowed_opening_is_open_right_after_the_gap_and_for_its_whole_length() {
        // Oslo, 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC.
        let windows = nightly("Europe/Oslo", 2);
        assert_eq!(Place::of(&windows, at("2026-03-29T00:59:59Z")), outside("2026-03-29T01:00:00Z"));
        assert_eq!(Place::of(&windows, at("2026-03-29T02:59:59Z")), inside("2026-03-29T03:00:00Z"));
        assert_eq!(Place::of(&windows, at("2026-03-29T03:00:00Z")), outside("2026-03-30T00:00:00Z"));
    }

    #[test]
    fn a_repeated_hour_opens_once() {
        // Oslo, 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC; two o'clock is at 00:00 and at 01:00 UTC.
        let windows = nightly("Europe/Oslo", 1);
        assert_eq!(Place::of(&windows, at("2026-10-25T00:30:00Z")), inside("2026-10-25T01:00:00Z"));
        assert_eq!(Place::of(&windows, at("2026-10-25T01:30:00Z")), outside("2026-10-26T01:00:00Z"));
    }

    #[test]
    fn windows_that_touch_or_overlap_end_with_the_last_of_them() {
        let once = |from, to| Window::Once { from: at(from), to: at(to) };
        let windows = [
            once("2026-01-10T10:00:00Z", "2026-01-10T12:00:00Z"),
            once("2026-01-10T12:00:00Z", "2026-01-10T13:00:00Z"),
            once("2026-01-10T12:30:00Z", "2026-01-10T14:00:00Z"),
            once("2026-01-10T15:00:00Z", "2026-01-10T16:00:00Z"),
        ];
        assert_eq!(Place::of(&windows, at("2026-01-10T11:00:00Z")), inside("2026-01-10T14:00:00Z"));
        // Openings closer than the length: always open, and the end found is later than now.
        let always = [Window::again("0 * * * *", None, Duration::from_hours(2)).unwrap()];
        let place = Place::of(&always, at("2026-01-10T11:30:00Z"));
        assert!(place.is_inside() && place.edge().unwrap() > at("2026-01-10T11:30:00Z"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let hour = Duration::from_hours(1);
        assert!(Window::again("0 2 * *", None, hour).is_err());
        assert!(Window::again("0 2 * * *", Some("Mars/Olympus"), hour).is_err());
        assert!(Window::again("0 2 * * *", None, Duration::ZERO).is_err());
    }

    proptest! {
        #[test]
        fn an_edge_lies_ahead_and_the_place_changes_there(
            minute in 0u32..60, hour in 0u32..24, minutes in 1u64..2000, now in 1_767_225_600i64..1_798_761_600,
        ) {
            let line = format!("{minute} {hour} * * *");
            let windows = [Window::again(&line, Some("America/New_York"), Duration::from_mins(minutes)).unwrap()];
            let now = Timestamp::from_second(now).unwrap();
            let place = Place::of(&windows, now);
            let edge = place.edge().unwrap();
            prop_assert!(edge > now);
            if minutes < 1300 {
                prop_assert_ne!(Place::of(&windows, edge).is_inside(), place.is_inside());
                let before = edge.checked_sub(SignedDuration::from_millis(1)).unwrap();
                prop_assert_eq!(Place::of(&windows, before).is_inside(), place.is_inside());
            }
        }
    }
}
