//! Where a rotated refresh token is kept: sealed, in the ledger, before the access token that came with it is used.
//!
//! With a provider that rotates, the token in the Secret is spent after its first use. The one it gave instead must
//! outlive the process, and the operator never writes Secrets. What is kept tells which token of the Secret it descends
//! from (a digest, inside the seal), so a new token in the Secret supersedes it, while a label on the Secret does not;
//! and it is sealed for one connection and one token URL, so that it is never sent to another.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::ledger::sealed::{Keyring, SealError};
use crate::ledger::{CredentialStore, KeptCredential, Lease, LedgerError};
use crate::provider::call::{CallError, KeepProblem};

/// Bytes of the digest of the Secret's token, at the head of what is sealed.
const ORIGIN: usize = 32;

/// The ledger's kept credentials, and the keys that seal them. Cloning shares them.
#[derive(Clone)]
pub struct Vault {
    store: Arc<dyn CredentialStore>,
    keys: Keyring,
    /// Who we are to other processes on the same ledger.
    holder: Arc<str>,
}

impl Vault {
    /// Keeps in `store` what `keys` seal.
    pub fn new(store: Arc<dyn CredentialStore>, keys: Keyring) -> Self {
        Self { store, keys, holder: uuid::Uuid::new_v4().to_string().into() }
    }

    /// Whether anything can be kept.
    pub fn has_key(&self) -> bool {
        self.keys.has_key()
    }
}

/// Reads a connection's Secret now, whatever copy there is. Asked when a refresh token is refused: somebody may have
/// put a new one there a moment ago.
pub trait SecretSource: Send + Sync + 'static {
    /// The refresh token in the Secret that `connection` names; `None` if it cannot be read.
    fn refresh_token<'a>(&'a self, connection: &'a ObjectKey) -> BoxFuture<'a, Option<SecretString>>;
}

/// The part of the vault that is one connection's.
pub(crate) struct Safe {
    pub(crate) vault: Vault,
    pub(crate) clock: Clock,
    pub(crate) connection: ObjectKey,
    pub(crate) token_url: String,
    /// Name and version of the Secret in force.
    pub(crate) secret: String,
    /// The longest that one request to the endpoint takes.
    pub(crate) longest: Duration,
}

/// How long another replica that refreshes the same token is waited for: longer than most requests take, shorter than most
/// callers wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Two requests may be made under one lock, and the ledger wants its time.
const MARGIN: Duration = Duration::from_secs(10);

/// What was found.
pub(crate) struct Held {
    /// Whoever replaces it must name this version.
    pub(crate) version: i64,
    /// The kept token, if it descends from the Secret's.
    pub(crate) token: Option<SecretString>,
}

impl Safe {
    /// Keeps other replicas from using the refresh token until [`unlock`](Self::unlock), or until we must be gone.
    pub(crate) async fn lock(&self) -> Result<Lease, CallError> {
        let Vault { store, holder, .. } = &self.vault;
        let (ttl, until) = (self.longest * 2 + MARGIN, self.clock.mono() + PATIENCE);
        loop {
            let now = self.clock.now();
            let taken = store.lock_credential(&self.connection, holder, ttl, now.wall).await;
            if let Some(lock) = taken.map_err(|e| self.failed(&e))? {
                return Ok(lock);
            }
            if now.mono >= until {
                return Err(CallError::NotKept(KeepProblem::Busy));
            }
            self.clock.sleep_until(now.mono + LOOK_EVERY).await;
        }
    }

    /// Lets others go on. What cannot be given back ends by itself.
    pub(crate) async fn unlock(&self, lock: &Lease) {
        if let Err(error) = self.vault.store.unlock_credential(lock).await {
            let _told = self.failed(&error);
        }
    }

    /// The token that is kept in the place of `origin`, the Secret's.
    pub(crate) async fn load(&self, origin: &SecretString) -> Result<Held, CallError> {
        let kept = self.vault.store.load_credential(&self.connection).await.map_err(|e| self.failed(&e))?;
        let Some(kept) = kept else { return Ok(Held { version: 0, token: None }) };
        let superseded = Held { version: kept.version, token: None };
        match self.vault.keys.open_sealed(&self.about(), &kept.sealed) {
            Ok(plain) => {
                let token = plain
                    .split_first_chunk::<ORIGIN>()
                    .filter(|(from, _)| **from == digest(origin))
                    .and_then(|(_, token)| std::str::from_utf8(token).ok())
                    .map(SecretString::from);
                Ok(Held { token, ..superseded })
            }
            // Of another endpoint, or tampered with: it is not used, and the Secret's stands.
            Err(SealError::Forged) => Ok(superseded),
            // It cannot be read which token it descends from; a Secret that is another by now is a new beginning.
            Err(SealError::UnknownKey) if kept.secret != self.secret => Ok(superseded),
            // The Secret's own token is spent by now. To use it again would look like theft to a careful provider,
            // which ends the whole grant then.
            Err(SealError::UnknownKey) => Err(CallError::NotKept(KeepProblem::UnknownKey)),
            Err(SealError::NoKey | SealError::Crypto) => Err(CallError::NotKept(KeepProblem::NoKey)),
        }
    }

    /// Keeps `token` in the place of `version`; `false` if another replica was there first.
    pub(crate) async fn keep(
        &self,
        version: i64,
        token: &SecretString,
        origin: &SecretString,
    ) -> Result<bool, CallError> {
        let token = token.expose_secret().as_bytes();
        let mut plain = Zeroizing::new(Vec::with_capacity(ORIGIN + token.len()));
        plain.extend_from_slice(&digest(origin));
        plain.extend_from_slice(token);
        let sealed = self.vault.keys.seal(&self.about(), &plain);
        let sealed = sealed.map_err(|_| CallError::NotKept(KeepProblem::NoKey))?;
        let kept = KeptCredential { version, secret: self.secret.clone(), sealed };
        let now = self.clock.now().wall;
        let done = self.vault.store.keep_credential(&self.connection, &kept, now).await;
        Ok(done.map_err(|e| self.failed(&e))?.is_some())
    }

    fn about(&self) -> String {
        let ObjectKey { namespace, name } = &self.connection;
        format!("refresh token of {namespace}/{name} for {}", self.token_url)
    }

    fn failed(&self, error: &LedgerError) -> CallError {
        let ObjectKey { namespace, name } = &self.connection;
        tracing::warn!(%namespace, %name, %error, "a refresh token could not be kept or read");
        CallError::NotKept(KeepProblem::Ledger)
    }
}

fn digest(token: &SecretString) -> [u8; ORIGIN] {
    Sha256::digest(token.expose_secret().as_bytes()).into()
}
