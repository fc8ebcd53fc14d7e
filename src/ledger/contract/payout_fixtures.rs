//! Payouts that the rules share.

use super::decision_fixtures::{attempt, commit as commit_all, id, is_stored, one};
use super::fixtures::at;
use crate::domain::money::Currency;
use crate::domain::payout::{
    AttemptPlan, BankPromises, BankReport, BankStatus, Evidence, EvidenceSource, NewPayout, PayoutInput, StuckRules,
    apply, register,
};
use crate::ledger::decisions::{EntryOutcome, NewDecision, NewEntry};
use crate::ledger::error::LedgerError;
use crate::ledger::outbox::{EventType, OutboxEvent};
use crate::ledger::payouts::{PayoutAct, PayoutCommit, PayoutOutcome, Registration, StoredPayout};
use crate::ledger::store::Ledger;

/// Adds a second attempt beside the first one, past the ledger.
pub(crate) const SECOND_ATTEMPT: &str = "INSERT INTO payout_attempts
         (namespace, payout_id, attempt_no, attempt_id, decision_id, bank, state, final, accepted_for, decided_ms, evidence)
     SELECT namespace, payout_id, 2, evidence, evidence, bank, 'planned', final, NULL, decided_ms, evidence
     FROM payout_attempts WHERE attempt_no = 1";

/// The attempt that a decision permits, at a bank that can be asked for status and cancellation.
pub(crate) fn plan(of: &NewDecision) -> AttemptPlan {
    AttemptPlan {
        attempt_no: of.key.attempt_no,
        bank: of.record.candidate.clone(),
        candidate: of.record.candidate.clone(),
        decision_id: of.record.id,
        promises: BankPromises { inquiry: true, recall: true, ..BankPromises::default() },
        send_by: of.record.expires_at,
    }
}

/// The registration of a payout with this decision.
pub(crate) fn registration(of: &NewDecision, second: i64) -> PayoutCommit {
    let new = NewPayout {
        amount: of.record.request.payout.amount,
        currency: Currency::parse("EUR").unwrap(),
        namespace: of.key.namespace.clone(),
        payout_id: of.key.payout_id.clone(),
        route: of.route.clone(),
        rules: StuckRules::default(),
    };
    let applied = register(new, plan(of), at(second));
    assert_eq!(applied.refused, None);
    let registration = Registration { idempotency_key: None, request_hash: of.request_hash };
    PayoutCommit::new(PayoutAct::Register, "payouts", 0, &applied, at(second)).registering(registration)
}

/// The registration as an entry, with its decision.
pub(crate) fn entry(of: &NewDecision, payout: &PayoutCommit) -> NewEntry {
    NewEntry::Attempt { decision: Box::new(of.clone()), payout: Box::new(payout.clone()) }
}

/// Registers a payout at bank `a`.
pub(crate) async fn registered(ledger: &dyn Ledger, payout_id: &str, second: i64) -> StoredPayout {
    let of = attempt(payout_id, 1, "a", second);
    let outcome = one(ledger, entry(&of, &registration(&of, second))).await;
    assert!(is_committed(&outcome), "{outcome:?}");
    stored(ledger, payout_id).await
}

/// Registers a payout with an event, or repeats that.
pub(crate) async fn register_again(ledger: &dyn Ledger) -> Result<(), LedgerError> {
    let of = attempt("registered", 1, "a", 30);
    let commit = registration(&of, 30).with_events(vec![event("registered", 30, 1)]);
    commit_all(ledger, [entry(&of, &commit)]).await.map(drop)
}

/// The commit of what an input makes of a payout.
pub(crate) fn act(on: &StoredPayout, act: PayoutAct, input: &PayoutInput, second: i64) -> PayoutCommit {
    let applied = apply(&on.payout, input, at(second));
    assert_eq!(applied.refused, None);
    PayoutCommit::new(act, "payouts", on.version, &applied, at(second))
}

/// The commit of the next attempt.
pub(crate) fn next(on: &StoredPayout, of: &NewDecision, second: i64) -> PayoutCommit {
    act(on, PayoutAct::Attempt, &PayoutInput::Attempt(Box::new(plan(of))), second)
}

/// Something that a bank says of an attempt.
pub(crate) fn said(attempt_no: u32, report: BankReport, second: i64) -> PayoutInput {
    PayoutInput::Report { attempt_no, report, evidence: Evidence::new(EvidenceSource::Confirmation, at(second)) }
}

/// Stores what a bank says of an attempt.
pub(crate) async fn report(
    ledger: &dyn Ledger,
    on: &StoredPayout,
    attempt_no: u32,
    report: BankReport,
    second: i64,
) -> StoredPayout {
    let commit = act(on, PayoutAct::Report, &said(attempt_no, report, second), second);
    let outcome = ledger.commit_payout(commit).await.unwrap();
    assert!(is_committed(&outcome), "{outcome:?}");
    stored(ledger, &on.payout.payout_id).await
}

/// Stores that the bank refused an attempt.
pub(crate) async fn rejected(ledger: &dyn Ledger, on: &StoredPayout, attempt_no: u32, second: i64) -> StoredPayout {
    report(ledger, on, attempt_no, BankReport::Status(BankStatus::Rejected), second).await
}

/// An event about a payout.
pub(crate) fn event(payout_id: &str, second: i64, n: u64) -> OutboxEvent {
    OutboxEvent {
        id: id(second, n),
        event_type: EventType::PayoutHeld,
        namespace: "pay".into(),
        aggregate: format!("payout/pay/{payout_id}"),
        payload: "{}".into(),
        correlation_id: id(second, n + 1),
    }
}

/// The payout as stored.
pub(crate) async fn stored(ledger: &dyn Ledger, payout_id: &str) -> StoredPayout {
    ledger.payout("pay", payout_id).await.unwrap().expect("stored")
}

/// Whether the commit is stored.
pub(crate) fn is_committed(outcome: &EntryOutcome) -> bool {
    matches!(outcome, EntryOutcome::Payout(PayoutOutcome::Stored { .. })) || is_stored(outcome)
}
