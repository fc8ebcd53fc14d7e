//! Records kept whole: one JSON text each, with a key. Masked before they get here.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::record::KeyQuality;

/// Raised when the recipe of [`DocumentRecord::content_hash`] changes.
const CONTENT_RECIPE: u8 = 1;

/// What a document is of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// A collateral of a loan.
    Collateral,
    /// Anything else.
    Document,
}

impl DocumentKind {
    /// All values.
    pub const ALL: [Self; 2] = [Self::Collateral, Self::Document];

    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Collateral => "collateral",
            Self::Document => "document",
        }
    }
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentRecord {
    /// What it is of.
    pub kind: DocumentKind,
    /// The provider's id (case-sensitive), or a derived key.
    pub key: String,
    /// Which of both.
    pub key_quality: KeyQuality,
    /// The record as JSON, its fields sorted by name, masked.
    pub body: String,
}

impl DocumentRecord {
    /// A hash of everything but identity: equal hashes mean that there is nothing to write.
    pub fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([CONTENT_RECIPE]);
        for part in [self.kind.as_str(), self.key_quality.as_str(), &self.body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into()
    }
}

/// A document as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDocument {
    /// Namespace of its stream.
    pub namespace: String,
    /// Connection of its stream.
    pub connection: String,
    /// Its stream.
    pub stream: String,
    /// Partition of its stream.
    pub partition: String,
    /// The record.
    pub record: DocumentRecord,
    /// 1 when first seen, one more with every change.
    pub revision: u32,
    /// First seen.
    pub created: Timestamp,
    /// Last changed.
    pub updated: Timestamp,
}
