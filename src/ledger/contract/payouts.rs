//! Followed payouts: registration, versions, the gate, fences, what is stored with them.

use futures::future::join_all;
use uuid::Uuid;

use super::OpenLedger;
use super::decision_fixtures::{attempt, commit, decide, decision, is_stored, one, outcome, verify, with_amount};
use super::fixtures::{at, take_named};
use super::payout_fixtures::{
    act, entry, event, is_committed, next, plan, registered, registration, rejected, report, said, stored,
};
use crate::domain::canonical::sha256;
use crate::domain::decision::{EntryKind, OutcomeClass, UnresolvedReason};
use crate::domain::payout::{
    Applied, AttemptState, BankReport, Evidence, EvidenceSource, PayoutInput, PayoutState, attempt_id,
};
use crate::ledger::decisions::{EntryColumns, EntryOutcome, NewDecision, NewEntry, NewOutcome};
use crate::ledger::outbox::EventFilter;
use crate::ledger::payouts::{
    PayoutAct, PayoutCall, PayoutCommit, PayoutEntry, PayoutFilter, PayoutOutcome, Registration, StoredPayout,
    TimelineEvent,
};

fn unresolved(outcome: &EntryOutcome) -> UnresolvedReason {
    match outcome {
        EntryOutcome::Unresolved(unresolved) => unresolved.why,
        other => panic!("not refused by the gate: {other:?}"),
    }
}

pub(crate) async fn a_payout_is_registered_with_its_decision_or_not_at_all(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let first = decision("p1", "a", 1);
    let new = registration(&first, 1);
    let answered = one(&*ledger, entry(&first, &new)).await;
    let EntryOutcome::Payout(PayoutOutcome::Stored { position, decision: Some(decided), version: 1 }) = answered else {
        panic!("{answered:?}")
    };
    assert_eq!((decided.seq, position.seq), (1, 2));
    let payout = stored(&*ledger, "p1").await;
    assert_eq!((&payout.payout, payout.seq, payout.updated_at), (&*new.payout, 2, at(1)));
    assert_eq!(ledger.decision_by_key(&first.key).await.unwrap().unwrap().id, first.record.id);
    for id in [payout.payout.attempts[0].attempt_id, first.record.id] {
        assert_eq!(ledger.payout_by_attempt(id).await.unwrap().as_ref(), Some(&payout));
    }
    // The same commit again, because its answer was lost.
    for handle in [&ledger, &store.writer().await] {
        assert_eq!(one(&**handle, entry(&first, &new)).await, answered);
    }
    // The same request later, when another bank would be chosen, and another request.
    let later = decision("p1", "b", 9);
    let replayed = one(&*ledger, entry(&later, &registration(&later, 9))).await;
    assert_eq!(replayed, EntryOutcome::Payout(PayoutOutcome::Replayed(Box::new(payout))));
    let other = with_amount(decision("p1", "b", 9), 7);
    let conflict = one(&*ledger, entry(&other, &registration(&other, 9))).await;
    assert_eq!(conflict, EntryOutcome::Payout(PayoutOutcome::Conflict { stored: first.request_hash }));
    // An attempt of another decision than the one that comes with it.
    let (mine, foreign) = (decision("p2", "a", 10), decision("p2", "b", 10));
    let refused = one(&*ledger, entry(&mine, &registration(&foreign, 10))).await;
    assert!(matches!(refused, EntryOutcome::Payout(PayoutOutcome::Invalid(_))), "{refused:?}");
    assert_eq!(one(&*ledger, NewEntry::Payout(Box::new(registration(&mine, 10)))).await, EntryOutcome::NotFound);
    assert_eq!(ledger.decision_by_key(&mine.key).await.unwrap(), None, "neither is stored");
    assert_eq!((ledger.payout("pay", "p2").await.unwrap(), verify(&*ledger).await), (None, 2));
}

