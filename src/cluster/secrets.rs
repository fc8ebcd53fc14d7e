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
}

/// Delay before the second read after a rejected credential; each further read doubles it, up to the refresh interval.
/// So a Secret that stays wrong costs a few extra reads in all, and not one per probe.
const MIN_REREAD_INTERVAL: Duration = Duration::from_secs(2);

/// How long a copy read at `read` is valid for a caller whose credential from it was rejected at `rejected`: zero if
/// the copy is older than the rejection, else as long as the rejection had lasted at the read.
fn validity(refresh: Duration, read: Mono, rejected: Option<Mono>) -> Duration {
    match rejected {
        None => refresh,
        Some(rejected) if read < rejected => Duration::ZERO,
        Some(rejected) => read.since(rejected).max(MIN_REREAD_INTERVAL).min(refresh),
    }
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
        let valid_for = validity(refresh, cached.read, required.rejected).checked_sub(now.since(cached.read))?;
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
                return Ok(SecretRead { state: SecretState::Forbidden(command.into()), valid_for: self.refresh });
            }
            Err(error) => return Err(error),
        };
        // Aged from the start of the request: a change while it was in flight may be missing from the response.
        let cached = CachedSecret { read, started, state: state.clone() };
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(key, cached);
        Ok(SecretRead { state, valid_for: validity(self.refresh, read, required.rejected) })
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
mod tests {
    use super::*;

    /// Any copy that is not older than the refresh interval.
    const ANY: Freshness = Freshness { after: ReadMark(0), rejected: None };

    fn copy(read: Mono, started: u64) -> CachedSecret {
        CachedSecret { read, started: ReadMark(started), state: SecretState::NotFound }
    }

    #[test]
    fn a_cached_secret_is_valid_for_the_refresh_interval_and_then_evicted() {
        let (refresh, mut cache) = (Duration::from_mins(1), SecretCache::default());
        let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        cache.insert(&a, copy(at(100), 1));
        cache.insert(&b, copy(at(130), 2));
        let valid_for =
            |cache: &mut SecretCache, key, now| cache.get(key, refresh, ANY, at(now)).map(|r| r.valid_for.as_secs());
        assert_eq!(valid_for(&mut cache, &a, 159), Some(1));
        assert_eq!(valid_for(&mut cache, &a, 160), None, "expired, though not evicted yet");
        assert_eq!(valid_for(&mut cache, &b, 160), Some(30));
        assert_eq!(valid_for(&mut cache, &b, 240), None);
        assert!(cache.by_key.is_empty(), "expired entries are evicted");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_secret_is_evicted_without_further_reads() {
        let refresh = Duration::from_mins(1);
        let clock = Clock::system();
        let unreachable = kube::Client::new(
            tower::service_fn(|_| async {
                Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("unreachable"))
            }),
            "ns",
        );
        let secrets = SecretReader::new(unreachable, clock, refresh);
        let count = || secrets.cache.lock().unwrap().by_key.len();
        secrets.cache.lock().unwrap().insert(&ObjectKey::new("ns", "a"), copy(clock.mono(), 1));
        let stop = CancellationToken::new();
        let checks = async {
            tokio::time::sleep(Duration::from_secs(59)).await;
            assert_eq!(count(), 1, "still valid");
            tokio::time::sleep(refresh + Duration::from_secs(2)).await;
            assert_eq!(count(), 0);
            stop.cancel();
        };
        tokio::join!(secrets.run_eviction(&stop), checks);
    }

    #[test]
    fn a_rejected_credential_is_reread_at_once_and_then_with_backoff() {
        let (refresh, mut cache) = (Duration::from_mins(1), SecretCache::default());
        let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        let key = ObjectKey::new("ns", "a");
        let rejected = Freshness { rejected: Some(at(100)), ..ANY };
        cache.insert(&key, copy(at(99), 1));
        // A caller that asks every second for ten minutes, more often than any probe.
        let mut reads = Vec::new();
        for now in 100..700 {
            if cache.get(&key, refresh, rejected, at(now)).is_none() {
                cache.insert(&key, copy(at(now), now));
                reads.push(now - 100);
            }
        }
        assert_eq!(reads[..8], [0, 2, 4, 8, 16, 32, 64, 124]);
        assert_eq!(reads.len(), 15, "{reads:?}");
        assert!(cache.get(&key, refresh, ANY, at(700)).is_some(), "valid for callers that were not rejected");
    }

