//! Short digests: revisions and identifiers.

use sha2::{Digest as _, Sha256};

use crate::domain::hash::short_hex;

/// A digest of a list of texts, as 16 hexadecimal digits. Each text is hashed with its length, so that different lists
/// never concatenate to the same input.
pub(crate) fn short_digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    short_hex(hash)
}