pub(crate) async fn a_payout_that_was_decided_before_is_registered_with_that_decision(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let first = decision("p1", "a", 1);
    decide(&*ledger, &first).await;
    let other = decision("p1", "a", 5);
    let replayed = one(&*ledger, entry(&other, &registration(&other, 5))).await;
    assert!(matches!(replayed, EntryOutcome::Replayed(_)), "{replayed:?}");
    assert_eq!(ledger.payout("pay", "p1").await.unwrap(), None);
    let outcome = ledger.commit_payout(registration(&first, 5)).await.unwrap();
    assert!(is_committed(&outcome), "{outcome:?}");
    // A decision with a later one is not the one to follow.
    let (one_of_two, later) = (decision("p2", "a", 1), attempt("p2", 2, "b", 3));
    decide(&*ledger, &one_of_two).await;
    one(&*ledger, NewEntry::Outcome(outcome_of(&one_of_two, 2))).await;
    assert!(is_stored(&decide(&*ledger, &later).await));
    let refused = ledger.commit_payout(registration(&one_of_two, 5)).await.unwrap();
    assert_eq!(unresolved(&refused), UnresolvedReason::OutOfOrder { expected: 3 });
}

fn outcome_of(of: &NewDecision, second: i64) -> NewOutcome {
    outcome(of, OutcomeClass::NotSent, second, 1)
}

pub(crate) async fn an_idempotency_key_is_used_for_one_payout(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let keyed = |payout_id: &str, second| {
        let of = decision(payout_id, "a", second);
        let registration_of = Registration { idempotency_key: Some("key".into()), request_hash: of.request_hash };
        entry(&of, &registration(&of, second).registering(registration_of))
    };
    // In one batch, and in a later one.
    let both = commit(&*ledger, [keyed("p1", 1), keyed("p2", 1)]).await.unwrap();
    let reused = EntryOutcome::Payout(PayoutOutcome::KeyReused { payout_id: "p1".into() });
    assert!(is_committed(&both[0]), "{both:?}");
    assert_eq!((&both[1], &one(&*ledger, keyed("p3", 2)).await), (&reused, &reused));
    let replayed = one(&*ledger, keyed("p1", 3)).await;
    assert!(matches!(replayed, EntryOutcome::Payout(PayoutOutcome::Replayed(_))), "{replayed:?}");
    assert_eq!(ledger.payout("pay", "p2").await.unwrap(), None);
}

pub(crate) async fn an_act_on_an_old_version_changes_nothing(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let first = registered(&*ledger, "p1", 1).await;
    let late = act(&first, PayoutAct::Report, &said(1, BankReport::Confirmation, 3), 3);
    let newer = report(&*ledger, &first, 1, BankReport::Ack, 2).await;
    assert_eq!(newer.version, 2);
    let changed = ledger.commit_payout(late).await.unwrap();
    assert_eq!(changed, EntryOutcome::Payout(PayoutOutcome::Changed(Some(Box::new(newer.clone())))));
    let mut unknown = act(&first, PayoutAct::Report, &said(1, BankReport::Ack, 3), 3);
    unknown.payout.payout_id = "p2".into();
    let changed = ledger.commit_payout(unknown).await.unwrap();
    assert_eq!(changed, EntryOutcome::Payout(PayoutOutcome::Changed(None)));
    assert_eq!((stored(&*ledger, "p1").await, verify(&*ledger).await), (newer, 3));
}

pub(crate) async fn of_concurrent_acts_one_moves_a_payout_on(store: &impl OpenLedger) {
    let handles = [store.writer().await, store.writer().await];
    let first = registered(&*handles[0], "p1", 1).await;
    let acts = (0..8).map(|n| {
        let commit = act(&first, PayoutAct::Report, &said(1, BankReport::Ack, 10 + n), 10 + n);
        let ledger = &handles[usize::try_from(n).unwrap() % 2];
        async move { ledger.commit_payout(commit).await.unwrap() }
    });
    let outcomes = join_all(acts).await;
    assert_eq!(outcomes.iter().filter(|outcome| is_committed(outcome)).count(), 1, "{outcomes:?}");
    assert_eq!((stored(&*handles[0], "p1").await.version, verify(&*handles[1]).await), (2, 3));
}

