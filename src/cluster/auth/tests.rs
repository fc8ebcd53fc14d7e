//! The cache, its limits, and which tokens are reviewed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::cluster::review_limit::MAX_USER_REVIEWS;

#[derive(Default)]
struct FakeReviewer {
    reviews: AtomicUsize,
    down: AtomicBool,
    revoked: AtomicBool,
    /// Reviews in flight, and their maximum.
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
}

impl FakeReviewer {
    async fn delay(&self) {
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The ID of a user with these groups and this extra information.
fn id(groups: &[&str], extra: &[(&str, &[&str])]) -> [u8; 32] {
    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }
    let extra = extra.iter().map(|(key, values)| ((*key).to_owned(), texts(values))).collect();
    UserInfo::new("ann", None, texts(groups), extra).id
}

#[test]
fn users_that_differ_in_a_group_or_in_extra_information_have_different_ids() {
    let ids = [
        id(&[], &[]),
        id(&["a", "b", "c"], &[]),
        id(&["a"], &[("b", &["c"])]),
        id(&[], &[("a", &["b", "c"])]),
        id(&[], &[("a", &["b"]), ("c", &[])]),
    ];
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
    assert_eq!(id(&["a"], &[("b", &["c"])]), ids[2]);
}

/// Admits every review.
#[expect(clippy::unnecessary_wraps, reason = "a rate limiter returns the time to wait")]
fn unlimited() -> Result<(), Duration> {
    Ok(())
}

impl Reviewer for FakeReviewer {
    fn review_token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<UserInfo>, ApiError>> {
        self.reviews.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            self.delay().await;
            if self.down.load(Ordering::Relaxed) {
                return Err(ApiError::Timeout);
            }
            let name = token.strip_prefix("good-").filter(|_| !self.revoked.load(Ordering::Relaxed));
            Ok(name.map(|name| UserInfo::new(name, None, vec![], std::collections::BTreeMap::default())))
        })
    }

    fn review_access<'a>(
        &'a self,
        user: &'a UserInfo,
        request: &'a AccessRequest,
    ) -> BoxFuture<'a, Result<bool, ApiError>> {
        Box::pin(async move {
            self.reviews.fetch_add(1, Ordering::Relaxed);
            self.delay().await;
            if self.down.load(Ordering::Relaxed) {
                return Err(ApiError::Timeout);
            }
            Ok(user.user == "ann" && request.namespace == "team")
        })
    }
}

fn authorizer() -> (Authorizer, Arc<FakeReviewer>) {
    let reviewer = Arc::new(FakeReviewer::default());
    (Authorizer::new(reviewer.clone(), Clock::system(), &Metrics::new()).unwrap(), reviewer)
}

