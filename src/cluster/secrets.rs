//! Reads Secrets, one `get` at a time.
//!
//! Busbar never lists or watches Secrets: it may only read those that an object of the same namespace names. A cached
//! copy is shared by all objects that name the Secret and is read again once it is older than the refresh interval;
//! sooner for a connection whose credential was rejected, because a rotation shows first as a rejection. Cached values
//! are zeroized when dropped, and their `Debug` prints no value.
//!
//! A name is not an owner: the namespace may have been deleted and created again for another tenant, or the Secret was
//! changed together with the address it is sent to. So a copy is only for callers that name the Secret since *before*
//! it was read ([`ReadMark`]): a spec that was first seen later is always answered from a later read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::SecretSlice;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::cluster::ApiError;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::settings::secret_data::{SecretData, SecretState};

/// Result of reading a Secret.
pub struct SecretRead {
    /// The Secret, or why there is none.
    pub state: SecretState,
    /// How much longer the caller may use it before it must be read again.
    pub valid_for: Duration,
}

/// A point in the order of reads. Not an instant: two of them are never equal, however coarse the clock is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ReadMark(u64);

/// How recent a copy of a Secret must be for its caller.
#[derive(Copy, Clone, Debug)]
pub struct Freshness {
    /// The read of the copy started after this point: when what refers to the Secret was first seen.
    pub after: ReadMark,
    /// Since when a credential from the Secret has been rejected, if it is: the copy is not older than that.
    pub rejected: Option<Mono>,
    /// Since when the Secret has been missing, forbidden or without what is needed, if it is.
    pub unusable: Option<Mono>,
}

/// Delay before the second read after a rejected credential; each further read doubles it, up to the refresh interval.
/// So a Secret that stays wrong costs a few extra reads in all, and not one per probe.
const MIN_REREAD_INTERVAL: Duration = Duration::from_secs(2);

/// Delay before an unusable Secret is looked for again; each further one is twice as long.
const FIRST_RECHECK: Duration = Duration::from_secs(1);
/// Longest such delay: half of what `kubectl wait` waits by default, so that it sees a Secret that is created meanwhile.
const MAX_RECHECK: Duration = Duration::from_secs(15);

/// How long a copy read at `read` is valid for a caller. Where its credential was rejected: zero if the copy is older
/// than that, else as long as the rejection had lasted at the read. Where it is unusable: 1, 2, 4 … s.
fn validity(refresh: Duration, read: Mono, Freshness { rejected, unusable, .. }: Freshness) -> Duration {
    let usable = match rejected {
        None => refresh,
        Some(rejected) if read < rejected => Duration::ZERO,
        Some(rejected) => read.since(rejected).max(MIN_REREAD_INTERVAL).min(refresh),
    };
    unusable.map_or(usable, |since| usable.min((read.since(since) + FIRST_RECHECK).min(MAX_RECHECK)))
}

struct CachedSecret {
    read: Mono,
    /// When it was read in the order of reads.
    started: ReadMark,
    state: SecretState,
}

/// Reads Secrets and caches them.
pub struct SecretReader {
    client: Client,
    clock: Clock,
    refresh: Duration,
    cache: Mutex<SecretCache>,
    /// Number of marks and reads so far.
    order: AtomicU64,
}

/// Cached Secrets, and when expired ones were last evicted.
#[derive(Default)]
struct SecretCache {
    by_key: HashMap<ObjectKey, CachedSecret>,
    evicted_at: Mono,
    /// Held while a Secret is read: callers that need a read of the same Secret share the next one.
    reading: HashMap<ObjectKey, Weak<tokio::sync::Mutex<()>>>,
}

impl SecretCache {
    /// The cached Secret, if it is still valid for this caller. Expired entries are evicted at most once per refresh
    /// interval: evicting at every read would make ten thousand Secrets cost quadratic time.
    fn get(&mut self, key: &ObjectKey, refresh: Duration, required: Freshness, now: Mono) -> Option<SecretRead> {
        if now.since(self.evicted_at) >= refresh {
            self.evict_expired(refresh, now);
        }
        let cached = self.by_key.get(key).filter(|cached| cached.started > required.after)?;
        let valid_for = validity(refresh, cached.read, required).checked_sub(now.since(cached.read))?;
        (!valid_for.is_zero()).then(|| SecretRead { state: cached.state.clone(), valid_for })
    }

    fn evict_expired(&mut self, refresh: Duration, now: Mono) {
        self.by_key.retain(|_, cached| now.since(cached.read) < refresh);
        self.reading.retain(|_, lock| lock.strong_count() > 0);
        self.evicted_at = now;
    }

    /// Stores a copy. A slow read does not replace the copy of one that started later.
    fn insert(&mut self, key: &ObjectKey, copy: CachedSecret) {
        if self.by_key.get(key).is_none_or(|cached| cached.started < copy.started) {
            self.by_key.insert(key.clone(), copy);
        }
    }

