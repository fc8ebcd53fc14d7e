//! When a bank is asked again: 0, 1, 2, 5, 10 and 20 minutes after the last time, with jitter. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::hash::{mix, scale};

/// How long after the last question the next one is asked, for an attempt that is stuck after half an hour.
const STEPS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_mins(1),
    Duration::from_mins(2),
    Duration::from_mins(5),
    Duration::from_mins(10),
    Duration::from_mins(20),
];

/// Questions of a phase: inquiries before the recall, and inquiries after it.
pub(super) const QUESTIONS: u32 = 6;

/// Time after which an attempt is stuck that the steps are made for.
const USUAL_AFTER: Duration = Duration::from_mins(30);

/// How often a bank is asked about an attempt that waits for a person: the answer may settle it.
const HELD_STEP: Duration = Duration::from_hours(1);

/// An instant later; the last one there is, if that is beyond it.
pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// When the next question follows after `asked` questions, `fraction` being the random part of the jitter. Steps shrink
/// with `after`, the time after which the route takes an attempt for stuck, and never grow.
pub(super) fn next_question(now: Timestamp, asked: u32, after: Duration, fraction: u64) -> Timestamp {
    let place = usize::try_from(asked).unwrap_or(usize::MAX).min(STEPS.len() - 1);
    later(now, with_jitter(shrunk(STEPS[place], after), fraction ^ mix(u64::from(asked))))
}

/// When the next attempt is proposed again after `proposals`: in the same steps, and then in ever longer ones, until they
/// are twenty minutes, whatever `after` is. So a payout waits about a day for a bank that can take it.
pub(super) fn next_proposal(now: Timestamp, proposals: u32, after: Duration, fraction: u64) -> Timestamp {
    let last = STEPS.len() - 1;
    let place = usize::try_from(proposals).unwrap_or(usize::MAX);
    let doublings = u32::try_from(place.saturating_sub(last)).unwrap_or(u32::MAX).min(31);
    let step = shrunk(STEPS[place.min(last)], after).saturating_mul(1 << doublings).min(STEPS[last]);
    later(now, with_jitter(step, fraction ^ mix(u64::from(proposals))))
}

/// When a bank is asked again about an attempt that was decided at `decided_at` and waits for a person: every hour. With a
/// short `after` sooner, and then ever later: each time after a quarter of the attempt's age.
pub(super) fn next_while_held(now: Timestamp, decided_at: Timestamp, after: Duration, fraction: u64) -> Timestamp {
    let age = Duration::try_from(now.duration_since(decided_at)).unwrap_or_default();
    let step = shrunk(HELD_STEP, after).max(age / 4).min(HELD_STEP);
    later(now, with_jitter(step, fraction))
}

fn shrunk(step: Duration, after: Duration) -> Duration {
    if after >= USUAL_AFTER {
        return step;
    }
    let millis = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
    let ratio = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis.saturating_mul(ratio) / 1_800_000)
}

/// The step and up to a tenth of it: jitter only adds.
fn with_jitter(step: Duration, fraction: u64) -> Duration {
    let tenth = u64::try_from(step.as_millis() / 10).unwrap_or(u64::MAX);
    step + Duration::from_millis(scale(tenth, mix(fraction)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(asked: u32, after: Duration) -> i64 {
        let now = Timestamp::UNIX_EPOCH;
        next_question(now, asked, after, 0).as_millisecond() / 1000
    }

    #[test]
    fn steps_grow_to_twenty_minutes_with_up_to_a_tenth_of_jitter() {
        for (asked, minutes) in (0..9).zip([0, 1, 2, 5, 10, 20, 20, 20, 20]) {
            let step = seconds(asked, USUAL_AFTER);
            assert!((minutes * 60..=minutes * 66).contains(&step), "{asked}: {step} s");
        }
        assert_eq!(QUESTIONS as usize, STEPS.len());
    }

    #[test]
    fn steps_shrink_with_a_short_time_and_never_grow() {
        assert!((40..=44).contains(&seconds(5, Duration::from_mins(1))));
        assert!((1200..=1320).contains(&seconds(5, Duration::from_hours(168))));
    }

    #[test]
    fn a_held_attempt_is_asked_about_hourly_at_last() {
        let step = |age: Duration, after| {
            let now = later(Timestamp::UNIX_EPOCH, age);
            next_while_held(now, Timestamp::UNIX_EPOCH, after, 0).duration_since(now).as_secs()
        };
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        assert!((3600..=3960).contains(&step(minute, USUAL_AFTER)));
        assert!((20..=22).contains(&step(minute, Duration::from_secs(10))));
        assert!((900..=990).contains(&step(hour, Duration::from_secs(10))));
        assert!((3600..=3960).contains(&step(100 * hour, Duration::from_secs(10))));
    }

    #[test]
    fn seventy_five_proposals_take_about_a_day_whatever_the_time() {
        for after in [Duration::from_secs(10), Duration::from_mins(1), USUAL_AFTER, Duration::from_hours(168)] {
            let end = (0..75).fold(Timestamp::UNIX_EPOCH, |now, proposals| next_proposal(now, proposals, after, 0));
            assert!((20 * 3600..=28 * 3600).contains(&end.as_second()), "{after:?}: {end}");
        }
        let first = next_proposal(Timestamp::UNIX_EPOCH, 1, Duration::from_secs(10), 0);
        assert!(first.as_second() < 1, "{first}");
    }
}
