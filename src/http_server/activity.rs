//! When a client connection is idle.
//!
//! Only complete requests count as activity. Anything else that arrives (a byte of a header, a ping) does not: a client
//! could otherwise hold a connection open forever without a request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::domain::time::Mono;

/// Tracks the requests of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    clock: Clock,
    state: Mutex<ActivityState>,
    /// Notified when the last active request has ended.
    idle_notify: Notify,
}

#[derive(Debug)]
struct ActivityState {
    active: usize,
    any_request: bool,
    last_change: Mono,
}

/// An active request; its drop ends it.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<Activity>);

impl Activity {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let state = Mutex::new(ActivityState { active: 0, any_request: false, last_change: clock.mono() });
        Arc::new(Self { clock, state, idle_notify: Notify::new() })
    }

    /// Records the start of a request, when its headers are complete.
    pub(super) fn start_request(self: &Arc<Self>) -> ActiveRequest {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.active += 1;
        state.any_request = true;
        ActiveRequest(Arc::clone(self))
    }

    /// Since when the connection has been idle; `None` during a request.
    pub(super) fn idle_since(&self) -> Option<Mono> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.active == 0).then_some(state.last_change)
    }

    /// Whether the connection ever carried a request.
    pub(super) fn had_request(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).any_request
    }

    /// Waits until the connection has been idle for `limit`; returns whether it ever carried a request.
    pub(super) async fn wait_idle(&self, limit: Duration) -> bool {
        loop {
            let end = {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let end = (state.active == 0).then(|| state.last_change + limit);
                if end.is_some_and(|end| end <= self.clock.mono()) {
                    return state.any_request;
                }
                end
            };
            match end {
                Some(end) => self.clock.sleep_until(end).await,
                None => self.idle_notify.notified().await,
            }
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.active -= 1;
        state.last_change = self.0.clock.mono();
        if state.active == 0 {
            self.0.idle_notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_since_its_last_request_and_not_during_one() {
        let clock = Clock::system();
        let limit = Duration::from_secs(20);
        let activity = Activity::new(clock);
        assert!(!activity.wait_idle(limit).await, "no request was made");
        assert_eq!(clock.mono().since(Mono::ZERO), limit);
        let (first, second) = (activity.start_request(), activity.start_request());
        assert_eq!(activity.idle_since(), None);
        let watch = {
            let activity = Arc::clone(&activity);
            tokio::spawn(async move { (activity.wait_idle(limit).await, clock.mono()) })
        };
        tokio::time::sleep(limit * 3).await;
        drop(first);
        tokio::time::sleep(limit * 3).await;
        assert!(!watch.is_finished(), "one request is active");
        let ended = clock.mono();
        drop(second);
        assert_eq!(activity.idle_since(), Some(ended));
        assert_eq!(watch.await.unwrap(), (true, ended + limit));
    }
}
