//! A payout and its attempts, as they are stored. Pure.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::evidence::Evidence;
use super::gate::{EarlierAttempt, FollowedAttempt, Unresolved, may_attempt};
use super::plan::AttemptPlan;
use super::promises::StuckRules;
use super::resolution::ProposedResolution;
use super::state::{AttemptState, HoldReason, PayoutState};
use crate::domain::canonical::{decimal, instant, to_bytes, uuid_text};
use crate::domain::money::Currency;

/// The namespace of attempt IDs (UUID version 5).
const ATTEMPT_IDS: Uuid = Uuid::from_u128(0x2b7c_91e4_58d3_4f06_a1b9_6e0d_c374_8a52);

/// A payout to register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPayout {
    /// Amount in `currency`.
    pub amount: Decimal,
    /// Currency.
    pub currency: Currency,
    /// Namespace of its route.
    pub namespace: String,
    /// The caller's ID.
    pub payout_id: String,
    /// Its route.
    pub route: String,
    /// How the route handles stuck payouts.
    pub rules: StuckRules,
}

/// A payout whose attempts are followed to their end. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payout {
    /// Amount in `currency`.
    #[serde(with = "decimal")]
    pub amount: Decimal,
    /// The attempts, in the order of their numbers; the first has number 1.
    pub attempts: Vec<Attempt>,
    /// Currency.
    pub currency: Currency,
    /// Whether no attempt is allowed: it was, or may have been, paid twice, or attempts may be missing in the ledger.
    #[serde(default, skip_serializing_if = "crate::domain::canonical::is_false")]
    pub frozen: bool,
    /// Why it waits for a person, whatever its attempts say; see [`hold`](Self::hold).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldReason>,
    /// Namespace of its route.
    pub namespace: String,
    /// The caller's ID.
    pub payout_id: String,
    /// How often the next attempt was proposed since the last one.
    pub proposals: u32,
    /// When the next attempt is proposed again; `None`: it is not to be proposed.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "instant::option")]
    pub propose_at: Option<Timestamp>,
    /// When it was registered.
    #[serde(with = "instant")]
    pub registered_at: Timestamp,
    /// The people who accept the risk that the next attempt is a duplicate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risk_accepted_by: Vec<Evidence>,
    /// Its route.
    pub route: String,
    /// How the route handles stuck payouts, as of the registration.
    pub rules: StuckRules,
}

/// An attempt to pay a payout through one bank. The fields are in the order of canonical JSON.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about an attempt, stored by their names")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// Whether the bank answered an inquiry since the last recall: only then is the recall sent again.
    #[serde(default, skip_serializing_if = "crate::domain::canonical::is_false")]
    pub answered_since_recall: bool,
    /// Its ID: see [`attempt_id`].
    #[serde(with = "uuid_text")]
    pub attempt_id: Uuid,
    /// Whether the bank ever showed that it knows the payout: "not found" is no proof then.
    #[serde(default, skip_serializing_if = "crate::domain::canonical::is_false")]
    pub bank_knows: bool,
    /// Whether the bank accepted the recall.
    #[serde(default, skip_serializing_if = "crate::domain::canonical::is_false")]
    pub cancel_accepted: bool,
    /// Whether the bank confirmed the execution at any time.
    #[serde(default, skip_serializing_if = "crate::domain::canonical::is_false")]
    pub confirmed_once: bool,
    /// When it was decided.
    #[serde(with = "instant")]
    pub decided_at: Timestamp,
    /// What its state rests on.
    pub evidence: Evidence,
    /// Why it is held, in the state `manual_review`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldReason>,
    /// Inquiries since the last change of phase: the step of the backoff.
    pub inquiries: u32,
    /// When the clock does the next thing about it; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "instant::option")]
    pub next_action: Option<Timestamp>,
    /// The first "not found" that counts.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "instant::option")]
    pub not_found_since: Option<Timestamp>,
    /// Whether two "not found" at least the grace apart were received.
    #[serde(default, skip_serializing_if = "crate::domain::canonical::is_false")]
    pub not_found_twice: bool,
    /// As decided.
    pub plan: AttemptPlan,
    /// What one person said became of it; a second one is awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed: Option<ProposedResolution>,
    /// Recalls that were sent.
    pub recalls: u32,
    /// Whether the submitter ever said that it was sent, or asked to send it once more: `not_sent` is no proof then.
    #[serde(default, skip_serializing_if = "crate::domain::canonical::is_false")]
    pub reported_sent: bool,
    /// The attempt for which two people accepted the risk that it is a duplicate of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_accepted_for: Option<u32>,
    /// When the last permission to send ends: no submission may begin later.
    #[serde(with = "instant")]
    pub send_by: Timestamp,
    /// When it was sent, as the submitter reported.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "instant::option")]
    pub sent_at: Option<Timestamp>,
    /// Its state.
    pub state: AttemptState,
}

