//! The calendar day that a limit counts, and what happens to its count when the wall clock is set.
//!
//! A clock may have been ahead or behind for a while, and which of the two days is the right one shows only later. So
//! the other day is kept: no request is granted twice, and no day lasts longer than until the midnight of the right
//! clock.

use jiff::civil::Date;

/// Requests of a day: of money calls, and others.
pub(super) type DayCounts = [u32; 2];

/// Another day than the counted one.
#[derive(Copy, Clone, Debug)]
enum OtherDay {
    /// The day that was counted before, and its requests.
    Earlier(Date, DayCounts),
    /// The day that was counted when the clock was set back, and what was added then to its requests.
    Later(Date, DayCounts),
}

/// The counted day.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct CountedDay {
    day: Option<Date>,
    other: Option<OtherDay>,
}

impl CountedDay {
    /// The day; `None` before the first request.
    pub(super) fn get(&self) -> Option<Date> {
        self.day
    }

    /// Makes `today` the counted day, with its requests in `counts`.
    pub(super) fn roll(&mut self, today: Date, counts: &mut DayCounts) {
        let Some(day) = self.day.replace(today) else {
            *counts = DayCounts::default();
            return;
        };
        if today < day {
            // Set back: the requests were made today too, in addition to those that were counted for it before.
            let before = match self.other {
                Some(OtherDay::Earlier(earlier, before)) if earlier == today => before,
                Some(OtherDay::Later(..)) => return,
                _ => DayCounts::default(),
            };
            self.other = Some(OtherDay::Later(day, before));
            *counts = [0, 1].map(|n| counts[n].saturating_add(before[n]));
        } else if today > day {
            match self.other {
                // It had been set back by mistake: the same day goes on.
                Some(OtherDay::Later(later, before)) if later == today => {
                    self.other = None;
                    *counts = [0, 1].map(|n| counts[n].saturating_sub(before[n]));
                }
                _ => {
                    self.other = Some(OtherDay::Earlier(day, *counts));
                    *counts = DayCounts::default();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    /// The requests that count after each day, when `made` are made on it.
    fn walk(days: &[(i8, u32)]) -> Vec<u32> {
        let (mut counted, mut counts) = (CountedDay::default(), DayCounts::default());
        days.iter()
            .map(|&(day, made)| {
                counted.roll(date(2026, 3, day), &mut counts);
                counts[1] += made;
                counts[1]
            })
            .collect()
    }

    #[test]
    fn a_new_day_starts_at_zero() {
        assert_eq!(walk(&[(1, 4), (1, 1), (2, 3), (4, 0)]), [4, 5, 3, 0]);
    }

    #[test]
    fn requests_made_while_the_clock_was_ahead_count_for_the_right_day() {
        assert_eq!(walk(&[(1, 4), (20, 3), (1, 1), (2, 2)]), [4, 3, 8, 2]);
    }

    #[test]
    fn a_day_that_was_interrupted_by_a_clock_behind_goes_on() {
        assert_eq!(walk(&[(1, 4), (2, 3), (1, 1), (2, 1), (3, 0)]), [4, 3, 8, 5, 0]);
        assert_eq!(walk(&[(9, 3), (5, 1), (4, 1), (9, 0)]), [3, 4, 5, 5], "set back twice");
    }
}
