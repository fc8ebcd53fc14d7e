//! A provider that asks us to slow down is not a failing provider: 429 and `Retry-After` never trip a circuit.
//!
//! They set a `not before` beside it. It only ever moves later within its own life, and never lies more than a day
//! ahead: a provider that says `Retry-After: 999999999` must not silence a connection for thirty years.

use std::time::Duration;

use crate::domain::time::Mono;

/// The longest a provider can ask us to stay away.
pub const MAX_THROTTLE: Duration = Duration::from_hours(24);

/// Until when a provider asked not to be called.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Throttle {
    not_before: Option<Mono>,
}

impl Throttle {
    /// Notes an answer that asked for `retry_after` of silence. True if calls are now held back for longer than before.
    pub fn note(&mut self, retry_after: Duration, now: Mono) -> bool {
        let until = now + retry_after.min(MAX_THROTTLE);
        if until <= now || self.not_before.is_some_and(|old| old >= until) {
            return false;
        }
        self.not_before = Some(until);
        true
    }

    /// Until when calls are held back; `None` if they are not.
    pub fn until(&self, now: Mono) -> Option<Mono> {
        self.not_before.filter(|&until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_only_moves_later_and_never_more_than_a_day_ahead() {
        let t0 = Mono::ZERO;
        let mut throttle = Throttle::default();
        assert_eq!(throttle.until(t0), None);
        assert!(throttle.note(Duration::from_secs(30), t0));
        assert!(!throttle.note(Duration::from_secs(10), t0), "a shorter wish does not shorten the longer one");
        assert_eq!(throttle.until(t0), Some(t0 + Duration::from_secs(30)));
        assert_eq!(throttle.until(t0 + Duration::from_secs(30)), None, "the boundary admits");
        assert!(throttle.note(Duration::MAX, t0));
        assert_eq!(throttle.until(t0), Some(t0 + MAX_THROTTLE));
        assert!(!Throttle::default().note(Duration::ZERO, t0));
    }
}
