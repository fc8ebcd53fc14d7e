//! Rate limiting by the provider: 429 and `Retry-After` never trip a circuit, because the provider is not failing.
//!
//! They set a `not before` instant that is independent of the circuit. It only moves later while it is active, and is
//! at most a day ahead: `Retry-After: 999999999` must not block a connection for thirty years.

use std::time::Duration;

use crate::domain::time::Mono;

/// Longest accepted `Retry-After`.
pub const MAX_THROTTLE: Duration = Duration::from_hours(24);

/// Instant before which a rate-limited provider is not called.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Throttle {
    not_before: Option<Mono>,
}

impl Throttle {
    /// Records a rate-limit response with `retry_after`. `true` if calls are now delayed for longer than before.
    pub fn extend(&mut self, retry_after: Duration, now: Mono) -> bool {
        let until = now + retry_after.min(MAX_THROTTLE);
        if until <= now || self.not_before.is_some_and(|old| old >= until) {
            return false;
        }
        self.not_before = Some(until);
        true
    }

    /// Replaces the delay by `retry_after`, be it longer or shorter: the provider has answered again since.
    pub fn replace(&mut self, retry_after: Duration, now: Mono) {
        self.not_before = None;
        self.extend(retry_after, now);
    }

    /// Ends the delay: the provider accepts calls again.
    pub fn end(&mut self) {
        self.not_before = None;
    }

    /// End of the delay; `None` if calls are not delayed.
    pub fn until(&self, now: Mono) -> Option<Mono> {
        self.not_before.filter(|&until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_only_moves_later_and_at_most_a_day_ahead() {
        let t0 = Mono::ZERO;
        let mut throttle = Throttle::default();
        assert_eq!(throttle.until(t0), None);
        assert!(throttle.extend(Duration::from_secs(30), t0));
        assert!(!throttle.extend(Duration::from_secs(10), t0), "a shorter delay does not shorten a longer one");
        assert_eq!(throttle.until(t0), Some(t0 + Duration::from_secs(30)));
        assert_eq!(throttle.until(t0 + Duration::from_secs(30)), None, "the boundary admits");
        assert!(throttle.extend(Duration::MAX, t0));
        assert_eq!(throttle.until(t0), Some(t0 + MAX_THROTTLE));
        assert!(!Throttle::default().extend(Duration::ZERO, t0));
    }

    #[test]
    fn a_later_response_replaces_or_ends_a_throttle() {
        let t0 = Mono::ZERO;
        let mut throttle = Throttle::default();
        throttle.extend(Duration::MAX, t0);
        throttle.replace(Duration::from_secs(5), t0);
        assert_eq!(throttle.until(t0), Some(t0 + Duration::from_secs(5)));
        throttle.replace(Duration::MAX, t0);
        assert_eq!(throttle.until(t0), Some(t0 + MAX_THROTTLE));
        throttle.end();
        assert_eq!(throttle.until(t0), None);
    }
}
