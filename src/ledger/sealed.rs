//! What the ledger keeps encrypted, and the keys for it.
//!
//! The keys are files in a folder: a Secret that is mounted, so that the operator needs no right to read it and the
//! kubelet keeps it fresh. The newest key seals, all of them open; the newest is the one whose name comes last, numbers
//! compared as numbers. To rotate, add a file with a later name, and take the old one away when nothing sealed by it is
//! needed any more.
//!
//! AES-256-GCM with a random nonce. A sealed text tells which key it needs by a digest of the key (64 bits of SHA-256 over
//! 256 random bits say nothing about them), and opens only for the very thing it was sealed for: the caller's `about` is authenticated
//! with it, so that a row moved to another connection's place does not open there. Nothing here can be printed.

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
/// Bytes that name a key.
const ID_LEN: usize = 8;
/// The first byte of what is sealed: the form of the rest (key id, nonce, ciphertext with its tag).
const FORM: u8 = 1;
/// A key file is small; what is larger is none.
const MAX_FILE: u64 = 4096;

/// The keys could not be read. Never says anything about their content.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The folder, or a file in it, cannot be read.
    #[error("cannot read {path} (--key-secret): {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no key in the folder.
    #[error(
        "{path} (--key-secret) holds no key: mount a Secret whose keys are files of 32 random bytes, or their base64"
    )]
    None {
        /// The folder.
        path: PathBuf,
    },
    /// A file is no key.
    #[error("{path} (--key-secret) is no key: write 32 random bytes, or their base64")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

/// Something could not be sealed or opened.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// There are no keys at all.
    #[error("the operator has no key: give it --key-secret")]
    NoKey,
    /// It was sealed with a key that is not here.
    #[error("it was sealed with a key that is not in --key-secret any more: put that key back")]
    UnknownKey,
    /// It was sealed for something else, or was changed since.
    #[error("it was sealed for something else, or was changed since")]
    Forged,
    /// The crypto library gave up.
    #[error("it cannot be encrypted")]
    Crypto,
}

struct Key {
    id: [u8; ID_LEN],
    cipher: RandomizedNonceKey,
    /// Derived, so that one key never does two things.
    mark: hmac::Key,
}

/// A set of keys, read at one moment.
pub struct Keys {
    /// Oldest first.
    all: Vec<Key>,
}

impl Keys {
    /// Reads every file of `folder`. Names that begin with a dot are the mount's own.
    pub fn read(folder: &Path) -> Result<Self, KeyError> {
        let error = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyError::Read { path, source }
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(error(folder))? {
            let path = entry.map_err(error(folder))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if !name.starts_with('.') {
                files.push((name, path));
            }
        }
        files.sort_by(|(a, _), (b, _)| natural(a, b));
        let mut all = Vec::with_capacity(files.len());
        for (_, path) in files {
            let size = fs::metadata(&path).map_err(error(&path))?.len();
            if size > MAX_FILE {
                return Err(KeyError::NotAKey { path });
            }
            let text = Zeroizing::new(fs::read(&path).map_err(error(&path))?);
            all.push(key(&text).ok_or(KeyError::NotAKey { path })?);
        }
        if all.is_empty() { Err(KeyError::None { path: folder.to_owned() }) } else { Ok(Self { all }) }
    }

    /// Seals `plain` with the newest key, for `about` only.
    pub fn seal(&self, about: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.all.last().ok_or(SealError::NoKey)?;
        // Grown in place from its full size, so that no copy of the plain text is left behind.
        let mut body = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(plain);
        let sealed = key.cipher.seal_in_place_append_tag(Aad::from(about), &mut body);
        let Ok(nonce) = sealed else {
            body.zeroize();
            return Err(SealError::Crypto);
        };
        let mut whole = Vec::with_capacity(1 + ID_LEN + NONCE_LEN + body.len());
        whole.push(FORM);
        whole.extend_from_slice(&key.id);
        whole.extend_from_slice(nonce.as_ref());
        whole.append(&mut body);
        Ok(whole)
    }

    /// A mark by which equal texts can be told, by the newest key: the same in every process that has it, and useless to
    /// whoever has not, however few texts are possible.
    pub fn mark(&self, text: &[u8]) -> Result<[u8; 32], SealError> {
        let key = self.all.last().ok_or(SealError::NoKey)?;
        hmac::sign(&key.mark, text).as_ref().try_into().map_err(|_| SealError::Crypto)
    }

    /// Opens what was sealed for `about`.
    pub fn open(&self, about: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (form, rest) = sealed.split_first().ok_or(SealError::Forged)?;
        let (id, rest) = rest.split_first_chunk::<ID_LEN>().ok_or(SealError::Forged)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Forged)?;
        if *form != FORM {
            return Err(SealError::Forged);
        }
        let key = self.all.iter().find(|key| key.id == *id).ok_or(SealError::UnknownKey)?;
        let mut body = Zeroizing::new(body.to_vec());
        let opened = key.cipher.open_in_place(Nonce::from(nonce), Aad::from(about), &mut body);
        let length = opened.map_err(|_| SealError::Forged)?.len();
        body.truncate(length);
        Ok(body)
    }
}

/// A key from a file's content.
fn key(text: &[u8]) -> Option<Key> {
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
    let own =
        Zeroizing::new(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"busbar mark key").as_ref().to_vec());
    let mark = hmac::Key::new(hmac::HMAC_SHA256, &own);
    Some(Key { id: *digest.first_chunk()?, cipher: RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()?, mark })
}

