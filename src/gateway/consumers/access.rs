//! Authenticates consumers of events by their API keys.
//!
//! A key is stored as its argon2 hash, which costs some hundredths of a second and megabytes to compute: enough to make
//! guesses slow, too much for every request. So a key that was verified is remembered for a minute, under a keyed hash whose
//! key is a random value of this process, never under the key itself. The ledger has a number that grows with every change
//! of a consumer or key: what is remembered counts only while that number is the same, and it is read twice a second, so a
//! key that another replica rotated or deleted works here for a second at most.
//!
//! Requests with one key that come at once cost one hash. An unknown ID costs the same hash as a wrong secret: the time does
//! not tell which keys exist.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use aws_lc_rs::hmac;
use jiff::Timestamp;
use quick_cache::sync::Cache;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::domain::consumer::{KEY_ID_LEN, KEY_SECRET_LEN, KeyParts, key_text, parse_key};
use crate::domain::time::Mono;
use crate::ledger::delivery::{Consumer, NewKey};
use crate::ledger::{Ledger, LedgerError};
use crate::provider::event_queues::EventQueues;
use crate::tasks::TaskGroup;

/// How long a verified key is remembered.
const REMEMBERED: Duration = Duration::from_mins(1);
/// Time between two looks whether a consumer or key changed.
const VERSION_INTERVAL: Duration = Duration::from_millis(500);
/// Keys remembered, some hundred bytes each.
const CAPACITY: usize = 10_000;
/// Hashes computed at the same time: each takes 19 MiB.
const MAX_HASHES: usize = 2;
/// How long a request waits for its turn to be hashed.
const HASH_TIMEOUT: Duration = Duration::from_secs(5);
/// The hash that an unknown key is verified against. No secret has it.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a key was not accepted.
#[derive(Debug)]
pub enum KeyError {
    /// It is no key, or not one of a consumer.
    Invalid,
    /// The ledger failed.
    Ledger(LedgerError),
    /// Too many keys are being verified.
    Busy,
    /// The address of the request has no verification left; for this long.
    RateLimited(Duration),
}

/// A new key: what the caller is told once, and what is stored.
pub struct IssuedKey {
    /// The key.
    pub text: Zeroizing<String>,
    /// Its hash.
    pub stored: NewKey,
}

/// A key that was verified.
struct KnownKey {
    consumer: Arc<Consumer>,
    /// The number of changes that it was read at.
    version: u64,
    verified: Mono,
    expires: Option<Timestamp>,
}

/// The keys of consumers, and the queues of the message broker.
pub struct ConsumerAccess {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    tasks: TaskGroup,
    /// Keyed with a random value of this process.
    digest_key: hmac::Key,
    known: Cache<Vec<u8>, Arc<KnownKey>>,
    version: AtomicU64,
    hashing: Semaphore,
    /// Looks for changes are one after the other: the result of an older one must not replace that of a newer one.
    refreshing: Mutex<()>,
    queues: OnceLock<Arc<dyn EventQueues>>,
    /// Hashes that were computed.
    #[cfg(test)]
    hashes: AtomicU64,
}

impl ConsumerAccess {
    /// Access to the consumers of `ledger`; hashes are computed in `tasks`.
    pub fn new(ledger: Arc<dyn Ledger>, clock: Clock, tasks: TaskGroup) -> Self {
        let key = Zeroizing::new(rand::random::<[u8; 32]>());
        Self {
            ledger,
            clock,
            tasks,
            digest_key: hmac::Key::new(hmac::HMAC_SHA256, &*key),
            known: Cache::new(CAPACITY),
            version: AtomicU64::new(0),
            hashing: Semaphore::new(MAX_HASHES),
            refreshing: Mutex::default(),
            queues: OnceLock::new(),
            #[cfg(test)]
            hashes: AtomicU64::new(0),
        }
    }

    /// Sets the queues of the message broker; only the first call counts.
    pub fn set_queues(&self, queues: Arc<dyn EventQueues>) {
        // There is one broker for each process.
        let _ = self.queues.set(queues);
    }

