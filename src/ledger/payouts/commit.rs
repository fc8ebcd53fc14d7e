//! A payout as it is to be stored, with all that is stored in the same transaction.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use super::act::{PayoutAct, PayoutCall};
use super::body::PayoutBody;
use crate::domain::canonical::Hash;
use crate::domain::payout::{Applied, Effect, Transition};
use crate::ledger::lease::Lease;
use crate::ledger::outbox::OutboxEvent;

/// What becomes of a payout by one act. Stored entirely or not at all.
#[derive(Clone, Debug)]
pub struct PayoutCommit {
    /// What was done.
    pub act: PayoutAct,
    /// When.
    pub at: Timestamp,
    /// Events for the outbox.
    pub events: Vec<OutboxEvent>,
    /// The version that the act was applied to; 0 for a registration.
    pub expected: u64,
    /// The calls to the bank that follow.
    pub intents: Vec<PayoutIntent>,
    /// The lease under which it is stored, if the act is one of the clock's.
    pub lease: Option<Lease>,
    /// The payout then.
    pub payout: PayoutBody,
    /// Why, in the caller's words.
    pub reason: Option<String>,
    /// What a registration is told apart by from another one of the same payout.
    pub registration: Option<Registration>,
    /// ID of the HTTP request.
    pub request_id: Option<Uuid>,
    /// The caller, as authenticated; `busbar` for the clock.
    pub subject: String,
    /// The changes of attempts, for the timeline, in order.
    pub transitions: Vec<Transition>,
}

/// A call that a bank is about to get.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct PayoutIntent {
    /// The attempt that it is about.
    pub attempt_no: u32,
    /// What for.
    pub call: PayoutCall,
}

/// What a registration is told apart by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The caller's `Idempotency-Key`, if it gave one.
    pub idempotency_key: Option<String>,
    /// SHA-256 of the canonical request.
    pub request_hash: Hash,
}

impl PayoutCommit {
    /// The commit of what `applied` says, on top of version `expected`.
    pub fn new(act: PayoutAct, subject: impl Into<String>, expected: u64, applied: &Applied, at: Timestamp) -> Self {
        let intent = |effect: &Effect| match *effect {
            Effect::Inquire { attempt_no } => Some(PayoutIntent { attempt_no, call: PayoutCall::Inquiry }),
            Effect::Recall { attempt_no } => Some(PayoutIntent { attempt_no, call: PayoutCall::Recall }),
            _ => None,
        };
        Self {
            act,
            at,
            events: Vec::new(),
            expected,
            intents: applied.effects.iter().filter_map(intent).collect(),
            lease: None,
            payout: applied.payout.clone().into(),
            reason: None,
            registration: None,
            request_id: None,
            subject: subject.into(),
            transitions: applied.transitions.clone(),
        }
    }

    /// The same, stored only while `lease` is held.
    #[must_use]
    pub fn under(self, lease: Lease) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// The same, with these events.
    #[must_use]
    pub fn with_events(self, events: Vec<OutboxEvent>) -> Self {
        Self { events, ..self }
    }

    /// The same, as a registration.
    #[must_use]
    pub fn registering(self, registration: Registration) -> Self {
        Self { registration: Some(registration), ..self }
    }

    /// The same, with the ID of the HTTP request and the caller's reason.
    #[must_use]
    pub fn requested(self, request_id: Option<Uuid>, reason: Option<String>) -> Self {
        Self { reason, request_id, ..self }
    }

    /// Whether an attempt is new, or its state may be another than before.
    pub fn changes_attempts(&self) -> bool {
        let is_registration = self.expected == 0;
        is_registration || self.act == PayoutAct::Attempt || !self.transitions.is_empty()
    }

    /// The version that it makes.
    pub const fn version(&self) -> u64 {
        self.expected.saturating_add(1)
    }

    /// The ID of its entry: the same for the same commit, so that a repeated one stores nothing twice. It begins with the
    /// time, so that an index on it appends.
    pub fn id(&self) -> Uuid {
        let mut digest = Sha256::new();
        let (namespace, payout_id) = (self.payout.namespace.as_str(), self.payout.payout_id.as_str());
        for part in [namespace, payout_id, self.act.as_str(), &self.subject] {
            // With lengths: "a" + "bc" must differ from "ab" + "c".
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.update(self.expected.to_be_bytes());
        digest.update(self.lease.as_ref().map_or(0, |lease| lease.fence).to_be_bytes());
        digest.update(self.request_id.unwrap_or_default().as_bytes());
        digest.update(self.payout.bytes());
        time_ordered(self.at, &digest.finalize()[..])
    }
}

/// An ID of version 7: milliseconds, then bits of a hash.
pub(super) fn time_ordered(at: Timestamp, hash: &[u8]) -> Uuid {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or_default();
    let mut tail = [0; 10];
    for (to, from) in tail.iter_mut().zip(hash) {
        *to = *from;
    }
    Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
}
