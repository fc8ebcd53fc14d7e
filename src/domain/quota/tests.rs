use std::collections::VecDeque;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Now {
    let start: Timestamp = "2026-03-28T12:00:00Z".parse().unwrap();
    let mono = Mono::ZERO + Duration::from_millis(ms);
    Now { mono, wall: start + Duration::from_millis(ms) }
}

fn secs(s: u64) -> Now {
    at(s * 1000)
}

fn limit(requests: u32, unit: Unit) -> Limit {
    Limit {
        name: format!("{requests}/{}", unit.as_str()),
        scope: Scope::Connection,
        requests,
        unit,
        burst: None,
        operations: Vec::new(),
    }
}

fn rules(limits: impl IntoIterator<Item = Limit>) -> Rules {
    Rules { limits: limits.into_iter().collect(), money_percent: 0, zone: TimeZone::UTC }
}

const READ: Ask<'_> = Ask { operation: "quote", partition: "", money: false, waited: false };
const MONEY: Ask<'_> = Ask { operation: "pay", money: true, ..READ };

/// How many of `ask` pass at one moment.
fn pass(quota: &mut Quota, rules: &Rules, ask: Ask<'_>, now: Now) -> usize {
    (0..10_000).take_while(|_| quota.take(rules, ask, now).is_ok()).count()
}

fn refused_until(quota: &mut Quota, rules: &Rules, ask: Ask<'_>, now: Now) -> Duration {
    quota.take(rules, ask, now).unwrap_err().at.since(now.mono)
}

#[test]
fn a_minute_slides_and_the_wait_is_told_exactly() {
    let (mut quota, rules) = (Quota::default(), rules([limit(5, Unit::Minute)]));
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 5);
    assert_eq!(refused_until(&mut quota, &rules, READ, secs(20)), Duration::from_secs(40));
    assert!(quota.take(&rules, READ, at(59_999)).is_err());
    assert_eq!(pass(&mut quota, &rules, READ, secs(60)), 5);
}

#[test]
fn several_limits_apply_together_and_a_request_is_counted_in_all_or_in_none() {
    // FRED: two a second and a hundred and twenty a minute.
    let (mut quota, rules) = (Quota::default(), rules([limit(2, Unit::Second), limit(5, Unit::Minute)]));
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 2);
    assert_eq!(pass(&mut quota, &rules, READ, secs(1)), 2);
    assert_eq!(pass(&mut quota, &rules, READ, secs(2)), 1);
    assert_eq!(refused_until(&mut quota, &rules, READ, secs(3)), Duration::from_secs(57), "the longest wait is told");
    assert_eq!(quota.least(&rules, secs(3)), Some((0, 5)));
    // What the minute refused was not counted by the second.
    assert_eq!(pass(&mut quota, &rules, READ, secs(60)), 2);
}

#[test]
fn a_burst_comes_at_once_and_the_rest_evenly() {
    let rules = rules([Limit { burst: Some(10), ..limit(60, Unit::Minute) }]);
    let mut quota = Quota::default();
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 10);
    assert_eq!(refused_until(&mut quota, &rules, READ, secs(0)), Duration::from_secs(1));
    let passed: usize = (1..60).map(|s| pass(&mut quota, &rules, READ, secs(s))).sum();
    assert_eq!(passed, 50, "and never more than sixty in a minute");
    assert_eq!(pass(&mut quota, &rules, READ, secs(60)), 10);
}

#[test]
fn a_day_ends_at_the_zones_midnight_whatever_its_length() {
    let (mut quota, mut rules) = (Quota::default(), rules([limit(4, Unit::Day)]));
    rules.zone = TimeZone::get("Europe/Paris").unwrap();
    // 28 March, 13:00 in Paris; the clocks go forward the night after the next midnight.
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 4);
    let midnight = 11 * 3600;
    assert_eq!(refused_until(&mut quota, &rules, READ, secs(0)), Duration::from_secs(midnight));
    assert!(quota.take(&rules, READ, secs(midnight - 1)).is_err());
    assert_eq!(pass(&mut quota, &rules, READ, secs(midnight)), 4);
    assert_eq!(refused_until(&mut quota, &rules, READ, secs(midnight)), Duration::from_hours(23), "a short day");
    // A wall clock that is set back does not give the day's requests again.
    let back = Now { wall: secs(midnight).wall - Duration::from_hours(2), ..secs(midnight + 60) };
    assert!(quota.take(&rules, READ, back).is_err());
}

#[test]
fn what_is_kept_back_is_moneys_and_only_that() {
    let (mut quota, mut rules) = (Quota::default(), rules([limit(10, Unit::Minute)]));
    rules.money_percent = 20;
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 8);
    assert_eq!(pass(&mut quota, &rules, MONEY, secs(0)), 2);
    assert_eq!(pass(&mut quota, &rules, MONEY, secs(60)), 10, "money may use all of it");
    assert_eq!(pass(&mut quota, &rules, READ, secs(60)), 0);
    // What money took of its own part is not taken from the others a second time.
    assert_eq!(pass(&mut quota, &rules, MONEY, secs(120)), 10);
    let mut fresh = Quota::default();
    assert!(fresh.take(&rules, MONEY, secs(0)).is_ok());
    assert!(fresh.take(&rules, MONEY, secs(0)).is_ok());
    assert_eq!(pass(&mut fresh, &rules, READ, secs(0)), 8);
}

