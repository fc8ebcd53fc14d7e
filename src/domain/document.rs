//! Documents: whole records as JSON text, with a key. Masked before they reach the ledger.

use sha2::{Digest, Sha256};

use crate::domain::decimal_digits::with_plain_numbers;
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
    /// Hash of everything except identity; equal hashes mean that no write is needed. Equal for every spelling of the
    /// numbers: the provider may write `7.0` today and `7.00` tomorrow.
    pub fn content_hash(&self) -> [u8; 32] {
        self.hash_of(&with_plain_numbers(&self.body))
    }

    /// The hash as versions before this one stored it: of the body with the numbers as they are written.
    pub fn spelled_hash(&self) -> [u8; 32] {
        self.hash_of(&self.body)
    }

    /// What the key of a document without an ID begins with, after the mark: a hash of its content.
    pub fn derived_key_base(&self) -> String {
        hex::encode(&self.content_hash()[..8])
    }

    /// The derived key as versions before this one made it, if it differs: from the numbers as they are written.
    pub fn former_derived_key(&self) -> Option<String> {
        if self.key_quality != KeyQuality::Derived {
            return None;
        }
        let ordinal = self.key.strip_prefix('~')?.strip_prefix(&self.derived_key_base())?;
        let former = format!("~{}{ordinal}", hex::encode(&self.spelled_hash()[..8]));
        (former != self.key).then_some(former)
    }

    fn hash_of(&self, body: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([CONTENT_HASH_VERSION]);
        for part in [self.kind.as_str(), self.key_quality.as_str(), body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(body: &str) -> DocumentRecord {
        let (kind, key_quality) = (DocumentKind::Document, KeyQuality::Derived);
        DocumentRecord { kind, key: String::new(), key_quality, body: body.to_owned() }
    }

    #[test]
    fn the_content_is_equal_whatever_the_spelling_of_its_numbers() {
        let (plain, respelled) = (document(r#"{"a":7}"#), document(r#"{"a":7.00}"#));
        assert_eq!(plain.content_hash(), respelled.content_hash());
        assert_ne!(plain.spelled_hash(), respelled.spelled_hash());
        assert_ne!(document(r#"{"a":"7"}"#).content_hash(), document(r#"{"a":"7.0"}"#).content_hash(), "a text");
        assert_eq!(plain.content_hash(), plain.spelled_hash(), "as versions before this one stored it");
    }

    #[test]
    fn a_derived_key_of_an_earlier_version_is_known() {
        let mut document = document(r#"{"a":7.00}"#);
        document.key = format!("~{}-2", document.derived_key_base());
        let former = document.former_derived_key().unwrap();
        assert_eq!(former, format!("~{}-2", hex::encode(&document.spelled_hash()[..8])));
        document.body = r#"{"a":7}"#.to_owned();
        assert_eq!(document.former_derived_key(), None, "the same in both versions");
        document.key_quality = KeyQuality::Provider;
        assert_eq!(document.former_derived_key(), None);
    }
}
