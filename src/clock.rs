//! The only place that reads time.
//!
//! A [`Clock`] is handed to whoever needs `now`; `domain` gets the value, not the clock. It runs on tokio's timer, so a
//! test with paused time moves both of its hands.
#![allow(clippy::disallowed_methods, reason = "this is the one place that may")]

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::domain::time::{Mono, Now};

/// Reads the monotonic and the wall clock. Cheap to copy.
#[derive(Copy, Clone, Debug)]
pub struct Clock {
    start: Instant,
    /// In tests wall time is derived from the monotonic hand; in production it is the system's.
    fixed_wall: Option<Timestamp>,
}

impl Clock {
    /// The system's clocks.
    pub fn system() -> Self {
        Self { start: Instant::now(), fixed_wall: None }
    }

    /// A clock whose wall time starts at `wall` and moves only with tokio's (possibly paused) time.
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { start: Instant::now(), fixed_wall: Some(wall) }
    }

    /// The monotonic hand.
    pub fn mono(&self) -> Mono {
        Mono::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Both hands, read together.
    pub fn now(&self) -> Now {
        let mono = self.mono();
        let wall = match self.fixed_wall {
            Some(start) => SignedDuration::try_from(mono.since(Mono::ZERO))
                .ok()
                .and_then(|d| start.checked_add(d).ok())
                .unwrap_or(Timestamp::MAX),
            None => Timestamp::now(),
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
