//! Encryption of ledger values, and its keys.
//!
//! Keys are files in a directory: a mounted Secret, so that the operator needs no RBAC to read it and the kubelet
//! updates it. The newest key encrypts, all of them decrypt; the newest is the last by name in natural order. To
//! rotate, add a file with a later name, and remove the old one when no value encrypted with it is needed any more.
//!
//! AES-256-GCM with a random nonce. A ciphertext names its key by a digest of the key (64 bits of SHA-256 over 256
//! random bits reveal nothing) and decrypts only in the context it was encrypted for: the caller's `context` is
//! authenticated as additional data, so that a row copied to another connection cannot be decrypted there. No type here
//! implements `Debug` or `Display` over key material.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of a key.
const KEY_LEN: usize = 32;
/// Bytes of a key id.
const ID_LEN: usize = 8;
/// First byte of a ciphertext: version of its layout (key id, nonce, encrypted text with its tag).
const FORMAT_VERSION: u8 = 1;
/// Key files are small; a larger file is not a key.
const MAX_KEY_FILE: u64 = 4096;

/// Why the keys could not be read. Never reveals their content.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The directory, or a file in it, cannot be read.
    #[error("cannot read {path} (--key-secret): {source}")]
    Read {
        /// The directory or file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// There is no key in the directory.
    #[error(
        "no encryption key in {path} (--key-secret); mount a Secret with entries of 32 random bytes, raw or as base64"
    )]
    NoKey {
        /// The directory.
        path: PathBuf,
    },
    /// A file is not a key.
    #[error("invalid encryption key {path} (--key-secret): not 32 bytes; write 32 random bytes, raw or as base64")]
    InvalidKey {
        /// The file.
        path: PathBuf,
    },
}

/// Why a value could not be encrypted or decrypted.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncryptionError {
    /// No keys are configured.
    #[error("no encryption key configured; set --key-secret")]
    NoKey,
    /// The value was encrypted with a key that is not present.
    #[error("decryption failed: the key is no longer in --key-secret; restore it")]
    UnknownKey,
    /// The value was encrypted for another context, or was modified.
    #[error("decryption failed: the value was modified or belongs to another object")]
    NotAuthentic,
    /// The crypto library failed.
    #[error("encryption failed: the crypto library returned an error")]
    EncryptionFailed,
}

struct CipherKey {
    id: [u8; ID_LEN],
    cipher: RandomizedNonceKey,
    /// Derived, so that no key has two uses.
    mac: hmac::Key,
}

/// A set of keys, read at one time.
pub struct KeySet {
    /// Oldest first.
    all: Vec<CipherKey>,
}

