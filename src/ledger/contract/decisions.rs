//! The audit of routing: attempts, overrides, outcomes, the chain.

use futures::future::join_all;
use uuid::Uuid;

use super::OpenLedger;
use super::decision_fixtures::{
    attempt, batch, built, commit, decide, decision, entry, is_stored, one, outcome, overriding, report, snapshot,
    stored, verify, with_amount,
};
use super::fixtures::at;
use crate::domain::decision::{EntryKind, OutcomeClass, UnresolvedReason};
use crate::ledger::decisions::{
    DecisionFilter, EntryColumns, EntryOutcome, EntryPosition, MAX_OUTCOMES, NewDecision, NewEntry, NewOutcome,
    StoredDecision,
};
use crate::ledger::store::OpenMode;

fn position(outcome: &EntryOutcome) -> EntryPosition {
    match outcome {
        EntryOutcome::Stored(position) | EntryOutcome::OutcomeStored { position, .. } => *position,
        other => panic!("not stored: {other:?}"),
    }
}

pub(crate) async fn a_repeated_request_is_the_same_decision_and_another_one_a_conflict(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let first = decision("p1", "a", 1);
    let position = position(&decide(&*ledger, &first).await);
    // The world has changed meanwhile: another bank would be chosen, on another snapshot.
    let again = built(NewDecision { snapshot: snapshot("later"), ..decision("p1", "b", 2) });
    let EntryOutcome::Replayed(replayed) = decide(&*ledger, &again).await else { panic!("not replayed") };
    let expected = StoredDecision {
        seq: position.seq,
        hash: position.hash,
        id: first.record.id,
        kind: first.record.kind,
        key: first.key.clone(),
        request_hash: first.request_hash,
        route: "eu".into(),
        candidate: "a".into(),
        snapshot: first.snapshot.id,
        reserved: None,
        at: at(1),
        body: first.body.clone(),
        outcomes: Vec::new(),
        superseded_by: None,
    };
    assert_eq!(*replayed, expected);
    for amount in [99, 101] {
        let other = decide(&*ledger, &with_amount(decision("p1", "a", 3), amount)).await;
        assert_eq!(other, EntryOutcome::Conflict { stored: first.request_hash }, "{amount}");
    }
    assert_eq!(ledger.decision(first.record.id).await.unwrap(), Some(expected.clone()));
    assert_eq!(ledger.decision_by_key(&first.key).await.unwrap(), Some(expected));
    assert_eq!(ledger.decision(Uuid::from_u128(7)).await.unwrap(), None);
    assert_eq!(ledger.snapshot(again.snapshot.id).await.unwrap(), None, "nothing names it");
    assert_eq!(verify(&*ledger).await, 1);
}

pub(crate) async fn a_batch_that_is_committed_again_stores_nothing_twice(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let (first, second) = (decision("p1", "a", 1), decision("p2", "b", 1));
    let after = attempt("p1", 2, "b", 3);
    let entries = batch([
        entry(&first),
        entry(&second),
        NewEntry::Outcome(outcome(&first, OutcomeClass::NotSent, 2, 1)),
        entry(&overriding(after, first.record.id)),
    ]);
    let stored = ledger.commit_decisions(entries.clone()).await.unwrap();
    assert!(stored.iter().all(is_stored), "{stored:?}");
    let twice = commit(&*ledger, [entry(&first), entry(&first)]).await.unwrap();
    assert!(
        is_stored(&twice[0]) && matches!(twice[1], EntryOutcome::Replayed(_)),
        "two callers of one millisecond: {twice:?}"
    );
    let other = store.writer().await;
    for handle in [&ledger, &other, &ledger] {
        let again = handle.commit_decisions(entries.clone()).await.unwrap();
        let positions = |outcomes: &[EntryOutcome]| outcomes.iter().map(position).collect::<Vec<_>>();
        assert_eq!(positions(&again), positions(&stored));
        assert!(matches!(&again[2], EntryOutcome::OutcomeStored { repeated: true, earlier, .. } if earlier.is_empty()));
    }
    assert_eq!(verify(&*ledger).await, 4);
}

