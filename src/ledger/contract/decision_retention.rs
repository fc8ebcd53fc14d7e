//! Retention of decisions: a checkpoint in place of the beginning of the chain.

use super::OpenLedger;
use super::decision_fixtures::{
    DAY, attempt, built, commit, decide, decision, entry, eur, is_stored, limited, outcome, snapshot, verify,
};
use super::fixtures::{at, take_named};
use crate::domain::decision::{Checkpoint, DailyLimit, EntryKind, OutcomeClass};
use crate::ledger::decisions::{DecisionFilter, EntryOutcome, LimitDay, NewDecision, NewEntry};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::store::Ledger;

async fn pruner(ledger: &dyn Ledger, holder: &str, second: i64) -> Lease {
    take_named(ledger, "retention", holder, at(second)).await
}

/// Ten decisions, one in each hour, on two snapshots.
async fn fill(ledger: &dyn Ledger) {
    let entries = (0..10).map(|n| {
        let content = if n < 3 { "old" } else { "new" };
        entry(&built(NewDecision { snapshot: snapshot(content), ..decision(&format!("p{n}"), "a", n * 3_600) }))
    });
    assert!(commit(ledger, entries).await.unwrap().iter().all(is_stored));
}

pub(crate) async fn old_entries_become_a_checkpoint_and_the_rest_verifies(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = pruner(&*ledger, "me", 0).await;
    fill(&*ledger).await;
    let chain = ledger.chain(0, 99).await.unwrap();
    let prune = async |hours: i64, limit: u32| {
        ledger.checkpoint_decisions(&lease, at(hours * 3_600), limit, at(100_000)).await.unwrap()
    };
    assert_eq!(prune(0, 100).await, 0, "nothing is that old");
    assert_eq!(verify(&*ledger).await, 10);
    assert_eq!(prune(5, 2).await, 2, "in pieces");
    assert_eq!(prune(5, 100).await, 3);
    assert_eq!(prune(5, 100).await, 0);
    assert_eq!(verify(&*ledger).await, 7);
    let head = ledger.chain_head().await.unwrap();
    assert_eq!((head.seq, head.base_seq, head.base_hash), (12, 5, chain[4].hash));
    let last = ledger.chain(11, 9).await.unwrap();
    assert_eq!(last[0].kind, EntryKind::Checkpoint);
    let checkpoint = Checkpoint::decode(&last[0].body).unwrap();
    assert_eq!(checkpoint, Checkpoint { count: 5, hash: chain[4].hash, seq: 5 });
    assert_eq!(ledger.decision_by_key(&decision("p4", "a", 0).key).await.unwrap(), None);
    assert!(ledger.decision_by_key(&decision("p5", "a", 0).key).await.unwrap().is_some());
    // Another writer goes on.
    let other = store.writer().await;
    assert!(is_stored(&decide(&*other, &decision("later", "a", 99_000)).await));
    assert_eq!(verify(&*ledger).await, 8);
    let listed = ledger.list_decisions(&DecisionFilter::default(), None, 100).await.unwrap();
    assert_eq!((listed.decisions.len(), listed.next), (6, None));
}

pub(crate) async fn a_snapshot_is_kept_while_a_decision_names_it(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = pruner(&*ledger, "me", 0).await;
    fill(&*ledger).await;
    let kept = async || {
        let body = async |content: &str| ledger.snapshot(snapshot(content).id).await.unwrap().is_some();
        (body("old").await, body("new").await)
    };
    let prune = async |before| ledger.checkpoint_decisions(&lease, at(before), 100, at(before)).await.unwrap();
    assert_eq!(prune(2 * 3_600).await, 2);
    assert_eq!(kept().await, (true, true), "one decision is left");
    let again = built(NewDecision { snapshot: snapshot("old"), ..decision("again", "a", 90_000) });
    decide(&*ledger, &again).await;
    assert_eq!(prune(9 * 3_600).await, 7);
    assert_eq!(kept().await, (true, true), "named by a later one");
    assert_eq!(prune(95_000).await, 4, "with the checkpoints between them");
    assert_eq!(kept().await, (false, false));
    verify(&*ledger).await;
}

pub(crate) async fn a_chain_of_checkpoints_alone_does_not_grow(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = pruner(&*ledger, "me", 0).await;
    fill(&*ledger).await;
    for hour in [3, 6, 9, 20] {
        ledger.checkpoint_decisions(&lease, at(hour * 3_600), 100, at(hour * 3_600 + 1)).await.unwrap();
    }
    let checkpoints = verify(&*ledger).await;
    for hour in [30, 40, 50] {
        assert_eq!(ledger.checkpoint_decisions(&lease, at(hour * 3_600), 100, at(hour * 3_600)).await.unwrap(), 0);
    }
    assert_eq!(verify(&*ledger).await, checkpoints);
}

pub(crate) async fn an_entry_of_the_future_is_deleted_with_an_older_one_behind_it(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = pruner(&*ledger, "me", 0).await;
    for (payout, second) in [("p1", 0), ("wrong clock", 90_000_000), ("p2", 10), ("p3", 9_000), ("again", 80_000_000)] {
        decide(&*ledger, &decision(payout, "a", second)).await;
    }
    let prune = async |before| ledger.checkpoint_decisions(&lease, at(before), 100, at(10_000)).await.unwrap();
    assert_eq!(prune(100).await, 3);
    assert_eq!(prune(9_500).await, 1, "the last one has none behind it");
    assert_eq!(verify(&*ledger).await, 3);
}

pub(crate) async fn a_payout_is_not_decided_anew_while_a_later_attempt_is_kept(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = pruner(&*ledger, "me", 0).await;
    let first = decision("p1", "a", 0);
    let rejected = NewEntry::Outcome(outcome(&first, OutcomeClass::Rejected, 5, 1));
    commit(&*ledger, [entry(&first), rejected, entry(&attempt("p1", 2, "b", 9_000))]).await.unwrap();
    assert_eq!(ledger.checkpoint_decisions(&lease, at(100), 100, at(10_000)).await.unwrap(), 2);
    for number in [1, 3] {
        let outcome = decide(&*ledger, &attempt("p1", number, "c", 9_500)).await;
        assert!(matches!(outcome, EntryOutcome::Unresolved(_)), "{number}: {outcome:?}");
    }
}

pub(crate) async fn old_counters_of_daily_limits_go_with_their_decisions(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = pruner(&*ledger, "me", 0).await;
    let limit = DailyLimit { amount: None, count: Some(5), zone: "UTC".into() };
    decide(&*ledger, &limited(decision("p1", "a", 0), &limit, "3")).await;
    let days =
        [LimitDay { namespace: "pay".into(), route: "eu".into(), candidate: "a".into(), day: DAY, currency: eur() }];
    // In the last zone the day ends twelve hours later than in UTC.
    for (before, count) in [("2026-11-23T23:59:59Z", 1), ("2026-11-24T00:00:00Z", 0)] {
        let before = before.parse().unwrap();
        ledger.checkpoint_decisions(&lease, before, 100, before).await.unwrap();
        assert_eq!(ledger.day_usages(&days).await.unwrap()[0].count, count, "{before}");
    }
}

pub(crate) async fn a_pruner_that_lost_its_lease_deletes_nothing(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let frozen = pruner(&*ledger, "me", 0).await;
    fill(&*ledger).await;
    pruner(&*ledger, "another", 60).await;
    let refused = ledger.checkpoint_decisions(&frozen, at(80_000), 100, at(90_000)).await;
    assert!(matches!(refused, Err(LedgerError::Fenced { .. })), "{refused:?}");
    assert_eq!(verify(&*ledger).await, 10);
}
