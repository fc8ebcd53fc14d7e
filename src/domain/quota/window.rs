//! Counters of one limit for one partition.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::civil::Date;

use crate::domain::quota::day::{CountedDay, DayCounts};
use crate::domain::quota::limit::{Limit, LimitUnit, QuotaRules};
use crate::domain::quota::request::QuotaRequest;
use crate::domain::time::{Mono, Now};

/// Requests within this fraction of the unit share an entry. An entry counts until the last of its requests is a unit
/// old, so that a window may be this much too strict, but never too permissive.
const GRAIN: u32 = 64;

/// Requests that are counted together.
#[derive(Copy, Clone, Debug)]
struct Entry {
    first: Mono,
    last: Mono,
    money: u32,
    other: u32,
}

/// Requests of a kind that are counted, and how many the limit allows.
#[derive(Copy, Clone, Debug)]
struct Share {
    used: u32,
    cap: u32,
}

/// Counters of one window.
#[derive(Clone, Debug, Default)]
pub(super) struct LimitWindow {
    /// Sliding units: the entries within the window, oldest first.
    log: VecDeque<Entry>,
    /// Calendar days: the counted day.
    day: CountedDay,
    money: u32,
    other: u32,
    /// Requests of the counted day that the ledger has counted, some in advance: of money calls, and others.
    stored: DayCounts,
    /// Theoretical arrival time of the generic cell rate algorithm (ITU-T I.371): limits the burst.
    theoretical_arrival: Mono,
    unit: Duration,
    /// Number of waiting requests.
    pub(super) waiting: u32,
}

impl LimitWindow {
    /// When one more request can be admitted, after all requests that wait ahead of it.
    pub(super) fn available_at(
        &mut self,
        limit: &Limit,
        rules: &QuotaRules,
        request: QuotaRequest<'_>,
        now: Now,
    ) -> Mono {
        self.evict(limit, rules, now);
        let ahead = if request.money || request.waited { 0 } else { self.waiting };
        let nth = ahead.saturating_add(1);
        let whole = limit.requests.max(1);
        let mut at =
            self.nth_available_at(limit, rules, Share { used: self.money + self.other, cap: whole }, nth, now, |e| {
                e.money + e.other
            });
        if !request.money {
            let cap = whole - reserved(whole, rules);
            at = at.max(self.nth_available_at(limit, rules, Share { used: self.other, cap }, nth, now, |e| e.other));
        }
        match limit.burst.filter(|burst| *burst < whole) {
            None => at,
            Some(burst) => {
                let burst = if request.money { burst } else { burst - reserved(burst, rules) };
                let spacing = spacing(limit);
                let early = spacing.saturating_mul(burst.saturating_sub(1));
                let behind = spacing.saturating_mul(ahead);
                at.max((self.theoretical_arrival.max(now.mono) + behind) - early)
            }
        }
    }

