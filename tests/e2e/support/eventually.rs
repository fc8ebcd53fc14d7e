//! Waiting for a condition with a deadline: the only kind of waiting in this suite.

use std::time::Duration;

use busbar::clock::Clock;

/// How often the condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until `look` returns `Some`, and returns that; panics with `what` when `deadline` has passed.
#[track_caller]
pub(crate) fn eventually<T>(
    deadline: Duration,
    what: &str,
    look: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    // The caller is taken here, in the part that is not async: inside the future it would be the runtime.
    let caller = std::panic::Location::caller();
    wait(deadline, what, look, caller)
}

async fn wait<T>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
    caller: &'static std::panic::Location<'static>,
) -> T {
    let clock = Clock::system();
    let began = clock.mono();
    loop {
        // A look that hangs must not outlive the deadline either.
        let left = deadline.saturating_sub(clock.mono().since(began));
        let Ok(seen) = tokio::time::timeout(left.max(LOOK_EVERY), look()).await else {
            panic!("{caller}: not within {deadline:?} (the last look hung): {what}");
        };
        match seen {
            Some(seen) => return seen,
            None if clock.mono().since(began) < deadline => tokio::time::sleep(LOOK_EVERY).await,
            None => panic!("{caller}: not within {deadline:?}: {what}"),
        }
    }
}
