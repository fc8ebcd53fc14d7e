//! Payouts as the API prints them: where each stands, its attempts, and what every state rests on.
//!
//! Decimals are strings without trailing zeros, instants have milliseconds, hashes are hexadecimal: as stored.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::canonical::{self, Hash};
use crate::domain::payout::{Attempt, Evidence, HoldReason, ProposedResolution};
use crate::ledger::payouts::{StoredPayout, TimelineEvent, TimelineRow};

/// A followed payout.
#[derive(Debug, Serialize, ToSchema)]
pub struct PayoutView {
    /// Namespace of its route.
    pub namespace: String,
    /// The caller's ID.
    pub payout_id: String,
    /// Name of its route.
    pub route: String,
    /// Amount in `currency`.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub amount: Decimal,
    /// Currency.
    pub currency: String,
    /// `open`, `stuck`, `held`, `frozen`, `confirmed` or `not_executed`.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// Why it waits for a person: one of the hold reasons; null if it does not.
    #[schema(value_type = Option<String>)]
    pub hold: Option<&'static str>,
    /// What that person can do.
    #[schema(value_type = Option<String>)]
    pub remedy: Option<&'static str>,
    /// Whether no attempt is allowed whatever was proven.
    pub frozen: bool,
    /// Whether another attempt may be decided now.
    pub may_attempt: bool,
    /// The number of the next attempt.
    #[schema(minimum = 1)]
    pub next_attempt_no: u32,
    /// When something is to be done about it next; null: nothing.
    #[serde(with = "canonical::instant::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_action_at: Option<Timestamp>,
    /// When it was registered.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub registered_at: Timestamp,
    /// When it changed last.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// 1 at the registration, one more with each act.
    #[schema(minimum = 1)]
    pub version: u64,
    /// Who accepts the risk that the next attempt is a duplicate; two are needed.
    pub risk_accepted_by: Vec<EvidenceView>,
    /// Up to which amount, in `currency`, people may accept that risk; null: not at all.
    #[serde(with = "canonical::decimal::option")]
    #[schema(value_type = Option<String>)]
    pub duplicate_risk_limit: Option<Decimal>,
    /// The attempts, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// An attempt to pay a payout through one bank.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptView {
    /// Its number, from 1.
    #[schema(minimum = 1)]
    pub attempt_no: u32,
    /// Its ID.
    #[serde(with = "canonical::uuid_text")]
    #[schema(value_type = String, format = "uuid")]
    pub attempt_id: Uuid,
    /// The decision that chose the bank.
    #[serde(with = "canonical::uuid_text")]
    #[schema(value_type = String, format = "uuid")]
    pub decision_id: Uuid,
    /// The chosen bank: name of the candidate.
    pub candidate: String,
    /// Its connection.
    pub bank: String,
    /// The end-to-end ID to give to the bank: the bank is asked by it.
    pub end_to_end_id: String,
    /// The idempotency key to send to the bank.
    pub idempotency_key: String,
    /// `intent_written`, `submitted`, `accepted`, `unknown`, `stuck`, `inquiring`, `recalling`, `confirmed`, `rejected`,
    /// `returned`, `recalled`, `never_received` or `manual_review`.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// Why it is held, in the state `manual_review`.
    #[schema(value_type = Option<String>)]
    pub hold: Option<&'static str>,
    /// What the state rests on.
    pub evidence: EvidenceView,
    /// When it was decided.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub decided_at: Timestamp,
    /// From when on it must not be sent.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// When it was sent, as the submitter reported.
    #[serde(with = "canonical::instant::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Timestamp>,
    /// When the bank is asked next, or the attempt is late.
    #[serde(with = "canonical::instant::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_action_at: Option<Timestamp>,
    /// Inquiries since the last change of phase.
    pub inquiries: u32,
    /// Recalls that were sent.
    pub recalls: u32,
    /// Whether its bank can be neither inquired nor asked to cancel: a stuck attempt is held.
    pub manual_only: bool,
    /// What one person said became of it; a second one is awaited.
    pub proposed: Option<ProposedView>,
}

/// What a state rests on. Never the message itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct EvidenceView {
    /// `submitter`, `inquiry`, `recall`, `confirmation`, `statement`, `operator`, `clock` or `restore`.
    #[schema(value_type = String)]
    pub source: &'static str,
    /// When it was received.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// When the question was asked that it answers.
    #[serde(with = "canonical::instant::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub asked_at: Option<Timestamp>,
    /// SHA-256 of the message.
    #[serde(with = "canonical::hash::option")]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{64}$")]
    pub message_hash: Option<Hash>,
    /// The bank's or the caller's reference of the message.
    pub reference: Option<String>,
    /// The person or the caller.
    pub subject: Option<String>,
}

