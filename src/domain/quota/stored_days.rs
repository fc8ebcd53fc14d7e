//! Daily limits across restarts: what the ledger must count before a request is sent, and what it has counted.
//!
//! The ledger counts in blocks that are taken in advance, so that not every request is a write. A process that dies loses
//! the rest of its block: the limit may be reached a little early, never late.

use std::collections::HashMap;

use jiff::civil::Date;

use crate::domain::quota::counters::{Quota, WindowId};
use crate::domain::quota::limit::{Limit, LimitUnit, QuotaRules};
use crate::domain::quota::request::QuotaRequest;
use crate::domain::time::Now;

/// A block is a hundredth of the limit, at least one request and at most this many.
const MAX_BLOCK: u32 = 100;

/// Requests of one day that count for one limit and partition.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct DayUsage {
    /// The limit and the partition.
    pub window: WindowId,
    /// The day, in the zone of the rules.
    pub day: Date,
    /// Requests of money calls.
    pub money: u32,
    /// Other requests.
    pub other: u32,
}

impl Quota {
    /// What the ledger must count before `request`, which was acquired, may be sent. Empty if it has counted it.
    pub fn unstored(&mut self, rules: &QuotaRules, request: QuotaRequest<'_>, now: Now) -> Vec<DayUsage> {
        let mut missing = Vec::new();
        for limit in rules.limits.iter().filter(|limit| limit.unit == LimitUnit::Day && limit.counts(request.operation))
        {
            let window = self.window_id(limit, request);
            let Some(counts) = self.windows.get_mut(&window) else { continue };
            let Some((day, [money, other])) = counts.unstored(limit, rules, now) else { continue };
            if money > 0 || other > 0 {
                let block = |missing: u32| if missing > 0 { missing.max(block(limit)) } else { 0 };
                missing.push(DayUsage { window, day, money: block(money), other: block(other) });
            }
        }
        missing
    }

    /// The ledger has counted `added`; its counts of the day are now those of `total`. It may have counted requests of
    /// other processes, which count here too.
    pub fn mark_stored(&mut self, added: &DayUsage, total: &DayUsage) {
        if let Some(counts) = self.windows.get_mut(&added.window) {
            counts.mark_stored(added.day, [added.money, added.other], [total.money, total.other]);
        }
    }

    /// Takes over what the ledger has counted, in addition to what was counted here. Once, before anything is stored.
    pub fn restore(&mut self, rules: &QuotaRules, stored: &[DayUsage], now: Now) {
        let days = rules.limits.iter().filter(|limit| limit.unit == LimitUnit::Day);
        let limits: HashMap<u64, &Limit> = days.map(|limit| (limit.id(), limit)).collect();
        for usage in stored {
            if let Some(limit) = limits.get(&usage.window.limit) {
                let counts = self.windows.entry(usage.window).or_default();
                counts.restore(limit, rules, usage.day, [usage.money, usage.other], now);
            }
        }
    }
}

impl QuotaRules {
    /// Whether a daily limit applies to `operation`.
    pub fn has_daily_limit(&self, operation: &str) -> bool {
        self.limits.iter().any(|limit| limit.unit == LimitUnit::Day && limit.counts(operation))
    }
}