    /// The queues of the message broker, if there is one.
    pub fn queues(&self) -> Option<&dyn EventQueues> {
        self.queues.get().map(|queues| &**queues)
    }

    /// The consumer of a key that was verified within the last minute.
    pub fn known(&self, key: &str) -> Option<Arc<Consumer>> {
        let known = self.known.get(&self.digest_of(key))?;
        self.is_current(&known).then(|| Arc::clone(&known.consumer))
    }

    fn is_current(&self, known: &KnownKey) -> bool {
        let now = self.clock.now();
        known.version == self.version.load(Ordering::Acquire)
            && now.mono.since(known.verified) < REMEMBERED
            && known.expires.is_none_or(|expires| now.wall < expires)
    }

    /// Verifies a key and remembers it. `pay` is called before a verification, and an error of it, the time to wait, prevents
    /// that; requests with one key that come at once are one verification, if it succeeds.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn verify(
        &self,
        key: &str,
        pay: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<Arc<Consumer>, KeyError> {
        let Some(KeyParts { id, secret }) = parse_key(key) else {
            pay().map_err(KeyError::RateLimited)?;
            return Err(KeyError::Invalid);
        };
        let digest = self.digest_of(key);
        let turn = async {
            loop {
                self.known.remove_if(&digest, |known| !self.is_current(known));
                match self.known.get_value_or_guard_async(&digest).await {
                    // Verified meanwhile, for another request with it.
                    Ok(known) if self.is_current(&known) => break Ok(known),
                    Ok(_) => {}
                    Err(turn) => break Err(turn),
                }
            }
        };
        let turn = match tokio::time::timeout(HASH_TIMEOUT, turn).await.map_err(|_| KeyError::Busy)? {
            Ok(known) => return Ok(Arc::clone(&known.consumer)),
            Err(turn) => turn,
        };
        pay().map_err(KeyError::RateLimited)?;
        // Read before the key: a change after this read makes what is remembered void.
        let version = self.ledger.consumers_version().await.map_err(KeyError::Ledger)?;
        let stored = self.ledger.consumer_key(id).await.map_err(KeyError::Ledger)?;
        let hash = stored.as_ref().map_or_else(|| DECOY.to_owned(), |stored| stored.hash.clone());
        let secret = Zeroizing::new(secret.to_owned());
        let matches = self.hashed(move || matches(&hash, &secret)).await?;
        let now = self.clock.now();
        let stored = stored.filter(|stored| matches && stored.expires.is_none_or(|expires| now.wall < expires));
        let stored = stored.ok_or(KeyError::Invalid)?;
        let consumer = Arc::new(stored.consumer);
        self.version.fetch_max(version, Ordering::AcqRel);
        let known = KnownKey { consumer: Arc::clone(&consumer), version, verified: now.mono, expires: stored.expires };
        // Not remembered if a change of consumers removed the turn meanwhile.
        let _ = turn.insert(Arc::new(known));
        Ok(consumer)
    }

    /// Makes a key.
    ///
    /// # Errors
    /// [`KeyError::Busy`]: too many keys are being verified; [`KeyError::Invalid`]: the hash could not be computed.
    pub async fn issue(&self) -> Result<IssuedKey, KeyError> {
        let id = hex::encode(rand::random::<[u8; KEY_ID_LEN]>());
        let bytes = Zeroizing::new(rand::random::<[u8; KEY_SECRET_LEN]>());
        let secret = Zeroizing::new(hex::encode(*bytes));
        let text = Zeroizing::new(key_text(KeyParts { id: &id, secret: &secret }));
        let salt: [u8; 16] = rand::random();
        let hash = self.hashed(move || hash(&secret, &salt)).await?.ok_or(KeyError::Invalid)?;
        Ok(IssuedKey { text, stored: NewKey { key_id: id, hash } })
    }

