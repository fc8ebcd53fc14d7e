//! Tokens of accounts: keyed hashes of their numbers.
//!
//! Rows are identified by the account's token. There are few enough account numbers to hash all of them, so the hash
//! takes a key: without it, a reader of the ledger cannot tell which account a row belongs to.
//!
//! The key is one random value for the whole ledger, stored in it: encrypted if the operator has a key
//! (`--key-secret`), else as it is, which protects copies of rows but not the ledger. It never changes, because the
//! rows' identity depends on it: a rotation of `--key-secret` only encrypts it again.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::key::{account_digest, rederived_key};
use crate::domain::key::ObjectKey;
use crate::domain::run_reason::RunReason;
use crate::ledger::credentials::StoredCredential;
use crate::ledger::encryption::Keyring;
use crate::ledger::{Lease, Ledger, LedgerError, RowIdentity, TransactionRecord};

/// Bytes of the key.
const KEY_LEN: usize = 32;
/// What the encrypted key is bound to.
const CONTEXT: &str = "busbar account tokens";
/// First byte of a key that is stored as it is. Encrypted ones begin with the format of the encryption, which is not 0.
const PLAIN: u8 = 0;
/// The state of the stored key while rows may have tokens of earlier versions, which had no key.
const CONVERTING: &str = "converting";
/// The state after that.
const READY: &str = "ready";
/// Attempts to write the key; each conflict means that another process has made progress.
const ATTEMPTS: u32 = 10;
/// Rows per transaction when tokens are converted.
const CONVERT_BATCH: u32 = 500;
/// Marks keyed tokens; those of earlier versions are hexadecimal and have no mark.
const MARK: &str = "k1-";

/// Why there is no key. Runs that need it fail.
#[derive(Debug, thiserror::Error)]
pub enum AccountTokenError {
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The stored key cannot be decrypted, or is not a key.
    #[error("the key of account tokens cannot be decrypted; restore the key file that encrypted it in --key-secret")]
    KeyMissing,
    /// Other processes kept changing the stored key.
    #[error("the key of account tokens is being changed by other processes; retrying with the next run")]
    Contended,
}

impl AccountTokenError {
    /// The reason of the run that failed.
    pub const fn reason(&self) -> RunReason {
        match self {
            Self::Ledger(LedgerError::Fenced { .. }) => RunReason::LeaseLost,
            Self::Ledger(_) | Self::Contended => RunReason::LedgerUnavailable,
            Self::KeyMissing => RunReason::KeyMissing,
        }
    }
}

/// Reads the key, which is created when it is needed first. Clones share it.
#[derive(Clone, Default)]
pub struct AccountTokens {
    keys: Keyring,
    loaded: Arc<Mutex<Option<Loaded>>>,
}

struct Loaded {
    key: TokenKey,
    stored: StoredCredential,
}

impl AccountTokens {
    /// The key is stored encrypted with `keys`.
    pub fn new(keys: Keyring) -> Self {
        Self { keys, loaded: Arc::default() }
    }

    /// The key of `ledger`. Creates it, encrypts it anew after a rotation, and converts tokens of earlier versions under
    /// the `lease` of the run that needs it.
    pub async fn key(&self, ledger: &dyn Ledger, lease: &Lease, now: Timestamp) -> Result<TokenKey, AccountTokenError> {
        let mut loaded = self.loaded.lock().await;
        if let Some(Loaded { key, stored }) = &*loaded
            && self.is_current(&stored.ciphertext)
        {
            return Ok(key.clone());
        }
        for _ in 0..ATTEMPTS {
            if let Some(ready) = self.advance(ledger, lease, now).await? {
                return Ok(loaded.insert(ready).key.clone());
            }
        }
        Err(AccountTokenError::Contended)
    }

    /// The key, if a run has needed it before.
    pub(crate) async fn loaded(&self) -> Option<TokenKey> {
        self.loaded.lock().await.as_ref().map(|loaded| loaded.key.clone())
    }

