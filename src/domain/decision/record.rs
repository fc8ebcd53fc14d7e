//! What is kept of a decision: its inputs, its result and who asked. The explanation is derived again from them. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use super::decide::{NotEligible, decide, eligible, reservation};
use super::request::DecisionRequest;
use super::snapshot::{DecodeError, SealedSnapshot, Snapshot};
use super::usage::{Reservation, Usage};
use crate::domain::canonical::{Hash, hash, instant, to_bytes, to_millis, uuid_text};
use crate::domain::route::Evaluation;

/// The version of the algorithm that decides. A change that may lead to another bank for the same inputs is a new
/// version; the old one stays, to replay what it decided.
pub const ALGORITHM: u32 = 1;

/// How long a decision may be acted on: an older one must be decided again before the payout is sent.
pub const DECISION_TTL: SignedDuration = SignedDuration::from_secs(60);

/// How a candidate was chosen.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum RecordKind {
    /// By the route.
    Decision,
    /// By operations staff, in place of an earlier decision.
    Override,
}

/// What is kept of a decision. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRecord {
    /// Version of the algorithm that decided.
    pub algorithm: u32,
    /// The time of the decision.
    #[serde(with = "instant")]
    pub at: Timestamp,
    /// The chosen candidate.
    pub candidate: String,
    /// When it may not be acted on any more.
    #[serde(with = "instant")]
    pub expires_at: Timestamp,
    /// Its id: the time, and a hash of what identifies the decision.
    #[serde(with = "uuid_text")]
    pub id: Uuid,
    /// How the candidate was chosen.
    pub kind: RecordKind,
    /// Why it was overridden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was asked.
    pub request: DecisionRequest,
    /// Id of the HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_text::option")]
    pub request_id: Option<Uuid>,
    /// What it reserves of the candidate's daily limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Reservation>,
    /// Id of the snapshot.
    #[serde(with = "hash")]
    pub snapshot: Hash,
    /// Who asked.
    pub subject: String,
    /// The decision that this one supersedes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_text::option")]
    pub supersedes: Option<Uuid>,
    /// What the daily limits had been used by.
    #[serde(default, skip_serializing_if = "is_unused")]
    pub usage: Usage,
}

fn is_unused(usage: &Usage) -> bool {
    usage.0.is_empty()
}

/// What a decision is made of, besides the time.
#[derive(Copy, Clone, Debug)]
pub struct Ask<'a> {
    /// What is asked.
    pub request: &'a DecisionRequest,
    /// Id of the HTTP request.
    pub request_id: Option<Uuid>,
    /// What is known.
    pub snapshot: &'a SealedSnapshot,
    /// Who asks.
    pub subject: &'a str,
    /// What the daily limits have been used by on this day.
    pub usage: &'a Usage,
}

/// What operations staff choose in place of an earlier decision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Override {
    /// The candidate.
    pub candidate: String,
    /// Why.
    pub reason: String,
    /// The decision that is superseded.
    pub supersedes: Uuid,
}

/// A decision, and the evaluation that explains it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decided {
    /// The evaluation.
    pub evaluation: Evaluation,
    /// What is kept.
    pub record: DecisionRecord,
}

/// Why nothing was decided.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotDecided {
    /// All candidates are excluded.
    #[error("no bank available: every candidate is excluded; see the reason of each")]
    NoRoute(Box<Evaluation>),
    /// The candidate of an override is not available.
    #[error(transparent)]
    NotEligible(NotEligible),
}

impl DecisionRecord {
    /// The decision of the route at `now`.
    ///
    /// # Errors
    /// If no candidate is available.
    pub fn decide(ask: &Ask<'_>, now: Timestamp) -> Result<Decided, NotDecided> {
        let evaluation = decide(ask.request, &ask.snapshot.snapshot, ask.usage, now);
        match evaluation.active.clone() {
            Some(candidate) => {
                let record = Self::new(ask, RecordKind::Decision, candidate, now);
                Ok(Decided { evaluation, record })
            }
            None => Err(NotDecided::NoRoute(Box::new(evaluation))),
        }
    }

    /// The decision of operations staff at `now`. The request has the number of the new attempt.
    ///
    /// # Errors
    /// If the candidate is not available.
    pub fn override_to(ask: &Ask<'_>, chosen: Override, now: Timestamp) -> Result<Decided, NotDecided> {
        let evaluation = decide(ask.request, &ask.snapshot.snapshot, ask.usage, now);
        eligible(&evaluation, &chosen.candidate).map_err(NotDecided::NotEligible)?;
        let record = Self {
            reason: Some(chosen.reason),
            supersedes: Some(chosen.supersedes),
            ..Self::new(ask, RecordKind::Override, chosen.candidate, now)
        };
        Ok(Decided { evaluation, record })
    }

    fn new(ask: &Ask<'_>, kind: RecordKind, candidate: String, now: Timestamp) -> Self {
        let at = to_millis(now);
        let &Ask { request, request_id, snapshot, subject, usage } = ask;
        Self {
            algorithm: ALGORITHM,
            at,
            expires_at: at.checked_add(DECISION_TTL).unwrap_or(Timestamp::MAX),
            id: id(request, kind, &snapshot.id, at),
            kind,
            reason: None,
            request: request.clone(),
            request_id,
            reserved: reservation(request, &snapshot.snapshot, usage, &candidate, at),
            snapshot: snapshot.id,
            subject: subject.to_owned(),
            supersedes: None,
            usage: usage.clone(),
            candidate,
        }
    }

    /// The canonical JSON.
    pub fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice(bytes).map_err(|error| DecodeError::new("decision record", &error))
    }

    /// Whether it may not be acted on any more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// Whether the reservation is that of the inputs.
    pub(super) fn reserves(&self, snapshot: &Snapshot) -> bool {
        let Some(reserved) = &self.reserved else {
            return snapshot.candidate(&self.candidate).is_none_or(|one| one.daily_limit.is_none());
        };
        let of_inputs = reservation(&self.request, snapshot, &self.usage, &self.candidate, self.at);
        of_inputs.as_ref() == Some(reserved)
    }
}

/// An id of the layout of UUID version 7: the milliseconds, then a hash of what identifies the decision. The same
/// decision has the same id wherever it is made.
fn id(request: &DecisionRequest, kind: RecordKind, snapshot: &Hash, at: Timestamp) -> Uuid {
    let mut digest = Sha256::new();
    for text in [&request.namespace, &request.payout_id] {
        digest.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(text);
    }
    digest.update(request.attempt_no.to_be_bytes());
    digest.update([u8::from(kind == RecordKind::Override)]);
    digest.update(snapshot);
    let digest: Hash = digest.finalize().into();
    let mut tail = [0; 10];
    tail.copy_from_slice(&digest[..10]);
    let millis = u64::try_from(at.as_millisecond()).unwrap_or_default();
    Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
}
