//! Documents: whole records as JSON text, with a key. Masked before they reach the ledger.

use sha2::{Digest, Sha256};

use crate::domain::record::KeyQuality;

/// Version of [`DocumentRecord::content_hash`]; incremented when its input changes.
const CONTENT_HASH_VERSION: u8 = 1;

/// The kind of object that a document describes.
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

    /// The stored value.
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
    /// Its kind.
    pub kind: DocumentKind,
    /// The provider's id (case-sensitive), or a derived key.
    pub key: String,
    /// Origin of the key.
    pub key_quality: KeyQuality,
    /// The masked record as JSON, fields sorted by name.
    pub body: String,
}

impl DocumentRecord {
    /// Hash of everything except identity; equal hashes mean that no write is needed.
    pub fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([CONTENT_HASH_VERSION]);
        for part in [self.kind.as_str(), self.key_quality.as_str(), &self.body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into()
    }
}