pub(crate) async fn every_entry_of_a_batch_has_its_own_outcome(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let known = decision("known", "a", 1);
    decide(&*ledger, &known).await;
    let fresh = decision("fresh", "a", 2);
    let unknown = decision("unknown", "a", 2);
    let outcomes = commit(
        &*ledger,
        [
            entry(&fresh),
            entry(&decision("known", "b", 3)),
            entry(&with_amount(decision("known", "a", 3), 7)),
            entry(&attempt("fresh", 2, "b", 3)),
            NewEntry::Outcome(outcome(&unknown, OutcomeClass::Success, 3, 1)),
            // What this batch stored counts for its later entries.
            entry(&decision("fresh", "b", 4)),
            NewEntry::Outcome(outcome(&fresh, OutcomeClass::Rejected, 4, 2)),
            entry(&attempt("fresh", 2, "b", 5)),
        ],
    )
    .await
    .unwrap();
    let shown: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            EntryOutcome::Stored(position) => format!("stored {}", position.seq),
            EntryOutcome::OutcomeStored { position, .. } => format!("outcome {}", position.seq),
            EntryOutcome::Replayed(decision) => format!("replayed {}", decision.seq),
            EntryOutcome::Conflict { .. } => "conflict".to_owned(),
            EntryOutcome::Unresolved(unresolved) => unresolved.why.as_str().to_owned(),
            EntryOutcome::NotFound => "not found".to_owned(),
            other => format!("{other:?}"),
        })
        .collect();
    let expected =
        ["stored 2", "replayed 1", "conflict", "no_outcome", "not found", "replayed 2", "outcome 3", "stored 4"];
    assert_eq!(shown, expected);
    assert_eq!(verify(&*ledger).await, 4);
}

pub(crate) async fn of_two_writers_with_one_key_one_decides(store: &impl OpenLedger) {
    let handles = [store.writer().await, store.writer().await];
    for round in 0..5 {
        let payout = format!("p{round}");
        let attempts: Vec<_> = (0..8).map(|n| decision(&payout, &format!("bank-{n}"), 10 + n)).collect();
        let made = attempts.iter().enumerate().map(|(n, new)| {
            let ledger = &handles[n % 2];
            async move { decide(&**ledger, new).await }
        });
        let outcomes = join_all(made).await;
        let winner = stored(&*handles[0], &attempts[0].key).await;
        assert_eq!(outcomes.iter().filter(|outcome| is_stored(outcome)).count(), 1, "{outcomes:?}");
        for outcome in outcomes.iter().filter(|outcome| !is_stored(outcome)) {
            assert_eq!(*outcome, EntryOutcome::Replayed(Box::new(winner.clone())));
        }
    }
    assert_eq!(verify(&*handles[1]).await, 5);
}

pub(crate) async fn a_further_attempt_needs_proof_for_every_earlier_one(store: &impl OpenLedger) {
    use OutcomeClass::{BankFailure, CustomerFault, NotSent, Pending, Rejected, Success, Throttle, Timeout};
    let ledger = store.writer().await;
    let cases: [(&[OutcomeClass], &str); 12] = [
        (&[], "no_outcome"),
        (&[Timeout], "no_proof"),
        (&[Pending], "no_proof"),
        (&[BankFailure], "no_proof"),
        (&[Throttle], "no_proof"),
        (&[CustomerFault], "no_proof"),
        (&[Success], "executed"),
        (&[NotSent, Pending], "contradicted"),
        (&[Rejected, Success], "executed"),
        (&[NotSent], "stored"),
        (&[Timeout, Rejected], "stored"),
        (&[NotSent, CustomerFault], "stored"),
    ];
    for (n, (reported, expected)) in cases.into_iter().enumerate() {
        for is_override in [false, true] {
            let payout = format!("p{n}-{is_override}");
            let first = decision(&payout, "a", 1);
            decide(&*ledger, &first).await;
            for (second, class) in (2..).zip(reported) {
                report(&*ledger, &first, *class, second).await;
            }
            let next = attempt(&payout, 2, "b", 90);
            let next = if is_override { overriding(next, first.record.id) } else { next };
            let outcome = match decide(&*ledger, &next).await {
                EntryOutcome::Stored(_) => "stored",
                EntryOutcome::Unresolved(unresolved) => unresolved.why.as_str(),
                other => panic!("{other:?}"),
            };
            assert_eq!(outcome, expected, "{reported:?}, override: {is_override}");
            let skipped = decide(&*ledger, &attempt(&payout, 4, "b", 91)).await;
            let EntryOutcome::Unresolved(unresolved) = skipped else { panic!("{skipped:?}") };
            let expected = if expected == "stored" { 3 } else { 2 };
            assert_eq!(unresolved.why, UnresolvedReason::OutOfOrder { expected }, "{reported:?}");
        }
    }
    let unknown = decide(&*ledger, &attempt("never asked", 2, "a", 92)).await;
    assert!(matches!(unknown, EntryOutcome::Unresolved(_)), "there is no first attempt: {unknown:?}");
}

