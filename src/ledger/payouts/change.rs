//! The entry of the audit about a payout. It holds the hash of the payout's row, so that a changed row shows.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::act::{PayoutAct, PayoutCall};
use super::commit::{PayoutCommit, time_ordered};
use crate::domain::canonical::{Hash, hash, instant, sha256, to_bytes, uuid_text};
use crate::domain::payout::{AttemptState, Evidence, HoldReason, PayoutState};

/// An entry about payouts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutEntry {
    /// A payout was moved on.
    Change(PayoutChange),
    /// Payouts were resumed after a restore with loss.
    Resume(PayoutsResume),
}

/// How a payout was moved on. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PayoutChange {
    /// What was done.
    pub act: PayoutAct,
    /// When.
    #[serde(with = "instant")]
    pub at: Timestamp,
    /// The number of attempts then.
    pub attempts: u32,
    /// SHA-256 of the stored payout.
    #[serde(with = "hash")]
    pub body: Hash,
    /// The fencing number of the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<i64>,
    /// The entry's ID.
    #[serde(with = "uuid_text")]
    pub id: Uuid,
    /// The calls to the bank that follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<IntendedCall>,
    /// The namespace.
    pub namespace: String,
    /// The caller's ID of the payout.
    pub payout_id: String,
    /// Why, in the caller's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// ID of the HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_text::option")]
    pub request_id: Option<Uuid>,
    /// The route.
    pub route: String,
    /// The payout's state then.
    pub state: PayoutState,
    /// The caller.
    pub subject: String,
    /// The changes of attempts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<AttemptTransition>,
    /// The payout's version then.
    pub version: u64,
}

/// A call that a bank is about to get. The fields are in the order of canonical JSON.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IntendedCall {
    /// The attempt.
    pub attempt_no: u32,
    /// What for.
    pub call: PayoutCall,
}

/// The change of an attempt. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AttemptTransition {
    /// The attempt.
    pub attempt_no: u32,
    /// What it rests on.
    pub evidence: Evidence,
    /// The state before.
    pub from: AttemptState,
    /// Why the attempt is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldReason>,
    /// The state then.
    pub to: AttemptState,
}

/// That a person resumed payouts after a restore with loss. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PayoutsResume {
    /// When.
    #[serde(with = "instant")]
    pub at: Timestamp,
    /// Why, in the person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// ID of the HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_text::option")]
    pub request_id: Option<Uuid>,
    /// The person.
    pub subject: String,
}

impl PayoutEntry {
    /// The entry's body.
    pub fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// The entry of this body; `None` if it is none.
    pub fn decode(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

impl PayoutChange {
    /// What the chain keeps of `commit`.
    pub(crate) fn of(commit: &PayoutCommit) -> Self {
        let payout = &commit.payout;
        let intents = commit.intents.iter();
        let transitions = commit.transitions.iter();
        Self {
            act: commit.act,
            at: commit.at,
            attempts: u32::try_from(payout.attempts.len()).unwrap_or(u32::MAX),
            body: sha256(payout.bytes()),
            fence: commit.lease.as_ref().map(|lease| lease.fence),
            id: commit.id(),
            intents: intents.map(|one| IntendedCall { attempt_no: one.attempt_no, call: one.call }).collect(),
            namespace: payout.namespace.clone(),
            payout_id: payout.payout_id.clone(),
            reason: commit.reason.clone(),
            request_id: commit.request_id,
            route: payout.route.clone(),
            state: payout.state(),
            subject: commit.subject.clone(),
            transitions: transitions
                .map(|one| AttemptTransition {
                    attempt_no: one.attempt_no,
                    evidence: one.evidence.clone(),
                    from: one.from,
                    hold: one.hold,
                    to: one.to,
                })
                .collect(),
            version: commit.version(),
        }
    }
}

impl PayoutsResume {
    /// The entry's ID: the same for the same act, so that a repeated one is stored once.
    pub fn id(&self) -> Uuid {
        let mut digest = Sha256::new();
        digest.update(b"resume");
        digest.update(&self.subject);
        digest.update(self.request_id.unwrap_or_default().as_bytes());
        time_ordered(self.at, &digest.finalize()[..])
    }
}
