//! Keyed hashes of one connection: tokens of accounts, of masked values, and of records without an ID.

use std::fmt::Write as _;

use jiff::civil::Date;
use serde_json::Value;

use super::account_tokens::TokenKey;
use crate::domain::decimal_digits::with_plain_numbers;
use crate::domain::mask::MaskKey;

/// The key of account tokens, and what its tokens are scoped by.
#[derive(Clone, Debug)]
pub struct AccountScope {
    /// The key.
    pub key: TokenKey,
    /// The job's namespace.
    pub namespace: String,
    /// The connection's name.
    pub connection: String,
}

impl AccountScope {
    /// A scope for tests that have no ledger.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self { key: TokenKey::for_tests(), namespace: "team".into(), connection: "bank-a".into() }
    }

    /// Opaque token of an account.
    pub fn account(&self, id: &str) -> String {
        self.key.account(&self.namespace, &self.connection, id)
    }

    /// The key of masks with rule `Token`: the same for all connections of a namespace, so that values can be joined.
    pub fn mask_key(&self) -> MaskKey {
        MaskKey::new(&self.key.digest("mask", &self.namespace))
    }

    /// What the key of a record without an ID begins with: a hash of the account, the booking day and the fields that
    /// the stream names. Keyed, because the fields could be guessed.
    pub fn fallback_base<'a>(
        &self,
        account_token: &str,
        on: Date,
        fields: impl Iterator<Item = Option<&'a Value>>,
    ) -> String {
        let mut text = format!("{}:{account_token}{on}", account_token.len());
        for field in fields {
            // A number is equal whatever its spelling; absent differs from empty.
            let value = match field {
                None | Some(Value::Null) => {
                    text.push('-');
                    continue;
                }
                Some(Value::String(value)) => value.trim().to_owned(),
                Some(value) => with_plain_numbers(&value.to_string()).into_owned(),
            };
            // Writing to a string cannot fail.
            let _ = write!(text, "{}:{value}", value.len());
        }
        // 64 bits suffice: only records of one account and day can collide.
        self.key.digest("fallback key", &text).chars().take(16).collect()
    }
}