/// What one person said became of an attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProposedView {
    /// `confirmed`, `rejected`, `returned` or `never_received`.
    #[schema(value_type = String)]
    pub resolution: &'static str,
    /// Who said so, and on what grounds.
    pub evidence: EvidenceView,
}

/// Something that happened to a payout.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimelineView {
    /// What was done.
    #[schema(value_type = String)]
    pub act: &'static str,
    /// When it was stored.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The attempt; null for an act on the whole payout.
    #[schema(minimum = 1)]
    pub attempt_no: Option<u32>,
    /// The state of the attempt before.
    #[schema(value_type = Option<String>)]
    pub from: Option<&'static str>,
    /// The state of the attempt then; equal to `from` for evidence that did not change it.
    #[schema(value_type = Option<String>)]
    pub to: Option<&'static str>,
    /// The call to the bank that was about to be made: `inquiry` or `recall`.
    #[schema(value_type = Option<String>)]
    pub call: Option<&'static str>,
    /// The fencing number of the lease that the call was made under; 0 for a call that a person asked for.
    pub fence: Option<i64>,
    /// What it rests on.
    pub evidence: Option<EvidenceView>,
    /// Why the payout, or the attempt, is held then.
    #[schema(value_type = Option<String>)]
    pub hold: Option<&'static str>,
    /// Its place in the audit.
    #[schema(minimum = 1)]
    pub seq: u64,
    /// The caller; `busbar` for the operator itself.
    pub subject: String,
}

impl From<StoredPayout> for PayoutView {
    fn from(stored: StoredPayout) -> Self {
        let StoredPayout { payout, updated_at, version, .. } = stored;
        let hold = payout.hold();
        let next_attempt_no = payout.next_attempt_no();
        Self {
            state: payout.state().as_str(),
            hold: hold.map(HoldReason::as_str),
            remedy: hold.map(HoldReason::remedy),
            may_attempt: payout.may_attempt(next_attempt_no).is_ok(),
            next_attempt_no,
            next_action_at: payout.next_action(),
            frozen: payout.frozen,
            registered_at: payout.registered_at,
            updated_at,
            version,
            amount: payout.amount,
            currency: payout.currency.to_string(),
            duplicate_risk_limit: payout.rules.duplicate_risk_limit,
            namespace: payout.namespace,
            payout_id: payout.payout_id,
            route: payout.route,
            risk_accepted_by: payout.risk_accepted_by.into_iter().map(EvidenceView::from).collect(),
            attempts: payout.attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            attempt_no: attempt.plan.attempt_no,
            attempt_id: attempt.attempt_id,
            decision_id: attempt.plan.decision_id,
            end_to_end_id: attempt.end_to_end_id(),
            idempotency_key: attempt.idempotency_key(),
            state: attempt.state.as_str(),
            hold: attempt.hold.map(HoldReason::as_str),
            decided_at: attempt.decided_at,
            expires_at: attempt.send_by,
            sent_at: attempt.sent_at,
            next_action_at: attempt.next_action,
            inquiries: attempt.inquiries,
            recalls: attempt.recalls,
            manual_only: attempt.plan.promises.is_manual_only(),
            candidate: attempt.plan.candidate,
            bank: attempt.plan.bank,
            evidence: attempt.evidence.into(),
            proposed: attempt.proposed.map(ProposedView::from),
        }
    }
}

impl From<Evidence> for EvidenceView {
    fn from(evidence: Evidence) -> Self {
        let Evidence { asked_at, at, message_hash, message_id, source, subject } = evidence;
        Self { source: source.as_str(), at, asked_at, message_hash, reference: message_id, subject }
    }
}

impl From<ProposedResolution> for ProposedView {
    fn from(proposed: ProposedResolution) -> Self {
        Self { resolution: proposed.resolution.as_str(), evidence: proposed.evidence.into() }
    }
}

impl From<TimelineRow> for TimelineView {
    fn from(row: TimelineRow) -> Self {
        let (from, to) = match row.event {
            TimelineEvent::Transition { from, to } => (Some(from.as_str()), Some(to.as_str())),
            TimelineEvent::Act | TimelineEvent::Intent { .. } => (None, None),
        };
        let (call, fence) = match row.event {
            TimelineEvent::Intent { call, fence } => (Some(call.as_str()), Some(fence)),
            TimelineEvent::Act | TimelineEvent::Transition { .. } => (None, None),
        };
        Self {
            act: row.act.as_str(),
            at: row.at,
            attempt_no: row.attempt_no,
            from,
            to,
            call,
            fence,
            evidence: row.evidence.map(EvidenceView::from),
            hold: row.hold.map(HoldReason::as_str),
            seq: row.seq,
            subject: row.subject,
        }
    }
}
