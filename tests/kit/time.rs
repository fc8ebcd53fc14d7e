//! Time that a test moves by hand, while sockets and files work on.
//!
//! A paused tokio clock advances by itself whenever the runtime is idle, even if a socket is about to become ready, so a
//! test with sockets would see spurious timeouts. [`ManualTime`] holds the clock still; the test advances it.

use std::pin::pin;
use std::sync::mpsc;
use std::time::Duration;

use busbar::clock::Clock;
use jiff::Timestamp;

use super::wait::real_pause;

/// The wall clock, as a program under test reads it.
pub(crate) fn now() -> Timestamp {
    Clock::system().now().wall
}

/// How long the runtime must have been idle before time moves on.
const IDLE: Duration = Duration::from_millis(3);

/// How often the worker parks and unparks during a pause in which nothing else happens, with some slack.
const QUIET_PARKS: u64 = 4;

/// A stopped clock; it runs again when this is dropped. For the runtime of `#[tokio::test]`, which has one thread.
pub(crate) struct ManualTime {
    _hold: mpsc::Sender<()>,
}

impl ManualTime {
    /// Stops the clock of this runtime.
    pub(crate) fn start() -> Self {
        let (hold, released) = mpsc::channel::<()>();
        // tokio does not advance a paused clock by itself while a blocking task runs.
        drop(tokio::task::spawn_blocking(move || released.recv()));
        tokio::time::pause();
        Self { _hold: hold }
    }

    /// Advances the clock once nothing is under way any more, so that every timer that is to run has been set.
    pub(crate) async fn advance(&self, by: Duration) {
        idle().await;
        tokio::time::advance(by).await;
        idle().await;
    }

    /// Runs `work` to its end; the clock advances by `step` whenever nothing is under way.
    pub(crate) async fn run<T>(&self, step: Duration, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                value = &mut work => return value,
                () = idle() => tokio::time::advance(step).await,
            }
        }
    }
}

/// Returns when the runtime has had nothing to do for a moment.
async fn idle() {
    let metrics = tokio::runtime::Handle::current().metrics();
    loop {
        let before = metrics.worker_park_unpark_count(0);
        real_pause(IDLE).await;
        if metrics.worker_park_unpark_count(0) - before <= QUIET_PARKS {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use busbar::clock::Clock;

    use super::*;

    #[tokio::test]
    async fn time_stands_still_until_it_is_advanced() {
        let time = ManualTime::start();
        let clock = Clock::system();
        idle().await;
        assert_eq!(clock.mono().since(busbar::domain::time::Mono::ZERO), Duration::ZERO);
        time.advance(Duration::from_mins(1)).await;
        assert_eq!(clock.mono().since(busbar::domain::time::Mono::ZERO), Duration::from_mins(1));
    }

    #[tokio::test]
    async fn work_that_sleeps_is_run_to_its_end() {
        let time = ManualTime::start();
        let clock = Clock::system();
        time.run(Duration::from_secs(1), tokio::time::sleep(Duration::from_secs(10))).await;
        let took = clock.mono().since(busbar::domain::time::Mono::ZERO);
        assert!((10..=11).contains(&took.as_secs()), "{took:?}");
    }
}
