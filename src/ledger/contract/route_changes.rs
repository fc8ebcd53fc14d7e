//! Ops adjustments, proposals of Hybrid mode, and what the forecast keeps.

use std::sync::Arc;

use uuid::Uuid;

use super::OpenLedger;
use super::decision_fixtures::{batch, commit, decision, entry, is_stored, limited, one, outcome, verify};
use super::fixtures::{at, take_named};
use crate::domain::decision::{DailyLimit, OutcomeClass};
use crate::domain::route::AdjustmentScope;
use crate::ledger::decisions::{
    AdjustmentChange, AdjustmentEffect, AdjustmentTarget, DecisionBatch, EntryColumns, EntryOutcome, MAX_ADJUSTMENTS,
    NewDecision, NewEntry, ProposalChange, ProposalFilter, ProposalSettlement, ProposalState, RouteAdjustment,
    RouteProposal, StoredProposal,
};
use crate::ledger::scores::StoredScore;
use crate::ledger::store::Ledger;

fn adjustment(n: u128, namespace: &str, from: i64, until: i64) -> RouteAdjustment {
    RouteAdjustment {
        created_at: at(from),
        created_by: "ops".into(),
        effect: AdjustmentEffect::Weight("1.25".parse().unwrap()),
        expires_at: at(until),
        id: Uuid::from_u128(n),
        namespace: namespace.into(),
        reason: Some("caf\u{e9}\0".into()),
        route: Some("eu".into()),
        scope: AdjustmentScope::Country("SN".into()),
        target: AdjustmentTarget::BankProfile("a".into()),
    }
}

fn created(adjustment: &RouteAdjustment) -> NewEntry {
    NewEntry::Adjustment(AdjustmentChange::Create(adjustment.clone()))
}

fn deleted(n: u128, adjustment: u128, namespace: &str, second: i64) -> NewEntry {
    NewEntry::Adjustment(AdjustmentChange::Delete {
        adjustment: Uuid::from_u128(adjustment),
        at: at(second),
        id: Uuid::from_u128(n),
        namespace: namespace.into(),
        subject: "ops".into(),
    })
}

async fn in_effect(ledger: &dyn Ledger, namespace: Option<&str>, second: i64) -> Vec<u128> {
    ledger.adjustments(namespace, at(second)).await.unwrap().iter().map(|one| one.id.as_u128()).collect()
}

/// What each entry's body says about its columns.
async fn assert_columns(ledger: &dyn Ledger) {
    for entry in ledger.chain(0, 99).await.unwrap() {
        assert_eq!(EntryColumns::of_body(entry.kind, &entry.body), Some(entry.columns), "{}", entry.seq);
    }
}

pub(crate) async fn an_adjustment_is_in_effect_until_it_ends_or_is_deleted(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let [first, second, other] = [(1, "pay", 10, 100), (2, "pay", 10, 50), (3, "other", 10, 100)]
        .map(|(n, namespace, from, until)| adjustment(n, namespace, from, until));
    for new in [&first, &second, &other, &first] {
        assert!(is_stored(&one(&*ledger, created(new)).await));
    }
    assert_eq!(ledger.adjustments(Some("other"), at(20)).await.unwrap(), [other]);
    assert_eq!(in_effect(&*ledger, Some("pay"), 49).await, [1, 2]);
    assert_eq!(in_effect(&*ledger, None, 50).await, [1, 3], "the end is exclusive");
    for (n, target, namespace) in [(10, 9, "pay"), (11, 1, "other")] {
        assert_eq!(one(&*ledger, deleted(n, target, namespace, 60)).await, EntryOutcome::NotFound);
    }
    assert!(is_stored(&one(&*ledger, deleted(12, 1, "pay", 60)).await));
    assert!(is_stored(&one(&*ledger, deleted(12, 1, "pay", 60)).await), "the same entry again");
    assert_eq!(one(&*ledger, deleted(13, 1, "pay", 61)).await, EntryOutcome::NotFound, "deleted already");
    assert_eq!(in_effect(&*ledger, None, 20).await, [2, 3]);
    let both = [created(&adjustment(5, "pay", 70, 90)), deleted(14, 5, "pay", 71)];
    assert!(commit(&*ledger, both).await.unwrap().iter().all(is_stored));
    assert_eq!(in_effect(&*ledger, Some("pay"), 75).await, [] as [u128; 0]);
    assert_columns(&*ledger).await;
    assert_eq!(verify(&*ledger).await, 6);
    let lease = take_named(&*ledger, "retention", "me", at(0)).await;
    ledger.checkpoint_decisions(&lease, at(60), 100, at(200)).await.unwrap();
    assert_eq!(in_effect(&*ledger, None, 20).await, [3], "the others ended before");
}