#[test]
fn a_limit_of_one_is_never_kept_back_whole() {
    let (mut quota, mut rules) = (Quota::default(), rules([limit(1, Unit::Minute)]));
    rules.money_percent = 90;
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 1);
}

#[test]
fn partitions_and_operations_are_counted_apart_where_the_limit_says_so() {
    // A bank that allows four calls a day for each account and endpoint.
    let per_account = Limit { scope: Scope::Partition, ..limit(4, Unit::Day) };
    let searches = Limit { operations: vec!["search".to_owned()], ..limit(1, Unit::Hour) };
    let (mut quota, rules) = (Quota::default(), rules([per_account, searches]));
    let ask = |operation, partition| Ask { operation, partition, ..READ };
    assert_eq!(pass(&mut quota, &rules, ask("transactions", "a"), secs(0)), 4);
    assert_eq!(pass(&mut quota, &rules, ask("transactions", "b"), secs(0)), 4);
    assert_eq!(pass(&mut quota, &rules, ask("balances", "a"), secs(0)), 4);
    assert_eq!(pass(&mut quota, &rules, ask("search", "c"), secs(0)), 1, "its own limit is the narrower one");
}

#[test]
fn who_comes_later_waits_behind_those_who_wait_and_money_does_not() {
    let (mut quota, rules) = (Quota::default(), rules([limit(2, Unit::Minute)]));
    assert_eq!(pass(&mut quota, &rules, READ, secs(0)), 2);
    let first = quota.take(&rules, READ, secs(10)).unwrap_err();
    quota.wait(first.place);
    let second = quota.take(&rules, READ, secs(10)).unwrap_err();
    quota.wait(second.place);
    let third = quota.take(&rules, READ, secs(10)).unwrap_err();
    let after = |later: Later| later.at.since(Mono::ZERO);
    assert_eq!([after(first), after(second), after(third)], [60, 60, 120].map(Duration::from_secs));
    assert!(quota.take(&rules, READ, secs(60)).is_err(), "both places are taken by those who wait");
    assert!(quota.take(&rules, Ask { waited: true, ..READ }, secs(60)).is_ok());
    quota.leave(first.place);
    assert!(quota.take(&rules, MONEY, secs(60)).is_ok());
}

#[test]
fn other_numbers_for_the_same_limit_keep_what_was_counted() {
    let mut quota = Quota::default();
    let named = |requests| Limit { name: "minute".to_owned(), ..limit(requests, Unit::Minute) };
    assert_eq!(pass(&mut quota, &rules([named(5)]), READ, secs(0)), 5);
    assert_eq!(pass(&mut quota, &rules([named(8)]), READ, secs(1)), 3);
    assert_eq!(pass(&mut quota, &rules([named(3)]), READ, secs(2)), 0);
}

#[test]
fn ten_thousand_partitions_leave_nothing_behind() {
    let (mut quota, rules) = (Quota::default(), rules([Limit { scope: Scope::Partition, ..limit(1, Unit::Minute) }]));
    for n in 0..10_000_u64 {
        let partition = format!("account-{n}");
        assert!(quota.take(&rules, Ask { partition: &partition, ..READ }, at(n * 100)).is_ok());
    }
    assert!(quota.len() <= 1_300, "{} windows: those of a minute are six hundred", quota.len());
}

#[test]
fn without_limits_everything_passes_and_nothing_is_kept() {
    let mut quota = Quota::default();
    assert_eq!(pass(&mut quota, &rules([]), READ, secs(0)), 10_000);
    assert!(quota.is_empty());
    assert_eq!(quota.least(&rules([]), secs(0)), None);
}

proptest! {
    /// Against the plainest model: the times of all requests that passed.
    #[test]
    fn no_sliding_window_ever_holds_more_than_its_limit(
        requests in 1_u32..20,
        burst in proptest::option::of(1_u32..20),
        pauses in proptest::collection::vec(0_u64..20_000, 1..200),
        money in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let rules = Rules { money_percent: 30, ..rules([Limit { burst, ..limit(requests, Unit::Minute) }]) };
        let (mut quota, mut passed, mut now) = (Quota::default(), VecDeque::new(), 0);
        for (pause, money) in pauses.into_iter().zip(money) {
            now += pause;
            let ask = if money { MONEY } else { READ };
            if quota.take(&rules, ask, at(now)).is_ok() {
                passed.push_back(now);
            }
            while passed.front().is_some_and(|first| first + 60_000 <= now) {
                passed.pop_front();
            }
            prop_assert!(passed.len() <= requests as usize);
        }
    }

    /// Whoever comes back at the time he was told is let in, if nobody came meanwhile.
    #[test]
    fn the_time_that_is_told_is_kept(
        requests in 1_u32..20,
        burst in proptest::option::of(1_u32..20),
        pauses in proptest::collection::vec(0_u64..5_000, 1..100),
    ) {
        let rules = rules([Limit { burst, ..limit(requests, Unit::Minute) }, limit(requests * 4, Unit::Hour)]);
        let (mut quota, mut now) = (Quota::default(), 0);
        for pause in pauses {
            now += pause;
            if let Err(later) = quota.take(&rules, READ, at(now)) {
                let told = later.at.since(Mono::ZERO);
                let back = Now { mono: later.at, wall: at(0).wall + told };
                prop_assert!(quota.take(&rules, READ, back).is_ok(), "at {:?}", told);
                now = u64::try_from(told.as_millis()).unwrap() + 1;
            }
        }
    }
}
