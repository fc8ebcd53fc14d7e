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

/// Key of a window: limit and partition, as stable hashes.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct WindowId {
    /// The limit's name, unit and scope.
    pub limit: u64,
    /// The partition and the operation; 0 for all requests of the connection.
    pub part: u64,
}

/// Counters of a connection's limits. Empty until the first request.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    pub(super) windows: HashMap<WindowId, LimitWindow>,
    /// Number of windows at which idle ones are pruned.
    prune_at: usize,
}

/// Fewer windows than this are not pruned.
const PRUNE_FROM: usize = 64;
/// Windows of one connection. Partitions are parameter values, which callers choose: beyond this many, all further ones
/// are counted together, so that no limit is exceeded and memory is bounded. No bank has so many accounts of one client.
const MAX_WINDOWS: usize = 10_000;
/// The partition of all further ones.
const FURTHER_PARTITIONS: u64 = u64::MAX;

impl Quota {
    /// Counts the request in every applicable window, or returns when to retry.
    pub fn try_acquire(&mut self, rules: &QuotaRules, request: QuotaRequest<'_>, now: Now) -> Result<(), RetryAt> {
        let mut worst: Option<RetryAt> = None;
        let limits = || rules.limits.iter().filter(|limit| limit.counts(request.operation));
        // Before anything is added: the window of a partition must not change between check and count.
        let ids_of =
            |quota: &Self| -> Vec<WindowId> { limits().map(|limit| quota.window_id(limit, request)).collect() };
        let mut ids = ids_of(self);
        let full = self.windows.len() >= self.prune_at.clamp(PRUNE_FROM, MAX_WINDOWS);
        if full && !ids.iter().all(|id| self.windows.contains_key(id) && id.part != FURTHER_PARTITIONS) {
            self.windows.retain(|_, window| !window.is_idle(now));
            self.prune_at = self.windows.len() * 2;
            ids = ids_of(self);
        }
        for (limit, window_id) in limits().zip(ids.iter().copied()) {
            let Some(window) = self.windows.get_mut(&window_id) else { continue };
            let at = window.available_at(limit, rules, request, now);
            if at > now.mono && worst.is_none_or(|worst| at > worst.at) {
                worst = Some(RetryAt { at, window_id });
            }
        }
        if let Some(later) = worst {
            return Err(later);
        }
        for (limit, window_id) in limits().zip(ids) {
            self.windows.entry(window_id).or_default().record(limit, rules, request.money, now);
        }
        Ok(())
    }

    /// The window that counts `request` for `limit`.
    pub(super) fn window_id(&self, limit: &Limit, request: QuotaRequest<'_>) -> WindowId {
        let part = match limit.scope {
            LimitScope::Connection => 0,
            LimitScope::Partition => part(request.operation, request.partition),
        };
        let id = WindowId { limit: limit.id(), part };
        let further = WindowId { part: FURTHER_PARTITIONS, ..id };
        // Partitions that were counted together stay together until their window is idle.
        let full = self.windows.len() >= MAX_WINDOWS || self.windows.contains_key(&further);
        if limit.scope == LimitScope::Partition && full && !self.windows.contains_key(&id) { further } else { id }
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
