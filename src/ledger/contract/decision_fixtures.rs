//! Decisions, outcomes and batches that the rules share.

use std::sync::Arc;

use rust_decimal::Decimal;
use uuid::Uuid;

use super::fixtures::at;
use crate::domain::canonical::sha256;
use crate::domain::decision::{
    ALGORITHM, AttemptKey, ChainHead, ChainVerifier, DailyLimit, DecisionRecord, DecisionRequest, OutcomeClass,
    RecordKind, Reservation, Usage,
};
use crate::domain::hash::stable_hash;
use crate::domain::money::Currency;
use crate::domain::route::Payout;
use crate::ledger::decisions::{
    DecisionBatch, EncodedSnapshot, EntryOutcome, NewDecision, NewEntry, NewOutcome, StoredDecision,
};
use crate::ledger::error::LedgerError;
use crate::ledger::store::Ledger;

/// The day of the decisions' limits.
pub(crate) const DAY: jiff::civil::Date = jiff::civil::date(2026, 11, 22);

/// The currency of the limits.
pub(crate) fn eur() -> Currency {
    Currency::parse("EUR").unwrap()
}

/// The instant of `second` as an ID, so that IDs are in the order of time, and `n` to tell them apart.
pub(crate) fn id(second: i64, n: u64) -> Uuid {
    let millis = u128::try_from(at(second).as_millisecond()).unwrap();
    Uuid::from_u128((millis << 80) | u128::from(n))
}

/// A decision for `candidate` on attempt 1 of a payout.
pub(crate) fn decision(payout: &str, candidate: &str, second: i64) -> NewDecision {
    attempt(payout, 1, candidate, second)
}

/// A decision for `candidate` on an attempt of a payout.
pub(crate) fn attempt(payout: &str, attempt_no: u32, candidate: &str, second: i64) -> NewDecision {
    let currency = Currency::parse("EUR").unwrap();
    let payout_of = Payout { amount: Decimal::ONE_HUNDRED, country: None, currency, merchant: None, rail: None };
    let request = DecisionRequest {
        attempt_no,
        namespace: "pay".into(),
        payout: payout_of,
        payout_id: payout.into(),
        rates: Vec::new(),
        route: Some("eu".into()),
    };
    let record = DecisionRecord {
        algorithm: ALGORITHM,
        at: at(second),
        candidate: candidate.into(),
        expires_at: at(second + 60),
        id: id(second, stable_hash(&format!("{payout} {attempt_no} {candidate}"))),
        kind: RecordKind::Decision,
        reason: None,
        request: request.clone(),
        request_id: None,
        reserved: None,
        snapshot: [0; 32],
        subject: "payouts".into(),
        supersedes: None,
        usage: Usage::default(),
    };
    built(NewDecision {
        key: request.key(),
        request_hash: request.hash(),
        record: Arc::new(record),
        body: Vec::new(),
        route: "eu".into(),
        limit: None,
        snapshot: snapshot("s"),
    })
}

/// A snapshot of this content. The ledger does not read it.
pub(crate) fn snapshot(content: &str) -> Arc<EncodedSnapshot> {
    Arc::new(EncodedSnapshot { id: sha256(content.as_bytes()), body: content.as_bytes().to_vec() })
}

/// The decision, changed, with the body that belongs to its record.
pub(crate) fn built(new: NewDecision) -> NewDecision {
    let record = Arc::new(DecisionRecord { snapshot: new.snapshot.id, ..(*new.record).clone() });
    NewDecision { body: record.encode(), record, ..new }
}

/// The decision with another amount: another request.
pub(crate) fn with_amount(new: NewDecision, amount: i64) -> NewDecision {
    let mut request = new.record.request.clone();
    request.payout.amount = Decimal::from(amount);
    let request_hash = request.hash();
    let record = Arc::new(DecisionRecord { request, ..(*new.record).clone() });
    built(NewDecision { request_hash, record, ..new })
}

