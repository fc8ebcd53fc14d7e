//! Daily limits: what they admit, what is reserved, and by which day.

use jiff::civil::date;

use super::*;
use crate::domain::route::CandidateReason;

fn limit(amount: Option<&str>, count: Option<u32>, zone: &str) -> DailyLimit {
    DailyLimit { amount: amount.map(dec), count, zone: zone.into() }
}

fn limited(limit: DailyLimit) -> SealedSnapshot {
    let mut one = bank("a", "0", "1");
    one.daily_limit = Some(limit);
    snapshot(vec![one, bank("b", "0", "9")]).seal().unwrap()
}

fn used(amount: &str, count: u32) -> Usage {
    Usage([("a".to_owned(), DayUsage { amount: dec(amount), count, day: date(2026, 11, 29) })].into())
}

#[test]
fn a_limit_is_inclusive_and_excludes_what_would_exceed_it() {
    let by_amount = limited(limit(Some("5000"), None, "UTC"));
    let by_count = limited(limit(None, Some(3), "UTC"));
    let asked = request("1000", "USD");
    for (sealed, usage, want) in [
        (&by_amount, Usage::default(), "LowestCost"),
        (&by_amount, used("4000", 900), "LowestCost"),
        (&by_amount, used("4000.01", 1), "DailyLimitReached"),
        (&by_amount, used("5000", 1), "DailyLimitReached"),
        (&by_count, used("999999", 2), "LowestCost"),
        (&by_count, used("0", 3), "DailyLimitReached"),
        (&by_count, used("0", 4), "DailyLimitReached"),
    ] {
        let evaluation = decide(&asked, &sealed.snapshot, &usage, now());
        assert_eq!(evaluation.standings[0].reason.as_str(), want, "{usage:?}");
        assert_eq!(evaluation.active.as_deref() == Some("b"), want == "DailyLimitReached");
    }
    let zero = limited(limit(Some("0"), None, "UTC"));
    assert_eq!(decide(&asked, &zero.snapshot, &Usage::default(), now()).active.as_deref(), Some("b"));
}

#[test]
fn a_limit_is_in_the_reference_currency_and_unknown_without_a_rate() {
    let asked = request("655957", "XOF");
    let reason = |sealed: &SealedSnapshot, asked: &DecisionRequest| {
        decide(asked, &sealed.snapshot, &Usage::default(), now()).standings[0].reason
    };
    let amount = limited(limit(Some("1000"), None, "UTC"));
    assert_eq!(reason(&amount, &asked), CandidateReason::LimitUnknown);
    let count = limited(limit(None, Some(1), "UTC"));
    assert_ne!(reason(&count, &asked), CandidateReason::LimitUnknown, "a number needs no rate");
    let rate = RequestRate { at: None, from: currency("USD"), rate: dec("655.957"), to: currency("XOF") };
    let asked = DecisionRequest { rates: vec![rate], ..asked };
    let usage = Usage::default();
    let record = DecisionRecord::decide(&ask(&asked, &amount, &usage), now()).unwrap().record;
    let reserved = record.reserved.clone().unwrap();
    assert_eq!((reserved.amount, reserved.candidate.as_str()), (dec("1000"), "a"));
    assert!(replay(&record, &amount.snapshot).is_ok());
    let other = Reservation { amount: dec("999"), ..reserved };
    let changed = DecisionRecord { reserved: Some(other), ..record.clone() };
    assert_eq!(replay(&changed, &amount.snapshot), Err(ReplayError::Reservation));
    assert_eq!(replay(&DecisionRecord { reserved: None, ..record }, &amount.snapshot), Err(ReplayError::Reservation));
}

#[test]
fn only_the_chosen_candidate_reserves_and_only_with_a_limit() {
    let sealed = limited(limit(Some("5000"), None, "UTC"));
    let asked = request("1000", "USD");
    let reserved = |usage: &Usage| DecisionRecord::decide(&ask(&asked, &sealed, usage), now()).unwrap().record.reserved;
    let on_a = reserved(&used("1000", 1)).unwrap();
    assert_eq!(
        on_a,
        Reservation { amount: dec("1000"), candidate: "a".into(), currency: currency("USD"), day: date(2026, 11, 29) }
    );
    assert_eq!(reserved(&used("5000", 5)), None, "b has no limit");
}

#[test]
fn the_day_is_that_of_the_zone() {
    let day = |zone: &str, at: &str| limit(None, None, zone).day(at.parse().unwrap());
    for (zone, at, want) in [
        ("UTC", "2026-11-29T23:59:59Z", date(2026, 11, 29)),
        ("UTC", "2026-11-30T00:00:00Z", date(2026, 11, 30)),
        ("Pacific/Kiritimati", "2026-11-29T10:00:00Z", date(2026, 11, 30)),
        ("Pacific/Pago_Pago", "2026-11-29T10:59:59Z", date(2026, 11, 28)),
        ("Europe/Oslo", "2026-03-29T22:00:00Z", date(2026, 3, 30)),
        ("Nowhere/Else", "2026-11-29T23:00:00Z", date(2026, 11, 29)),
    ] {
        assert_eq!(day(zone, at), want, "{zone} {at}");
    }
}

#[test]
fn a_release_takes_back_what_was_reserved_and_no_more() {
    let mut usage = DayUsage::none(date(2026, 11, 29));
    usage.reserve(dec("10.50"));
    usage.reserve(dec("4.50"));
    assert_eq!((usage.amount, usage.count), (dec("15"), 2));
    usage.release(dec("4.5"));
    assert_eq!((usage.amount, usage.count), (dec("10.5"), 1));
    usage.release(dec("99"));
    usage.release(dec("1"));
    assert_eq!(usage, DayUsage::none(date(2026, 11, 29)));
    let full = limit(Some("10"), Some(5), "UTC");
    assert!(full.admits(&usage, dec("10")) && !full.admits(&usage, dec("10.01")));
    usage.reserve(Decimal::MAX);
    assert!(!full.admits(&usage, Decimal::MAX), "an overflow is above any limit");
}
