use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::domain::time::{Mono, Now};

fn at(ms: u64) -> Now {
    let start: Timestamp = "2026-03-28T12:00:00Z".parse().unwrap();
    let mono = Mono::ZERO + Duration::from_millis(ms);
    Now { mono, wall: start + Duration::from_millis(ms) }
}

fn secs(s: u64) -> Now {
    at(s * 1000)
}

fn limit(requests: u32, unit: LimitUnit) -> Limit {
    Limit {
        name: format!("{requests}/{}", unit.as_str()),
        scope: LimitScope::Connection,
        requests,
        unit,
        burst: None,
        operations: Vec::new(),
    }
}

fn rules(limits: impl IntoIterator<Item = Limit>) -> QuotaRules {
    QuotaRules { limits: limits.into_iter().collect(), money_percent: 0, zone: TimeZone::UTC }
}

const READ: QuotaRequest<'_> = QuotaRequest { operation: "quote", partition: "", money: false, waited: false };
const MONEY: QuotaRequest<'_> = QuotaRequest { operation: "pay", money: true, ..READ };

/// How many of `request` pass at one moment.
fn pass(quota: &mut Quota, rules: &QuotaRules, request: QuotaRequest<'_>, now: Now) -> usize {
    (0..10_000).take_while(|_| quota.try_acquire(rules, request, now).is_ok()).count()
}

fn refused_until(quota: &mut Quota, rules: &QuotaRules, request: QuotaRequest<'_>, now: Now) -> Duration {
    quota.try_acquire(rules, request, now).unwrap_err().at.since(now.mono)
}

#[test]
fn a_minute_slides_and_the_wait_is_exact() {
    let (mut quota, rules) = (Quota::default(), rules([limit(5, LimitUnit::Minute)]));
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 5);
    assert_eq!(refused_until(&mut quota, &rules, READ, secs(20)), Duration::from_secs(40));
    assert!(quota.try_acquire(&rules, READ, at(59_999)).is_err());
    assert_eq!(pass(&mut quota, &rules, READ, secs(60)), 5);
}

#[test]
fn a_request_is_counted_in_all_limits_or_in_none() {
    // FRED: two a second and a hundred and twenty a minute.
    let (mut quota, rules) = (Quota::default(), rules([limit(2, LimitUnit::Second), limit(5, LimitUnit::Minute)]));
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 2);
    assert_eq!(pass(&mut quota, &rules, READ, secs(1)), 2);
    assert_eq!(pass(&mut quota, &rules, READ, secs(2)), 1);
    assert_eq!(
        refused_until(&mut quota, &rules, READ, secs(3)),
        Duration::from_secs(57),
        "the longest wait is returned"
    );
    assert_eq!(quota.lowest_remaining(&rules, secs(3)), Some((0, 5)));
    // A request that the minute rejected was not counted by the second.
    assert_eq!(pass(&mut quota, &rules, READ, secs(60)), 2);
}

#[test]
fn a_burst_is_admitted_at_once_and_the_rest_evenly() {
    let rules = rules([Limit { burst: Some(10), ..limit(60, LimitUnit::Minute) }]);
    let mut quota = Quota::default();
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 10);
    assert_eq!(refused_until(&mut quota, &rules, READ, secs(0)), Duration::from_secs(1));
    let passed: usize = (1..60).map(|s| pass(&mut quota, &rules, READ, secs(s))).sum();
    assert_eq!(passed, 50, "and never more than sixty in a minute");
    assert_eq!(pass(&mut quota, &rules, READ, secs(60)), 10);
}

#[test]
fn a_day_ends_at_midnight_of_its_zone() {
    let (mut quota, mut rules) = (Quota::default(), rules([limit(4, LimitUnit::Day)]));
    rules.zone = TimeZone::get("Europe/Paris").unwrap();
    // 28 March, 13:00 in Paris; the clocks go forward the night after the next midnight.
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 4);
    let midnight = 11 * 3600;
    assert_eq!(refused_until(&mut quota, &rules, READ, secs(0)), Duration::from_secs(midnight));
    assert!(quota.try_acquire(&rules, READ, secs(midnight - 1)).is_err());
    assert_eq!(pass(&mut quota, &rules, READ, secs(midnight)), 4);
    assert_eq!(refused_until(&mut quota, &rules, READ, secs(midnight)), Duration::from_hours(23), "a short day");
    // A wall clock that is set back does not give the day's requests again.
    let back = Now { wall: secs(midnight).wall - Duration::from_hours(2), ..secs(midnight + 60) };
    assert!(quota.try_acquire(&rules, READ, back).is_err());
}

