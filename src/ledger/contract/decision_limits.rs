//! Daily limits: taken by decisions, given back by proof that a payout was not made.

use futures::future::join_all;

use super::OpenLedger;
use super::decision_fixtures::{
    DAY, attempt, commit, decide, decision, entry, eur, in_currency, is_stored, limited, outcome, report,
};
use crate::domain::decision::{DailyLimit, DayUsage, OutcomeClass};
use crate::domain::money::Currency;
use crate::ledger::decisions::{EntryOutcome, LimitDay, NewEntry};
use crate::ledger::store::Ledger;

fn limit(amount: Option<&str>, count: Option<u32>) -> DailyLimit {
    DailyLimit { amount: amount.map(|amount| amount.parse().unwrap()), count, zone: "UTC".into() }
}

fn day(candidate: &str) -> LimitDay {
    LimitDay { namespace: "pay".into(), route: "eu".into(), candidate: candidate.into(), day: DAY, currency: eur() }
}

fn usage(amount: &str, count: u32) -> DayUsage {
    DayUsage { amount: amount.parse().unwrap(), count, day: DAY }
}

async fn used(ledger: &dyn Ledger) -> DayUsage {
    ledger.day_usages(&[day("a")]).await.unwrap()[0]
}

pub(crate) async fn a_daily_limit_admits_up_to_its_amount_and_its_number(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let amount = limit(Some("100"), None);
    let take = async |payout: &str, candidate: &str, limit: &DailyLimit, amount: &str| {
        decide(&*ledger, &limited(decision(payout, candidate, 1), limit, amount)).await
    };
    assert!(is_stored(&take("p1", "a", &amount, "60.10").await));
    assert_eq!(take("p2", "a", &amount, "39.91").await, EntryOutcome::LimitReached(usage("60.1", 1)));
    assert!(is_stored(&take("p3", "a", &amount, "39.90").await));
    assert_eq!(take("p4", "a", &amount, "0.01").await, EntryOutcome::LimitReached(usage("100", 2)));
    let replayed = take("p1", "a", &amount, "60.10").await;
    assert!(is_stored(&replayed), "the same decision takes nothing again: {replayed:?}");
    let count = limit(None, Some(2));
    for (payout, stored) in [("q1", true), ("q2", true), ("q3", false)] {
        assert_eq!(is_stored(&take(payout, "b", &count, "1000000").await), stored, "{payout}");
    }
    let days = [day("b"), day("c"), day("a")];
    let expected = [usage("2000000", 2), usage("0", 0), usage("100", 2)];
    assert_eq!(ledger.day_usages(&days).await.unwrap(), expected, "in the order that was asked for");
    assert_eq!(ledger.decision_by_key(&decision("p2", "a", 1).key).await.unwrap(), None);
}

pub(crate) async fn a_reservation_is_given_back_once_and_taken_again_if_contradicted(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let limit = limit(Some("100"), Some(10));
    let first = limited(decision("p1", "a", 1), &limit, "70");
    let other = limited(decision("p2", "a", 1), &limit, "20");
    commit(&*ledger, [entry(&first), entry(&other)]).await.unwrap();
    let steps = [
        (OutcomeClass::Timeout, usage("90", 2)),
        (OutcomeClass::NotSent, usage("20", 1)),
        (OutcomeClass::Rejected, usage("20", 1)),
        (OutcomeClass::CustomerFault, usage("20", 1)),
        (OutcomeClass::Pending, usage("90", 2)),
        (OutcomeClass::BankFailure, usage("90", 2)),
        (OutcomeClass::Success, usage("90", 2)),
    ];
    for (second, (class, expected)) in (2..).zip(steps) {
        for _ in 0..2 {
            report(&*ledger, &first, class, second).await;
            assert_eq!(used(&*ledger).await, expected, "{class}");
        }
    }
}

pub(crate) async fn a_further_attempt_takes_what_the_earlier_one_gave_back(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let limit = limit(Some("100"), None);
    let first = limited(decision("p1", "a", 1), &limit, "80");
    let next = limited(attempt("p1", 2, "a", 5), &limit, "80");
    let outcomes = commit(
        &*ledger,
        [
            entry(&first),
            entry(&limited(decision("p2", "a", 1), &limit, "80")),
            NewEntry::Outcome(outcome(&first, OutcomeClass::Rejected, 2, 1)),
            entry(&next),
        ],
    )
    .await
    .unwrap();
    assert_eq!(outcomes.iter().map(is_stored).collect::<Vec<_>>(), [true, false, true, true]);
    assert_eq!(used(&*ledger).await, usage("80", 1));
    // Time alone gives nothing back.
    let refused = decide(&*ledger, &limited(decision("p3", "a", 80_000), &limit, "21")).await;
    assert_eq!(refused, EntryOutcome::LimitReached(usage("80", 1)));
}

pub(crate) async fn amounts_of_two_currencies_are_counted_apart(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let (limit, usd) = (limit(Some("100"), None), Currency::parse("USD").unwrap());
    let of = |currency: Currency| LimitDay { currency, ..day("a") };
    let both = [of(eur()), of(usd)];
    let first = in_currency(decision("p1", "a", 1), &limit, "90", eur());
    let second = in_currency(decision("p2", "a", 2), &limit, "80", usd);
    assert!(commit(&*ledger, [entry(&first), entry(&second)]).await.unwrap().iter().all(is_stored));
    assert_eq!(ledger.day_usages(&both).await.unwrap(), [usage("90", 1), usage("80", 1)]);
    let third = in_currency(decision("p3", "a", 3), &limit, "30", usd);
    assert_eq!(decide(&*ledger, &third).await, EntryOutcome::LimitReached(usage("80", 1)));
    report(&*ledger, &first, OutcomeClass::NotSent, 4).await;
    assert_eq!(ledger.day_usages(&both).await.unwrap(), [usage("0", 0), usage("80", 1)], "given back in its currency");
    assert_eq!(ledger.decision(first.record.id).await.unwrap().unwrap().reserved, first.record.reserved);
}

pub(crate) async fn two_writers_share_a_daily_limit(store: &impl OpenLedger) {
    let handles = [store.writer().await, store.writer().await];
    let limit = limit(Some("20"), None);
    let takes = (0..16).map(|n| {
        let (ledger, limit) = (&handles[n % 2], &limit);
        async move { decide(&**ledger, &limited(decision(&format!("p{n}"), "a", 1), limit, "3")).await }
    });
    let outcomes = join_all(takes).await;
    assert_eq!(outcomes.iter().filter(|outcome| is_stored(outcome)).count(), 6);
    assert_eq!(used(&*handles[0]).await, usage("18", 6));
}
