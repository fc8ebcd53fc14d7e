//! What is read from the audit.

use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use super::columns::EntryColumns;
use crate::domain::decision::{
    AttemptKey, EarlierAttempt, EntryKind, GENESIS, Hash, OutcomeClass, RecordKind, Reservation,
};
use crate::domain::money::Currency;

/// The place of an entry in the chain.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct EntryPosition {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// A decision, with what was reported of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredDecision {
    /// Its number in the chain.
    pub seq: u64,
    /// Its hash in the chain.
    pub hash: Hash,
    /// Its ID.
    pub id: Uuid,
    /// A decision or an override.
    pub kind: RecordKind,
    /// Its payout and attempt.
    pub key: AttemptKey,
    /// SHA-256 of the canonical request.
    pub request_hash: Hash,
    /// The route that decided.
    pub route: String,
    /// The bank.
    pub candidate: String,
    /// What it was decided on.
    pub snapshot: Hash,
    /// What it takes of the bank's daily limit.
    pub reserved: Option<Reservation>,
    /// When it was decided.
    pub at: Timestamp,
    /// The canonical record.
    pub body: Vec<u8>,
    /// The outcomes, in the order of their receipt.
    pub outcomes: Vec<StoredOutcome>,
    /// The override that replaced it.
    pub superseded_by: Option<Uuid>,
}

impl StoredDecision {
    /// Its place in the chain.
    pub const fn position(&self) -> EntryPosition {
        EntryPosition { seq: self.seq, hash: self.hash }
    }

    /// A copy without the outcomes, of which there may be many.
    pub(crate) fn without_outcomes(&self) -> Self {
        Self {
            seq: self.seq,
            hash: self.hash,
            id: self.id,
            kind: self.kind,
            key: self.key.clone(),
            request_hash: self.request_hash,
            route: self.route.clone(),
            candidate: self.candidate.clone(),
            snapshot: self.snapshot,
            reserved: self.reserved.clone(),
            at: self.at,
            body: self.body.clone(),
            outcomes: Vec::new(),
            superseded_by: self.superseded_by,
        }
    }

    /// As the gate of further attempts sees it.
    pub fn attempt(&self) -> EarlierAttempt {
        let outcomes = self.outcomes.iter().map(|outcome| outcome.class).collect();
        EarlierAttempt { attempt_no: self.key.attempt_no, outcomes, followed: None }
    }
}

/// An outcome as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredOutcome {
    /// Its number in the chain.
    pub seq: u64,
    /// Its ID.
    pub id: Uuid,
    /// What happened.
    pub class: OutcomeClass,
    /// How long the bank took, in milliseconds.
    pub latency_ms: Option<u64>,
    /// When it happened.
    pub occurred_at: Option<Timestamp>,
    /// When it was received.
    pub at: Timestamp,
    /// The caller.
    pub subject: String,
}

/// Filter for decisions. Unset fields match all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DecisionFilter {
    /// Only of this namespace.
    pub namespace: Option<String>,
    /// Only of this route.
    pub route: Option<String>,
    /// Only for this bank.
    pub candidate: Option<String>,
    /// Only at or after this time.
    pub from: Option<Timestamp>,
    /// Only before this time.
    pub to: Option<Timestamp>,
}

/// Some of the matching decisions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DecisionPage {
    /// Newest first.
    pub decisions: Vec<StoredDecision>,
    /// Where to go on; `None` at the end. The search ends after a number of entries, so a page may be short, or empty,
    /// although there are more.
    pub next: Option<u64>,
}

/// A day of a bank's limit in a route.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LimitDay {
    /// The namespace of the route.
    pub namespace: String,
    /// The route.
    pub route: String,
    /// The bank.
    pub candidate: String,
    /// The day, in the limit's zone.
    pub day: Date,
    /// The currency of its amount: that of the route when the decision was made.
    pub currency: Currency,
}

impl LimitDay {
    /// The day that a decision of the route takes `reserved` from.
    pub(crate) fn of(namespace: &str, route: &str, reserved: &Reservation) -> Self {
        Self {
            namespace: namespace.to_owned(),
            route: route.to_owned(),
            candidate: reserved.candidate.clone(),
            day: reserved.day,
            currency: reserved.currency,
        }
    }

    /// The day and the currency as stored.
    pub(crate) fn stored_day(&self) -> String {
        stored_day(self.day, self.currency)
    }
}

/// A day of a limit and the currency of what it counts, as stored: in the order of days.
pub(crate) fn stored_day(day: Date, currency: Currency) -> String {
    format!("{day} {currency}")
}

/// Reads what [`stored_day`] wrote.
pub(crate) fn read_day(text: &str) -> Option<(Date, Currency)> {
    let (day, currency) = text.split_once(' ')?;
    Some((day.parse().ok()?, Currency::parse(currency).ok()?))
}

/// The ends of the chain.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct ChainEnds {
    /// The number of the last entry; 0 without one.
    pub seq: u64,
    /// The hash of the last entry; zeros without one.
    pub hash: Hash,
    /// The number of the last entry that retention deleted; 0 without one.
    pub base_seq: u64,
    /// The hash of the last entry that retention deleted: what the first entry that is left follows.
    pub base_hash: Hash,
}

/// An entry as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainEntry {
    /// Its number.
    pub seq: u64,
    /// Its kind.
    pub kind: EntryKind,
    /// What is hashed.
    pub body: Vec<u8>,
    /// Its hash.
    pub hash: Hash,
    /// What it is found by.
    pub columns: EntryColumns,
    /// The column that cannot be read; the other fields are then void.
    pub unreadable: Option<&'static str>,
}

impl ChainEntry {
    /// An entry with a column that cannot be read.
    pub(crate) const fn unreadable(seq: u64, column: &'static str) -> Self {
        Self {
            seq,
            kind: EntryKind::Decision,
            body: Vec::new(),
            hash: GENESIS,
            columns: EntryColumns::at(Timestamp::UNIX_EPOCH),
            unreadable: Some(column),
        }
    }
}
