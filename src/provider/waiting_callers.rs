//! The callers that wait for one call. A call that ends with its caller has none: nothing counts them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The callers of one call.
#[derive(Debug, Default)]
pub(crate) struct WaitingCallers {
    /// Whether there ever was one.
    any: AtomicBool,
    waiting: AtomicUsize,
    /// Whether the call runs on in a task of its own.
    runs_on: AtomicBool,
}

impl WaitingCallers {
    /// A caller begins to wait.
    pub(crate) fn join(&self) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.any.store(true, Ordering::Release);
    }

    /// A caller leaves; whether it was the last one.
    pub(crate) fn leave(&self) -> bool {
        self.waiting.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether all callers have left: no other try is waited for.
    pub(crate) fn all_left(&self) -> bool {
        self.any.load(Ordering::Acquire) && self.waiting.load(Ordering::Acquire) == 0
    }

    /// Marks the call as running on; `false` if it does already.
    pub(crate) fn start_running_on(&self) -> bool {
        !self.runs_on.swap(true, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_left_once_the_last_of_them_has_and_until_another_joins() {
        let callers = WaitingCallers::default();
        assert!(!callers.all_left(), "there were none");
        callers.join();
        callers.join();
        assert!(!callers.leave() && !callers.all_left());
        assert!(callers.leave() && callers.all_left());
        callers.join();
        assert!(!callers.all_left());
        assert!(callers.start_running_on() && !callers.start_running_on(), "once");
    }
}
