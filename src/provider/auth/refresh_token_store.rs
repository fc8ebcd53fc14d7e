//! Stores rotated refresh tokens: encrypted, in the ledger, before the access token that came along is used.
//!
//! When the provider rotates, the token in the Secret is spent after its first use. Its successor must outlive the
//! process, and the operator never writes Secrets. An entry names the token in the Secret that it descends from (a
//! digest, inside the ciphertext, and a short fingerprint next to it for when the key is gone), so a new token in the
//! Secret supersedes the entry and a label on the Secret does not. An entry is encrypted for one object, one token URL
//! and one client (`RefreshTokenBinding`): for another one of them it cannot even be decrypted.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::ledger::credentials::lock_name;
use crate::ledger::encryption::{EncryptionError, Keyring};
use crate::ledger::{
    CredentialStore, Lease, LeaseHolder, LeaseOptions, LeaseStore, LedgerError, StoredCredential, TakeOutcome,
};
use crate::provider::call::{CallError, TokenStoreError};
use crate::settings::{Auth, Settings, short_digest};
use crate::tasks::TaskGroup;

/// Separates the Secret's version from the fingerprint of its token; neither names nor versions contain it.
const FINGERPRINT_SEPARATOR: char = '#';

/// Bytes of the digest of the Secret's token, at the head of the plaintext.
const ORIGIN_LEN: usize = 32;

/// The ledger's credentials, and the keys that encrypt them. Clones share both.
#[derive(Clone)]
pub struct RefreshTokenStore {
    credentials: Arc<dyn CredentialStore>,
    keys: Keyring,
}

impl RefreshTokenStore {
    /// Stores in `credentials` what `keys` encrypt.
    pub fn new(credentials: Arc<dyn CredentialStore>, keys: Keyring) -> Self {
        Self { credentials, keys }
    }

    /// Whether there is a key to encrypt with.
    pub fn has_key(&self) -> bool {
        self.keys.has_key()
    }
}

/// The entry of one connection in the store.
pub(crate) struct RefreshTokenEntry {
    pub(crate) store: RefreshTokenStore,
    pub(crate) clock: Clock,
    pub(crate) connection: ObjectKey,
    /// The timeout of one request to the token endpoint.
    pub(crate) request_timeout: Duration,
    /// Where a lock that is dropped is released.
    pub(crate) tasks: TaskGroup,
}

/// How long to wait for another replica that refreshes the same token: longer than most requests take, shorter than
/// most callers wait.
const MAX_LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often the lock is tried meanwhile.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Two requests may be made under one lock, and the ledger needs time as well.
const LOCK_MARGIN: Duration = Duration::from_secs(10);

/// What a stored refresh token belongs to. Of another object of the same name, at another token URL or with another
/// client it is of no use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RefreshTokenBinding {
    /// UID of the object.
    owner: String,
    token_url: String,
    /// Digest of the client ID.
    client: String,
}

impl RefreshTokenBinding {
    /// What refresh tokens of these settings are bound to, if they have any.
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        let Auth::RefreshToken { client, .. } = settings.auth() else { return None };
        let token_url = settings.auth().token_url()?.to_string();
        let client = Sha256::digest(client.client_id.expose_secret().as_bytes());
        let client = hex::encode(client);
        Some(Self { owner: settings.owner().to_owned(), token_url, client })
    }
}

/// A rotated refresh token to be stored.
#[derive(Copy, Clone)]
pub(crate) struct RotatedToken<'a> {
    /// The version that it replaces.
    pub(crate) version: i64,
    pub(crate) token: &'a SecretString,
    /// The token in the Secret that it descends from.
    pub(crate) origin: &'a SecretString,
    pub(crate) binding: &'a RefreshTokenBinding,
    /// Name, UID and version of that Secret.
    pub(crate) secret: &'a str,
}

/// What the store holds for a connection.
pub(crate) struct LoadedToken {
    /// The version to name when it is replaced; 0 if there is no entry.
    pub(crate) version: i64,
    /// The stored token, if it descends from the Secret's.
    pub(crate) token: Option<SecretString>,
}

impl RefreshTokenEntry {
    /// Locks the refresh token for `holder` until [`unlock`](Self::unlock) or until the lock expires.
    ///
    /// # Errors
    /// [`TokenStoreError::Busy`] if another holder does not release it in time.
    pub(crate) async fn lock(&self, holder: &str) -> Result<Lease, CallError> {
        let options = LeaseOptions {
            name: lock_name(&self.connection),
            holder: holder.to_owned(),
            ttl: self.request_timeout * 2 + LOCK_MARGIN,
            tasks: self.tasks.clone(),
        };
        let leases = Arc::clone(&self.store.credentials) as Arc<dyn LeaseStore>;
        let mut lock = LeaseHolder::new(leases, self.clock, options);
        let until = self.clock.mono() + MAX_LOCK_WAIT;
        loop {
            let now = self.clock.mono();
            match lock.take().await.map_err(|e| self.ledger_error(&e))? {
                // Detached: if this process ends half-way, the token may be spent, and only the expiry frees it.
                TakeOutcome::Taken(held) => return Ok(held.into_lease()),
                TakeOutcome::HeldByOther { .. } if now >= until => {
                    return Err(CallError::TokenStore(TokenStoreError::Busy));
                }
                TakeOutcome::HeldByOther { .. } => self.clock.sleep_until(now + LOCK_POLL_INTERVAL).await,
            }
        }
    }