pub(crate) async fn a_followed_payout_is_attempted_again_only_with_proof(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let mut payout = registered(&*ledger, "p1", 1).await;
    let second = attempt("p1", 2, "b", 100);
    let refused_while = async |payout: &StoredPayout, why: &str| {
        let bare = decide(&*ledger, &second).await;
        let forged = one(&*ledger, entry(&second, &forged(payout, &second))).await;
        for outcome in [&bare, &forged] {
            assert_eq!(unresolved(outcome).as_str(), why, "{outcome:?}");
        }
        assert_eq!(ledger.decision_by_key(&second.key).await.unwrap(), None, "{why}");
    };
    refused_while(&payout, "open").await;
    for (instant, told) in [(10, BankReport::Submitted), (11, BankReport::Silence), (12, BankReport::NotFound)] {
        payout = report(&*ledger, &payout, 1, told, instant).await;
        refused_while(&payout, "open").await;
    }
    payout = rejected(&*ledger, &payout, 1, 20).await;
    // A decision alone would not be followed.
    let alone = decide(&*ledger, &second).await;
    assert_eq!(alone, EntryOutcome::Followed(Box::new(payout.clone())));
    let answered = one(&*ledger, entry(&second, &next(&payout, &second, 100))).await;
    assert!(is_committed(&answered), "{answered:?}");
    payout = stored(&*ledger, "p1").await;
    assert_eq!(payout.payout.attempts.len(), 2);
    let third = attempt("p1", 3, "c", 200);
    assert_eq!(unresolved(&decide(&*ledger, &third).await).as_str(), "open", "the second is on its way");
    payout = report(&*ledger, &payout, 2, BankReport::Confirmation, 150).await;
    assert_eq!(unresolved(&decide(&*ledger, &third).await), UnresolvedReason::Executed);
    // The first one was executed after all.
    report(&*ledger, &payout, 1, BankReport::Confirmation, 160).await;
    assert_eq!(unresolved(&decide(&*ledger, &third).await), UnresolvedReason::Frozen);
    verify(&*ledger).await;
}

/// A commit of the next attempt that the gate did not allow.
fn forged(on: &StoredPayout, of: &NewDecision) -> PayoutCommit {
    let mut payout = on.payout.clone();
    let mut attempt = payout.attempts[0].clone();
    attempt.plan = plan(of);
    attempt.attempt_id = attempt_id("pay", &payout.payout_id, of.key.attempt_no);
    payout.attempts.push(attempt);
    let applied = Applied { payout, effects: Vec::new(), transitions: Vec::new(), refused: None };
    PayoutCommit::new(PayoutAct::Attempt, "payouts", on.version, &applied, at(99))
}

pub(crate) async fn the_submitters_success_closes_the_gate_before_the_payout_knows(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let of = decision("p1", "a", 1);
    one(&*ledger, entry(&of, &registration(&of, 1))).await;
    let payout = stored(&*ledger, "p1").await;
    let payout = rejected(&*ledger, &payout, 1, 5).await;
    one(&*ledger, NewEntry::Outcome(outcome(&of, OutcomeClass::Success, 6, 1))).await;
    let second = attempt("p1", 2, "b", 10);
    for outcome in [decide(&*ledger, &second).await, one(&*ledger, entry(&second, &next(&payout, &second, 10))).await] {
        assert_eq!(unresolved(&outcome), UnresolvedReason::Executed);
    }
}

