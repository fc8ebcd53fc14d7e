//! What is appended to the audit.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::adjustment::AdjustmentChange;
use super::proposal::ProposalChange;
use crate::domain::canonical::{instant, to_bytes, uuid_text};
use crate::domain::decision::{AttemptKey, DailyLimit, DecisionRecord, Hash, OutcomeClass};
use crate::ledger::payouts::change::PayoutsResume;
use crate::ledger::payouts::commit::PayoutCommit;

/// Entries that are committed together, in their order. Each has an outcome of its own.
#[derive(Clone, Debug, Default)]
pub struct DecisionBatch {
    /// The entries.
    pub entries: Vec<NewEntry>,
}

/// One entry.
#[derive(Clone, Debug)]
pub enum NewEntry {
    /// A decision or an override.
    Decision(Box<NewDecision>),
    /// What a bank made of a decision's payout.
    Outcome(NewOutcome),
    /// An Ops adjustment begins or ends.
    Adjustment(AdjustmentChange),
    /// A proposal of Hybrid mode is made or settled.
    Proposal(ProposalChange),
    /// A followed payout is moved on.
    Payout(Box<PayoutCommit>),
    /// A decision, and the followed payout whose next attempt it is: both are stored, or neither.
    Attempt {
        /// The decision.
        decision: Box<NewDecision>,
        /// The payout with the attempt.
        payout: Box<PayoutCommit>,
    },
    /// Payouts are resumed after a restore with loss.
    ResumePayouts(PayoutsResume),
}

/// A decision.
#[derive(Clone, Debug)]
pub struct NewDecision {
    /// Its payout and attempt.
    pub key: AttemptKey,
    /// SHA-256 of the canonical request.
    pub request_hash: Hash,
    /// The record.
    pub record: Arc<DecisionRecord>,
    /// The record's canonical bytes.
    pub body: Vec<u8>,
    /// The route that decided.
    pub route: String,
    /// The daily limit of the chosen candidate.
    pub limit: Option<DailyLimit>,
    /// What it was decided on.
    pub snapshot: Arc<EncodedSnapshot>,
}

/// A snapshot as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedSnapshot {
    /// SHA-256 of the body.
    pub id: Hash,
    /// Its canonical bytes.
    pub body: Vec<u8>,
}

/// What a bank made of a decision's payout, as a caller reports it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewOutcome {
    /// When it was received.
    #[serde(with = "instant")]
    pub at: Timestamp,
    /// What happened.
    pub class: OutcomeClass,
    /// The decision.
    #[serde(with = "uuid_text")]
    pub decision: Uuid,
    /// The entry's ID.
    #[serde(with = "uuid_text")]
    pub id: Uuid,
    /// How long the bank took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// When it happened.
    #[serde(default, with = "instant::option", skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    /// The caller.
    pub subject: String,
}

impl NewOutcome {
    /// The entry's body.
    pub fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// The outcome in an entry's body; `None` if it is no outcome.
    pub fn decode(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}
