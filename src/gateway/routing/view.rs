//! Decisions as the API prints them: the choice, and every candidate with its costs or the reason why it is excluded.
//!
//! Decimals are strings without trailing zeros, instants have milliseconds, hashes are hexadecimal: as in the record, so that
//! an answer can be compared with it. One struct is one JSON object, printed once, straight from the record.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::canonical::{self, Hash};
use crate::domain::decision::{DecisionRequest, RecordKind};
use crate::gateway::routing::candidate_view::{CandidateView, ChoiceProposalView, IneffectivePinView, Ranking};
use crate::ledger::decisions::StoredOutcome;
use crate::routing::{Decided, Tested};

/// A decision.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionView<'a> {
    /// Its ID.
    #[serde(with = "canonical::uuid_text")]
    #[schema(value_type = String, format = "uuid")]
    pub decision_id: Uuid,
    /// `decision`, or `override`: the choice of operations staff.
    #[schema(value_type = String)]
    pub kind: &'static str,
    /// The chosen bank: name of the candidate.
    pub candidate: &'a str,
    /// `bankProfileID` of the chosen bank: its name, if it has none.
    pub bank_profile_id: &'a str,
    /// Why it was chosen.
    #[schema(value_type = String)]
    pub reason: &'static str,
    /// Namespace of the route.
    pub namespace: &'a str,
    /// Name of the route.
    pub route: &'a str,
    /// ID of the payout.
    pub payout_id: &'a str,
    /// Amount in `currency`.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub amount: Decimal,
    /// Currency.
    pub currency: &'a str,
    /// Country of the beneficiary, if it was named.
    pub country: Option<&'a str>,
    /// The merchant, if it was named.
    pub merchant: Option<&'a str>,
    /// The payment rail, if it was named.
    pub rail: Option<&'a str>,
    /// Number of the attempt to execute the payout, from 1.
    #[schema(minimum = 1)]
    pub attempt_no: u32,
    /// Whether this answers an earlier request with the same body.
    pub replayed: bool,
    /// Whether it is too old to be acted upon: send nothing to the bank.
    pub expired: bool,
    /// When it was made.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub decided_at: Timestamp,
    /// From when on it is too old to be acted upon.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Mode of the route: `Reactive`, `Predictive` or `Hybrid`.
    #[schema(value_type = String)]
    pub mode: &'static str,
    /// The other banks that can take the payout, best first.
    pub fallbacks: Vec<&'a str>,
    /// All candidates: the chosen one, the other ones by preference, then the excluded ones.
    pub candidates: Vec<CandidateView<'a>>,
    /// Pins without effect, because their bank is excluded.
    pub ineffective_pins: Vec<IneffectivePinView<'a>>,
    /// What the forecast proposes in mode `Hybrid`, if it proposes something.
    pub proposal: Option<ChoiceProposalView<'a>>,
    /// Generation of the route's spec.
    pub route_generation: i64,
    /// ID of the snapshot of route, banks and rules: the SHA-256 of its canonical JSON.
    #[serde(with = "canonical::hash")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub snapshot: Hash,
    /// Version of the algorithm that derives the choice.
    #[schema(minimum = 1)]
    pub algorithm: u32,
    /// Its place in the audit.
    #[schema(minimum = 1)]
    pub seq: u64,
    /// Hash of its entry in the audit, over all entries before it.
    #[serde(with = "canonical::hash")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub hash: Hash,
    /// Hash of the request, without `attempt_no`.
    #[serde(with = "canonical::hash")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub request_hash: Hash,
    /// `X-Request-ID` of the request that made it.
    #[serde(with = "canonical::uuid_text::option")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub request_id: Option<Uuid>,
    /// The caller.
    pub subject: &'a str,
    /// The reason that operations staff gave; null for a decision that is no override.
    pub override_reason: Option<&'a str>,
    /// The decision that an override replaces; null for others.
    #[serde(with = "canonical::uuid_text::option")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub supersedes: Option<Uuid>,
    /// The override that replaces this decision, if one does.
    #[serde(with = "canonical::uuid_text::option")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub superseded_by: Option<Uuid>,
    /// What was reported of the attempt, in order of receipt.
    pub outcomes: Vec<OutcomeView>,
}

