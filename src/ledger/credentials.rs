//! Credentials that only the ledger knows: a refresh token that the provider gave in place of the Secret's.
//!
//! The ledger keeps sealed bytes and never opens them. Who replaces them must know what it replaces, so that a writer
//! that slept through a change cannot undo it.

use std::time::Duration;

use jiff::Timestamp;

use super::{Lease, Reply};
use crate::domain::key::ObjectKey;

/// A kept credential.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptCredential {
    /// Raised by each change; 0 stands for none kept yet.
    pub version: i64,
    /// Name and version of the Secret that it descends from.
    pub secret: String,
    /// The credential, sealed.
    pub sealed: Vec<u8>,
}

/// The kept credentials.
pub trait CredentialStore: Send + Sync + 'static {
    /// Takes the right to replace what is kept for `connection`, if nobody else has it; it ends by itself after `ttl`. A
    /// credential that is spent by its use must not be used by two at a time.
    fn lock_credential<'a>(
        &'a self,
        connection: &'a ObjectKey,
        holder: &'a str,
        ttl: Duration,
        now: Timestamp,
    ) -> Reply<'a, Option<Lease>>;

    /// Gives the right back.
    fn unlock_credential<'a>(&'a self, lock: &'a Lease) -> Reply<'a, ()>;

    /// What is kept for `connection`.
    fn load_credential<'a>(&'a self, connection: &'a ObjectKey) -> Reply<'a, Option<KeptCredential>>;

    /// Puts `kept` in the place of version `kept.version` (0: of none). The new version, or `None` if another version
    /// stands there by now: nothing was written.
    fn keep_credential<'a>(
        &'a self,
        connection: &'a ObjectKey,
        kept: &'a KeptCredential,
        now: Timestamp,
    ) -> Reply<'a, Option<i64>>;
}
