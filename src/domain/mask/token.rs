//! Tokens of masked values: equal values have equal tokens, and without the key nothing leads back to the value.

use std::fmt;

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

/// Marks tokens.
const MARK: &str = "tok_";

/// The key of tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct MaskKey([u8; 32]);

impl MaskKey {
    /// A key from a secret text.
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// The token of a value. Blanks do not count, so that a number is one value however it is grouped. `None` never
    /// occurs: HMAC takes a key of any length.
    pub fn token(&self, value: &str) -> Option<String> {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        let plain: String = value.chars().filter(|c| !c.is_whitespace()).collect();
        hmac.update(plain.as_bytes());
        let digest = hmac.finalize().into_bytes();
        Some(format!("{MARK}{}", hex::encode(digest.first_chunk::<16>()?)))
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_tokens_under_one_key_only() {
        let (one, two) = (MaskKey::new("a"), MaskKey::new("b"));
        let token = one.token("GB29 NWBK 6016 1331 9268 19").unwrap();
        assert_eq!(token, one.token("GB29NWBK60161331926819").unwrap(), "however it is grouped");
        assert_eq!((token.len(), token.starts_with("tok_")), (36, true));
        assert_ne!(token, one.token("GB29NWBK60161331926818").unwrap());
        assert_ne!(token, two.token("GB29NWBK60161331926819").unwrap());
        assert!(one == MaskKey::new("a") && one != two);
        assert_eq!(format!("{one:?}"), "MaskKey");
    }
}