impl KeySet {
    /// Reads every file of `directory` except those whose name begins with a dot, which belong to the volume mount.
    pub fn read(directory: &Path) -> Result<Self, KeyringError> {
        let error = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyringError::Read { path, source }
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).map_err(error(directory))? {
            let path = entry.map_err(error(directory))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if !name.starts_with('.') {
                files.push((name, path));
            }
        }
        files.sort_by(|(a, _), (b, _)| natural_order(a, b));
        let mut all = Vec::with_capacity(files.len());
        for (_, path) in files {
            let size = fs::metadata(&path).map_err(error(&path))?.len();
            if size > MAX_KEY_FILE {
                return Err(KeyringError::InvalidKey { path });
            }
            let text = Zeroizing::new(fs::read(&path).map_err(error(&path))?);
            all.push(parse_key(&text).ok_or(KeyringError::InvalidKey { path })?);
        }
        if all.is_empty() { Err(KeyringError::NoKey { path: directory.to_owned() }) } else { Ok(Self { all }) }
    }

    /// Encrypts `plaintext` with the newest key, bound to `context`.
    pub fn encrypt(&self, context: &str, plaintext: &[u8]) -> Result<Vec<u8>, EncryptionError> {
        let key = self.all.last().ok_or(EncryptionError::NoKey)?;
        // Allocated at full size, so that no reallocation leaves a copy of the plaintext behind.
        let mut body = Vec::with_capacity(plaintext.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(plaintext);
        let sealed = key.cipher.seal_in_place_append_tag(Aad::from(context), &mut body);
        let Ok(nonce) = sealed else {
            body.zeroize();
            return Err(EncryptionError::EncryptionFailed);
        };
        let mut ciphertext = Vec::with_capacity(1 + ID_LEN + NONCE_LEN + body.len());
        ciphertext.push(FORMAT_VERSION);
        ciphertext.extend_from_slice(&key.id);
        ciphertext.extend_from_slice(nonce.as_ref());
        ciphertext.append(&mut body);
        Ok(ciphertext)
    }

    /// Whether `ciphertext` was encrypted with the newest key.
    pub fn is_newest(&self, ciphertext: &[u8]) -> bool {
        let id = ciphertext.strip_prefix(&[FORMAT_VERSION]).and_then(|rest| rest.first_chunk::<ID_LEN>());
        self.all.last().is_some_and(|newest| id == Some(&newest.id))
    }

    /// HMAC of `text` with the newest key, to compare texts for equality: the same in every process with that key, and
    /// not guessable without it, even if few texts are possible.
    pub fn keyed_hash(&self, text: &[u8]) -> Result<[u8; 32], EncryptionError> {
        let key = self.all.last().ok_or(EncryptionError::NoKey)?;
        hmac::sign(&key.mac, text).as_ref().try_into().map_err(|_| EncryptionError::EncryptionFailed)
    }

    /// Decrypts a value that was encrypted for `context`.
    pub fn decrypt(&self, context: &str, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, EncryptionError> {
        let (format, rest) = ciphertext.split_first().ok_or(EncryptionError::NotAuthentic)?;
        let (id, rest) = rest.split_first_chunk::<ID_LEN>().ok_or(EncryptionError::NotAuthentic)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(EncryptionError::NotAuthentic)?;
        if *format != FORMAT_VERSION {
            return Err(EncryptionError::NotAuthentic);
        }
        let key = self.all.iter().find(|key| key.id == *id).ok_or(EncryptionError::UnknownKey)?;
        let mut body = Zeroizing::new(body.to_vec());
        let opened = key.cipher.open_in_place(Nonce::from(nonce), Aad::from(context), &mut body);
        let length = opened.map_err(|_| EncryptionError::NotAuthentic)?.len();
        body.truncate(length);
        Ok(body)
    }
}

/// Parses a key file's content.
fn parse_key(text: &[u8]) -> Option<CipherKey> {
    let trimmed = text.trim_ascii();
    let bytes = if text.len() == KEY_LEN {
        Zeroizing::new(text.to_vec())
    } else {
        Zeroizing::new(STANDARD.decode(trimmed).or_else(|_| STANDARD_NO_PAD.decode(trimmed)).ok()?)
    };
    if bytes.len() != KEY_LEN {
        return None;
    }
    let digest = Sha256::new().chain_update(b"busbar key id\0").chain_update(&*bytes).finalize();
    let derived =
        Zeroizing::new(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"busbar mark key").as_ref().to_vec());
    let mac = hmac::Key::new(hmac::HMAC_SHA256, &derived);
    Some(CipherKey { id: *digest.first_chunk()?, cipher: RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()?, mac })
}

