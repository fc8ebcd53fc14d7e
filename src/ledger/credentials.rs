//! Stored credentials: refresh tokens that the provider rotated, replacing the Secret's.
//!
//! The ledger stores ciphertext and never decrypts it. A replacement must name the version it replaces, so that a
//! writer with a stale copy cannot undo a rotation.

use jiff::Timestamp;

use super::error::LedgerFuture;
use super::lease::LeaseStore;
use crate::domain::key::ObjectKey;

/// A credential as stored.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredCredential {
    /// Incremented by each change; 0 means that none is stored.
    pub version: i64,
    /// Name and version of the Secret that it was rotated from.
    pub secret: String,
    /// The encrypted credential.
    pub ciphertext: Vec<u8>,
}

/// Access to stored credentials.
///
/// A single-use credential is replaced under the lease [`lock_name`], because it must not be used concurrently.
pub trait CredentialStore: LeaseStore {
    /// The stored credential of `connection`.
    fn load_credential<'a>(&'a self, connection: &'a ObjectKey) -> LedgerFuture<'a, Option<StoredCredential>>;

    /// Replaces version `credential.version` (0: inserts). Returns the new version, or `None` on a version conflict, in
    /// which case nothing was written.
    fn store_credential<'a>(
        &'a self,
        connection: &'a ObjectKey,
        credential: &'a StoredCredential,
        now: Timestamp,
    ) -> LedgerFuture<'a, Option<i64>>;
}

/// Name of the lease whose holder may use and replace the credential of `connection`.
pub fn lock_name(connection: &ObjectKey) -> String {
    format!("credential/{connection}")
}
