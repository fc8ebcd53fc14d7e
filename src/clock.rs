//! The only place that reads time.
//!
//! A [`Clock`] is passed to code that needs `now`; `domain` gets the value, not the clock. It runs on tokio's timer, so
//! a test with paused time controls both the monotonic and the wall time.
#![allow(clippy::disallowed_methods, reason = "the only module that may read time")]

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::domain::time::{Mono, Now};

/// Reads the monotonic and the wall clock. Cheap to copy.
#[derive(Copy, Clone, Debug)]
pub struct Clock {
    start: Instant,
    /// Wall time at `start`, for tests: wall time then follows monotonic time. `None`: the system's wall clock.
    fixed_wall: Option<Timestamp>,
    /// For tests: nanoseconds by which the wall clock was stepped.
    #[cfg(test)]
    stepped: Option<&'static std::sync::atomic::AtomicI64>,
}

impl Clock {
    /// The system's clocks.
    pub fn system() -> Self {
        Self::from(None)
    }

    /// A clock whose wall time starts at `wall` and moves only with tokio's (possibly paused) time.
    pub fn starting_at(wall: Timestamp) -> Self {
        Self::from(Some(wall))
    }

    fn from(fixed_wall: Option<Timestamp>) -> Self {
        Self {
            start: Instant::now(),
            fixed_wall,
            #[cfg(test)]
            stepped: None,
        }
    }

    /// A clock like [`Clock::starting_at`], and a function that steps its wall time, as NTP or a resumed machine does.
    /// Monotonic time is unaffected.
    #[cfg(test)]
    pub(crate) fn steppable(wall: Timestamp) -> (Self, impl Fn(SignedDuration)) {
        // Lives as long as the test: a clock is copied everywhere.
        let stepped: &'static std::sync::atomic::AtomicI64 = Box::leak(Box::default());
        let step = |by: SignedDuration| {
            let nanos = i64::try_from(by.as_nanos()).expect("a step of less than 292 years");
            stepped.fetch_add(nanos, std::sync::atomic::Ordering::SeqCst);
        };
        (Self { stepped: Some(stepped), ..Self::from(Some(wall)) }, step)
    }

    /// Monotonic time since the clock was created.
    pub fn mono(&self) -> Mono {
        Mono::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Monotonic and wall time, read together.
    pub fn now(&self) -> Now {
        let mono = self.mono();
        let wall = match self.fixed_wall {
            Some(start) => SignedDuration::try_from(mono.since(Mono::ZERO))
                .ok()
                .and_then(|d| start.checked_add(d).ok())
                .unwrap_or(Timestamp::MAX),
            None => Timestamp::now(),
        };
        #[cfg(test)]
        let wall = match self.stepped {
            Some(by) => wall + SignedDuration::from_nanos(by.load(std::sync::atomic::Ordering::SeqCst)),
            None => wall,
        };
        Now { mono, wall }
    }

    /// Sleeps until `at`; returns at once if it has passed.
    pub async fn sleep_until(&self, at: Mono) {
        if let Some(when) = self.start.checked_add(at.since(Mono::ZERO)) {
            tokio::time::sleep_until(when).await;
        } else {
            std::future::pending::<()>().await;
        }
    }
}