pub(crate) async fn an_override_replaces_the_last_decision_of_its_payout_once(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let (first, other) = (decision("p1", "a", 1), decision("p2", "a", 1));
    commit(&*ledger, [entry(&first), entry(&other)]).await.unwrap();
    let change = overriding(attempt("p1", 2, "b", 5), first.record.id);
    let refused = decide(&*ledger, &change).await;
    assert!(matches!(refused, EntryOutcome::Unresolved(_)), "without proof: {refused:?}");
    report(&*ledger, &first, OutcomeClass::NotSent, 2).await;
    let of_another_payout = overriding(attempt("p1", 2, "b", 5), other.record.id);
    assert_eq!(decide(&*ledger, &of_another_payout).await, EntryOutcome::NotFound);
    assert!(is_stored(&decide(&*ledger, &change).await));
    assert_eq!(stored(&*ledger, &first.key).await.superseded_by, Some(change.record.id));
    let equal = overriding(attempt("p1", 2, "b", 6), first.record.id);
    assert!(matches!(decide(&*ledger, &equal).await, EntryOutcome::Replayed(_)));
    let to_another_bank = overriding(attempt("p1", 2, "c", 5), first.record.id);
    let superseded = EntryOutcome::Superseded { by: change.record.id };
    assert_eq!(decide(&*ledger, &to_another_bank).await, superseded, "not the bank that was asked for");
    let decided = decide(&*ledger, &attempt("p1", 2, "d", 7)).await;
    assert!(matches!(&decided, EntryOutcome::Replayed(stored) if stored.candidate == "b"), "{decided:?}");
    report(&*ledger, &change, OutcomeClass::Rejected, 8).await;
    let late = overriding(attempt("p1", 3, "c", 9), first.record.id);
    assert_eq!(decide(&*ledger, &late).await, EntryOutcome::Superseded { by: change.record.id });
    assert!(is_stored(&decide(&*ledger, &overriding(attempt("p1", 3, "c", 9), change.record.id)).await));
    let attempts = ledger.attempts("pay", "p1").await.unwrap();
    assert_eq!(attempts.iter().map(|one| &*one.candidate).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(verify(&*ledger).await, 6);
}

pub(crate) async fn an_outcome_is_stored_once_with_the_decision_as_it_was(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let first = decision("p1", "a", 1);
    decide(&*ledger, &first).await;
    let reported = [
        outcome(&first, OutcomeClass::Timeout, 2, 1),
        outcome(&first, OutcomeClass::Pending, 3, 2),
        outcome(&first, OutcomeClass::Success, 4, 3),
    ];
    for (before, new) in reported.iter().enumerate() {
        let answered = one(&*ledger, NewEntry::Outcome(new.clone())).await;
        let EntryOutcome::OutcomeStored { decision, earlier, repeated, .. } = answered else { panic!("{answered:?}") };
        assert_eq!((earlier.len(), decision.id, repeated), (before, first.record.id, false));
    }
    let again = one(&*ledger, NewEntry::Outcome(reported[1].clone())).await;
    assert!(
        matches!(again, EntryOutcome::OutcomeStored { earlier, repeated: true, is_equal: true, .. } if earlier.len() == 1)
    );
    let later = NewOutcome { at: at(9), ..reported[1].clone() };
    let later = one(&*ledger, NewEntry::Outcome(later)).await;
    assert!(matches!(later, EntryOutcome::OutcomeStored { repeated: true, is_equal: false, .. }));
    let outcomes = stored(&*ledger, &first.key).await.outcomes;
    let shown: Vec<_> =
        outcomes.iter().map(|one| (one.seq, one.id, one.class, one.latency_ms, one.occurred_at)).collect();
    let expected: Vec<_> =
        (2..).zip(&reported).map(|(seq, new)| (seq, new.id, new.class, new.latency_ms, new.occurred_at)).collect();
    assert_eq!(shown, expected);
    let unknown = outcome(&decision("p9", "a", 1), OutcomeClass::Success, 5, 9);
    assert_eq!(one(&*ledger, NewEntry::Outcome(unknown)).await, EntryOutcome::NotFound);
    for entry in ledger.chain(1, 9).await.unwrap() {
        assert_eq!(EntryColumns::of_body(entry.kind, &entry.body), Some(entry.columns));
    }
}

pub(crate) async fn outcomes_of_a_decision_are_bounded_unless_they_change_the_gate(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let (first, other) = (decision("p1", "a", 1), decision("p2", "a", 1));
    commit(&*ledger, [entry(&first), entry(&other)]).await.unwrap();
    let nth = |class: OutcomeClass, n: u64| NewEntry::Outcome(outcome(&first, class, 2, n));
    let most = u64::try_from(MAX_OUTCOMES).unwrap();
    let all = (1..=most + 4).map(|n| nth(OutcomeClass::Throttle, n));
    let outcomes = commit(&*ledger, all).await.unwrap();
    let stored = outcomes.iter().filter(|outcome| is_stored(outcome)).count();
    assert_eq!((stored, &outcomes[MAX_OUTCOMES]), (MAX_OUTCOMES, &EntryOutcome::OutcomesFull));
    assert_eq!(one(&*ledger, nth(OutcomeClass::Pending, 900)).await, EntryOutcome::OutcomesFull);
    assert!(is_stored(&one(&*ledger, nth(OutcomeClass::Throttle, 1)).await), "a repeated one is answered");
    assert!(is_stored(&report(&*ledger, &other, OutcomeClass::Throttle, 2).await), "another decision");
    for (n, class) in (901..).zip([OutcomeClass::NotSent, OutcomeClass::Pending, OutcomeClass::Success]) {
        assert!(is_stored(&one(&*ledger, nth(class, n)).await), "{class} changes what the gate says");
    }
    assert_eq!(one(&*ledger, nth(OutcomeClass::NotSent, 910)).await, EntryOutcome::OutcomesFull, "it was executed");
}

pub(crate) async fn decisions_are_listed_newest_first_by_filter_and_page(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let all: Vec<_> = (0..30)
        .map(|n| {
            let route = if n % 3 == 0 { "us" } else { "eu" };
            let new = decision(&format!("p{n}"), if n % 2 == 0 { "a" } else { "b" }, n * 3_600);
            built(NewDecision { route: route.into(), ..new })
        })
        .collect();
    commit(&*ledger, all.iter().map(entry)).await.unwrap();
    report(&*ledger, &all[29], OutcomeClass::Success, 200_000).await;
    let listed = async |filter: DecisionFilter, limit: u32| {
        let (mut before, mut listed) = (None, Vec::new());
        loop {
            let page = ledger.list_decisions(&filter, before, limit).await.unwrap();
            assert!(page.decisions.len() <= limit as usize);
            listed.extend(page.decisions.into_iter().map(|one| one.key.payout_id[1..].parse::<i64>().unwrap()));
            before = page.next;
            if before.is_none() {
                return listed;
            }
        }
    };
    let every = DecisionFilter::default;
    let of = |matches: fn(i64) -> bool| (0..30).rev().filter(|n| matches(*n)).collect::<Vec<i64>>();
    for limit in [4, 30, 100] {
        assert_eq!(listed(every(), limit).await, of(|_| true));
        let filter = DecisionFilter { route: Some("us".into()), candidate: Some("a".into()), ..every() };
        assert_eq!(listed(filter, limit).await, of(|n| n % 6 == 0));
        let filter = DecisionFilter { from: Some(at(5 * 3_600)), to: Some(at(9 * 3_600)), ..every() };
        assert_eq!(listed(filter, limit).await, [8, 7, 6, 5]);
        let filter = DecisionFilter { from: Some(at(28 * 3_600 + 1)), ..every() };
        assert_eq!(listed(filter, limit).await, [29]);
        let filter = DecisionFilter { namespace: Some("other".into()), ..every() };
        assert!(listed(filter, limit).await.is_empty());
    }
    let page = ledger.list_decisions(&every(), None, 1).await.unwrap();
    assert_eq!(page.decisions[0].outcomes[0].class, OutcomeClass::Success);
}

pub(crate) async fn a_snapshot_is_stored_once_with_the_decision_that_names_it(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let on =
        |payout: &str, content: &str| built(NewDecision { snapshot: snapshot(content), ..decision(payout, "a", 1) });
    for (payout, content) in [("p1", "first"), ("p2", "second"), ("p3", "first")] {
        assert!(is_stored(&decide(&*ledger, &on(payout, content)).await));
    }
    commit(&*ledger, [entry(&on("p4", "third")), entry(&on("p5", "second")), entry(&on("p6", "third"))]).await.unwrap();
    for content in ["first", "second", "third"] {
        let body = ledger.snapshot(snapshot(content).id).await.unwrap();
        assert_eq!(body.as_deref(), Some(content.as_bytes()));
    }
    assert_eq!(ledger.snapshot(snapshot("fourth").id).await.unwrap(), None);
}

pub(crate) async fn the_chain_is_one_across_writers_and_restarts(store: &impl OpenLedger) {
    let mut handles = [store.writer().await, store.writer().await];
    for round in 0..4_i64 {
        let batches = (0..6_i64).map(|n| {
            let ledger = &handles[usize::try_from(n % 2).unwrap()];
            let entries: Vec<_> = (0..5).map(|p| entry(&decision(&format!("p{round}-{n}-{p}"), "a", round))).collect();
            async move { commit(&**ledger, entries).await.unwrap() }
        });
        assert!(join_all(batches).await.iter().flatten().all(is_stored));
        handles[0].close().await;
        handles[0] = store.writer().await;
    }
    assert_eq!(verify(&*handles[0]).await, 120);
    let reader = store.open(OpenMode::ReadOnly).await.unwrap();
    let entries = reader.chain(0, 1_000).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), (1..=120).collect::<Vec<u64>>());
    assert!(entries.iter().all(|entry| entry.kind == EntryKind::Decision));
    let head = reader.chain_head().await.unwrap();
    assert_eq!((head.seq, head.hash, head.base_seq), (120, entries[119].hash, 0));
}