impl Payout {
    /// The canonical JSON: what is stored.
    pub fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// When the clock does the next thing about it: what the due queue is ordered by. `None`: nothing.
    pub fn next_action(&self) -> Option<Timestamp> {
        self.attempts.iter().filter_map(|attempt| attempt.next_action).chain(self.propose_at).min()
    }

    /// The attempt of that number.
    pub fn attempt(&self, attempt_no: u32) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.plan.attempt_no == attempt_no)
    }

    /// Why it waits for a person: the reason of the payout, else that of its newest held attempt whose risk was not
    /// accepted, unless an attempt was executed.
    pub fn hold(&self) -> Option<HoldReason> {
        let waits = |attempt: &&Attempt| !self.is_risk_accepted(attempt);
        let of_attempts = || self.attempts.iter().rev().filter(waits).find_map(|attempt| attempt.hold);
        self.hold.or_else(|| if self.is_executed() { None } else { of_attempts() })
    }

    /// Whether an attempt was executed.
    pub fn is_executed(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.state == AttemptState::Confirmed)
    }

    /// Whether every attempt is proven not to have been executed.
    pub fn is_not_executed(&self) -> bool {
        self.attempts.iter().all(|attempt| attempt.state.is_not_executed())
    }

    /// Whether people accepted the risk of this attempt for one that is still to come or under way.
    fn is_risk_accepted(&self, attempt: &Attempt) -> bool {
        attempt
            .risk_accepted_for
            .is_some_and(|number| self.attempt(number).is_none_or(|newer| !newer.state.is_not_executed()))
    }

    /// Where it stands.
    pub fn state(&self) -> PayoutState {
        let any = |is: fn(AttemptState) -> bool| self.attempts.iter().any(|attempt| is(attempt.state));
        if self.frozen && self.hold != Some(HoldReason::RestoredWithLoss) {
            PayoutState::Frozen
        } else if self.hold().is_some() {
            PayoutState::Held
        } else if self.is_executed() {
            PayoutState::Confirmed
        } else if self.is_not_executed() {
            PayoutState::NotExecuted
        } else if any(|state| {
            use AttemptState::{Inquiring, Recalling, Stuck, Unknown};
            matches!(state, Unknown | Stuck | Inquiring | Recalling)
        }) {
            PayoutState::Stuck
        } else {
            PayoutState::Open
        }
    }

    /// The number of the next attempt.
    pub fn next_attempt_no(&self) -> u32 {
        self.attempts.last().map_or(1, |attempt| attempt.plan.attempt_no.saturating_add(1))
    }

    /// Its attempts, as the gate sees them.
    pub fn earlier_attempts(&self) -> Vec<EarlierAttempt> {
        self.attempts.iter().map(|attempt| attempt.as_earlier(self.frozen)).collect()
    }

    /// Whether that attempt may be made.
    ///
    /// # Errors
    /// What stands in the way: see [`may_attempt`].
    pub fn may_attempt(&self, attempt_no: u32) -> Result<(), Unresolved> {
        may_attempt(attempt_no, &self.earlier_attempts())
    }
}

impl Attempt {
    /// As the gate sees it; `frozen` is the payout's.
    pub fn as_earlier(&self, frozen: bool) -> EarlierAttempt {
        let followed = FollowedAttempt { frozen, risk_accepted_for: self.risk_accepted_for, state: self.state };
        EarlierAttempt { attempt_no: self.plan.attempt_no, outcomes: Vec::new(), followed: Some(followed) }
    }

    /// When the bank may have received it last: the end of the permission to send, or when it was sent.
    pub fn last_sent(&self) -> Timestamp {
        self.sent_at.map_or(self.send_by, |sent| sent.max(self.send_by))
    }

    /// The end-to-end ID that the bank is given.
    pub fn end_to_end_id(&self) -> String {
        format!("BB{}", self.attempt_id.simple())
    }

    /// The idempotency key that the submitter sends.
    pub fn idempotency_key(&self) -> String {
        self.attempt_id.hyphenated().to_string()
    }

    /// The idempotency key of its recall: the same for each try.
    pub fn recall_key(&self) -> String {
        Uuid::new_v5(&self.attempt_id, b"recall").hyphenated().to_string()
    }
}

/// The ID of an attempt: the same whenever it is made.
pub fn attempt_id(namespace: &str, payout_id: &str, attempt_no: u32) -> Uuid {
    let mut name = Sha256::new();
    for part in [namespace, payout_id] {
        // With lengths: "a" + "bc" must differ from "ab" + "c".
        name.update((part.len() as u64).to_be_bytes());
        name.update(part);
    }
    name.update(attempt_no.to_be_bytes());
    let name: [u8; 32] = name.finalize().into();
    Uuid::new_v5(&ATTEMPT_IDS, &name)
}
