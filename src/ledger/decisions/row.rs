//! A row of the log, as it is written and as it is read.

use std::borrow::Cow;

use jiff::Timestamp;
use uuid::Uuid;

use super::columns::EntryColumns;
use super::entry::NewOutcome;
use super::stored::{ChainEntry, EntryPosition, StoredDecision, StoredOutcome};
use crate::domain::decision::{AttemptKey, EntryKind, GENESIS, Hash, RecordKind, Reservation};
use crate::ledger::error::LedgerError;

/// A row to be written; decisions lend their fields.
#[derive(Debug)]
pub(crate) struct NewRow<'b> {
    pub(crate) seq: u64,
    pub(crate) kind: EntryKind,
    pub(crate) at: Timestamp,
    pub(crate) id: Option<Uuid>,
    pub(crate) namespace: Option<Cow<'b, str>>,
    pub(crate) payout_id: Option<&'b str>,
    pub(crate) attempt_no: Option<u32>,
    pub(crate) request_hash: Option<&'b Hash>,
    pub(crate) route: Option<Cow<'b, str>>,
    pub(crate) candidate: Option<&'b str>,
    pub(crate) snapshot: Option<&'b Hash>,
    pub(crate) about: Option<Uuid>,
    pub(crate) reserved: Option<&'b Reservation>,
    pub(crate) body: Cow<'b, [u8]>,
    pub(crate) hash: Hash,
}

impl NewRow<'_> {
    /// The row of an entry that is no decision.
    pub(crate) fn of_columns(kind: EntryKind, columns: EntryColumns, body: Vec<u8>) -> Self {
        Self {
            seq: 0,
            kind,
            at: columns.at,
            id: columns.id,
            namespace: columns.namespace.map(Cow::Owned),
            payout_id: None,
            attempt_no: None,
            request_hash: None,
            route: columns.route.map(Cow::Owned),
            candidate: None,
            snapshot: None,
            about: columns.about,
            reserved: None,
            body: Cow::Owned(body),
            hash: GENESIS,
        }
    }

    /// Its place in the chain.
    pub(crate) const fn position(&self) -> EntryPosition {
        EntryPosition { seq: self.seq, hash: self.hash }
    }
}

/// A row as read.
#[derive(Clone, Debug)]
pub(crate) struct LogRow {
    pub(crate) seq: u64,
    pub(crate) kind: EntryKind,
    pub(crate) columns: EntryColumns,
    pub(crate) body: Vec<u8>,
    pub(crate) hash: Hash,
}

impl LogRow {
    /// Its place in the chain.
    pub(crate) const fn position(&self) -> EntryPosition {
        EntryPosition { seq: self.seq, hash: self.hash }
    }

    /// As an entry of the chain.
    pub(crate) fn into_entry(self) -> ChainEntry {
        let Self { seq, kind, columns, body, hash } = self;
        ChainEntry { seq, kind, body, hash, columns, unreadable: None }
    }

    /// As a decision without outcomes.
    pub(crate) fn into_decision(self) -> Result<StoredDecision, LedgerError> {
        let columns = self.columns;
        let kind = match self.kind {
            EntryKind::Decision => RecordKind::Decision,
            EntryKind::Override => RecordKind::Override,
            _ => return Err(LedgerError::Corrupt { column: "decision_log.kind" }),
        };
        let key = AttemptKey {
            namespace: present(columns.namespace, "decision_log.namespace")?,
            payout_id: present(columns.payout_id, "decision_log.payout_id")?,
            attempt_no: present(columns.attempt_no, "decision_log.attempt_no")?,
        };
        Ok(StoredDecision {
            seq: self.seq,
            hash: self.hash,
            id: present(columns.id, "decision_log.id")?,
            kind,
            key,
            request_hash: present(columns.request_hash, "decision_log.request_hash")?,
            route: present(columns.route, "decision_log.route")?,
            candidate: present(columns.candidate, "decision_log.candidate")?,
            snapshot: present(columns.snapshot, "decision_log.snapshot")?,
            reserved: columns.reserved,
            at: columns.at,
            body: self.body,
            outcomes: Vec::new(),
            superseded_by: None,
        })
    }

    /// Adds to `decision` what this entry, which is about it, says.
    pub(crate) fn tell(&self, decision: &mut StoredDecision) -> Result<(), LedgerError> {
        match self.kind {
            EntryKind::Override => decision.superseded_by = self.columns.id,
            EntryKind::Outcome => {
                let outcome = NewOutcome::decode(&self.body);
                let outcome = outcome.ok_or(LedgerError::Corrupt { column: "decision_log.body" })?;
                decision.outcomes.push(stored_outcome(self.seq, outcome));
            }
            _ => {}
        }
        Ok(())
    }
}

/// An outcome with its number.
pub(crate) fn stored_outcome(seq: u64, outcome: NewOutcome) -> StoredOutcome {
    let NewOutcome { at, class, decision: _, id, latency_ms, occurred_at, subject } = outcome;
    StoredOutcome { seq, id, class, latency_ms, occurred_at, at, subject }
}

fn present<T>(value: Option<T>, column: &'static str) -> Result<T, LedgerError> {
    value.ok_or(LedgerError::Corrupt { column })
}
