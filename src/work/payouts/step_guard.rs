//! Notices that the wall clock was stepped. Pure.
//!
//! What "not found" and "never received" prove depends on how long ago a payout was sent. A wall clock that jumped
//! ahead would make that time look over, so nothing is asked until time synchronization has had its time to correct it.

use std::time::Duration;

use crate::domain::clock_skew::{TOLERANCE, after};
use crate::domain::time::{Mono, Now};

/// How long nothing is asked after a step.
const PAUSE: Duration = Duration::from_mins(10);

/// Compares the wall clock with the monotonic one.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct StepGuard {
    last: Option<Now>,
    paused_until: Option<Mono>,
}

impl StepGuard {
    /// Records a reading. Returns until when nothing is to be asked, if the wall clock was stepped; it is believed at
    /// the start.
    pub(super) fn observe(&mut self, now: Now) -> Option<Mono> {
        let in_step = self.last.is_none_or(|last| {
            let expected = after(last.wall, now.mono.since(last.mono));
            now.wall.duration_since(expected).abs() <= TOLERANCE
        });
        self.last = Some(now);
        if !in_step {
            self.paused_until = Some(now.mono + PAUSE);
        }
        self.paused_until.filter(|until| now.mono < *until)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn read(mono: u64, wall: i64) -> Now {
        Now {
            mono: Mono::ZERO + Duration::from_secs(mono),
            wall: Timestamp::from_second(1_767_225_600 + wall).unwrap(),
        }
    }

    #[test]
    fn nothing_is_asked_for_ten_minutes_after_a_step_in_either_direction() {
        for stepped in [86_400, -86_400, 30] {
            let mut guard = StepGuard::default();
            assert_eq!(guard.observe(read(10, 10)), None, "the clock is believed at the start");
            assert_eq!(guard.observe(read(20, 21)), None, "a second is no step");
            let until = guard.observe(read(30, 30 + stepped)).unwrap();
            assert_eq!(until, Mono::ZERO + Duration::from_secs(630));
            assert!(guard.observe(read(629, 629 + stepped)).is_some());
            assert_eq!(guard.observe(read(630, 630 + stepped)), None);
        }
    }

    #[test]
    fn a_correction_is_a_step_too() {
        let mut guard = StepGuard::default();
        assert_eq!(guard.observe(read(0, 0)), None);
        assert!(guard.observe(read(10, 3600)).is_some());
        assert_eq!(guard.observe(read(100, 100)), Some(Mono::ZERO + Duration::from_secs(700)));
    }
}