    /// Makes one change towards a stored, currently encrypted key and converted rows; the key if nothing was left.
    async fn advance(
        &self,
        ledger: &dyn Ledger,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Option<Loaded>, AccountTokenError> {
        let place = stored_key();
        let Some(stored) = ledger.load_credential(&place).await? else {
            let key = Zeroizing::new(rand::random::<[u8; KEY_LEN]>());
            let new = StoredCredential { version: 0, secret: CONVERTING.to_owned(), ciphertext: self.wrap(&*key)? };
            ledger.store_credential(&place, &new, now).await?;
            return Ok(None);
        };
        let bytes = self.unwrap(&stored.ciphertext)?;
        let key = TokenKey::new(&bytes)?;
        if !self.is_current(&stored.ciphertext) {
            let ciphertext = self.wrap(&bytes)?;
            ledger.store_credential(&place, &StoredCredential { ciphertext, ..stored }, now).await?;
            return Ok(None);
        }
        if stored.secret != READY {
            convert(ledger, lease, &key).await?;
            ledger.store_credential(&place, &StoredCredential { secret: READY.to_owned(), ..stored }, now).await?;
            return Ok(None);
        }
        Ok(Some(Loaded { key, stored }))
    }

    /// The operator's keys.
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// Whether the stored key is encrypted with the newest key; without any, as it is.
    fn is_current(&self, stored: &[u8]) -> bool {
        if self.keys.has_key() { self.keys.is_newest(stored) } else { stored.first() == Some(&PLAIN) }
    }

    fn wrap(&self, key: &[u8]) -> Result<Vec<u8>, AccountTokenError> {
        if self.keys.has_key() {
            return self.keys.encrypt(CONTEXT, key).map_err(|_| AccountTokenError::KeyMissing);
        }
        let mut plain = Vec::with_capacity(1 + key.len());
        plain.push(PLAIN);
        plain.extend_from_slice(key);
        Ok(plain)
    }

    fn unwrap(&self, stored: &[u8]) -> Result<Zeroizing<Vec<u8>>, AccountTokenError> {
        match stored.split_first() {
            Some((&PLAIN, key)) => Ok(Zeroizing::new(key.to_vec())),
            _ => self.keys.decrypt(CONTEXT, stored).map_err(|_| AccountTokenError::KeyMissing),
        }
    }
}

impl fmt::Debug for AccountTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountTokens").finish_non_exhaustive()
    }
}

/// Where the key is stored. It is no connection's: their namespaces are never empty.
pub(crate) fn stored_key() -> ObjectKey {
    ObjectKey::new("", "account-tokens")
}

/// Replaces the tokens of earlier versions, and the record keys that were derived from them.
async fn convert(ledger: &dyn Ledger, lease: &Lease, key: &TokenKey) -> Result<(), LedgerError> {
    let mut after = 0;
    loop {
        let key = key.clone();
        let replace = Arc::new(move |record: &TransactionRecord| key.converted(record));
        match ledger.replace_identities(lease, after, CONVERT_BATCH, replace).await? {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// The key of account tokens.
#[derive(Clone)]
pub struct TokenKey(Hmac<Sha256>);

impl TokenKey {
    /// The key of these bytes.
    pub(crate) fn new(key: &[u8]) -> Result<Self, AccountTokenError> {
        match Hmac::new_from_slice(key) {
            Ok(hmac) if key.len() == KEY_LEN => Ok(Self(hmac)),
            _ => Err(AccountTokenError::KeyMissing),
        }
    }

    /// A key for tests that have no ledger.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::new(&[7; KEY_LEN]).unwrap()
    }

    /// Opaque token of an account. Scoped by namespace and connection, so that tokens cannot be correlated across them.
    pub fn account(&self, namespace: &str, connection: &str, account: &str) -> String {
        self.token(&account_digest(namespace, connection, account))
    }

    /// Keyed hash of a text that could be guessed; `purpose` separates the hashes of one text.
    pub fn digest(&self, purpose: &str, text: &str) -> String {
        let mut hmac = self.0.clone();
        for part in [purpose, text] {
            hmac.update(&(part.len() as u64).to_be_bytes());
            hmac.update(part.as_bytes());
        }
        hex::encode(hmac.finalize().into_bytes().first_chunk::<16>().unwrap_or(&[0; 16]))
    }

    /// Of a digest, so that a token of an earlier version, which is the digest, can be converted without the number.
    fn token(&self, digest: &str) -> String {
        format!("{MARK}{}", self.digest("account", digest))
    }

    /// The row's identity with a keyed token; `None` if it has one.
    fn converted(&self, record: &TransactionRecord) -> Option<RowIdentity> {
        if record.account_token.starts_with(MARK) {
            return None;
        }
        let account_token = self.token(&record.account_token);
        let record_key = rederived_key(record, &account_token);
        Some(RowIdentity { account_token, record_key })
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}
