//! The identity of a credential, by which what was obtained with it is recognised.

use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies one credential of one connection. Never reused: what was obtained by another credential, also by an equal
/// one of an earlier time, belongs to another identity.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CredentialId(u64);

impl CredentialId {
    /// An identity that no other credential of this process has.
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number, as part of a key.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}
