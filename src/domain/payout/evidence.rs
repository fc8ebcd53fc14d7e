//! What a transition rests on: who said it, when, and the hash of the message. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::canonical::{Hash, hash, instant};
use crate::domain::closed_list::closed_list;

closed_list!(
    "evidence source",
    /// Who said what a transition rests on.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    EvidenceSource {
        Submitter = "submitter": "The system that submits payouts reported it." => "None.",
        Inquiry = "inquiry": "The bank answered a status inquiry." => "None.",
        Recall = "recall": "The bank answered a recall." => "None.",
        Confirmation = "confirmation": "The bank's own message, for example a webhook or a confirmation." => "None.",
        Statement = "statement": "The account statement (camt.053, camt.054)." => "None.",
        Operator = "operator": "A person." => "None.",
        Clock = "clock": "Time passed." => "None.",
        Restore = "restore": "The ledger was restored with loss." => "None.",
    }
);

/// What a transition rests on. Never the message itself. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// When the question was asked that it answers; `None`: it answers none. "Never received" and "not found" prove
    /// something only as answers to a question that was asked late enough.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "instant::option")]
    pub asked_at: Option<Timestamp>,
    /// When it was received.
    #[serde(with = "instant")]
    pub at: Timestamp,
    /// SHA-256 of the message's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "hash::option")]
    pub message_hash: Option<Hash>,
    /// The bank's or the caller's reference of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Who said it.
    pub source: EvidenceSource,
    /// The person or the caller, for the sources `operator` and `submitter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl Evidence {
    /// Evidence without a message.
    pub const fn new(source: EvidenceSource, at: Timestamp) -> Self {
        Self { asked_at: None, at, message_hash: None, message_id: None, source, subject: None }
    }

    /// Evidence that is a message.
    pub fn message(source: EvidenceSource, at: Timestamp, message_hash: Hash) -> Self {
        Self { message_hash: Some(message_hash), ..Self::new(source, at) }
    }

    /// The same, in answer to a question asked at `asked_at`.
    #[must_use]
    pub fn answering(self, asked_at: Timestamp) -> Self {
        Self { asked_at: Some(asked_at), ..self }
    }

    /// The same, said by `subject`.
    #[must_use]
    pub fn by(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    /// The same, with the reference of the message.
    #[must_use]
    pub fn referenced(self, message_id: impl Into<String>) -> Self {
        Self { message_id: Some(message_id.into()), ..self }
    }
}