    /// When the `nth` request from now fits under a cap.
    fn nth_available_at(
        &self,
        limit: &Limit,
        rules: &QuotaRules,
        Share { used, cap }: Share,
        nth: u32,
        now: Now,
        of: impl Fn(&Entry) -> u32,
    ) -> Mono {
        let must_go = (u64::from(used) + u64::from(nth)).saturating_sub(u64::from(cap));
        if must_go == 0 {
            return now.mono;
        }
        if limit.unit == LimitUnit::Day {
            // More than the limit were made while the clock was wrong; all of them go at midnight.
            let must_go = must_go.saturating_sub(u64::from(used.saturating_sub(cap))).max(1);
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
        // Behind waiting requests, more than one unit may have to pass.
        let rounds = (must_go - gone).div_ceil(u64::from(cap.max(1)));
        last + unit.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
    }

    /// Counts one request.
    pub(super) fn record(&mut self, limit: &Limit, rules: &QuotaRules, money: bool, now: Now) {
        self.evict(limit, rules, now);
        self.unit = limit.unit.length();
        let (m, o) = if money { (1, 0) } else { (0, 1) };
        self.money = self.money.saturating_add(m);
        self.other = self.other.saturating_add(o);
        if limit.burst.is_some_and(|burst| burst < limit.requests) {
            self.theoretical_arrival = self.theoretical_arrival.max(now.mono) + spacing(limit);
        }
        if limit.unit == LimitUnit::Day {
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

    /// Number of requests that count now.
    pub(super) fn used(&self, limit: &Limit, rules: &QuotaRules, now: Now) -> u32 {
        if limit.unit == LimitUnit::Day {
            let mut current = self.clone();
            current.evict(limit, rules, now);
            return current.money.saturating_add(current.other);
        }
        let live = self.log.iter().filter(|entry| entry.last + limit.unit.length() > now.mono);
        live.map(|entry| entry.money + entry.other).sum()
    }

    /// The counted day, and its requests that the ledger has not counted.
    pub(super) fn unstored(&mut self, limit: &Limit, rules: &QuotaRules, now: Now) -> Option<(Date, DayCounts)> {
        self.evict(limit, rules, now);
        let used = [self.money, self.other];
        Some((self.day.get()?, [0, 1].map(|n| used[n].saturating_sub(self.stored[n]))))
    }

    /// The ledger has counted `added` requests of `day`; it has `total` of them now.
    pub(super) fn mark_stored(&mut self, day: Date, added: DayCounts, total: DayCounts) {
        if self.day.get() != Some(day) {
            return;
        }
        let stored = [0, 1].map(|n| self.stored[n].saturating_add(added[n]));
        let foreign = [0, 1].map(|n| total[n].saturating_sub(stored[n]));
        self.money = self.money.saturating_add(foreign[0]);
        self.other = self.other.saturating_add(foreign[1]);
        self.stored = [0, 1].map(|n| stored[n].max(total[n]));
    }

    /// Adds what the ledger has counted, if `day` is today.
    pub(super) fn restore(&mut self, limit: &Limit, rules: &QuotaRules, day: Date, counts: DayCounts, now: Now) {
        self.unit = limit.unit.length();
        self.evict(limit, rules, now);
        if self.day.get() == Some(day) {
            self.money = self.money.saturating_add(counts[0]);
            self.other = self.other.saturating_add(counts[1]);
            self.stored = [0, 1].map(|n| self.stored[n].saturating_add(counts[n]));
        }
    }

    /// Whether the window can be dropped without changing any decision.
    pub(super) fn is_idle(&self, now: Now) -> bool {
        let past = match (self.log.back(), self.day.get()) {
            (Some(entry), _) => entry.last + self.unit <= now.mono,
            // 60 h after its UTC start, the day has ended in every time zone.
            (None, Some(day)) => day
                .at(0, 0, 0, 0)
                .to_zoned(jiff::tz::TimeZone::UTC)
                .is_ok_and(|start| now.wall.duration_since(start.timestamp()).as_hours() >= 60),
            (None, None) => true,
        };
        past && self.waiting == 0 && self.theoretical_arrival <= now.mono
    }

    /// Removes entries that no longer count.
    fn evict(&mut self, limit: &Limit, rules: &QuotaRules, now: Now) {
        if limit.unit == LimitUnit::Day {
            let (mut counts, before) = ([self.money, self.other], self.day.get());
            self.day.roll(today(rules, now), &mut counts);
            [self.money, self.other] = counts;
            if before != self.day.get() {
                // Nothing of a new day; all of a day that a wrong clock had interrupted, which is stored no second time.
                self.stored = counts;
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

    /// Start of the `days`-th day after the counted one.
    fn midnight(&self, rules: &QuotaRules, days: u64, now: Now) -> Mono {
        let mut day = self.day.get().unwrap_or_else(|| today(rules, now));
        // Bounds the loop: no request waits for a year.
        for _ in 0..days.min(366) {
            day = day.tomorrow().unwrap_or(day);
        }
        match day.to_zoned(rules.zone.clone()) {
            Ok(start) => now.mono_at(start.timestamp()),
            Err(_) => now.mono + LimitUnit::Day.length(),
        }
    }
}

/// Current day in the zone of the rules.
fn today(rules: &QuotaRules, now: Now) -> Date {
    now.wall.to_zoned(rules.zone.clone()).date()
}

/// Number of requests out of `of` that are reserved for money calls; rounded down, so that other calls are not
/// excluded.
fn reserved(of: u32, rules: &QuotaRules) -> u32 {
    u32::try_from(u64::from(of) * u64::from(rules.money_percent.min(90)) / 100).unwrap_or(0)
}

/// Time between two evenly spaced requests.
fn spacing(limit: &Limit) -> Duration {
    limit.unit.length() / limit.requests.max(1)
}
