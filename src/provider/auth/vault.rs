//! Where a rotated refresh token is kept: sealed, in the ledger, before the access token that came with it is used.
//!
//! With a provider that rotates, the token in the Secret is spent after its first use. The one it gave instead must
//! outlive the process, and the operator never writes Secrets. What is kept tells which token of the Secret it descends
//! from (a digest, inside the seal, and a short mark beside it for when the key is gone), so a new token in the Secret supersedes it, while a label on the Secret does not;
//! and it is sealed for one connection and one token URL, so that it is never sent to another.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::ledger::sealed::{Keyring, SealError};
use crate::ledger::{CredentialStore, KeptCredential, Lease, LedgerError};
use crate::provider::call::{CallError, KeepProblem};
use crate::provider::settings::{Settings, text_digest};

/// Parts the Secret's version from the mark of its token; neither names nor versions hold it.
const MARK: char = '#';

/// Bytes of the digest of the Secret's token, at the head of what is sealed.
const ORIGIN: usize = 32;

/// The ledger's kept credentials, and the keys that seal them. Cloning shares them.
#[derive(Clone)]
pub struct Vault {
    store: Arc<dyn CredentialStore>,
    keys: Keyring,
}

impl Vault {
    /// Keeps in `store` what `keys` seal.
    pub fn new(store: Arc<dyn CredentialStore>, keys: Keyring) -> Self {
        Self { store, keys }
    }

    /// Whether anything can be kept.
    pub fn has_key(&self) -> bool {
        self.keys.has_key()
    }
}

/// Reads a connection's Secrets. Asked when a credential is refused: somebody may have put a new one there a moment ago.
pub trait SecretSource: Send + Sync + 'static {
    /// What `connection` is with what its Secrets hold; `None` if that cannot be found out. The credential that was read
    /// before is refused since `refused`, so that no copy from before then is good.
    fn settings<'a>(&'a self, connection: &'a ObjectKey, refused: Mono) -> BoxFuture<'a, Option<Settings>>;
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
    /// Keeps everybody but `holder` from using the refresh token until [`unlock`](Self::unlock), or until we must be gone.
    pub(crate) async fn lock(&self, holder: &str) -> Result<Lease, CallError> {
        let store = &self.vault.store;
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
            // A Secret that holds another token by now is a new beginning; another label on it is none.
            Err(SealError::UnknownKey) if self.is_of_another(&kept.secret, origin) => Ok(superseded),
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
        let secret = format!("{}{MARK}{}", self.secret, self.mark(origin));
        let kept = KeptCredential { version, secret, sealed };
        let now = self.clock.now().wall;
        let done = self.vault.store.keep_credential(&self.connection, &kept, now).await;
        Ok(done.map_err(|e| self.failed(&e))?.is_some())
    }

    /// Whether what is kept with this note descends from another token than `origin`, as far as can be told without
    /// opening it. Notes of former versions tell the Secret's version only.
    fn is_of_another(&self, note: &str, origin: &SecretString) -> bool {
        match note.rsplit_once(MARK) {
            Some((_, mark)) => mark != self.mark(origin),
            None => note != self.secret,
        }
    }

    /// Tells two tokens of the Secret apart, and nothing more: eight bytes of a digest that also holds whose they are, so
    /// that the same token of another connection has another mark.
    fn mark(&self, origin: &SecretString) -> String {
        text_digest(&[&self.about(), origin.expose_secret()])
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
