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
/// A person takes minutes, and the bank has other customers.
const SHORTEST_HELD_STEP: Duration = Duration::from_mins(1);

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

/// When a bank is asked again about an attempt that waits for a person: not more often than once a minute.
pub(super) fn next_while_held(now: Timestamp, after: Duration, fraction: u64) -> Timestamp {
    later(now, with_jitter(shrunk(HELD_STEP, after).max(SHORTEST_HELD_STEP), fraction))
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
    fn a_held_attempt_is_asked_about_hourly_and_never_more_often_than_once_a_minute() {
        let step = |after| next_while_held(Timestamp::UNIX_EPOCH, after, 0).as_millisecond() / 1000;
        assert!((3600..=3960).contains(&step(USUAL_AFTER)));
        assert!((120..=132).contains(&step(Duration::from_mins(1))));
        assert!((60..=66).contains(&step(Duration::from_secs(10))));
    }
}
