//! A wall clock that is ahead for a while, then right again.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::clock::Clock;
use crate::profile::{Classification, ResponseClass, RetryAfter};

const MIDNIGHT: &str = "2026-01-01T00:00:00Z";
const AHEAD: [SignedDuration; 2] = [SignedDuration::from_hours(1), SignedDuration::from_hours(24 * 365)];

fn at(seconds: i64) -> Timestamp {
    MIDNIGHT.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_that_began_while_the_clock_was_ahead_ends_in_its_own_time() {
    for ahead in AHEAD {
        let (clock, step) = Clock::steppable(at(0));
        let settings = settings(|_| {});
        let monitor = monitor_on(&settings, clock, Arc::default());
        step(ahead);
        let classification = Classification {
            class: ResponseClass::RateLimited,
            retry_after: Some(RetryAfter::Delay(Duration::from_secs(30))),
            ..Classification::default()
        };
        monitor.observe_rate_limit(&settings, CallClass::Read, "quote", None, classification);
        assert_eq!(monitor.snapshot(&settings).throttled_until, Some(at(30) + ahead));
        step(-ahead);
        assert_eq!(monitor.snapshot(&settings).throttled_until, Some(at(30)));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(monitor.snapshot(&settings).throttled_until, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_restored_from_the_far_future_lasts_a_day_at_most() {
    let settings = settings(|_| {});
    let monitor = monitor(&settings);
    monitor.lock().restore_throttle(at(365 * 24 * 3600), monitor.clock().now());
    assert_eq!(monitor.snapshot(&settings).throttled_until, Some(at(24 * 3600)));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opened_while_the_clock_was_ahead_has_its_trial_in_time() {
    for ahead in AHEAD {
        let (clock, step) = Clock::steppable(at(0));
        let settings = settings(|draft| {
            draft.breaker.consecutive_failures = 1;
            draft.breaker.open.base = Duration::from_mins(5);
        });
        let monitor = monitor_on(&settings, clock, Arc::default());
        step(ahead);
        call(&monitor, &settings, CallClass::Read, 503);
        let wrong = monitor.snapshot(&settings).circuit;
        assert_eq!((wrong.last_transition, wrong.next_trial), (at(0) + ahead, Some(at(300) + ahead)));
        step(-ahead);
        tokio::time::advance(Duration::from_mins(1)).await;
        let right = monitor.snapshot(&settings).circuit;
        assert_eq!((right.last_transition, right.next_trial), (at(0), Some(at(300))));

        // A process that starts now from what was written while the clock was ahead.
        let restored = Breaker::restore(*settings.breaker(), &wrong, clock.now());
        let seen = restored.snapshot(clock.now());
        assert_eq!(seen.last_transition, at(60), "opened now");
        assert!(seen.next_trial.is_some_and(|trial| trial <= at(60 + 3600)), "open.max: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_override_that_expired_while_the_clock_was_ahead_is_applied_again() {
    for ahead in AHEAD {
        let settings = forced(OverrideMode::ForcedOpen, "2026-01-01T00:10:00Z");
        let (clock, step) = Clock::steppable(at(0));
        let (changes, published) = subscribed();
        let monitor = monitor_on(&settings, clock, changes);
        let money = || monitor.admit(CallClass::Money, clock.mono());
        step(ahead);
        monitor.tick();
        assert!(money().is_ok(), "expired");
        while published.try_take().is_some() {}
        step(-ahead);
        assert!(money().is_err(), "its time in the spec has not come");
        assert!(published.try_take().is_some(), "and that is published");
        tokio::time::advance(Duration::from_mins(10)).await;
        monitor.tick();
        assert!(money().is_ok() && published.try_take().is_some());
    }
}