pub(crate) async fn a_namespace_has_so_many_adjustments_at_a_time(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let most = u128::from(MAX_ADJUSTMENTS);
    let all = (1..=most).map(|n| created(&adjustment(n, "pay", 10, if n == 1 { 50 } else { 100 })));
    assert!(commit(&*ledger, all).await.unwrap().iter().all(is_stored));
    // In one batch and in several; those of another namespace are not counted.
    let more = [
        created(&adjustment(1_001, "pay", 20, 100)),
        created(&adjustment(1_002, "other", 20, 100)),
        deleted(1_003, 2, "pay", 20),
        created(&adjustment(1_004, "pay", 20, 100)),
        created(&adjustment(1_005, "pay", 20, 100)),
        created(&adjustment(1, "pay", 10, 50)),
    ];
    let outcomes = commit(&*ledger, more).await.unwrap();
    let refused: Vec<_> = outcomes.iter().map(|outcome| *outcome == EntryOutcome::TooManyAdjustments).collect();
    assert_eq!(refused, [true, false, false, false, true, false], "{outcomes:?}");
    assert_eq!(one(&*ledger, created(&adjustment(1_006, "pay", 49, 100))).await, EntryOutcome::TooManyAdjustments);
    assert!(is_stored(&one(&*ledger, created(&adjustment(1_007, "pay", 50, 100))).await), "the first one has ended");
    assert_eq!(in_effect(&*ledger, Some("pay"), 60).await.len(), usize::try_from(most).unwrap());
}

fn proposal(n: u128, route: &str, from: i64, until: i64) -> RouteProposal {
    RouteProposal {
        created_at: at(from),
        expires_at: at(until),
        from: Some("a".into()),
        id: Uuid::from_u128(n),
        namespace: "pay".into(),
        risk: 640_000,
        route: route.into(),
        to: "b".into(),
    }
}

fn made(proposal: &RouteProposal) -> NewEntry {
    NewEntry::Proposal(ProposalChange::Create(proposal.clone()))
}

fn settled(n: u128, proposal: u128, state: ProposalState, second: i64) -> NewEntry {
    NewEntry::Proposal(ProposalChange::Settle(Box::new(ProposalSettlement {
        approved_until: (state == ProposalState::Approved).then(|| at(second + 1_800)),
        at: at(second),
        id: Uuid::from_u128(n),
        namespace: "pay".into(),
        proposal: Uuid::from_u128(proposal),
        reason: None,
        state,
        subject: "ops".into(),
    })))
}

