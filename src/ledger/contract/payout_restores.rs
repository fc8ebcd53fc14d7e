//! Payouts after a restore with loss, at the end of their retention, and the limits that their attempts take from.

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::OpenLedger;
use super::decision_fixtures::{DAY, attempt, decide, decision, eur, is_stored, limited, one, outcome, verify};
use super::fixtures::{at, take_named};
use super::payout_fixtures::{
    act, entry, is_committed, next, registered, registration, rejected, report, said, stored,
};
use crate::domain::decision::{DailyLimit, DayUsage, EntryKind, OutcomeClass};
use crate::domain::payout::{AttemptState, BankReport, HoldReason, PayoutState};
use crate::ledger::decisions::{EntryOutcome, LimitDay, NewEntry};
use crate::ledger::error::LedgerError;
use crate::ledger::outbox::EventFilter;
use crate::ledger::payouts::{PayoutAct, PayoutEntry, PayoutOutcome, PayoutsResume, hold_open_payouts};
use crate::ledger::store::Ledger;

fn resumption(second: i64) -> PayoutsResume {
    PayoutsResume { at: at(second), reason: Some("compared".into()), request_id: None, subject: "ann".into() }
}

async fn resume(ledger: &dyn Ledger, second: i64) -> EntryOutcome {
    one(ledger, NewEntry::ResumePayouts(resumption(second))).await
}

pub(crate) async fn after_a_loss_nothing_is_decided_until_a_person_resumes_payouts(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let open = registered(&*ledger, "open", 1).await;
    let unknown = registered(&*ledger, "unknown", 2).await;
    report(&*ledger, &unknown, 1, BankReport::Silence, 3).await;
    let refused = registered(&*ledger, "refused", 4).await;
    let refused = rejected(&*ledger, &refused, 1, 5).await;
    let paid = registered(&*ledger, "paid", 6).await;
    let paid = report(&*ledger, &paid, 1, BankReport::Confirmation, 7).await;
    assert_eq!(resume(&*ledger, 9).await, EntryOutcome::NotFound, "nothing is suspended");
    ledger.accept_loss().await.unwrap();
    let other = store.writer().await;
    assert!(other.payouts_suspended().await.unwrap());
    let (new, second) = (decision("new", "a", 10), attempt("refused", 2, "b", 10));
    let refusals: [BoxFuture<'_, EntryOutcome>; 5] = [
        decide(&*ledger, &new).boxed(),
        // Also what was decided before: a later attempt may be missing.
        one(&*ledger, entry(&decision("open", "a", 1), &registration(&decision("open", "a", 1), 11))).boxed(),
        one(&*ledger, entry(&new, &registration(&new, 10))).boxed(),
        decide(&*ledger, &second).boxed(),
        one(&*ledger, entry(&second, &next(&refused, &second, 10))).boxed(),
    ];
    for (n, refusal) in refusals.into_iter().enumerate() {
        assert_eq!(refusal.await, EntryOutcome::PayoutsSuspended, "{n}");
    }
    assert_eq!(resume(&*ledger, 11).await, EntryOutcome::Payout(PayoutOutcome::NotReviewed));
    assert_eq!(hold_open_payouts(&*other, at(12)).await.unwrap(), 3);
    for payout_id in ["open", "unknown", "refused"] {
        let held = stored(&*ledger, payout_id).await.payout;
        assert_eq!((held.state(), held.hold()), (PayoutState::Held, Some(HoldReason::RestoredWithLoss)), "{payout_id}");
        let expected = if payout_id == "refused" { AttemptState::Rejected } else { AttemptState::ManualReview };
        assert_eq!(held.attempts[0].state, expected, "{payout_id}");
    }
    let filter = EventFilter { aggregate: Some("payout/pay/open".into()), ..EventFilter::default() };
    let told = ledger.list_events(&filter, 9).await.unwrap();
    assert_eq!(told.iter().map(|event| event.event_type.as_str()).collect::<Vec<_>>(), ["payout.held"]);
    assert_eq!(stored(&*ledger, "paid").await, paid, "what is known to be paid stays paid");
    let resumed = resume(&*ledger, 13).await;
    assert!(matches!(resumed, EntryOutcome::Stored(_)), "{resumed:?}");
    assert_eq!(resume(&*ledger, 13).await, resumed, "the same act again");
    assert!(!other.payouts_suspended().await.unwrap());
    assert!(is_stored(&decide(&*ledger, &new).await));
    assert!(matches!(decide(&*ledger, &second).await, EntryOutcome::Unresolved(_)), "its payout is under review");
    let last = ledger.chain(0, 100).await.unwrap().into_iter().rfind(|entry| entry.kind == EntryKind::Payout);
    let entry = PayoutEntry::decode(&last.unwrap().body);
    assert_eq!(entry, Some(PayoutEntry::Resume(resumption(13))));
    assert_eq!(open.version + 1, stored(&*ledger, "open").await.version);
    verify(&*ledger).await;
}