/// The decision as an override of another.
pub(crate) fn overriding(new: NewDecision, supersedes: Uuid) -> NewDecision {
    let record = DecisionRecord {
        kind: RecordKind::Override,
        reason: Some("ops".into()),
        supersedes: Some(supersedes),
        ..(*new.record).clone()
    };
    built(NewDecision { record: Arc::new(record), ..new })
}

/// The decision with a daily limit, of which it takes `amount`.
pub(crate) fn limited(new: NewDecision, limit: &DailyLimit, amount: &str) -> NewDecision {
    in_currency(new, limit, amount, eur())
}

/// The same, in another currency.
pub(crate) fn in_currency(new: NewDecision, limit: &DailyLimit, amount: &str, currency: Currency) -> NewDecision {
    let (amount, candidate) = (amount.parse().unwrap(), new.record.candidate.clone());
    let reserved = Reservation { amount, candidate, currency, day: DAY };
    let record = DecisionRecord { reserved: Some(reserved), ..(*new.record).clone() };
    built(NewDecision { record: Arc::new(record), limit: Some(limit.clone()), ..new })
}

/// An outcome of a decision.
pub(crate) fn outcome(of: &NewDecision, class: OutcomeClass, second: i64, n: u64) -> NewOutcome {
    NewOutcome {
        at: at(second),
        class,
        decision: of.record.id,
        id: id(second, n),
        latency_ms: Some(120),
        occurred_at: Some(at(second - 1)),
        subject: "payouts".into(),
    }
}

/// A batch of entries.
pub(crate) fn batch(entries: impl IntoIterator<Item = NewEntry>) -> Arc<DecisionBatch> {
    Arc::new(DecisionBatch { entries: entries.into_iter().collect() })
}

/// The decision as an entry.
pub(crate) fn entry(new: &NewDecision) -> NewEntry {
    NewEntry::Decision(Box::new(new.clone()))
}

/// Commits entries; returns what became of each.
pub(crate) async fn commit(
    ledger: &dyn Ledger,
    entries: impl IntoIterator<Item = NewEntry>,
) -> Result<Vec<EntryOutcome>, LedgerError> {
    ledger.commit_decisions(batch(entries)).await
}

/// Commits one entry; returns what became of it.
pub(crate) async fn one(ledger: &dyn Ledger, entry: NewEntry) -> EntryOutcome {
    commit(ledger, [entry]).await.unwrap().pop().expect("one outcome for one entry")
}

/// Commits one decision; returns what became of it.
pub(crate) async fn decide(ledger: &dyn Ledger, new: &NewDecision) -> EntryOutcome {
    one(ledger, entry(new)).await
}

/// Reports an outcome of a decision.
pub(crate) async fn report(ledger: &dyn Ledger, of: &NewDecision, class: OutcomeClass, second: i64) -> EntryOutcome {
    let n = stable_hash(&format!("{} {class}", of.key.payout_id));
    one(ledger, NewEntry::Outcome(outcome(of, class, second, n))).await
}

/// Whether the entry is stored.
pub(crate) fn is_stored(outcome: &EntryOutcome) -> bool {
    matches!(outcome, EntryOutcome::Stored(_) | EntryOutcome::OutcomeStored { .. })
}

/// The stored decision of a key.
pub(crate) async fn stored(ledger: &dyn Ledger, key: &AttemptKey) -> StoredDecision {
    ledger.decision_by_key(key).await.unwrap().expect("stored")
}

/// Reads the whole chain and verifies it; returns the number of its entries.
pub(crate) async fn verify(ledger: &dyn Ledger) -> u64 {
    let ends = ledger.chain_head().await.unwrap();
    let mut verifier = ChainVerifier::new(ChainHead { seq: ends.base_seq, hash: ends.base_hash });
    let (mut after, mut entries) = (ends.base_seq, 0);
    loop {
        let page = ledger.chain(after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        for entry in &page {
            assert_eq!(entry.unreadable, None);
            verifier.push(entry.seq, entry.kind, &entry.body, &entry.hash).unwrap();
            entries += 1;
        }
    }
    verifier.finish(&ChainHead { seq: ends.seq, hash: ends.hash }).unwrap();
    entries
}