pub(crate) async fn a_proposal_is_settled_once_and_a_route_has_one_that_is_pending(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let [first, second, other] = [proposal(1, "eu", 10, 100), proposal(2, "eu", 20, 100), proposal(3, "us", 20, 100)];
    for new in [&first, &other, &first] {
        assert!(is_stored(&one(&*ledger, made(new)).await));
    }
    let pending = StoredProposal::pending(first.clone());
    assert_eq!(one(&*ledger, made(&second)).await, EntryOutcome::ProposalPending(Box::new(pending.clone())));
    let of = async |filter: ProposalFilter| ledger.proposals(&filter).await.unwrap();
    let eu = ProposalFilter { namespace: Some("pay".into()), route: Some("eu".into()), ..ProposalFilter::default() };
    assert_eq!(of(eu.clone()).await, [pending]);
    assert_eq!(one(&*ledger, settled(10, 9, ProposalState::Approved, 30)).await, EntryOutcome::NotFound);
    for _ in 0..2 {
        assert!(is_stored(&one(&*ledger, settled(11, 1, ProposalState::Approved, 30)).await));
    }
    let late = one(&*ledger, settled(12, 1, ProposalState::Rejected, 31)).await;
    assert_eq!(late, EntryOutcome::ProposalSettled(ProposalState::Approved));
    let approved = StoredProposal {
        proposal: first,
        state: ProposalState::Approved,
        settled_at: Some(at(30)),
        settled_by: Some("ops".into()),
        approved_until: Some(at(1_830)),
    };
    assert_eq!(
        of(ProposalFilter { state: Some(ProposalState::Approved), ..ProposalFilter::default() }).await,
        std::slice::from_ref(&approved)
    );
    let after = |second| ProposalFilter { approved_after: Some(at(second)), ..ProposalFilter::default() };
    assert_eq!(of(after(1_829)).await, [approved], "only what is approved until later");
    assert_eq!(of(after(1_830)).await, []);
    assert!(is_stored(&one(&*ledger, made(&second)).await), "the other one is settled");
    assert_eq!(of(eu).await.iter().map(|one| one.proposal.id.as_u128()).collect::<Vec<_>>(), [2, 1], "newest first");
    let expired = one(&*ledger, settled(13, 3, ProposalState::Approved, 100)).await;
    assert_eq!(expired, EntryOutcome::ProposalSettled(ProposalState::Lapsed), "too late to approve");
    assert!(is_stored(&one(&*ledger, made(&proposal(4, "us", 100, 200))).await), "nor in the way of the next");
    assert!(is_stored(&one(&*ledger, settled(14, 3, ProposalState::Lapsed, 110)).await));
    let by_id = ProposalFilter { id: Some(Uuid::from_u128(3)), ..ProposalFilter::default() };
    assert_eq!(of(by_id).await[0].state, ProposalState::Lapsed);
    assert_columns(&*ledger).await;
    assert_eq!(verify(&*ledger).await, 6);
}

/// The decision that a store of every write holds.
pub(crate) fn held_decision() -> NewDecision {
    decision("held", "a", 1)
}

/// A batch with an entry of each kind, and an outcome of [`held_decision`].
pub(crate) fn every_kind() -> Arc<DecisionBatch> {
    let limit = DailyLimit { amount: None, count: Some(5), zone: "UTC".into() };
    batch([
        entry(&limited(decision("new", "a", 20), &limit, "3")),
        NewEntry::Outcome(outcome(&held_decision(), OutcomeClass::NotSent, 20, 1)),
        created(&adjustment(1, "pay", 20, 100)),
        made(&proposal(2, "eu", 20, 100)),
    ])
}

pub(crate) fn score(connection: &str, content: &str, second: i64) -> StoredScore {
    StoredScore {
        namespace: "pay".into(),
        connection: connection.into(),
        source: "sira".into(),
        body: content.as_bytes().to_vec(),
        updated: at(second),
    }
}

pub(crate) async fn scores_are_replaced_by_newer_ones_and_deleted_by_age(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    ledger.put_scores(&[score("b", "1", 10), score("a", "1", 10)]).await.unwrap();
    ledger.put_scores(&[score("a", "2", 20), score("b", "late", 9)]).await.unwrap();
    let other = store.writer().await;
    assert_eq!(other.scores().await.unwrap(), [score("a", "2", 20), score("b", "1", 10)]);
    let lease = take_named(&*ledger, "retention", "me", at(0)).await;
    ledger.checkpoint_decisions(&lease, at(20), 100, at(30)).await.unwrap();
    assert_eq!(ledger.scores().await.unwrap(), [score("a", "2", 20)]);
}