/// The choice for a payout, without a decision being made.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestView<'a> {
    /// The bank that would be chosen: name of the candidate.
    pub candidate: &'a str,
    /// `bankProfileID` of that bank: its name, if it has none.
    pub bank_profile_id: &'a str,
    /// Why it would be chosen.
    #[schema(value_type = String)]
    pub reason: &'static str,
    /// Namespace of the route.
    pub namespace: &'a str,
    /// Name of the route.
    pub route: &'a str,
    /// ID of the payout.
    pub payout_id: &'a str,
    /// Amount in `currency`.
    #[serde(with = "canonical::decimal")]
    #[schema(value_type = String)]
    pub amount: Decimal,
    /// Currency.
    pub currency: &'a str,
    /// Country of the beneficiary, if it was named.
    pub country: Option<&'a str>,
    /// The merchant, if it was named.
    pub merchant: Option<&'a str>,
    /// The payment rail, if it was named.
    pub rail: Option<&'a str>,
    /// When the banks were compared.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Mode of the route: `Reactive`, `Predictive` or `Hybrid`.
    #[schema(value_type = String)]
    pub mode: &'static str,
    /// The other banks that can take the payout, best first.
    pub fallbacks: Vec<&'a str>,
    /// All candidates: the chosen one, the other ones by preference, then the excluded ones.
    pub candidates: Vec<CandidateView<'a>>,
    /// Pins without effect, because their bank is excluded.
    pub ineffective_pins: Vec<IneffectivePinView<'a>>,
    /// What the forecast proposes in mode `Hybrid`, if it proposes something.
    pub proposal: Option<ChoiceProposalView<'a>>,
    /// Generation of the route's spec.
    pub route_generation: i64,
    /// ID of the snapshot of route, banks and rules: the SHA-256 of its canonical JSON.
    #[serde(with = "canonical::hash")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub snapshot: Hash,
}

/// The outcome of an attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutcomeView {
    /// What happened: `success`, `bank_failure`, `timeout`, `throttle`, `customer_fault`, `pending`, `not_sent` or `rejected`.
    #[schema(value_type = String)]
    pub class: &'static str,
    /// How long the bank took, in milliseconds, if that was reported.
    #[schema(minimum = 0)]
    pub latency_ms: Option<u64>,
    /// When it happened, if that was reported.
    #[serde(with = "canonical::instant::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// When it was received.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// Who reported it.
    pub subject: String,
}

impl<'a> From<&'a Decided> for DecisionView<'a> {
    fn from(decided: &'a Decided) -> Self {
        let Decided {
            evaluation,
            expired,
            hash,
            outcomes,
            record,
            replayed,
            request_hash,
            seq,
            snapshot,
            superseded_by,
        } = decided;
        let ranking = Ranking::new(evaluation, snapshot, &record.candidate);
        let DecisionRequest { attempt_no, namespace, payout, payout_id, .. } = &record.request;
        Self {
            decision_id: record.id,
            kind: kind(record.kind),
            candidate: &record.candidate,
            bank_profile_id: ranking.bank_profile_id,
            reason: ranking.reason,
            namespace,
            route: &snapshot.snapshot.route,
            payout_id,
            amount: payout.amount,
            currency: payout.currency.as_str(),
            country: payout.country.as_deref(),
            merchant: payout.merchant.as_deref(),
            rail: payout.rail.as_deref(),
            attempt_no: *attempt_no,
            replayed: *replayed,
            expired: *expired,
            decided_at: record.at,
            expires_at: record.expires_at,
            mode: snapshot.snapshot.rules.mode.as_str(),
            fallbacks: ranking.fallbacks,
            candidates: ranking.candidates,
            ineffective_pins: ranking.ineffective_pins,
            proposal: ranking.proposal,
            route_generation: snapshot.snapshot.generation,
            snapshot: record.snapshot,
            algorithm: record.algorithm,
            seq: *seq,
            hash: *hash,
            request_hash: *request_hash,
            request_id: record.request_id,
            subject: &record.subject,
            override_reason: record.reason.as_deref(),
            supersedes: record.supersedes,
            superseded_by: *superseded_by,
            outcomes: outcomes.iter().cloned().map(OutcomeView::from).collect(),
        }
    }
}

impl<'a> TestView<'a> {
    /// The answer to a test with this request; `None` if no bank would take the payout.
    pub(super) fn new(request: &'a DecisionRequest, tested: &'a Tested) -> Option<Self> {
        let Tested { at, evaluation, snapshot } = tested;
        let candidate = evaluation.active.as_deref()?;
        let ranking = Ranking::new(evaluation, snapshot, candidate);
        let payout = &request.payout;
        Some(Self {
            candidate,
            bank_profile_id: ranking.bank_profile_id,
            reason: ranking.reason,
            namespace: &request.namespace,
            route: &snapshot.snapshot.route,
            payout_id: &request.payout_id,
            amount: payout.amount,
            currency: payout.currency.as_str(),
            country: payout.country.as_deref(),
            merchant: payout.merchant.as_deref(),
            rail: payout.rail.as_deref(),
            at: *at,
            mode: snapshot.snapshot.rules.mode.as_str(),
            fallbacks: ranking.fallbacks,
            candidates: ranking.candidates,
            ineffective_pins: ranking.ineffective_pins,
            proposal: ranking.proposal,
            route_generation: snapshot.snapshot.generation,
            snapshot: snapshot.id,
        })
    }
}

impl From<StoredOutcome> for OutcomeView {
    fn from(outcome: StoredOutcome) -> Self {
        Self {
            class: outcome.class.as_str(),
            latency_ms: outcome.latency_ms,
            at: outcome.occurred_at,
            received_at: outcome.at,
            subject: outcome.subject,
        }
    }
}

/// The name of a record's kind.
pub(super) const fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Decision => "decision",
        RecordKind::Override => "override",
    }
}
