//! Short digests: revisions and identifiers.

use std::fmt;

use sha2::{Digest, Sha256};

/// A digest of a list of texts, as 16 hexadecimal digits. Each text is hashed with its length, so that different lists
/// never concatenate to the same input.
pub(crate) fn short_digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    let bytes = hash.finalize();
    bytes.iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}