pub(crate) async fn what_was_decided_of_an_attempt_cannot_be_changed(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let payout = registered(&*ledger, "p1", 1).await;
    let honest = act(&payout, PayoutAct::Report, &said(1, BankReport::Ack, 2), 2);
    let changes: [fn(&mut PayoutCommit); 5] = [
        |commit| commit.payout.attempts[0].plan.bank = "b".into(),
        |commit| commit.payout.attempts[0].attempt_id = Uuid::nil(),
        |commit| commit.payout.attempts.clear(),
        |commit| commit.payout.amount += rust_decimal::Decimal::ONE,
        |commit| commit.payout.route = "other".into(),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut commit = honest.clone();
        change(&mut commit);
        let refused = ledger.commit_payout(commit).await.unwrap();
        assert!(matches!(refused, EntryOutcome::Payout(PayoutOutcome::Invalid(_))), "{n}: {refused:?}");
    }
    assert_eq!(stored(&*ledger, "p1").await, payout);
    assert!(is_committed(&ledger.commit_payout(honest).await.unwrap()));
}

pub(crate) async fn a_lost_lease_moves_no_payout_on(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let payout = registered(&*ledger, "p1", 1).await;
    let lost = take_named(&*ledger, "payouts", "me", at(0)).await;
    let held = take_named(&*ledger, "payouts", "other", at(100)).await;
    let due = payout.payout.next_action().expect("due once it is late").as_second() - at(0).as_second();
    let tick = act(&payout, PayoutAct::Tick, &PayoutInput::Tick, due);
    let refused = ledger.commit_payout(tick.clone().under(lost)).await.unwrap();
    assert_eq!(refused, EntryOutcome::Payout(PayoutOutcome::Fenced));
    assert_eq!(stored(&*ledger, "p1").await, payout);
    let fence = held.fence;
    assert!(is_committed(&ledger.commit_payout(tick.under(held)).await.unwrap()));
    // What is asked for is stored before the bank is called.
    let timeline = ledger.payout_timeline("pay", "p1", payout.seq, 100).await.unwrap();
    let intents = timeline.iter().filter_map(|row| match row.event {
        TimelineEvent::Intent { call, fence } => Some((row.attempt_no, call, fence, row.act)),
        _ => None,
    });
    let expected = [(Some(1), PayoutCall::Inquiry, fence, PayoutAct::Tick)];
    assert_eq!(intents.collect::<Vec<_>>(), expected);
}

pub(crate) async fn the_timeline_the_events_and_the_chain_tell_of_each_act_once(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let payout = registered(&*ledger, "p1", 1).await;
    let evidence = Evidence::message(EvidenceSource::Confirmation, at(5), [7; 32]).by("bank").referenced("m-1");
    let input = PayoutInput::Report { attempt_no: 1, report: BankReport::Ack, evidence: evidence.clone() };
    let commit = act(&payout, PayoutAct::Report, &input, 5)
        .with_events(vec![event("p1", 5, 1)])
        .requested(Some(Uuid::from_u128(9)), Some("as told".into()));
    for _ in 0..2 {
        assert!(is_committed(&ledger.commit_payout(commit.clone()).await.unwrap()));
    }
    let refused = act(&payout, PayoutAct::Report, &said(1, BankReport::Silence, 6), 6);
    let refused = ledger.commit_payout(refused.with_events(vec![event("p1", 6, 7)])).await.unwrap();
    assert!(matches!(refused, EntryOutcome::Payout(PayoutOutcome::Changed(_))));
    let filter = EventFilter { aggregate: Some("payout/pay/p1".into()), ..EventFilter::default() };
    let events = ledger.list_events(&filter, 9).await.unwrap();
    assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), [event("p1", 5, 1).id]);
    let timeline = ledger.payout_timeline("pay", "p1", 0, 100).await.unwrap();
    let told = timeline.last().unwrap();
    assert_eq!((told.at, told.act, told.attempt_no, told.seq), (at(5), PayoutAct::Report, Some(1), 3));
    let (from, to) = (AttemptState::IntentWritten, AttemptState::Accepted);
    assert_eq!((told.event, told.evidence.as_ref()), (TimelineEvent::Transition { from, to }, Some(&evidence)));
    assert_eq!(ledger.payout_timeline("pay", "p1", 0, 1).await.unwrap(), timeline[..1], "in pieces");
    let entries = ledger.chain(2, 9).await.unwrap();
    assert_eq!((entries.len(), entries[0].kind), (1, EntryKind::Payout));
    let Some(PayoutEntry::Change(change)) = PayoutEntry::decode(&entries[0].body) else { panic!("{entries:?}") };
    let body = sha256(&stored(&*ledger, "p1").await.payout.encode());
    assert_eq!((change.body, change.version, change.reason.as_deref()), (body, 2, Some("as told")));
    assert_eq!(EntryColumns::of_body(EntryKind::Payout, &entries[0].body).as_ref(), Some(&entries[0].columns));
    verify(&*ledger).await;
}

