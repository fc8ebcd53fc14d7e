//! API keys of consumers, as they are stored.

/// A key to store. The key itself never reaches the ledger.
#[derive(Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The public part of the key: what it is found by.
    pub key_id: String,
    /// Its argon2 hash, as a PHC string.
    pub hash: String,
}

// A hash is not shown: who has it can try keys without being counted.
impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}