    /// A reader whose API server responds with these statuses, one per read.
    fn scripted(statuses: &'static [u16]) -> SecretReader {
        let reads = std::sync::atomic::AtomicUsize::new(0);
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            let status = statuses[reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst)];
            let refusal = |reason| {
                format!(r#"{{"kind": "Status", "status": "Failure", "code": {status}, "reason": "{reason}"}}"#)
            };
            let body = match status {
                200 => r#"{"metadata": {"name": "a", "uid": "u", "resourceVersion": "7"}, "data": {"token": "dA=="}}"#
                    .to_owned(),
                403 => refusal("Forbidden"),
                404 => refusal("NotFound"),
                _ => refusal("InternalError"),
            };
            let body = kube::client::Body::from(body.into_bytes());
            async move { Ok::<_, std::io::Error>(http::Response::builder().status(status).body(body).unwrap()) }
        });
        SecretReader::new(kube::Client::new(service, "ns"), Clock::system(), Duration::from_mins(1))
    }

    #[tokio::test]
    async fn a_missing_or_forbidden_secret_is_a_result_and_another_refusal_an_error() {
        let read = async |statuses: &'static [u16]| {
            scripted(statuses).get(&ObjectKey::new("ns", "a"), ANY).await.map(|read| read.state)
        };
        assert!(matches!(read(&[404]).await, Ok(SecretState::NotFound)));
        assert!(matches!(read(&[403]).await, Ok(SecretState::Forbidden(_))));
        assert!(matches!(read(&[500]).await, Err(ApiError::Kube(_))));
    }

    #[test]
    fn the_command_that_permits_the_read_names_the_operators_own_account() {
        let refusal = |user| {
            format!(
                r#"secrets "a" is forbidden: User "{user}" cannot get resource "secrets" in the namespace "pay" (403)"#
            )
        };
        let command = "kubectl -n pay create rolebinding busbar-secrets --clusterrole=busbar-secrets";
        for (refusal, subject) in [
            (refusal("system:serviceaccount:ops:busbar"), "--serviceaccount=ops:busbar"),
            (refusal("ann"), "--user=ann"),
            ("refused".to_owned(), "--serviceaccount=busbar-system:busbar-operator"),
        ] {
            assert_eq!(grant_command("pay", &refusal), format!("{command} {subject}"));
        }
    }

    #[tokio::test]
    async fn a_refusal_is_not_cached_and_what_was_read_is() {
        let (secrets, key) = (scripted(&[403, 200]), ObjectKey::new("ns", "a"));
        let refused = secrets.get(&key, ANY).await.unwrap();
        assert_eq!((refused.state.data().is_none(), refused.valid_for), (true, Duration::from_mins(1)));
        for _ in 0..3 {
            let read = secrets.get(&key, ANY).await.unwrap();
            assert_eq!(read.state.data().unwrap().resource_version, "7");
        }
    }

    #[tokio::test]
    async fn a_copy_read_before_its_caller_was_first_seen_is_not_used() {
        let (secrets, key) = (scripted(&[200, 404, 200]), ObjectKey::new("ns", "a"));
        let found = async |after| {
            let required = Freshness { after, rejected: None };
            secrets.get(&key, required).await.unwrap().state.data().is_some()
        };
        let first = secrets.mark();
        assert!(found(first).await);
        assert!(found(first).await, "the same copy");
        let second = secrets.mark();
        assert!(!found(second).await, "the Secret was deleted before the second caller was first seen");
        assert!(!found(first).await, "the newest copy is for all");
        assert!(found(secrets.mark()).await);
    }

    #[test]
    fn a_slow_read_does_not_replace_a_newer_copy() {
        let (key, mut cache) = (ObjectKey::new("ns", "a"), SecretCache::default());
        cache.insert(&key, copy(Mono::ZERO, 5));
        cache.insert(&key, copy(Mono::ZERO, 4));
        assert_eq!(cache.by_key[&key].started, ReadMark(5));
    }

    #[tokio::test]
    async fn callers_that_wait_for_the_same_secret_share_a_read() {
        let (secrets, key) = (scripted(&[200, 200]), ObjectKey::new("ns", "a"));
        // A third read would panic.
        let reads = (0..50).map(|_| {
            let required = Freshness { after: secrets.mark(), rejected: None };
            secrets.get(&key, required)
        });
        let reads = futures::future::join_all(reads).await;
        assert!(reads.iter().all(|read| read.as_ref().unwrap().state.data().is_some()));
    }
}
