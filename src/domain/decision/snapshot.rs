//! What was known when a decision was made: everything but the request, the usage of daily limits and the time. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::usage::DailyLimit;
use crate::domain::canonical::{Hash, instant, sha256, to_bytes};
use crate::domain::route::{Candidate, Incumbent, RouteRules};

/// What was known of a route and its banks; addressed by the hash of its canonical JSON. The fields are in the order of
/// canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The candidates, in the spec's order.
    pub candidates: Vec<SnapshotCandidate>,
    /// `metadata.generation` of the route.
    pub generation: i64,
    /// The bank that took payouts so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incumbent: Option<SnapshotIncumbent>,
    /// Namespace of the route.
    pub namespace: String,
    /// Name of the route.
    pub route: String,
    /// `metadata.uid` of the route.
    pub route_uid: String,
    /// Its rules.
    pub rules: RouteRules,
}

/// A candidate with the state of its connection. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotCandidate {
    /// Identifier of the bank in other systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bank_profile_id: Option<String>,
    /// What it charges and serves, and the state of its connection.
    pub candidate: Candidate,
    /// Name of its connection.
    pub connection: String,
    /// What it takes of payouts in a calendar day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_limit: Option<DailyLimit>,
}

/// The bank that took payouts so far. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotIncumbent {
    /// Its name.
    pub name: String,
    /// Since when.
    #[serde(with = "instant")]
    pub since: Timestamp,
}

/// Stored bytes that are not what they should be. The message does not show their content.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} cannot be decoded: {problem}; it was changed, or written by a newer version")]
pub struct DecodeError {
    what: &'static str,
    problem: String,
}

impl DecodeError {
    /// Of the thing that `what` names.
    pub(super) fn new(what: &'static str, error: &serde_json::Error) -> Self {
        let kind = match error.classify() {
            serde_json::error::Category::Eof => "it ends too early",
            serde_json::error::Category::Syntax => "it is no JSON",
            serde_json::error::Category::Io | serde_json::error::Category::Data => {
                "a field is missing, unknown or wrong"
            }
        };
        Self { what, problem: format!("{kind} (line {} column {})", error.line(), error.column()) }
    }
}

impl Snapshot {
    /// The canonical JSON.
    pub fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice(bytes).map_err(|error| DecodeError::new("snapshot", &error))
    }

    /// The snapshot as it is stored, with its id. What is evaluated is what was read from the bytes, so that a replay
    /// sees the same to the last digit.
    ///
    /// # Errors
    /// If it cannot be read back; no snapshot of valid values is like that.
    pub fn seal(&self) -> Result<SealedSnapshot, DecodeError> {
        SealedSnapshot::open(self.encode())
    }

    /// The candidate of that name.
    pub fn candidate(&self, name: &str) -> Option<&SnapshotCandidate> {
        self.candidates.iter().find(|one| one.candidate.name == name)
    }

    /// The bank that took payouts so far.
    pub(super) fn incumbent(&self) -> Option<Incumbent<'_>> {
        self.incumbent.as_ref().map(|incumbent| Incumbent { name: &incumbent.name, since: incumbent.since })
    }
}

/// A snapshot as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedSnapshot {
    /// Its canonical JSON.
    pub bytes: Vec<u8>,
    /// The hash of `bytes`.
    pub id: Hash,
    /// What was read from `bytes`.
    pub snapshot: Snapshot,
}

impl SealedSnapshot {
    /// A stored snapshot.
    ///
    /// # Errors
    /// If the bytes are no snapshot.
    pub fn open(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let snapshot = Snapshot::decode(&bytes)?;
        Ok(Self { id: sha256(&bytes), bytes, snapshot })
    }
}
