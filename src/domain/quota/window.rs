//! The counters of one limit for one partition.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::civil::Date;

use super::{Ask, Limit, Rules, Unit};
use crate::domain::time::{Mono, Now};

/// Requests so close together that they share an entry: this part of the unit. An entry counts until the last of its
/// requests is a unit old, so that a window may wait this much too long and is never too short.
const GRAIN: u32 = 64;

/// Requests that came together.
#[derive(Copy, Clone, Debug)]
struct Entry {
    first: Mono,
    last: Mono,
    money: u32,
    other: u32,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Of a sliding unit: what came within it, oldest first.
    log: VecDeque<Entry>,
    /// Of a day: which one.
    day: Option<Date>,
    money: u32,
    other: u32,
    /// Evenly spaced requests would have come up to this instant: the theoretical arrival time of the generic cell rate
    /// algorithm (ITU-T I.371), which a burst runs ahead of.
    spaced: Mono,
    unit: Duration,
    /// How many wait for room here.
    pub(super) waiting: u32,
}

impl Window {
    /// When one more request of this kind has room, after all that wait before it.
    pub(super) fn room_at(&mut self, limit: &Limit, rules: &Rules, ask: Ask<'_>, now: Now) -> Mono {
        self.forget(limit, rules, now);
        let ahead = if ask.money || ask.waited { 0 } else { self.waiting };
        let nth = ahead.saturating_add(1);
        let whole = limit.requests.max(1);
        let mut at = self.nth_at(limit, rules, (self.money + self.other, whole), nth, now, |e| e.money + e.other);
        if !ask.money {
            let cap = whole - kept_back(whole, rules);
            at = at.max(self.nth_at(limit, rules, (self.other, cap), nth, now, |e| e.other));
        }
        match limit.burst.filter(|burst| *burst < whole) {
            None => at,
            Some(burst) => {
                let burst = if ask.money { burst } else { burst - kept_back(burst, rules) };
                let step = step(limit);
                let early = step.saturating_mul(burst.saturating_sub(1));
                let behind = step.saturating_mul(ahead);
                at.max((self.spaced.max(now.mono) + behind) - early)
            }
        }
    }

    /// When the `nth` request from now has room under a cap.
    fn nth_at(
        &self,
        limit: &Limit,
        rules: &Rules,
        (used, cap): (u32, u32),
        nth: u32,
        now: Now,
        of: impl Fn(&Entry) -> u32,
    ) -> Mono {
        let must_go = (u64::from(used) + u64::from(nth)).saturating_sub(u64::from(cap));
        if must_go == 0 {
            return now.mono;
        }
        if limit.unit == Unit::Day {
            let days = must_go.div_ceil(u64::from(cap.max(1)));
            return self.midnight(rules, days, now);
        }
        let unit = limit.unit.length();
        let (mut gone, mut last) = (0, now.mono);
        for entry in &self.log {
            last = entry.last + unit;
            gone += u64::from(of(entry));
            if gone >= must_go {
                return last;
            }
        }
        // Behind those who wait, more than one unit may have to pass.
        let rounds = (must_go - gone).div_ceil(u64::from(cap.max(1)));
        last + unit.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
    }

    /// Counts one request.
    pub(super) fn count(&mut self, limit: &Limit, rules: &Rules, money: bool, now: Now) {
        self.forget(limit, rules, now);
        self.unit = limit.unit.length();
        let (m, o) = if money { (1, 0) } else { (0, 1) };
        self.money = self.money.saturating_add(m);
        self.other = self.other.saturating_add(o);
        if limit.burst.is_some_and(|burst| burst < limit.requests) {
            self.spaced = self.spaced.max(now.mono) + step(limit);
        }
        if limit.unit == Unit::Day {
            return;
        }
        let grain = self.unit / GRAIN;
        match self.log.back_mut().filter(|entry| now.mono.since(entry.first) < grain) {
            Some(entry) => {
                entry.last = entry.last.max(now.mono);
                entry.money += m;
                entry.other += o;
            }
            None => self.log.push_back(Entry { first: now.mono, last: now.mono, money: m, other: o }),
        }
    }

    /// How many requests count now.
    pub(super) fn used(&self, limit: &Limit, rules: &Rules, now: Now) -> u32 {
        if limit.unit == Unit::Day {
            return if self.day.is_some_and(|day| day >= today(rules, now)) { self.money + self.other } else { 0 };
        }
        let live = self.log.iter().filter(|entry| entry.last + limit.unit.length() > now.mono);
        live.map(|entry| entry.money + entry.other).sum()
    }

    /// Whether it holds nothing that will matter.
    pub(super) fn is_idle(&self, now: Now) -> bool {
        let past = match (self.log.back(), self.day) {
            (Some(entry), _) => entry.last + self.unit <= now.mono,
            // A day and a half from any of its moments, every zone has a new one.
            (None, Some(day)) => day
                .at(0, 0, 0, 0)
                .to_zoned(jiff::tz::TimeZone::UTC)
                .is_ok_and(|start| now.wall.duration_since(start.timestamp()).as_hours() >= 60),
            (None, None) => true,
        };
        past && self.waiting == 0 && self.spaced <= now.mono
    }

    /// Forgets what no longer counts.
    fn forget(&mut self, limit: &Limit, rules: &Rules, now: Now) {
        if limit.unit == Unit::Day {
            let today = today(rules, now);
            // A clock that is set back does not begin a new day.
            if self.day.is_none_or(|day| day < today) {
                (self.day, self.money, self.other) = (Some(today), 0, 0);
            }
            return;
        }
        let unit = limit.unit.length();
        while let Some(entry) = self.log.front().filter(|entry| entry.last + unit <= now.mono) {
            self.money = self.money.saturating_sub(entry.money);
            self.other = self.other.saturating_sub(entry.other);
            self.log.pop_front();
        }
        if self.log.is_empty() && self.log.capacity() > 0 {
            self.log = VecDeque::new();
        }
    }

    /// The beginning of the `days`-th day after the one that is counted.
    fn midnight(&self, rules: &Rules, days: u64, now: Now) -> Mono {
        let mut day = self.day.unwrap_or_else(|| today(rules, now));
        // Nobody waits for a year.
        for _ in 0..days.min(366) {
            day = day.tomorrow().unwrap_or(day);
        }
        match day.to_zoned(rules.zone.clone()) {
            Ok(start) => now.mono_at(start.timestamp()),
            Err(_) => now.mono + Unit::Day.length(),
        }
    }
}

/// The day it is in the provider's zone.
fn today(rules: &Rules, now: Now) -> Date {
    now.wall.to_zoned(rules.zone.clone()).date()
}

/// How many of `of` requests are for money only: rounded down, so that something is left for the others.
fn kept_back(of: u32, rules: &Rules) -> u32 {
    u32::try_from(u64::from(of) * u64::from(rules.money_percent.min(90)) / 100).unwrap_or(0)
}

/// Between two evenly spaced requests.
fn step(limit: &Limit) -> Duration {
    limit.unit.length() / limit.requests.max(1)
}
