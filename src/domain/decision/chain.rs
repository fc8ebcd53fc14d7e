//! The hash chain of the audit: each entry's hash covers the one before it, so that nothing can be changed, removed or
//! moved unnoticed. Pure.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::snapshot::DecodeError;
use crate::domain::canonical::{Hash, hash, to_bytes};

/// The hash before the first entry.
pub const GENESIS: Hash = [0; 32];

/// What an entry of the audit is.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EntryKind {
    /// A decision of a route.
    Decision,
    /// A decision of operations staff, in place of an earlier one.
    Override,
    /// What became of a decision.
    Outcome,
    /// A weight or a pin that operations staff set or deleted.
    Adjustment,
    /// A proposal of the forecast, or the answer to one.
    Proposal,
    /// The end of what retention deleted.
    Checkpoint,
    /// What became of a payout that is followed.
    Payout,
}

impl EntryKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Decision,
        Self::Override,
        Self::Outcome,
        Self::Adjustment,
        Self::Proposal,
        Self::Checkpoint,
        Self::Payout,
    ];

    /// The kind as it is stored and hashed. A number is never used for another kind.
    pub const fn as_byte(self) -> u8 {
        match self {
            Self::Decision => 1,
            Self::Override => 2,
            Self::Outcome => 3,
            Self::Adjustment => 4,
            Self::Proposal => 5,
            Self::Checkpoint => 6,
            Self::Payout => 7,
        }
    }

    /// The kind of a stored number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_byte() == byte)
    }

    /// The kind as written in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Override => "override",
            Self::Outcome => "outcome",
            Self::Adjustment => "adjustment",
            Self::Proposal => "proposal",
            Self::Checkpoint => "checkpoint",
            Self::Payout => "payout",
        }
    }
}

/// The hash of an entry: SHA-256 of the previous hash, the number as eight bytes (most significant first), the kind and
/// the body.
pub fn link(previous: &Hash, seq: u64, kind: EntryKind, body: &[u8]) -> Hash {
    let mut digest = Sha256::new();
    digest.update(previous);
    digest.update(seq.to_be_bytes());
    digest.update([kind.as_byte()]);
    digest.update(body);
    digest.finalize().into()
}

/// The last entry of a chain: its number and its hash. The default is the empty chain.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct ChainHead {
    /// Its hash.
    pub hash: Hash,
    /// Its number, from 1; 0 = no entry.
    pub seq: u64,
}

impl ChainHead {
    /// The head after one more entry.
    #[must_use]
    pub fn append(&self, kind: EntryKind, body: &[u8]) -> Self {
        let seq = self.seq.saturating_add(1);
        Self { hash: link(&self.hash, seq, kind, body), seq }
    }
}

/// The body of an entry that says which entries retention deleted: those up to `seq`. The fields are in the order of
/// canonical JSON.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// How many entries it deleted, with those of earlier checkpoints.
    pub count: u64,
    /// The hash of the last deleted entry.
    #[serde(with = "hash")]
    pub hash: Hash,
    /// The number of the last deleted entry.
    pub seq: u64,
}

impl Checkpoint {
    /// The canonical JSON.
    pub fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice(bytes).map_err(|error| DecodeError::new("checkpoint", &error))
    }

    /// Where the remaining chain starts.
    pub const fn start(&self) -> ChainHead {
        ChainHead { hash: self.hash, seq: self.seq }
    }
}