pub(crate) async fn payouts_under_review_after_a_loss_are_reviewed_once(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    registered(&*ledger, "p1", 1).await;
    assert_eq!(hold_open_payouts(&*ledger, at(2)).await.unwrap(), 0, "no entries were lost");
    ledger.accept_loss().await.unwrap();
    for held in [1, 0] {
        assert_eq!(hold_open_payouts(&*ledger, at(3)).await.unwrap(), held);
    }
    // A person knows what became of it; another start of the operator does not undo that.
    let payout = stored(&*ledger, "p1").await;
    let paid = report(&*ledger, &payout, 1, BankReport::Confirmation, 4).await;
    assert_eq!((hold_open_payouts(&*ledger, at(5)).await.unwrap(), paid.payout.state()), (0, PayoutState::Confirmed));
    assert!(matches!(resume(&*ledger, 6).await, EntryOutcome::Stored(_)));
    // A payout of after the restore is reviewed after the next one.
    registered(&*ledger, "p2", 7).await;
    assert_eq!(hold_open_payouts(&*ledger, at(8)).await.unwrap(), 0);
    ledger.accept_loss().await.unwrap();
    assert_eq!(hold_open_payouts(&*ledger, at(9)).await.unwrap(), 1);
}

pub(crate) async fn final_payouts_are_pruned_in_pieces_and_open_ones_kept(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "retention", "me", at(0)).await;
    for n in 0..3 {
        let paid = registered(&*ledger, &format!("paid{n}"), n).await;
        report(&*ledger, &paid, 1, BankReport::Confirmation, 10 + n).await;
    }
    registered(&*ledger, "open", 1).await;
    assert_eq!(ledger.prune_payouts(&lease, at(10), 100).await.unwrap(), 0, "nothing is that old");
    assert_eq!(ledger.prune_payouts(&lease, at(12), 1).await.unwrap(), 1, "in pieces");
    assert_eq!(ledger.prune_payouts(&lease, at(12), 100).await.unwrap(), 1);
    assert_eq!(ledger.payout("pay", "paid0").await.unwrap(), None);
    assert!(ledger.payout_timeline("pay", "paid1", 0, 9).await.unwrap().is_empty());
    assert!(ledger.payout("pay", "paid2").await.unwrap().is_some());
    take_named(&*ledger, "retention", "other", at(100)).await;
    let fenced = ledger.prune_payouts(&lease, at(9_000), 100).await;
    assert!(matches!(fenced, Err(LedgerError::Fenced { .. })), "{fenced:?}");
    let lease = take_named(&*ledger, "retention", "other", at(200)).await;
    assert_eq!(ledger.prune_payouts(&lease, at(9_000), 100).await.unwrap(), 1);
    assert!(ledger.payout("pay", "open").await.unwrap().is_some(), "its fate is not known");
    // The chain is longer than the payouts.
    verify(&*ledger).await;
}

pub(crate) async fn a_followed_attempt_gives_its_limit_back_once_for_state_and_outcome(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let limit = DailyLimit { amount: Some("100".parse().unwrap()), count: None, zone: "UTC".into() };
    let used = async || {
        let (namespace, route, candidate) = ("pay".into(), "eu".into(), "a".into());
        let day = LimitDay { namespace, route, candidate, day: DAY, currency: eur() };
        ledger.day_usages(&[day]).await.unwrap()[0]
    };
    let usage = |amount: &str, count| DayUsage { amount: amount.parse().unwrap(), count, day: DAY };
    let of = limited(decision("p1", "a", 1), &limit, "80");
    assert!(is_committed(&one(&*ledger, entry(&of, &registration(&of, 1))).await));
    assert_eq!(used().await, usage("80", 1));
    let payout = stored(&*ledger, "p1").await;
    // The submitter says so first; its word counts once it is the payout's state.
    one(&*ledger, NewEntry::Outcome(outcome(&of, OutcomeClass::Rejected, 5, 1))).await;
    assert_eq!(used().await, usage("80", 1));
    let payout = rejected(&*ledger, &payout, 1, 6).await;
    assert_eq!(used().await, usage("0", 0));
    let repeated = act(&payout, PayoutAct::Report, &said(1, BankReport::Ack, 7), 7);
    assert!(is_committed(&ledger.commit_payout(repeated).await.unwrap()));
    assert_eq!(used().await, usage("0", 0));
    let payout = stored(&*ledger, "p1").await;
    report(&*ledger, &payout, 1, BankReport::Confirmation, 8).await;
    assert_eq!(used().await, usage("80", 1), "it was executed after all");
}

pub(crate) async fn an_open_payout_closes_the_gate_although_its_decision_is_past_its_retention(
    store: &impl OpenLedger,
) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "retention", "me", at(0)).await;
    let payout = registered(&*ledger, "p1", 1).await;
    decide(&*ledger, &decision("young", "a", 9_000)).await;
    ledger.checkpoint_decisions(&lease, at(5_000), 100, at(9_000)).await.unwrap();
    assert!(ledger.attempts("pay", "p1").await.unwrap().is_empty(), "the decision is gone");
    for number in 1..3 {
        let again = decide(&*ledger, &attempt("p1", number, "b", 9_001)).await;
        assert!(matches!(again, EntryOutcome::Unresolved(_)), "{number}: {again:?}");
    }
    let payout = rejected(&*ledger, &payout, 1, 9_002).await;
    let (first, second) = (attempt("p1", 1, "b", 9_003), attempt("p1", 2, "b", 9_003));
    assert!(matches!(decide(&*ledger, &first).await, EntryOutcome::Unresolved(_)), "there was a first");
    assert!(is_committed(&one(&*ledger, entry(&second, &next(&payout, &second, 9_003))).await));
    verify(&*ledger).await;
}