pub(crate) async fn payouts_that_are_due_are_read_in_their_order_and_in_pieces(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    assert_eq!(ledger.next_payout_due().await.unwrap(), None);
    let mut expected = Vec::new();
    for (n, payout_id) in ["p3", "p1", "p2"].into_iter().enumerate() {
        let payout = registered(&*ledger, payout_id, i64::try_from(n).unwrap() * 10).await;
        expected.push((payout.payout.next_action().unwrap(), payout_id.to_owned()));
    }
    let done = registered(&*ledger, "p4", 5).await;
    report(&*ledger, &done, 1, BankReport::Confirmation, 6).await;
    assert_eq!(ledger.next_payout_due().await.unwrap(), Some(expected[0].0));
    let last = expected[2].0;
    let due = ledger.due_payouts(last, None, 100).await.unwrap();
    assert_eq!(due.iter().map(|one| (one.due, one.payout_id.clone())).collect::<Vec<_>>(), expected);
    assert!(due.iter().all(|one| one.bank == "a" && one.namespace == "pay"));
    assert_eq!(ledger.due_payouts(expected[1].0, None, 100).await.unwrap(), due[..2], "what is not due yet is not");
    let mut pieces = Vec::new();
    for _ in 0..4 {
        let piece = ledger.due_payouts(last, pieces.last(), 1).await.unwrap();
        pieces.extend(piece);
    }
    assert_eq!(pieces, due);
}

pub(crate) async fn payouts_are_listed_newest_first_and_counted_while_they_are_open(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let mut payouts = Vec::new();
    for n in 0..5 {
        payouts.push(registered(&*ledger, &format!("p{n}"), n).await);
    }
    report(&*ledger, &payouts[0], 1, BankReport::Confirmation, 10).await;
    rejected(&*ledger, &payouts[1], 1, 10).await;
    report(&*ledger, &payouts[2], 1, BankReport::Silence, 10).await;
    let listed = async |state: Option<PayoutState>, route: Option<&str>, limit: u32| {
        let filter = PayoutFilter { namespace: Some("pay".into()), route: route.map(Into::into), state };
        let (mut names, mut before) = (Vec::new(), None);
        loop {
            let page = ledger.list_payouts(&filter, before, limit).await.unwrap();
            names.extend(page.payouts.into_iter().map(|one| one.payout.payout_id));
            before = page.next;
            if before.is_none() {
                return names;
            }
        }
    };
    for limit in [1, 2, 100] {
        assert_eq!(listed(None, Some("eu"), limit).await, ["p4", "p3", "p2", "p1", "p0"]);
        assert_eq!(listed(Some(PayoutState::Open), None, limit).await, ["p4", "p3"]);
    }
    assert_eq!(listed(Some(PayoutState::Confirmed), None, 9).await, ["p0"]);
    assert!(listed(None, Some("us"), 9).await.is_empty());
    let counts = ledger.payout_counts().await.unwrap();
    let open = counts.payouts.iter().find(|one| one.state == PayoutState::Open).unwrap();
    assert_eq!((open.count, open.oldest, &*open.route), (2, at(3), "eu"));
    assert_eq!(counts.payouts.iter().map(|one| one.count).sum::<u64>(), 3, "final ones are not counted: {counts:?}");
    let unknown = counts.attempts.iter().find(|one| one.state == AttemptState::Unknown).unwrap();
    assert_eq!((unknown.count, &*unknown.bank, unknown.oldest), (1, "a", at(2)));
}