#[test]
fn a_day_that_began_while_the_clock_was_ahead_ends_at_the_right_midnight() {
    // Of the next day's requests one is used up; a year from now nothing is known.
    for (ahead, next_day) in [(Duration::from_hours(13), 3), (Duration::from_hours(24 * 365), 4)] {
        let (mut quota, rules) = (Quota::default(), rules([limit(4, LimitUnit::Day)]));
        // 28 March, 12:00: all of the day's requests, and then some of what the clock takes for another day.
        assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 4);
        let wrong = Now { wall: secs(60).wall + ahead, ..secs(60) };
        assert!(quota.try_acquire(&rules, READ, wrong).is_ok());
        let midnight = 12 * 3600;
        assert_eq!(quota.lowest_remaining(&rules, secs(120)), Some((0, 4)));
        assert_eq!(refused_until(&mut quota, &rules, READ, secs(120)), Duration::from_secs(midnight - 120));
        assert_eq!(pass(&mut quota, &rules, READ, secs(midnight)), next_day);
        assert_eq!(pass(&mut quota, &rules, READ, secs(midnight + 24 * 3600)), 4);
    }
}

#[test]
fn the_reserve_is_for_money_calls_only() {
    let (mut quota, mut rules) = (Quota::default(), rules([limit(10, LimitUnit::Minute)]));
    rules.money_percent = 20;
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 8);
    assert_eq!(pass(&mut quota, &rules, MONEY, secs(0)), 2);
    assert_eq!(pass(&mut quota, &rules, MONEY, secs(60)), 10, "money may use all of it");
    assert_eq!(pass(&mut quota, &rules, READ, secs(60)), 0);
    // Money calls within the reserve do not reduce the share of other calls.
    assert_eq!(pass(&mut quota, &rules, MONEY, secs(120)), 10);
    let mut fresh = Quota::default();
    assert!(fresh.try_acquire(&rules, MONEY, secs(0)).is_ok());
    assert!(fresh.try_acquire(&rules, MONEY, secs(0)).is_ok());
    assert_eq!(pass(&mut fresh, &rules, READ, secs(0)), 8);
}

#[test]
fn a_limit_of_one_is_never_fully_reserved() {
    let (mut quota, mut rules) = (Quota::default(), rules([limit(1, LimitUnit::Minute)]));
    rules.money_percent = 90;
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 1);
}

#[test]
fn partition_limits_count_each_partition_and_operation() {
    // A bank that allows four calls a day for each account and endpoint.
    let per_account = Limit { scope: LimitScope::Partition, ..limit(4, LimitUnit::Day) };
    let searches = Limit { operations: vec!["search".to_owned()], ..limit(1, LimitUnit::Hour) };
    let (mut quota, rules) = (Quota::default(), rules([per_account, searches]));
    let request = |operation, partition| QuotaRequest { operation, partition, ..READ };
    assert_eq!(pass(&mut quota, &rules, request("transactions", "a"), secs(0)), 4);
    assert_eq!(pass(&mut quota, &rules, request("transactions", "b"), secs(0)), 4);
    assert_eq!(pass(&mut quota, &rules, request("balances", "a"), secs(0)), 4);
    assert_eq!(pass(&mut quota, &rules, request("search", "c"), secs(0)), 1, "its own limit is the narrower one");
}

#[test]
fn later_requests_queue_behind_waiting_ones_except_money() {
    let (mut quota, rules) = (Quota::default(), rules([limit(2, LimitUnit::Minute)]));
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 2);
    let first = quota.try_acquire(&rules, READ, secs(10)).unwrap_err();
    quota.add_waiter(first.window_id);
    let second = quota.try_acquire(&rules, READ, secs(10)).unwrap_err();
    quota.add_waiter(second.window_id);
    let third = quota.try_acquire(&rules, READ, secs(10)).unwrap_err();
    let after = |later: RetryAt| later.at.since(Mono::ZERO);
    assert_eq!([after(first), after(second), after(third)], [60, 60, 120].map(Duration::from_secs));
    assert!(quota.try_acquire(&rules, READ, secs(60)).is_err(), "both slots belong to waiting requests");
    assert!(quota.try_acquire(&rules, QuotaRequest { waited: true, ..READ }, secs(60)).is_ok());
    quota.remove_waiter(first.window_id);
    assert!(quota.try_acquire(&rules, MONEY, secs(60)).is_ok());
}

