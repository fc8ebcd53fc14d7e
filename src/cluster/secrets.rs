//! Reads Secrets, one `get` at a time.
//!
//! Busbar never lists or watches Secrets: it may only read those that an object of the same namespace names. A cached
//! copy is shared by all objects that name the Secret and is read again once it is older than the refresh interval;
//! sooner for a connection whose credential was rejected, because a rotation shows first as a rejection. Cached values
//! are zeroized when dropped, and their `Debug` prints no value.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
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
    state: SecretState,
}

/// Reads Secrets and caches them.
pub struct SecretReader {
    client: Client,
    clock: Clock,
    refresh: Duration,
    cache: Mutex<SecretCache>,
}

/// Cached Secrets, and when expired ones were last evicted.
#[derive(Default)]
struct SecretCache {
    by_key: HashMap<ObjectKey, CachedSecret>,
    evicted_at: Mono,
}

impl SecretCache {
    /// The cached Secret, if it is still valid for this caller. Expired entries are evicted at most once per refresh
    /// interval: evicting at every read would make ten thousand Secrets cost quadratic time.
    fn get(&mut self, key: &ObjectKey, refresh: Duration, rejected: Option<Mono>, now: Mono) -> Option<SecretRead> {
        if now.since(self.evicted_at) >= refresh {
            self.evict_expired(refresh, now);
        }
        let cached = self.by_key.get(key)?;
        let valid_for = validity(refresh, cached.read, rejected).checked_sub(now.since(cached.read))?;
        (!valid_for.is_zero()).then(|| SecretRead { state: cached.state.clone(), valid_for })
    }

    fn evict_expired(&mut self, refresh: Duration, now: Mono) {
        self.by_key.retain(|_, cached| now.since(cached.read) < refresh);
        self.evicted_at = now;
    }
}

impl SecretReader {
    /// A reader that caches Secrets for `refresh`.
    pub fn new(client: Client, clock: Clock, refresh: Duration) -> Self {
        Self { client, clock, refresh, cache: Mutex::default() }
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

    /// The Secret at `key`, at most [`SecretReader::refresh_interval`] old. If a credential from it was rejected,
    /// `rejected` is since when; the result is never older than that. A Secret that is missing or forbidden is a
    /// result, not an error.
    pub async fn get(&self, key: &ObjectKey, rejected: Option<Mono>) -> Result<SecretRead, ApiError> {
        let started = self.clock.mono();
        {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(cached) = cache.get(key, self.refresh, rejected, started) {
                return Ok(cached);
            }
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
        let cached = CachedSecret { read: started, state: state.clone() };
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).by_key.insert(key.clone(), cached);
        Ok(SecretRead { state, valid_for: validity(self.refresh, started, rejected) })
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
    SecretData::new(secret.metadata.resource_version.unwrap_or_default(), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_secret_is_valid_for_the_refresh_interval_and_then_evicted() {
        let (refresh, mut cache) = (Duration::from_mins(1), SecretCache::default());
        let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        cache.by_key.insert(a.clone(), CachedSecret { read: at(100), state: SecretState::NotFound });
        cache.by_key.insert(b.clone(), CachedSecret { read: at(130), state: SecretState::NotFound });
        let valid_for =
            |cache: &mut SecretCache, key, now| cache.get(key, refresh, None, at(now)).map(|r| r.valid_for.as_secs());
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
        let cached = CachedSecret { read: clock.mono(), state: SecretState::NotFound };
        secrets.cache.lock().unwrap().by_key.insert(ObjectKey::new("ns", "a"), cached);
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
        let rejected = Some(at(100));
        cache.by_key.insert(key.clone(), CachedSecret { read: at(99), state: SecretState::NotFound });
        // A caller that asks every second for ten minutes, more often than any probe.
        let mut reads = Vec::new();
        for now in 100..700 {
            if cache.get(&key, refresh, rejected, at(now)).is_none() {
                cache.by_key.insert(key.clone(), CachedSecret { read: at(now), state: SecretState::NotFound });
                reads.push(now - 100);
            }
        }
        assert_eq!(reads[..8], [0, 2, 4, 8, 16, 32, 64, 124]);
        assert_eq!(reads.len(), 15, "{reads:?}");
        assert!(cache.get(&key, refresh, None, at(700)).is_some(), "valid for callers that were not rejected");
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
                200 => r#"{"metadata": {"name": "a", "resourceVersion": "7"}, "data": {"token": "dA=="}}"#.to_owned(),
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
            scripted(statuses).get(&ObjectKey::new("ns", "a"), None).await.map(|read| read.state)
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
        let refused = secrets.get(&key, None).await.unwrap();
        assert_eq!((refused.state.data().is_none(), refused.valid_for), (true, Duration::from_mins(1)));
        for _ in 0..3 {
            let read = secrets.get(&key, None).await.unwrap();
            assert_eq!(read.state.data().unwrap().resource_version, "7");
        }
    }
}
