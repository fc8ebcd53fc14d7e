//! Peak-sensitive moving average of a latency: it rises to a slower response at once and forgets it slowly.
//!
//! (The load measure of Finagle's balancer, with a memory that suits health checks instead of requests.)

use std::time::Duration;

use crate::domain::time::Mono;

/// Time in which all but 1/e of a peak is forgotten.
pub const MEMORY: Duration = Duration::from_mins(5);

/// The average.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub struct PeakEwma {
    seconds: Option<f64>,
    at: Mono,
}

impl PeakEwma {
    /// Adds a response.
    pub fn add(&mut self, latency: Duration, now: Mono) {
        let latency = latency.as_secs_f64();
        let kept = (-now.since(self.at).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.seconds = Some(match self.seconds {
            Some(before) if latency <= before => before * kept + latency * (1.0 - kept),
            _ => latency,
        });
        // A clock that steps back forgets nothing.
        self.at = self.at.max(now);
    }

    /// The average, in whole microseconds; `None` without a response.
    pub fn latency(&self) -> Option<Duration> {
        let micros = Duration::try_from_secs_f64(self.seconds?).ok()?.as_micros();
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_slower_response_counts_at_once_and_a_faster_one_by_age() {
        let mut average = PeakEwma::default();
        assert_eq!(average.latency(), None);
        average.add(Duration::from_millis(100), at(0));
        average.add(Duration::from_secs(1), at(30));
        assert_eq!(average.latency(), Some(Duration::from_secs(1)), "the peak");
        average.add(Duration::from_millis(100), at(330));
        // One time constant later: 1/e of the peak is left, 1 − 1/e of the new response counts.
        let expected = 1.0 / std::f64::consts::E + 0.1 * (1.0 - 1.0 / std::f64::consts::E);
        let measured = average.latency().unwrap().as_secs_f64();
        assert!((measured - expected).abs() < 1e-5, "{measured} {expected}");
    }

    #[test]
    fn a_clock_that_steps_back_forgets_nothing() {
        let mut average = PeakEwma::default();
        average.add(Duration::from_secs(1), at(100));
        average.add(Duration::from_millis(1), at(50));
        assert_eq!(average.latency(), Some(Duration::from_secs(1)));
        average.add(Duration::from_millis(1), at(100));
        assert_eq!(average.latency(), Some(Duration::from_secs(1)), "no time has passed");
    }
}
