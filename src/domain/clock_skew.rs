//! Stored instants and a wall clock that may have been wrong when they were written. Pure.
//!
//! A stored instant is either something that *happened*, which cannot be later than now, or an *end* of something that
//! lasts no longer than a known maximum. Every read of a stored instant goes through [`happened`] or [`ends`]; instants
//! that a user wrote in a spec do not.
//!
//! A corrected value moves with `now`. Where progress depends on it (the next run, a staleness limit, an expiry), the
//! reader also writes the correction to its store, so that it is made once: see docs/adr/0009.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::time::{Mono, Now};

/// Difference between two correct clocks, or rounding, that is not treated as a wrong clock.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// How long the wall clock must have been in step with the monotonic clock before data is deleted by age. A clock that
/// is far ahead would make all data look expired; time synchronization corrects one within minutes of a start.
const STEADY_AFTER: Duration = Duration::from_mins(10);

/// Whether `at`, an instant at which something happened, is later than a correct clock could have written.
pub fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at.duration_since(now) > TOLERANCE
}

/// A stored instant at which something happened: `now` if it is ahead.
pub fn happened(at: Timestamp, now: Timestamp) -> Timestamp {
    if is_ahead(at, now) { now } else { at }
}

/// The stored end of something that lasts at most `max` from now.
pub fn ends(until: Timestamp, now: Timestamp, max: Duration) -> Timestamp {
    until.min(after(now, max))
}

/// The instant `by` after `at`; saturates at the end of the calendar.
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

/// Decides whether the wall clock may be used to delete data by age.
#[derive(Copy, Clone, Debug, Default)]
pub struct SteadyClock {
    last: Option<Now>,
    since: Mono,
}

impl SteadyClock {
    /// Records a reading; `true` once all readings of the last ten minutes were in step with the monotonic clock.
    pub fn observe(&mut self, now: Now) -> bool {
        let in_step = self.last.is_some_and(|last| {
            let expected = after(last.wall, now.mono.since(last.mono));
            now.wall.duration_since(expected).abs() <= TOLERANCE
        });
        if !in_step {
            self.since = now.mono;
        }
        self.last = Some(now);
        now.mono.since(self.since) >= STEADY_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + seconds).unwrap()
    }

    #[test]
    fn an_instant_more_than_five_seconds_ahead_is_now() {
        for (ahead, wanted) in [(-86_400, -86_400), (0, 0), (5, 5), (6, 0), (3_600, 0), (31_536_000, 0)] {
            assert_eq!(happened(at(ahead), at(0)), at(wanted), "{ahead}");
        }
        assert_eq!(happened(Timestamp::MAX, at(0)), at(0));
        assert_eq!(happened(Timestamp::MIN, at(0)), Timestamp::MIN);
    }

    #[test]
    fn an_end_is_at_most_its_maximum_ahead() {
        let minute = Duration::from_mins(1);
        for (until, wanted) in [(-60, -60), (30, 30), (60, 60), (61, 60), (31_536_000, 60)] {
            assert_eq!(ends(at(until), at(0), minute), at(wanted), "{until}");
        }
        assert_eq!(ends(at(9), Timestamp::MAX, Duration::MAX), at(9));
    }

    #[test]
    fn data_is_deleted_by_age_only_after_ten_minutes_of_a_steady_clock() {
        let read = |mono: u64, wall: i64| Now { mono: Mono::ZERO + Duration::from_secs(mono), wall: at(wall) };
        let mut clock = SteadyClock::default();
        assert!(!clock.observe(read(50, 50)), "the first reading proves nothing");
        assert!(!clock.observe(read(649, 649)));
        assert!(clock.observe(read(650, 652)), "two seconds are tolerated");
        assert!(!clock.observe(read(660, 31_536_000)), "a year ahead");
        assert!(!clock.observe(read(670, 31_536_010)));
        assert!(!clock.observe(read(680, 680)), "and right again");
        assert!(!clock.observe(read(1279, 1279)));
        assert!(clock.observe(read(1280, 1280)));
    }
}