fn call_in(namespace: &str) -> AccessRequest {
    AccessRequest {
        verb: "create",
        resource: "providerconnections",
        subresource: "call",
        namespace: namespace.into(),
        name: "fmp".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_review_valid_or_invalid_is_cached_for_ten_seconds() {
    let (authorizer, reviewer) = authorizer();
    assert_eq!(authorizer.cached("good-ann"), None);
    for token in ["good-ann", "good-ann", "forged", "forged"] {
        let _ = authorizer.authenticate(token, unlimited).await;
    }
    assert_eq!(reviewer.reviews.load(Ordering::Relaxed), 2);
    assert!(matches!(authorizer.cached("good-ann"), Some(ReviewedToken::Valid(user)) if user.user == "ann"));
    assert_eq!(authorizer.cached("forged"), Some(ReviewedToken::Invalid));
    assert_eq!(authorizer.authenticate("forged", unlimited).await.unwrap_err(), AuthError::InvalidToken);
    tokio::time::advance(REVIEW_TTL).await;
    assert_eq!(authorizer.cached("good-ann"), None);
    assert_eq!(authorizer.authenticate("good-ann", unlimited).await.unwrap().user, "ann");
    assert_eq!(reviewer.reviews.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn concurrent_callers_with_one_new_token_share_one_review() {
    let (authorizer, reviewer) = authorizer();
    let all = futures::future::join_all((0..100).map(|_| authorizer.authenticate("good-ann", unlimited))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(reviewer.reviews.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn access_is_reviewed_per_user_and_request() {
    let (authorizer, _) = authorizer();
    let ann = authorizer.authenticate("good-ann", unlimited).await.unwrap();
    let bob = authorizer.authenticate("good-bob", unlimited).await.unwrap();
    assert!(authorizer.is_allowed(&ann, &call_in("team")).await.unwrap());
    let key = AccessKey { user: &ann.id, request: &call_in("team") };
    assert!(authorizer.accesses.get(&key).is_some(), "found without a copy of its key");
    assert!(!authorizer.is_allowed(&ann, &call_in("other")).await.unwrap());
    assert!(!authorizer.is_allowed(&bob, &call_in("team")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_failed_review_denies_access_and_is_retried_after_a_second() {
    let (authorizer, reviewer) = authorizer();
    let ann = authorizer.authenticate("good-ann", unlimited).await.unwrap();
    reviewer.down.store(true, Ordering::Relaxed);
    assert_eq!(authorizer.is_allowed(&ann, &call_in("team")).await.unwrap_err(), AuthError::Unavailable);
    assert_eq!(authorizer.authenticate("good-bob", unlimited).await.unwrap_err(), AuthError::Unavailable);
    assert_eq!(authorizer.cached("good-bob"), None);
    reviewer.down.store(false, Ordering::Relaxed);
    tokio::time::advance(FAILURE_TTL).await;
    assert!(authorizer.is_allowed(&ann, &call_in("team")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn concurrent_reviews_are_limited_and_forged_tokens_do_not_delay_verified_ones() {
    let (authorizer, reviewer) = authorizer();
    let ann = authorizer.authenticate("good-ann", unlimited).await.unwrap();
    tokio::time::advance(REVIEW_TTL).await;
    let forged: Vec<String> = (0..1_000).map(|n| format!("forged-{n}")).collect();
    let forging = futures::future::join_all(forged.iter().map(|token| authorizer.authenticate(token, unlimited)));
    let clock = Clock::system();
    let verified = async {
        let started = clock.mono();
        assert_eq!(authorizer.authenticate("good-ann", unlimited).await.unwrap().id, ann.id);
        assert!(authorizer.is_allowed(&ann, &call_in("team")).await.unwrap());
        clock.mono().since(started)
    };
    let (_, took) = tokio::join!(forging, verified);
    assert_eq!(took, Duration::from_millis(20), "two reviews, not queued");
    assert!(reviewer.max_in_flight.load(Ordering::Relaxed) <= MAX_UNVERIFIED_REVIEWS + 1);

    reviewer.max_in_flight.store(0, Ordering::Relaxed);
    let users: Vec<UserInfo> = (0..10).map(|n| user(&format!("user-{n}"))).collect();
    let requests: Vec<AccessRequest> = (0..100).map(|n| call_in(&format!("team-{n}"))).collect();
    let all = users.iter().flat_map(|user| requests.iter().map(|request| authorizer.is_allowed(user, request)));
    assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(reviewer.max_in_flight.load(Ordering::Relaxed), MAX_VERIFIED_REVIEWS);
}

fn user(name: &str) -> UserInfo {
    UserInfo::new(name, None, vec![], std::collections::BTreeMap::default())
}

#[tokio::test(start_paused = true)]
async fn a_user_that_asks_for_many_objects_does_not_delay_others() {
    let (authorizer, reviewer) = authorizer();
    let requests: Vec<AccessRequest> = (0..1_000).map(|n| call_in(&format!("team-{n}"))).collect();
    let (ann, bob, clock) = (user("ann"), user("bob"), Clock::system());
    let flood = futures::future::join_all(requests.iter().map(|request| authorizer.is_allowed(&ann, request)));
    let other = async {
        let started = clock.mono();
        authorizer.is_allowed(&bob, &requests[0]).await.unwrap();
        clock.mono().since(started)
    };
    let (_, took) = tokio::join!(flood, other);
    assert_eq!(took, Duration::from_millis(10), "one review, not queued");
    assert!(reviewer.max_in_flight.load(Ordering::Relaxed) <= MAX_USER_REVIEWS + 1);
}

#[tokio::test(start_paused = true)]
async fn reviews_of_one_user_are_limited_whatever_tokens_it_has_and_asks_for() {
    let (authorizer, reviewer) = authorizer();
    // Each token of a ServiceAccount has extra information of its own.
    let ann = |n: u32| {
        let extra = std::collections::BTreeMap::from([("credential-id".to_owned(), vec![n.to_string()])]);
        UserInfo::new("ann", Some(n.to_string()), vec![format!("group-{n}")], extra)
    };
    let (users, request): (Vec<UserInfo>, _) = ((0..3_000).map(ann).collect(), call_in("team"));
    let all = futures::future::join_all(users.iter().map(|user| authorizer.is_allowed(user, &request))).await;
    let limited = all.iter().filter(|one| matches!(one, Err(AuthError::RateLimited { .. }))).count();
    assert_eq!((limited, reviewer.reviews.load(Ordering::Relaxed)), (1_000, 2_000));
    assert!(authorizer.is_allowed(&user("bob"), &call_in("team")).await.is_ok(), "other users are not limited");
}

#[tokio::test(start_paused = true)]
async fn a_token_stays_verified_for_an_hour_or_until_revoked() {
    let (authorizer, reviewer) = authorizer();
    let limited = || Err(Duration::from_secs(7));
    let refused = AuthError::RateLimited { retry_after: Duration::from_secs(7) };
    assert_eq!(authorizer.authenticate("good-ann", limited).await.unwrap_err(), refused);
    assert_eq!(reviewer.reviews.load(Ordering::Relaxed), 0);
    authorizer.authenticate("good-ann", unlimited).await.unwrap();
    tokio::time::advance(VERIFIED_TTL.saturating_sub(REVIEW_TTL)).await;
    authorizer.authenticate("good-ann", limited).await.unwrap();
    tokio::time::advance(VERIFIED_TTL + REVIEW_TTL).await;
    assert_eq!(authorizer.authenticate("good-ann", limited).await.unwrap_err(), refused);

    authorizer.authenticate("good-ann", unlimited).await.unwrap();
    reviewer.revoked.store(true, Ordering::Relaxed);
    tokio::time::advance(REVIEW_TTL).await;
    assert_eq!(authorizer.authenticate("good-ann", limited).await.unwrap_err(), AuthError::InvalidToken);
    tokio::time::advance(REVIEW_TTL).await;
    assert_eq!(authorizer.authenticate("good-ann", limited).await.unwrap_err(), refused, "no longer verified");
}

#[tokio::test(start_paused = true)]
async fn the_caches_are_bounded_however_many_tokens_and_users_there_are() {
    let (authorizer, _) = authorizer();
    for n in 0..CACHE_CAPACITY + 1_000 {
        let (good, forged) = (format!("good-{n}"), format!("forged-{n}"));
        let (known, unknown) =
            tokio::join!(authorizer.authenticate(&good, unlimited), authorizer.authenticate(&forged, unlimited));
        assert_eq!(unknown.unwrap_err(), AuthError::InvalidToken);
        authorizer.is_allowed(&known.unwrap(), &call_in("team")).await.unwrap();
    }
    let sizes = [authorizer.tokens.len(), authorizer.verified.len(), authorizer.accesses.len()];
    assert!(sizes.iter().all(|size| (1..=CACHE_CAPACITY).contains(size)), "{sizes:?}");
}
