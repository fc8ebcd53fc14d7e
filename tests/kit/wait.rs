//! Waiting for a condition with a deadline: the only way in which tests wait.

use std::fmt::Debug;
use std::panic::Location;
use std::time::Duration;

/// Long enough for a machine that compiles at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Pauses between two looks: the first, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(80);

/// What one look at an awaited condition found: a `bool`, an `Option`, or a `Result` whose error is what was seen instead.
pub(crate) trait Observation {
    /// What the wait returns.
    type Value;

    /// The awaited value, or what was seen instead of it (empty: nothing to show).
    fn into_result(self) -> Result<Self::Value, String>;
}

impl Observation for bool {
    type Value = ();

    fn into_result(self) -> Result<(), String> {
        if self { Ok(()) } else { Err(String::new()) }
    }
}

impl<T> Observation for Option<T> {
    type Value = T;

    fn into_result(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

impl<T, S: Debug> Observation for Result<T, S> {
    type Value = T;

    fn into_result(self) -> Result<T, String> {
        // A string is shown as it is, without quotes and escapes.
        self.map_err(|seen| format!("{seen:#?}")).map_err(|seen| serde_json::from_str(&seen).unwrap_or(seen))
    }
}

/// Waits until `look` finds what it looks for, at most [`PATIENCE`], and returns it. Panics with `what` and with what was
/// seen last.
#[track_caller]
pub(crate) fn eventually<O: Observation>(
    what: impl Into<String>,
    look: impl AsyncFnMut() -> O,
) -> impl Future<Output = O::Value> {
    poll(PATIENCE, what.into(), look, Location::caller())
}

/// The same with another deadline.
#[track_caller]
pub(crate) fn within<O: Observation>(
    deadline: Duration,
    what: impl Into<String>,
    look: impl AsyncFnMut() -> O,
) -> impl Future<Output = O::Value> {
    // The caller is taken here, in the part that is not async: inside the future it would be the runtime.
    poll(deadline, what.into(), look, Location::caller())
}

#[expect(clippy::disallowed_methods, reason = "a deadline is real time, also where a test has stopped the clock")]
async fn poll<O: Observation>(
    deadline: Duration,
    what: String,
    mut look: impl AsyncFnMut() -> O,
    caller: &'static Location<'static>,
) -> O::Value {
    let began = std::time::Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        // A look that hangs must not outlive the deadline either.
        let left = deadline.saturating_sub(began.elapsed());
        let Ok(observation) = tokio::time::timeout(left.max(LONGEST_PAUSE), look()).await else {
            panic!("{caller}: not within {deadline:?} (the last look hung): {what}");
        };
        match observation.into_result() {
            Ok(value) => return value,
            Err(_) if began.elapsed() < deadline => real_pause(pause).await,
            Err(seen) if seen.is_empty() => panic!("{caller}: not within {deadline:?}: {what}"),
            Err(seen) => panic!("{caller}: not within {deadline:?}: {what}; last seen: {seen}"),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits in real time, also where a test has stopped the clock of the runtime.
pub(crate) async fn real_pause(time: Duration) {
    tokio::task::spawn_blocking(move || std::thread::sleep(time)).await.expect("the pause ends");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_returns_what_was_found() {
        let mut looks = 0;
        let found = eventually("the third look", async || {
            looks += 1;
            (looks == 3).then_some("found")
        });
        assert_eq!(found.await, "found");
    }

    #[tokio::test]
    #[should_panic(expected = "not within 10ms: never; last seen: 7")]
    async fn a_failed_wait_shows_the_last_value() {
        within(Duration::from_millis(10), "never", async || Err::<(), _>(7)).await;
    }
}
