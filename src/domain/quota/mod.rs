//! Client-side rate limiting: several sliding-window limits at once, which are never exceeded.
//!
//! A request passes if every applicable limit has capacity, and is counted in all of them or in none. Seconds, minutes
//! and hours are sliding windows; a day is a calendar day in the provider's zone. A share of each limit can be reserved
//! for money calls. A request that must wait gets the instant to retry at and is counted ahead of later requests. Time
//! is an argument; which requests wait, and for how long, is decided by the caller.
//!
//! Windows are created on first use and dropped when empty, so that idle connections and partitions use no memory.

mod blocked;
mod day;
mod window;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::domain::hash;
use crate::domain::time::{Mono, Now};
use window::LimitWindow;

pub use blocked::BlockedPartitions;

/// Time unit of a limit.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum LimitUnit {
    /// A sliding second.
    Second,
    /// A sliding minute.
    Minute,
    /// A sliding hour.
    Hour,
    /// A calendar day in the zone of the rules.
    Day,
}

impl LimitUnit {
    /// The unit's name as written in specs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "Second",
            Self::Minute => "Minute",
            Self::Hour => "Hour",
            Self::Day => "Day",
        }
    }

    /// Length of the unit; a day has 24 hours, regardless of daylight saving.
    pub const fn length(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_mins(1),
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        }
    }
}

/// Scope of a limit.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum LimitScope {
    /// All requests of the connection.
    #[default]
    Connection,
    /// The requests of one partition (an account, say) for one operation.
    Partition,
}

impl LimitScope {
    /// The scope's name as written in specs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "Connection",
            Self::Partition => "Partition",
        }
    }
}

/// One rate limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Name, unique per connection.
    pub name: String,
    /// Per connection or per partition.
    pub scope: LimitScope,
    /// Requests per unit, at least 1.
    pub requests: u32,
    /// Time unit.
    pub unit: LimitUnit,
    /// Largest burst; the remaining requests are evenly spaced. Unset: `requests`.
    pub burst: Option<u32>,
    /// Operations to which the limit applies; empty = all.
    pub operations: Vec<String>,
}

impl Limit {
    /// Whether the limit applies to `operation`.
    pub fn counts(&self, operation: &str) -> bool {
        self.operations.is_empty() || self.operations.iter().any(|one| one == operation)
    }

    /// Key of the counters: they survive a change of `requests` or `burst`, but not of the unit or scope.
    fn id(&self) -> u64 {
        hash::stable_hash(&format!("{}\n{}\n{}", self.name, self.unit.as_str(), self.scope.as_str()))
    }
}

/// Configuration of a quota.
#[derive(Clone, PartialEq, Debug)]
pub struct QuotaRules {
    /// The limits; a request must satisfy all that apply to it.
    pub limits: Vec<Limit>,
    /// Share of each limit that is reserved for money calls, in percent, at most 90.
    pub money_percent: u8,
    /// Time zone of calendar days.
    pub zone: TimeZone,
}

/// A request to admit.
#[derive(Copy, Clone, Debug)]
pub struct QuotaRequest<'a> {
    /// Operation of the request.
    pub operation: &'a str,
    /// Partition of the request; empty is a partition of its own.
    pub partition: &'a str,
    /// Whether this is a money call: it may use the reserve and goes ahead of waiting requests.
    pub money: bool,
    /// Whether the request has waited before (it was added by [`Quota::add_waiter`]).
    pub waited: bool,
}

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
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether there are no windows.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }
}

fn window_id(limit: &Limit, request: QuotaRequest<'_>) -> WindowId {
    let part = match limit.scope {
        LimitScope::Connection => 0,
        LimitScope::Partition => part(request.operation, request.partition),
    };
    WindowId { limit: limit.id(), part }
}

/// Key of one partition and operation.
fn part(operation: &str, partition: &str) -> u64 {
    hash::stable_hash(partition) ^ hash::mix(hash::stable_hash(operation))
}
