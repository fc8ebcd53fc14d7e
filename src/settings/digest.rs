//! Short digests: revisions and identifiers.

use sha2::{Digest, Sha256};

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

/// The first 64 bits of a digest in hexadecimal: enough to distinguish the few values of one object.
pub(crate) fn short_hex(digest: Sha256) -> String {
    hex(&digest.finalize(), 8)
}

/// The first `len` bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8], len: usize) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    bytes.iter().take(len).flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