    /// Forgets every key if a consumer or key changed; after a change of this process, and twice a second.
    ///
    /// # Errors
    /// If the ledger fails: what is remembered counts until its minute is over.
    pub async fn refresh(&self) -> Result<(), LedgerError> {
        let _refreshing = self.refreshing.lock().await;
        let version = self.ledger.consumers_version().await?;
        // Not the larger of the two: after a restore of the ledger the number may be smaller.
        if self.version.swap(version, Ordering::AcqRel) != version {
            self.known.clear();
        }
        Ok(())
    }

    /// Looks for changes of other replicas until `stop` is cancelled.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let next = self.clock.mono() + VERSION_INTERVAL;
            if stop.run_until_cancelled(self.clock.sleep_until(next)).await.is_none() {
                return;
            }
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "changes of consumers not read; verified keys are accepted for a minute");
            }
        }
    }

    /// A keyed hash; 32 bytes.
    fn digest_of(&self, key: &str) -> Vec<u8> {
        hmac::sign(&self.digest_key, key.as_bytes()).as_ref().to_vec()
    }

    /// Runs `work`, which computes a hash, on a thread for such work.
    async fn hashed<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, KeyError> {
        let turn = tokio::time::timeout(HASH_TIMEOUT, self.hashing.acquire()).await;
        let _turn = turn.map_err(|_| KeyError::Busy)?.map_err(|_| KeyError::Busy)?;
        #[cfg(test)]
        self.hashes.fetch_add(1, Ordering::Relaxed);
        self.tasks.spawn_blocking("api key", work).await.map_err(|_| KeyError::Busy)
    }
}

fn matches(hash: &str, secret: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|parsed| Argon2::default().verify_password(secret.as_bytes(), &parsed).is_ok())
}

fn hash(secret: &str, salt: &[u8]) -> Option<String> {
    let salt = SaltString::encode_b64(salt).ok()?;
    Argon2::default().hash_password(secret.as_bytes(), &salt).ok().map(|hash| hash.to_string())
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::ledger::delivery::NewConsumer;
    use crate::ledger::faulty::FaultyLedger;

    #[tokio::test]
    async fn concurrent_requests_with_one_new_key_cost_one_hash_that_is_paid_once() {
        let (disk, clock) = (FaultyLedger::new().await, Clock::system());
        let access = ConsumerAccess::new(Arc::clone(&disk.ledger), clock, TaskGroup::default());
        let IssuedKey { text, stored } = access.issue().await.unwrap();
        let consumer = NewConsumer {
            name: "ops".to_owned(),
            namespaces: None,
            event_types: Vec::new(),
            created_by: "ann".to_owned(),
            key: stored,
            history_from: None,
            events: Vec::new(),
        };
        disk.ledger.create_consumer(&consumer, clock.now().wall).await.unwrap();
        access.hashes.store(0, Ordering::Relaxed);
        // Enough for one verification: it is the only one.
        let paid = AtomicU64::new(0);
        let pay = || if paid.fetch_add(1, Ordering::Relaxed) == 0 { Ok(()) } else { Err(HASH_TIMEOUT) };
        let all = join_all((0..20).map(|_| access.verify(&text, pay))).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        assert_eq!(access.hashes.load(Ordering::Relaxed), 1);
        for guess in ["bbk_00112233_00", "no key"] {
            let refused = access.verify(guess, || Err(HASH_TIMEOUT)).await;
            assert!(matches!(refused, Err(KeyError::RateLimited(HASH_TIMEOUT))), "{guess}: {refused:?}");
        }
        assert_eq!(access.hashes.load(Ordering::Relaxed), 1, "a guess that is not paid for costs none");
    }

    #[test]
    fn a_hash_matches_its_secret_alone_and_the_decoy_matches_none() {
        let stored = hash("ab12", &[7; 16]).unwrap();
        assert!(stored.starts_with("$argon2id$") && !stored.contains("ab12"));
        assert!(matches(&stored, "ab12"));
        for wrong in ["ab13", "", "AB12"] {
            assert!(!matches(&stored, wrong) && !matches(DECOY, wrong), "{wrong}");
        }
        assert!(PasswordHash::new(DECOY).is_ok(), "an unknown key costs a hash");
        assert!(!matches("no hash", "ab12"));
    }
}
