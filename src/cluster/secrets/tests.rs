//! Copies of Secrets: how long they are valid, for whom, and when a Secret is read again.

use super::*;

/// Any copy that is not older than the refresh interval.
const ANY: Freshness = Freshness { after: ReadMark(0), rejected: None, unusable: None };

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

#[test]
fn an_unusable_secret_is_looked_for_after_1_2_4_seconds_and_then_every_15() {
    let (refresh, mut cache) = (Duration::from_mins(1), SecretCache::default());
    let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
    let key = ObjectKey::new("ns", "a");
    let waiting = Freshness { unusable: Some(at(100)), ..ANY };
    let mut reads = Vec::new();
    for now in 100..190 {
        if cache.get(&key, refresh, waiting, at(now)).is_none() {
            cache.insert(&key, copy(at(now), now));
            reads.push(now - 100);
        }
    }
    assert_eq!(reads, [0, 1, 3, 7, 15, 30, 45, 60, 75]);
}

/// A reader whose API server responds with these statuses, one per read.
fn scripted(statuses: &'static [u16]) -> SecretReader {
    let reads = std::sync::atomic::AtomicUsize::new(0);
    let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
        let status = statuses[reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst)];
        let refusal =
            |reason| format!(r#"{{"kind": "Status", "status": "Failure", "code": {status}, "reason": "{reason}"}}"#);
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
        format!(r#"secrets "a" is forbidden: User "{user}" cannot get resource "secrets" in the namespace "pay" (403)"#)
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
        let required = Freshness { after, ..ANY };
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
        let required = Freshness { after: secrets.mark(), ..ANY };
        secrets.get(&key, required)
    });
    let reads = futures::future::join_all(reads).await;
    assert!(reads.iter().all(|read| read.as_ref().unwrap().state.data().is_some()));
}
