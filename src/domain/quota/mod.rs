//! How often a provider may be asked: several windows at once, each exact, none ever too generous.
//!
//! A request passes if every limit that applies to it has room, and is counted in all of them or in none. Seconds,
//! minutes and hours slide; a day is a calendar day of the provider's zone. A part of each limit can be kept back for
//! money. Whoever must wait is told until when and keeps his place: who comes later is counted behind him. Time is an
//! argument; what waits, and how long at most, is not decided here.
//!
//! Windows are made when they are first used and dropped when they are empty, so that ten thousand connections that are
//! never called, or ten thousand partitions that were called yesterday, cost nothing.

mod closed;
mod window;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::domain::spread;
use crate::domain::time::{Mono, Now};
use window::Window;

pub use closed::Closed;

/// The unit of time that a limit speaks of.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Unit {
    /// A sliding second.
    Second,
    /// A sliding minute.
    Minute,
    /// A sliding hour.
    Hour,
    /// A calendar day in the rules' zone.
    Day,
}

impl Unit {
    /// The unit's name, as specs write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "Second",
            Self::Minute => "Minute",
            Self::Hour => "Hour",
            Self::Day => "Day",
        }
    }

    /// Its length; of a day, that of most days.
    pub const fn length(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_mins(1),
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        }
    }
}

/// What a limit is counted over.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Scope {
    /// All requests of the connection.
    #[default]
    Connection,
    /// The requests of one partition (an account, say) for one operation.
    Partition,
}

impl Scope {
    /// The scope's name, as specs write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "Connection",
            Self::Partition => "Partition",
        }
    }
}

/// One limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Its name.
    pub name: String,
    /// What it is counted over.
    pub scope: Scope,
    /// Requests in one unit, at least 1.
    pub requests: u32,
    /// The unit.
    pub unit: Unit,
    /// Requests that may come at once; unset, all of them. The rest then comes evenly.
    pub burst: Option<u32>,
    /// The operations it counts; none: all.
    pub operations: Vec<String>,
}

impl Limit {
    /// Whether it counts requests of `operation`.
    pub fn counts(&self, operation: &str) -> bool {
        self.operations.is_empty() || self.operations.iter().any(|one| one == operation)
    }

    /// Names its counters: other numbers for the same limit keep what was counted, another unit does not.
    fn id(&self) -> u64 {
        spread::hash(&format!("{}\n{}\n{}", self.name, self.unit.as_str(), self.scope.as_str()))
    }
}

/// All that a quota is told.
#[derive(Clone, PartialEq, Debug)]
pub struct Rules {
    /// The limits; all that apply to a request apply together.
    pub limits: Vec<Limit>,
    /// This share of each limit is for money only, in percent, at most 90.
    pub money_percent: u8,
    /// Where days begin.
    pub zone: TimeZone,
}

/// A request that asks for its turn.
#[derive(Copy, Clone, Debug)]
pub struct Ask<'a> {
    /// Its operation.
    pub operation: &'a str,
    /// The partition it is about; requests without one are one partition.
    pub partition: &'a str,
    /// Whether it may use what is kept back for money, and go before those who wait.
    pub money: bool,
    /// Whether it has waited for its turn, and been counted as waiting, before.
    pub waited: bool,
}

/// There is no room now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Later {
    /// When there will be.
    pub at: Mono,
    /// Where to wait, for [`Quota::wait`] and [`Quota::leave`].
    pub place: Place,
}

/// A window in which somebody waits.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    limit: u64,
    part: u64,
}

/// What was counted. Empty until the first request.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    windows: HashMap<Place, Window>,
    /// Windows are looked through for empty ones when there are this many.
    prune_at: usize,
}

/// Fewer windows than this are not worth looking through.
const PRUNE_FROM: usize = 64;

impl Quota {
    /// Takes a turn now, in every window that applies, or says when there will be room.
    pub fn take(&mut self, rules: &Rules, ask: Ask<'_>, now: Now) -> Result<(), Later> {
        let mut worst: Option<Later> = None;
        for limit in rules.limits.iter().filter(|limit| limit.counts(ask.operation)) {
            let place = place(limit, ask);
            let Some(window) = self.windows.get_mut(&place) else { continue };
            let at = window.room_at(limit, rules, ask, now);
            if at > now.mono && worst.is_none_or(|worst| at > worst.at) {
                worst = Some(Later { at, place });
            }
        }
        if let Some(later) = worst {
            return Err(later);
        }
        if self.windows.len() >= self.prune_at.max(PRUNE_FROM) {
            self.windows.retain(|_, window| !window.is_idle(now));
            self.prune_at = self.windows.len() * 2;
        }
        for limit in rules.limits.iter().filter(|limit| limit.counts(ask.operation)) {
            self.windows.entry(place(limit, ask)).or_default().count(limit, rules, ask.money, now);
        }
        Ok(())
    }

    /// Notes that somebody waits at `place`; to be undone by [`leave`](Self::leave).
    pub fn wait(&mut self, place: Place) {
        self.windows.entry(place).or_default().waiting += 1;
    }

    /// Whoever waited at `place` has his turn, or gave up.
    pub fn leave(&mut self, place: Place) {
        if let Some(window) = self.windows.get_mut(&place) {
            window.waiting = window.waiting.saturating_sub(1);
        }
    }

    /// What is left of the limit that has least left, and of how many: money's part included.
    pub fn least(&self, rules: &Rules, now: Now) -> Option<(u32, u32)> {
        let mut least: Option<(u32, u32)> = None;
        for limit in &rules.limits {
            let id = limit.id();
            let used = self.windows.iter().filter(|(place, _)| place.limit == id);
            let used = used.map(|(_, window)| window.used(limit, rules, now)).max().unwrap_or(0);
            let left = (limit.requests.saturating_sub(used), limit.requests);
            let share = |(left, of): (u32, u32)| u64::from(left) * 1_000_000 / u64::from(of.max(1));
            if least.is_none_or(|least| share(left) < share(least)) {
                least = Some(left);
            }
        }
        least
    }

    /// How many windows are in use.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }
}

fn place(limit: &Limit, ask: Ask<'_>) -> Place {
    let part = match limit.scope {
        Scope::Connection => 0,
        Scope::Partition => part(ask.operation, ask.partition),
    };
    Place { limit: limit.id(), part }
}

/// Names one partition's requests for one operation.
fn part(operation: &str, partition: &str) -> u64 {
    spread::hash(partition) ^ spread::mix(spread::hash(operation))
}
