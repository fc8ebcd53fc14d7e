//! Serializes refreshes of one connection. It outlives the connection's settings, so that a change of settings during a
//! refresh does not send the same refresh token twice.

use secrecy::SecretString;

use crate::provider::auth::credential_id::CredentialId;
use crate::provider::auth::refresh_token_store::RefreshTokenBinding;
use crate::provider::auth::token_response::TokenResponse;

/// The lock of one connection's refresh token within this process, and the holder's name in the ledger's lock.
pub(crate) struct RefreshLock {
    /// A rotated token that is not stored yet. Locked while a refresh token is used.
    pub(crate) pending: tokio::sync::Mutex<Option<PendingRotation>>,
    /// The holder's name in the ledger's lock: this connection, not this process. A connection that was deleted and
    /// created again during a refresh is another holder, and waits like another replica. The same connection is let in
    /// again: otherwise a lock that could not be released would block it until the lock expires.
    pub(crate) holder: String,
}

impl Default for RefreshLock {
    fn default() -> Self {
        Self { pending: tokio::sync::Mutex::default(), holder: uuid::Uuid::new_v4().to_string() }
    }
}

/// A response with a rotated refresh token that could not be stored yet.
///
/// It outlives the settings it was requested with and does not expire: the provider has spent the token it replaces, so
/// dropping it ends the grant for good. A connection has at most one, and it goes with the connection. It is stored for
/// the endpoint and the client that it was obtained from, whatever the settings are by then. Its access token is used
/// with the credential that it was obtained by only, and not after it expires.
pub(crate) struct PendingRotation {
    pub(super) response: TokenResponse,
    /// The credential that was sent.
    pub(super) credential: CredentialId,
    pub(super) rotated: SecretString,
    /// The refresh token in the Secret that it descends from.
    pub(super) origin: SecretString,
    pub(super) binding: RefreshTokenBinding,
    /// Name, UID and version of that Secret.
    pub(super) secret: String,
    pub(super) version: i64,
}