    /// Releases the lock. One that cannot be released expires.
    pub(crate) async fn unlock(&self, lock: &Lease) {
        if let Err(error) = self.store.credentials.release_lease(lock).await {
            let _logged = self.ledger_error(&error);
        }
    }

    /// The stored token that replaces `origin`, the Secret's, and is bound to `binding`.
    pub(crate) async fn load(
        &self,
        binding: &RefreshTokenBinding,
        origin: &SecretString,
    ) -> Result<LoadedToken, CallError> {
        let stored = self.store.credentials.load_credential(&self.connection).await;
        let Some(stored) = stored.map_err(|e| self.ledger_error(&e))? else {
            return Ok(LoadedToken { version: 0, token: None });
        };
        let superseded = LoadedToken { version: stored.version, token: None };
        match self.store.keys.decrypt(&self.associated_data(binding), &stored.ciphertext) {
            Ok(plain) => {
                let token = plain
                    .split_first_chunk::<ORIGIN_LEN>()
                    .filter(|(from, _)| **from == digest(origin))
                    .and_then(|(_, token)| std::str::from_utf8(token).ok())
                    .map(SecretString::from);
                Ok(LoadedToken { token, ..superseded })
            }
            // Of another object, endpoint or client, or tampered with: it is not used, and the Secret's token counts.
            Err(EncryptionError::NotAuthentic) => Ok(superseded),
            // Another token in the Secret starts a new grant; a new label on the Secret does not.
            Err(EncryptionError::UnknownKey) if self.is_of_another(&stored.secret, binding, origin) => Ok(superseded),
            // The Secret's own token is spent. Reuse looks like theft to a careful provider, which then revokes the
            // grant.
            Err(EncryptionError::UnknownKey) => Err(CallError::TokenStore(TokenStoreError::UnknownKey)),
            Err(EncryptionError::NoKey | EncryptionError::EncryptionFailed) => {
                Err(CallError::TokenStore(TokenStoreError::NoKey))
            }
        }
    }

    /// Stores a rotated token; `false` if another replica stored one first.
    pub(crate) async fn store(&self, rotated: RotatedToken<'_>) -> Result<bool, CallError> {
        let RotatedToken { version, token, origin, binding, secret } = rotated;
        let token = token.expose_secret().as_bytes();
        let mut plain = Zeroizing::new(Vec::with_capacity(ORIGIN_LEN + token.len()));
        plain.extend_from_slice(&digest(origin));
        plain.extend_from_slice(token);
        let sealed = self.store.keys.encrypt(&self.associated_data(binding), &plain);
        let sealed = sealed.map_err(|_| CallError::TokenStore(TokenStoreError::NoKey))?;
        let secret = format!("{secret}{FINGERPRINT_SEPARATOR}{}", self.fingerprint(binding, origin));
        let credential = StoredCredential { version, secret, ciphertext: sealed };
        let now = self.clock.now().wall;
        let stored = self.store.credentials.store_credential(&self.connection, &credential, now).await;
        Ok(stored.map_err(|e| self.ledger_error(&e))?.is_some())
    }

    /// Whether the entry with this `note` descends from another token than `origin` or is bound to something else, as far
    /// as can be known without decryption.
    fn is_of_another(&self, note: &str, binding: &RefreshTokenBinding, origin: &SecretString) -> bool {
        let fingerprint = note.rsplit_once(FINGERPRINT_SEPARATOR).map(|(_, fingerprint)| fingerprint);
        fingerprint.is_some_and(|fingerprint| fingerprint != self.fingerprint(binding, origin))
    }

    /// Distinguishes two tokens of the Secret and reveals nothing else: eight bytes of a digest that covers the binding
    /// too, so the same token of another connection has another fingerprint.
    fn fingerprint(&self, binding: &RefreshTokenBinding, origin: &SecretString) -> String {
        short_digest(&[&self.associated_data(binding), origin.expose_secret()])
    }

    /// Binds the ciphertext to the object, the token URL and the client. Stored entries depend on this text: it must not
    /// change.
    fn associated_data(&self, binding: &RefreshTokenBinding) -> String {
        let ObjectKey { namespace, name } = &self.connection;
        let RefreshTokenBinding { owner, token_url, client } = binding;
        format!("refresh token of {namespace}/{name} ({owner}) for {token_url} and client {client}")
    }

    fn ledger_error(&self, error: &LedgerError) -> CallError {
        let ObjectKey { namespace, name } = &self.connection;
        tracing::warn!(
            %namespace, %name, %error,
            "access to the stored refresh token failed; calls that need a new access token fail until it succeeds"
        );
        CallError::TokenStore(TokenStoreError::Ledger)
    }
}

fn digest(token: &SecretString) -> [u8; ORIGIN_LEN] {
    Sha256::digest(token.expose_secret().as_bytes()).into()
}