    /// The lock of reads of `key`.
    fn read_lock(&mut self, key: &ObjectKey) -> Arc<tokio::sync::Mutex<()>> {
        let lock = self.reading.entry(key.clone()).or_default();
        lock.upgrade().unwrap_or_else(|| {
            let new = Arc::default();
            *lock = Arc::downgrade(&new);
            new
        })
    }
}

impl SecretReader {
    /// A reader that caches Secrets for `refresh`.
    pub fn new(client: Client, clock: Clock, refresh: Duration) -> Self {
        Self { client, clock, refresh, cache: Mutex::default(), order: AtomicU64::default() }
    }

    /// Now, in the order of reads: later than every read that has started, earlier than every one that starts next.
    pub fn mark(&self) -> ReadMark {
        ReadMark(self.order.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// How long a cached Secret is valid.
    pub fn refresh_interval(&self) -> Duration {
        self.refresh
    }

    /// Delay before what has been unusable since `since`, and was read just before `now`, is looked for again.
    pub fn recheck_after(&self, since: Mono, now: Mono) -> Duration {
        validity(self.refresh, now, Freshness { after: ReadMark(0), rejected: None, unusable: Some(since) })
    }

    /// Evicts expired Secrets once per refresh interval until `stop` is cancelled: a credential that is no longer
    /// referenced leaves memory within two refresh intervals, whether or not another Secret is read.
    pub async fn run_eviction(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep_until(self.clock.mono() + self.refresh) => {}
            }
            let now = self.clock.mono();
            self.cache.lock().unwrap_or_else(PoisonError::into_inner).evict_expired(self.refresh, now);
        }
    }

    /// The Secret at `key`, at most [`SecretReader::refresh_interval`] old and never older than `required`. A Secret
    /// that is missing or forbidden is a result, not an error.
    pub async fn get(&self, key: &ObjectKey, required: Freshness) -> Result<SecretRead, ApiError> {
        let lock = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(cached) = cache.get(key, self.refresh, required, self.clock.mono()) {
                return Ok(cached);
            }
            cache.read_lock(key)
        };
        // Not longer than for a request of its own: while the API server hangs, those in front wait for it one by one.
        let turn = tokio::time::timeout(super::CALL_TIMEOUT, lock.lock()).await;
        let _reading = turn.map_err(|_| ApiError::Timeout)?;
        let (read, started) = (self.clock.mono(), self.mark());
        // Read for another caller while this caller waited for its turn: one read serves all that wait.
        let waited = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key, self.refresh, required, read);
        if let Some(cached) = waited {
            return Ok(cached);
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let state = match super::call(api.get_opt(&key.name)).await {
            Ok(Some(secret)) => SecretState::Found(Arc::new(decode(secret))),
            Ok(None) => SecretState::NotFound,
            // Not a failure of the API server: it answers the same until a Role is granted. Not cached: an API server
            // that has just started refuses every request until it has loaded its roles, the status of this reconcile
            // too, and the retry must not find the refusal here.
            Err(error) if error.is_forbidden() => {
                let command = grant_command(&key.namespace, &error.to_string());
                let valid_for = validity(self.refresh, read, required);
                return Ok(SecretRead { state: SecretState::Forbidden(command.into()), valid_for });
            }
            Err(error) => return Err(error),
        };
        // Aged from the start of the request: a change while it was in flight may be missing from the response.
        let cached = CachedSecret { read, started, state: state.clone() };
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(key, cached);
        Ok(SecretRead { state, valid_for: validity(self.refresh, read, required) })
    }
}

/// The command that lets the operator read the Secrets of `namespace`. The API server's refusal names the user that the
/// operator is: `… is forbidden: User "system:serviceaccount:NAMESPACE:NAME" cannot get …`.
fn grant_command(namespace: &str, refusal: &str) -> String {
    let user = refusal.split_once("User \"").and_then(|(_, rest)| rest.split_once('"')).map(|(user, _)| user);
    let subject = match user.map(|user| (user, user.strip_prefix("system:serviceaccount:"))) {
        Some((_, Some(account))) => format!("--serviceaccount={account}"),
        Some((user, None)) => format!("--user={user}"),
        None => "--serviceaccount=busbar-system:busbar-operator".to_owned(),
    };
    format!("kubectl -n {namespace} create rolebinding busbar-secrets --clusterrole=busbar-secrets {subject}")
}

fn decode(secret: Secret) -> SecretData {
    let values =
        secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, SecretSlice::from(bytes.0))).collect();
    let metadata = secret.metadata;
    SecretData::new(metadata.uid.unwrap_or_default(), metadata.resource_version.unwrap_or_default(), values)
}

#[cfg(test)]
mod tests;