fn block(limit: &Limit) -> u32 {
    (limit.requests / 100).clamp(1, MAX_BLOCK)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::domain::quota::limit::LimitScope;
    use crate::domain::time::Mono;

    fn at(hours: u64) -> Now {
        let wall = "2026-03-28T12:00:00Z".parse::<jiff::Timestamp>().unwrap();
        let wall = wall + SignedDuration::try_from(Duration::from_hours(hours)).unwrap();
        Now { mono: Mono::ZERO + Duration::from_hours(hours), wall }
    }

    fn rules(requests: u32) -> QuotaRules {
        let limit = Limit {
            name: "daily".into(),
            scope: LimitScope::Connection,
            requests,
            unit: LimitUnit::Day,
            burst: None,
            operations: Vec::new(),
        };
        QuotaRules { limits: vec![limit], money_percent: 0, zone: TimeZone::UTC }
    }

    const READ: QuotaRequest<'_> = QuotaRequest { operation: "quote", partition: "", money: false, waited: false };
    const MONEY: QuotaRequest<'_> = QuotaRequest { money: true, ..READ };

    /// A ledger's row.
    #[derive(Default)]
    struct Row(HashMap<(WindowId, Date), DayUsage>);

    impl Row {
        fn add(&mut self, usage: &DayUsage) -> DayUsage {
            let row = self.0.entry((usage.window, usage.day)).or_insert(DayUsage { money: 0, other: 0, ..*usage });
            row.money += usage.money;
            row.other += usage.other;
            *row
        }

        fn all(&self) -> Vec<DayUsage> {
            self.0.values().copied().collect()
        }
    }

    /// Sends one request, as the call path does.
    fn send(quota: &mut Quota, rules: &QuotaRules, request: QuotaRequest<'_>, now: Now, row: &mut Row) -> bool {
        if quota.try_acquire(rules, request, now).is_err() {
            return false;
        }
        for usage in quota.unstored(rules, request, now) {
            let total = row.add(&usage);
            quota.mark_stored(&usage, &total);
        }
        true
    }

    #[test]
    fn a_restarted_process_goes_on_counting_where_the_former_one_was_killed() {
        let (rules, mut row) = (rules(5), Row::default());
        let mut quota = Quota::default();
        assert_eq!((0..3).filter(|_| send(&mut quota, &rules, READ, at(0), &mut row)).count(), 3);
        let mut after = Quota::default();
        after.restore(&rules, &row.all(), at(1));
        assert_eq!(after.lowest_remaining(&rules, at(1)), Some((2, 5)));
        assert_eq!((0..9).filter(|_| send(&mut after, &rules, READ, at(1), &mut row)).count(), 2);
        // The next day, and after another restart.
        assert_eq!((0..9).filter(|_| send(&mut after, &rules, READ, at(13), &mut row)).count(), 5);
        let mut again = Quota::default();
        again.restore(&rules, &row.all(), at(14));
        assert!(!send(&mut again, &rules, READ, at(14), &mut row));
    }

    #[test]
    fn however_often_a_process_is_killed_the_limit_is_never_exceeded() {
        let (rules, mut row) = (rules(1_000), Row::default());
        let mut sent = 0;
        for _ in 0..200 {
            let mut quota = Quota::default();
            quota.restore(&rules, &row.all(), at(0));
            sent += (0..7).filter(|_| send(&mut quota, &rules, READ, at(0), &mut row)).count();
        }
        assert!((600..=1_000).contains(&sent), "{sent}: a block of ten is taken for seven");
    }

    #[test]
    fn most_requests_of_a_large_limit_are_no_write() {
        let (rules, mut quota) = (rules(50_000), Quota::default());
        let mut writes = 0;
        for _ in 0..1_000 {
            quota.try_acquire(&rules, READ, at(0)).unwrap();
            for usage in quota.unstored(&rules, READ, at(0)) {
                writes += 1;
                quota.mark_stored(&usage, &DayUsage { other: writes * 100, ..usage });
            }
        }
        assert_eq!(writes, 10);
    }

    #[test]
    fn requests_that_the_ledger_could_not_count_are_counted_once_it_can() {
        let (rules, mut quota, mut row) = (rules(1_000), Quota::default(), Row::default());
        for _ in 0..25 {
            quota.try_acquire(&rules, READ, at(0)).unwrap();
        }
        quota.try_acquire(&rules, MONEY, at(0)).unwrap();
        for usage in quota.unstored(&rules, MONEY, at(0)) {
            let total = row.add(&usage);
            quota.mark_stored(&usage, &total);
        }
        assert_eq!(row.all().iter().map(|usage| (usage.money, usage.other)).collect::<Vec<_>>(), [(10, 25)]);
        assert!(quota.unstored(&rules, MONEY, at(0)).is_empty());
    }

    #[test]
    fn requests_before_the_ledger_could_be_read_are_added_to_what_it_has() {
        let (rules, mut quota, mut row) = (rules(5), Quota::default(), Row::default());
        let mut former = Quota::default();
        assert!(send(&mut former, &rules, READ, at(0), &mut row));
        assert!(send(&mut former, &rules, READ, at(0), &mut row));
        quota.try_acquire(&rules, READ, at(0)).unwrap();
        quota.restore(&rules, &row.all(), at(0));
        assert_eq!(quota.lowest_remaining(&rules, at(0)), Some((2, 5)));
        assert!(send(&mut quota, &rules, READ, at(0), &mut row));
        assert_eq!(row.all()[0].other, 4, "the one that was not stored is stored with the next");
    }

    #[test]
    fn two_processes_share_the_limit() {
        let (rules, mut row) = (rules(6), Row::default());
        let (mut one, mut other) = (Quota::default(), Quota::default());
        let mut sent = 0;
        for _ in 0..9 {
            sent += usize::from(send(&mut one, &rules, READ, at(0), &mut row));
            sent += usize::from(send(&mut other, &rules, READ, at(0), &mut row));
        }
        assert!((6..=7).contains(&sent), "{sent}: one may be sent before the other's count is known");
    }

    #[test]
    fn a_clock_that_was_ahead_for_a_while_counts_nothing_twice() {
        let (rules, mut quota, mut row) = (rules(9), Quota::default(), Row::default());
        assert!(send(&mut quota, &rules, READ, at(0), &mut row));
        let ahead = Now { wall: at(24).wall, ..at(0) };
        assert!(send(&mut quota, &rules, READ, ahead, &mut row));
        assert!(send(&mut quota, &rules, READ, at(0), &mut row));
        assert_eq!(quota.lowest_remaining(&rules, at(0)), Some((6, 9)));
        assert!(row.all().iter().map(|usage| usage.other).sum::<u32>() <= 3, "{:?}", row.all());
    }
}