/// Compares names as people do: `v9` before `v10`, and what is equal so far by length.
fn natural(a: &str, b: &str) -> Ordering {
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

/// The keys in force, shared by all who seal; read again while the process runs. Cloning shares them.
#[derive(Clone, Default)]
pub struct Keyring {
    inner: Option<Arc<Ring>>,
}

struct Ring {
    folder: PathBuf,
    keys: RwLock<Arc<Keys>>,
}

impl Keyring {
    /// No keys: nothing can be sealed.
    pub fn none() -> Self {
        Self::default()
    }

    /// The keys of a folder, which must hold one.
    pub fn open(folder: &Path) -> Result<Self, KeyError> {
        let keys = RwLock::new(Arc::new(Keys::read(folder)?));
        Ok(Self { inner: Some(Arc::new(Ring { folder: folder.to_owned(), keys })) })
    }

    /// Whether anything can be sealed.
    pub fn has_key(&self) -> bool {
        self.inner.is_some()
    }

    /// Reads the folder again. On an error the keys that were read before stay in force.
    pub fn refresh(&self) -> Result<(), KeyError> {
        let Some(ring) = &self.inner else { return Ok(()) };
        let keys = Arc::new(Keys::read(&ring.folder)?);
        *ring.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Seals with the newest key; see [`Keys::seal`].
    pub fn seal(&self, about: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.keys()?.seal(about, plain)
    }

    /// Marks with the newest key; see [`Keys::mark`].
    pub fn mark(&self, text: &[u8]) -> Result<[u8; 32], SealError> {
        self.keys()?.mark(text)
    }

    /// Opens with whichever key it needs; see [`Keys::open`]. A key that is not known is looked for in the folder once more.
    pub fn open_sealed(&self, about: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        match self.keys()?.open(about, sealed) {
            Err(SealError::UnknownKey) if self.refresh().is_ok() => self.keys()?.open(about, sealed),
            end => end,
        }
    }

    fn keys(&self) -> Result<Arc<Keys>, SealError> {
        let ring = self.inner.as_ref().ok_or(SealError::NoKey)?;
        Ok(Arc::clone(&ring.keys.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    #[test]
    fn what_was_sealed_opens_for_the_same_thing_and_for_nothing_else() {
        let keys = Keys::read(folder(&[("1", &[7; 32])]).path()).unwrap();
        let sealed = keys.seal("ns/bank", b"canary").unwrap();
        assert_eq!(**keys.open("ns/bank", &sealed).unwrap(), *b"canary");
        assert_eq!(keys.open("ns/other", &sealed).unwrap_err(), SealError::Forged);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            let error = keys.open("ns/bank", &forged).unwrap_err();
            assert!(matches!(error, SealError::Forged | SealError::UnknownKey), "{at}");
        }
        for short in 0..sealed.len() {
            assert!(keys.open("ns/bank", &sealed[..short]).is_err(), "{short}");
        }
        assert!(!sealed.windows(6).any(|w| w == b"canary"));
        assert_ne!(sealed, keys.seal("ns/bank", b"canary").unwrap(), "each time another nonce");
    }

    #[test]
    fn a_mark_is_the_same_wherever_the_key_is_and_another_with_another_key() {
        let with = |key: u8| Keyring::open(folder(&[("1", &[key; 32])]).path()).unwrap().mark(b"x").unwrap();
        assert_eq!(with(7), with(7));
        assert_ne!(with(7), with(8));
        assert_eq!(Keyring::none().mark(b"x").unwrap_err(), SealError::NoKey);
    }

    #[test]
    fn the_newest_key_seals_and_all_of_them_open() {
        let text = STANDARD.encode([9; 32]) + "\n";
        let folder = folder(&[("v9", &[7; 32])]);
        let ring = Keyring::open(folder.path()).unwrap();
        let old = ring.seal("x", b"old").unwrap();
        fs::write(folder.path().join("v10"), &text).unwrap();
        // What the mount itself makes is no key.
        fs::create_dir(folder.path().join("..2026_11_22")).unwrap();
        ring.refresh().unwrap();
        let new = ring.seal("x", b"new").unwrap();
        assert_ne!(old[1..9], new[1..9], "v10 is newer than v9");
        assert_eq!(**ring.open_sealed("x", &old).unwrap(), *b"old");
        fs::remove_file(folder.path().join("v9")).unwrap();
        ring.refresh().unwrap();
        assert_eq!(ring.open_sealed("x", &old).unwrap_err(), SealError::UnknownKey);
        assert_eq!(**ring.open_sealed("x", &new).unwrap(), *b"new");
        // A key that comes back is found without anybody's doing.
        fs::write(folder.path().join("v9"), [7; 32]).unwrap();
        assert_eq!(**ring.open_sealed("x", &old).unwrap(), *b"old");
    }

    #[test]
    fn a_folder_without_a_usable_key_is_told_with_the_file_and_never_with_its_content() {
        assert!(matches!(Keys::read(folder(&[]).path()), Err(KeyError::None { .. })));
        for bad in [&b"canary"[..], &[1; 31], &[1; 33], b"Y2FuYXJ5", &[b'A'; 5000]] {
            let error = Keys::read(folder(&[("1", bad)]).path()).err().unwrap().to_string();
            assert!(error.contains("/1 (--key-secret)") && !error.contains("canary"), "{error}");
        }
        assert!(Keys::read(Path::new("/nowhere/at/all")).err().unwrap().to_string().contains("/nowhere/at/all"));
        let none = Keyring::none();
        assert!(!none.has_key());
        assert_eq!(none.seal("x", b"").unwrap_err(), SealError::NoKey);
    }

    #[test]
    fn names_are_compared_as_people_do() {
        let mut names = ["v10", "v9", "2026-11-22", "2026-2-3", "v09", "a", "v", "v9a"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["2026-2-3", "2026-11-22", "a", "v", "v9", "v09", "v9a", "v10"]);
    }
}