#[test]
fn counters_survive_a_change_of_the_limit() {
    let mut quota = Quota::default();
    let named = |requests| Limit { name: "minute".to_owned(), ..limit(requests, LimitUnit::Minute) };
    assert_eq!(pass(&mut quota, &rules([named(5)]), READ, secs(0)), 5);
    assert_eq!(pass(&mut quota, &rules([named(8)]), READ, secs(1)), 3);
    assert_eq!(pass(&mut quota, &rules([named(3)]), READ, secs(2)), 0);
}

#[test]
fn windows_of_idle_partitions_are_pruned() {
    let (mut quota, rules) =
        (Quota::default(), rules([Limit { scope: LimitScope::Partition, ..limit(1, LimitUnit::Minute) }]));
    for n in 0..10_000_u64 {
        let partition = format!("account-{n}");
        assert!(quota.try_acquire(&rules, QuotaRequest { partition: &partition, ..READ }, at(n * 100)).is_ok());
    }
    assert!(quota.len() <= 1_300, "{} windows: those of a minute are six hundred", quota.len());
}

#[test]
fn without_limits_everything_passes_and_no_window_is_created() {
    let mut quota = Quota::default();
    assert_eq!(pass(&mut quota, &rules([]), READ, secs(0)), 10_000);
    assert!(quota.len() == 0);
    assert_eq!(quota.lowest_remaining(&rules([]), secs(0)), None);
}

proptest! {
    /// Compared with the simplest model: the times of all admitted requests.
    #[test]
    fn no_sliding_window_exceeds_its_limit(
        requests in 1_u32..20,
        burst in proptest::option::of(1_u32..20),
        pauses in proptest::collection::vec(0_u64..20_000, 1..200),
        money in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let rules = QuotaRules { money_percent: 30, ..rules([Limit { burst, ..limit(requests, LimitUnit::Minute) }]) };
        let (mut quota, mut passed, mut now) = (Quota::default(), VecDeque::new(), 0);
        for (pause, money) in pauses.into_iter().zip(money) {
            now += pause;
            let request = if money { MONEY } else { READ };
            if quota.try_acquire(&rules, request, at(now)).is_ok() {
                passed.push_back(now);
            }
            while passed.front().is_some_and(|first| first + 60_000 <= now) {
                passed.pop_front();
            }
            prop_assert!(passed.len() <= requests as usize);
        }
    }

    /// A request that retries at the returned time is admitted if there was no other request.
    #[test]
    fn a_request_at_the_returned_time_is_admitted(
        requests in 1_u32..20,
        burst in proptest::option::of(1_u32..20),
        pauses in proptest::collection::vec(0_u64..5_000, 1..100),
    ) {
        let rules = rules([Limit { burst, ..limit(requests, LimitUnit::Minute) }, limit(requests * 4, LimitUnit::Hour)]);
        let (mut quota, mut now) = (Quota::default(), 0);
        for pause in pauses {
            now += pause;
            if let Err(later) = quota.try_acquire(&rules, READ, at(now)) {
                let returned = later.at.since(Mono::ZERO);
                let back = Now { mono: later.at, wall: at(0).wall + returned };
                prop_assert!(quota.try_acquire(&rules, READ, back).is_ok(), "at {:?}", returned);
                now = u64::try_from(returned.as_millis()).unwrap() + 1;
            }
        }
    }
}

#[test]
fn parameter_values_that_callers_invent_neither_fill_memory_nor_exceed_a_limit() {
    let per_account = Limit { scope: LimitScope::Partition, ..limit(4, LimitUnit::Day) };
    let (mut quota, rules) = (Quota::default(), rules([per_account]));
    let account = |n: usize| format!("acc-{n}");
    let admitted = |quota: &mut Quota, name: &str| {
        pass(quota, &rules, QuotaRequest { operation: "balances", partition: name, ..READ }, secs(0))
    };
    for n in 0..10_000 {
        assert_eq!(admitted(&mut quota, &account(n)), 4);
    }
    let further: usize = (10_000..10_100).map(|n| admitted(&mut quota, &account(n))).sum();
    assert_eq!((further, admitted(&mut quota, &account(5)), quota.len()), (4, 0, 10_001));
    // They have the next day's requests together, too.
    let next = secs(13 * 3600);
    let one = QuotaRequest { operation: "balances", partition: "acc-10050", ..READ };
    assert_eq!(pass(&mut quota, &rules, one, next), 4);
}