/// Natural order: digits compare as numbers (`v9` before `v10`), equal prefixes by length.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (in_a, in_b) = (digits(a), digits(b));
        let (head_a, head_b) = if in_a > 0 && in_b > 0 { (in_a, in_b) } else { (a.len().min(1), b.len().min(1)) };
        let ((one, rest_a), (two, rest_b)) = (a.split_at(head_a), b.split_at(head_b));
        let order = if in_a > 0 && in_b > 0 {
            let bare = |number: &[u8]| {
                let zeros = number.iter().take_while(|byte| **byte == b'0').count();
                number.get(zeros..).unwrap_or_default().to_vec()
            };
            let (one, two) = (bare(one), bare(two));
            one.len().cmp(&two.len()).then_with(|| one.cmp(&two))
        } else {
            one.cmp(two)
        };
        if order != Ordering::Equal || (rest_a.is_empty() && rest_b.is_empty()) {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// The current keys, reloaded while the process runs. Clones share them.
#[derive(Clone, Default)]
pub struct Keyring {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    directory: PathBuf,
    keys: RwLock<Arc<KeySet>>,
}

impl Keyring {
    /// A keyring without keys: nothing can be encrypted.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the keys of a directory, which must hold at least one.
    pub fn open(directory: &Path) -> Result<Self, KeyringError> {
        let keys = RwLock::new(Arc::new(KeySet::read(directory)?));
        Ok(Self { inner: Some(Arc::new(Inner { directory: directory.to_owned(), keys })) })
    }

    /// Whether there is a key to encrypt with.
    pub fn has_key(&self) -> bool {
        self.inner.is_some()
    }

    /// Reloads the directory. On an error the previous keys stay in use.
    pub fn reload(&self) -> Result<(), KeyringError> {
        let Some(inner) = &self.inner else { return Ok(()) };
        let keys = Arc::new(KeySet::read(&inner.directory)?);
        *inner.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Encrypts with the newest key; see [`KeySet::encrypt`].
    pub fn encrypt(&self, context: &str, plaintext: &[u8]) -> Result<Vec<u8>, EncryptionError> {
        self.keys()?.encrypt(context, plaintext)
    }

    /// Whether a ciphertext was encrypted with the newest key; see [`KeySet::is_newest`].
    pub fn is_newest(&self, ciphertext: &[u8]) -> bool {
        self.keys().is_ok_and(|keys| keys.is_newest(ciphertext))
    }

    /// HMAC with the newest key; see [`KeySet::keyed_hash`].
    pub fn keyed_hash(&self, text: &[u8]) -> Result<[u8; 32], EncryptionError> {
        self.keys()?.keyed_hash(text)
    }

    /// Decrypts with the key it names; see [`KeySet::decrypt`]. For an unknown key the directory is reloaded once.
    pub fn decrypt(&self, context: &str, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, EncryptionError> {
        match self.keys()?.decrypt(context, ciphertext) {
            Err(EncryptionError::UnknownKey) if self.reload().is_ok() => self.keys()?.decrypt(context, ciphertext),
            result => result,
        }
    }

    fn keys(&self) -> Result<Arc<KeySet>, EncryptionError> {
        let inner = self.inner.as_ref().ok_or(EncryptionError::NoKey)?;
        Ok(Arc::clone(&inner.keys.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    }

    #[test]
    fn a_ciphertext_decrypts_only_unmodified_and_in_its_own_context() {
        let keys = KeySet::read(directory(&[("1", &[7; 32])]).path()).unwrap();
        let ciphertext = keys.encrypt("ns/bank", b"canary").unwrap();
        assert_eq!(**keys.decrypt("ns/bank", &ciphertext).unwrap(), *b"canary");
        assert_eq!(keys.decrypt("ns/other", &ciphertext).unwrap_err(), EncryptionError::NotAuthentic);
        for at in 0..ciphertext.len() {
            let mut forged = ciphertext.clone();
            forged[at] ^= 1;
            let error = keys.decrypt("ns/bank", &forged).unwrap_err();
            assert!(matches!(error, EncryptionError::NotAuthentic | EncryptionError::UnknownKey), "{at}");
        }
        for short in 0..ciphertext.len() {
            assert!(keys.decrypt("ns/bank", &ciphertext[..short]).is_err(), "{short}");
        }
        assert!(!ciphertext.windows(6).any(|w| w == b"canary"));
        assert_ne!(ciphertext, keys.encrypt("ns/bank", b"canary").unwrap(), "each call uses a new nonce");
    }

    #[test]
    fn a_keyed_hash_depends_on_the_key_and_the_text_only() {
        let with = |key: u8| Keyring::open(directory(&[("1", &[key; 32])]).path()).unwrap().keyed_hash(b"x").unwrap();
        assert_eq!(with(7), with(7));
        assert_ne!(with(7), with(8));
        assert_eq!(Keyring::none().keyed_hash(b"x").unwrap_err(), EncryptionError::NoKey);
    }

    #[test]
    fn the_newest_key_encrypts_and_all_keys_decrypt() {
        let text = STANDARD.encode([9; 32]) + "\n";
        let directory = directory(&[("v9", &[7; 32])]);
        let ring = Keyring::open(directory.path()).unwrap();
        let old = ring.encrypt("x", b"old").unwrap();
        fs::write(directory.path().join("v10"), &text).unwrap();
        // Files of the volume mount are not keys.
        fs::create_dir(directory.path().join("..2026_11_22")).unwrap();
        ring.reload().unwrap();
        let new = ring.encrypt("x", b"new").unwrap();
        assert_ne!(old[1..9], new[1..9], "v10 is newer than v9");
        assert_eq!(**ring.decrypt("x", &old).unwrap(), *b"old");
        fs::remove_file(directory.path().join("v9")).unwrap();
        ring.reload().unwrap();
        assert_eq!(ring.decrypt("x", &old).unwrap_err(), EncryptionError::UnknownKey);
        assert_eq!(**ring.decrypt("x", &new).unwrap(), *b"new");
        // A restored key is found without a reload by the caller.
        fs::write(directory.path().join("v9"), [7; 32]).unwrap();
        assert_eq!(**ring.decrypt("x", &old).unwrap(), *b"old");
    }

    #[test]
    fn a_key_error_names_the_file_and_never_its_content() {
        assert!(matches!(KeySet::read(directory(&[]).path()), Err(KeyringError::NoKey { .. })));
        for bad in [&b"canary"[..], &[1; 31], &[1; 33], b"Y2FuYXJ5", &[b'A'; 5000]] {
            let error = KeySet::read(directory(&[("1", bad)]).path()).err().unwrap().to_string();
            assert!(error.contains("/1 (--key-secret)") && !error.contains("canary"), "{error}");
        }
        assert!(KeySet::read(Path::new("/nowhere/at/all")).err().unwrap().to_string().contains("/nowhere/at/all"));
        let none = Keyring::none();
        assert!(!none.has_key());
        assert_eq!(none.encrypt("x", b"").unwrap_err(), EncryptionError::NoKey);
    }

    #[test]
    fn key_names_sort_in_natural_order() {
        let mut names = ["v10", "v9", "2026-11-22", "2026-2-3", "v09", "a", "v", "v9a"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["2026-2-3", "2026-11-22", "a", "v", "v9", "v09", "v9a", "v10"]);
    }
}
