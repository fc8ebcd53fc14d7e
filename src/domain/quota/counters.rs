//! Counters of all limits of a connection: a request is counted in all of them or in none.

use std::collections::HashMap;

use crate::domain::quota::limit::{Limit, LimitScope, QuotaRules};
use crate::domain::quota::partition::part;
use crate::domain::quota::request::QuotaRequest;
use crate::domain::quota::window::LimitWindow;
use crate::domain::time::{Mono, Now};

/// A limit is exhausted: when to retry.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RetryAt {
    /// When the limit has capacity.
    pub at: Mono,
    /// The exhausted window, for [`Quota::add_waiter`] and [`Quota::remove_waiter`].
    pub window_id: WindowId,
}

/// Key of a window: limit and partition.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct WindowId {
    limit: u64,
    part: u64,
}

/// Counters of a connection's limits. Empty until the first request.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    windows: HashMap<WindowId, LimitWindow>,
    /// Number of windows at which idle ones are pruned.
    prune_at: usize,
}

/// Fewer windows than this are not pruned.
const PRUNE_FROM: usize = 64;

impl Quota {
    /// Counts the request in every applicable window, or returns when to retry.
    pub fn try_acquire(&mut self, rules: &QuotaRules, request: QuotaRequest<'_>, now: Now) -> Result<(), RetryAt> {
        let mut worst: Option<RetryAt> = None;
        for limit in rules.limits.iter().filter(|limit| limit.counts(request.operation)) {
            let window_id = window_id(limit, request);
            let Some(window) = self.windows.get_mut(&window_id) else { continue };
            let at = window.available_at(limit, rules, request, now);
            if at > now.mono && worst.is_none_or(|worst| at > worst.at) {
                worst = Some(RetryAt { at, window_id });
            }
        }
        if let Some(later) = worst {
            return Err(later);
        }
        if self.windows.len() >= self.prune_at.max(PRUNE_FROM) {
            self.windows.retain(|_, window| !window.is_idle(now));
            self.prune_at = self.windows.len() * 2;
        }
        for limit in rules.limits.iter().filter(|limit| limit.counts(request.operation)) {
            self.windows.entry(window_id(limit, request)).or_default().record(limit, rules, request.money, now);
        }
        Ok(())
    }

    /// Registers a waiting request; the caller must undo it with [`remove_waiter`](Self::remove_waiter).
    pub fn add_waiter(&mut self, window_id: WindowId) {
        self.windows.entry(window_id).or_default().waiting += 1;
    }

    /// Removes a waiting request that was admitted or cancelled.
    pub fn remove_waiter(&mut self, window_id: WindowId) {
        if let Some(window) = self.windows.get_mut(&window_id) {
            window.waiting = window.waiting.saturating_sub(1);
        }
    }

    /// Remaining and allowed requests of the limit with the lowest remaining share, the money reserve included.
    pub fn lowest_remaining(&self, rules: &QuotaRules, now: Now) -> Option<(u32, u32)> {
        let mut least: Option<(u32, u32)> = None;
        for limit in &rules.limits {
            let id = limit.id();
            let used = self.windows.iter().filter(|(window_id, _)| window_id.limit == id);
            let used = used.map(|(_, window)| window.used(limit, rules, now)).max().unwrap_or(0);
            let left = (limit.requests.saturating_sub(used), limit.requests);
            let share = |(left, of): (u32, u32)| u64::from(left) * 1_000_000 / u64::from(of.max(1));
            if least.is_none_or(|least| share(left) < share(least)) {
                least = Some(left);
            }
        }
        least
    }

    /// Number of windows.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }
}

fn window_id(limit: &Limit, request: QuotaRequest<'_>) -> WindowId {
    let part = match limit.scope {
        LimitScope::Connection => 0,
        LimitScope::Partition => part(request.operation, request.partition),
    };
    WindowId { limit: limit.id(), part }
}
