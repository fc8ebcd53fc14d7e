//! Authentication and authorization of callers: `TokenReview` and `SubjectAccessReview`.
//!
//! Busbar has no users of its own: the API server says which user a bearer token belongs to and whether RBAC allows a
//! request. Results are cached for at most ten seconds, under a hash of the token, never under the token; a revoked
//! right takes effect that soon. Without a response from the API server, access is denied.
//!
//! Reviews are expensive for the API server, and any client can send a token. So a token that was valid within the last
//! hour counts as verified and is reviewed at once; any other is reviewed only if the client's address is within its
//! rate limit ([`Authorizer::authenticate`]). The two use separate concurrency limits. The reviews of one user are
//! limited too, whatever tokens it has and whatever it asks for: a user with many tokens, or one that asks for many
//! objects, does not cost more, and does not keep others waiting.
//!
//! [`crate::cluster::kube_reviewer`] makes the reviews.

mod access_request;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderMap, header};
use prometheus::IntCounterVec;
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use self::access_request::AccessKey;
pub use self::access_request::AccessRequest;
use crate::clock::Clock;
use crate::cluster::ApiError;
use crate::cluster::review_limit::{UserKey, UserReviewLimit};
use crate::domain::time::Mono;
use crate::metrics::{Metrics, MetricsError};

/// How long a review's result is cached.
pub const REVIEW_TTL: Duration = Duration::from_secs(10);

/// Timeout of one review, waiting for a slot included. A client waits for the response, which may need two reviews.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a failed review is cached: callers that waited for the same review share the failure instead of waiting one
/// after the other.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// Entries per cache, some hundred bytes each: a flood of forged tokens costs about a megabyte.
const CACHE_CAPACITY: usize = 10_000;

/// How long a valid token counts as verified. It is reviewed as often as any other.
const VERIFIED_TTL: Duration = Duration::from_hours(1);

/// Concurrent reviews of tokens that are not verified.
const MAX_UNVERIFIED_REVIEWS: usize = 32;

/// Maximum length of a token; longer ones are ignored.
const MAX_TOKEN_LEN: usize = 16 * 1024;

/// Concurrent reviews of everything else: verified tokens, and the access of known users.
const MAX_VERIFIED_REVIEWS: usize = 64;

/// The user that a token belongs to, as the API server reports it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserInfo {
    /// User name.
    pub user: String,
    /// UID, if the authenticator has one.
    pub uid: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Extra information from the authenticator.
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
    /// Hash of all of the above; distinguishes users.
    pub id: [u8; 32],
}

impl UserInfo {
    /// A user with these attributes.
    pub fn new(
        user: impl Into<String>,
        uid: Option<String>,
        groups: Vec<String>,
        extra: std::collections::BTreeMap<String, Vec<String>>,
    ) -> Self {
        let user = user.into();
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text.as_bytes());
        };
        part(&user);
        part(uid.as_deref().unwrap_or_default());
        // The numbers too: the same texts as groups or as extra information are another user.
        part(&groups.len().to_string());
        for group in &groups {
            part(group);
        }
        for (key, values) in &extra {
            part(key);
            part(&values.len().to_string());
            for value in values {
                part(value);
            }
        }
        Self { id: hash.finalize().into(), user, uid, groups, extra }
    }
}

/// The result of a token's review.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReviewedToken {
    /// It belongs to this user.
    Valid(Arc<UserInfo>),
    /// The API server does not accept it.
    Invalid,
}

/// Why a caller was not authenticated or authorized.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthError {
    /// The API server does not accept the token.
    #[error("invalid token")]
    InvalidToken,
    /// The review failed, so access is denied.
    #[error("the API server could not review the request")]
    Unavailable,
    /// The client's address, for a token that is not verified, or the user is over its limit of reviews.
    #[error("too many reviews for this address or user")]
    RateLimited {
        /// When the client may retry.
        retry_after: Duration,
    },
}

/// Performs reviews. The seam between the cache and the API server.
pub trait Reviewer: Send + Sync + 'static {
    /// The user that `token` belongs to; `None` if it is not valid.
    fn review_token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<UserInfo>, ApiError>>;
    /// Whether `user` may make `request`.
    fn review_access<'a>(
        &'a self,
        user: &'a UserInfo,
        request: &'a AccessRequest,
    ) -> BoxFuture<'a, Result<bool, ApiError>>;
    /// Whether `user` may get `path`, which is no API object. Denied unless the reviewer implements it.
    fn review_path<'a>(&'a self, user: &'a UserInfo, path: &'static str) -> BoxFuture<'a, Result<bool, ApiError>> {
        let _ = (user, path);
        Box::pin(async { Ok(false) })
    }
}

/// The bearer token of a request with these headers.
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MAX_TOKEN_LEN).then_some(token)
}

/// A cached result.
#[derive(Clone)]
struct CachedReview<T> {
    expires: Mono,
    /// `None`: the review failed.
    result: Option<T>,
}

/// A token that was valid at its last review.
#[derive(Copy, Clone)]
struct VerifiedToken {
    /// Until when it counts as verified.
    until: Mono,
    user: UserKey,
}

/// Authenticates and authorizes callers, with a short-lived cache.
pub struct Authorizer {
    reviewer: Arc<dyn Reviewer>,
    clock: Clock,
    tokens: Cache<[u8; 32], CachedReview<ReviewedToken>>,
    accesses: Cache<([u8; 32], AccessRequest), CachedReview<bool>>,
    paths: Cache<([u8; 32], &'static str), CachedReview<bool>>,
    verified: Cache<[u8; 32], VerifiedToken>,
    user_limit: UserReviewLimit,
    unverified_slots: Semaphore,
    verified_slots: Semaphore,
    reviews: IntCounterVec,
}

impl Authorizer {
    /// An authorizer of the gateway's callers, with an empty cache.
    pub fn new(reviewer: Arc<dyn Reviewer>, clock: Clock, metrics: &Metrics) -> Result<Self, MetricsError> {
        Self::counting(reviewer, clock, metrics, "busbar_gateway_reviews_total")
    }

    /// An authorizer of scrapers of `/metrics`, with an empty cache.
    pub fn for_scrapers(reviewer: Arc<dyn Reviewer>, clock: Clock, metrics: &Metrics) -> Result<Self, MetricsError> {
        Self::counting(reviewer, clock, metrics, "busbar_metrics_reviews_total")
    }

    /// An authorizer that counts its reviews in the metric `counter`.
    fn counting(
        reviewer: Arc<dyn Reviewer>,
        clock: Clock,
        metrics: &Metrics,
        counter: &str,
    ) -> Result<Self, MetricsError> {
        Ok(Self {
            reviewer,
            clock,
            tokens: Cache::new(CACHE_CAPACITY),
            accesses: Cache::new(CACHE_CAPACITY),
            paths: Cache::new(CACHE_CAPACITY),
            verified: Cache::new(CACHE_CAPACITY),
            user_limit: UserReviewLimit::new(clock),
            unverified_slots: Semaphore::new(MAX_UNVERIFIED_REVIEWS),
            verified_slots: Semaphore::new(MAX_VERIFIED_REVIEWS),
            reviews: metrics.counter_from_zero(
                counter,
                "Token and access reviews requested from the API server, by result.",
                ["review", "result"],
                ["token", "access"].into_iter().flat_map(|of| ["answered", "failed"].map(|result| [of, result])),
            )?,
        })
    }

    /// The cached result for the token, without a review.
    pub fn cached(&self, token: &str) -> Option<ReviewedToken> {
        let review = self.tokens.get(&digest(token))?;
        if self.is_fresh(&review) { review.result } else { None }
    }

    /// The user that the token belongs to. `admit` is called before the review of a token that is not verified; if it
    /// returns an error, the token is not reviewed.
    pub async fn authenticate(
        &self,
        token: &str,
        admit: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<Arc<UserInfo>, AuthError> {
        let key = digest(token);
        let verified = self.verified.get(&key).filter(|verified| self.clock.mono() < verified.until);
        let reviewed = AtomicBool::new(false);
        let review = async {
            reviewed.store(true, Ordering::Relaxed);
            let user = self.reviewer.review_token(token).await?;
            Ok(user.map_or(ReviewedToken::Invalid, |user| ReviewedToken::Valid(Arc::new(user))))
        };
        let result = if let Some(VerifiedToken { user, .. }) = verified {
            let options = self.user_review("token", user);
            self.cached_review(&self.tokens, &key, options, review).await?
        } else {
            let options = ReviewOptions { review: "token", slots: &self.unverified_slots, user: None, admit };
            self.cached_review(&self.tokens, &key, options, review).await?
        };
        match result {
            ReviewedToken::Valid(user) => {
                let known = UserKey::new(&user.user);
                self.verified.insert(key, VerifiedToken { until: self.clock.mono() + VERIFIED_TTL, user: known });
                if verified.is_none() && reviewed.into_inner() {
                    // Whose token it is was not known before: the user pays now.
                    self.user_limit.consume(known).map_err(|retry_after| AuthError::RateLimited { retry_after })?;
                }
                Ok(user)
            }
            ReviewedToken::Invalid => {
                self.verified.remove(&key);
                Err(AuthError::InvalidToken)
            }
        }
    }

    /// Whether `user` may make `request`.
    pub async fn is_allowed(&self, user: &UserInfo, request: &AccessRequest) -> Result<bool, AuthError> {
        // Most requests end here: without a copy of the key, and without a review that is made ready and not needed.
        let cached = self.accesses.get(&AccessKey { user: &user.id, request });
        if let Some(allowed) = cached.filter(|cached| self.is_fresh(cached)).and_then(|cached| cached.result) {
            return Ok(allowed);
        }
        let key = (user.id, request.clone());
        let options = self.user_review("access", UserKey::new(&user.user));
        self.cached_review(&self.accesses, &key, options, self.reviewer.review_access(user, request)).await
    }

    /// Whether `user` may get `path`, which is no API object.
    pub async fn may_get(&self, user: &UserInfo, path: &'static str) -> Result<bool, AuthError> {
        let options = self.user_review("access", UserKey::new(&user.user));
        self.cached_review(&self.paths, &(user.id, path), options, self.reviewer.review_path(user, path)).await
    }

    /// How a review for a known user is made.
    fn user_review<'a>(
        &'a self,
        review: &'a str,
        user: UserKey,
    ) -> ReviewOptions<'a, impl FnOnce() -> Result<(), Duration> + 'a> {
        ReviewOptions {
            review,
            slots: &self.verified_slots,
            user: Some(user),
            admit: move || self.user_limit.consume(user),
        }
    }

    fn is_fresh<T>(&self, review: &CachedReview<T>) -> bool {
        self.clock.mono() < review.expires
    }

    /// The result of `request`, or the one cached within [`REVIEW_TTL`]. Concurrent callers share one review.
    async fn cached_review<K, T>(
        &self,
        cache: &Cache<K, CachedReview<T>>,
        key: &K,
        options: ReviewOptions<'_, impl FnOnce() -> Result<(), Duration>>,
        request: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, AuthError>
    where
        K: std::hash::Hash + Eq + Clone,
        T: Clone,
    {
        let ReviewOptions { review, slots, user, admit } = options;
        cache.remove_if(key, |cached| !self.is_fresh(cached));
        let guard = match cache.get_value_or_guard_async(key).await {
            Ok(cached) => return cached.result.ok_or(AuthError::Unavailable),
            Err(guard) => guard,
        };
        // If this caller is not admitted, the next one that waits for the same review makes it.
        admit().map_err(|retry_after| AuthError::RateLimited { retry_after })?;
        // Aged from before the request: a change while it is in flight is never older than the result.
        let started = self.clock.mono();
        let with_slot = async {
            // Never closed. The user's own first: one that waits for it takes no slot of others.
            let own_slots = user.map(|user| self.user_limit.slots(user));
            let _own_slot = match &own_slots {
                Some(slots) => slots.acquire().await.ok(),
                None => None,
            };
            let _slot = slots.acquire().await;
            request.await
        };
        let outcome = tokio::time::timeout(REVIEW_TIMEOUT, with_slot).await.unwrap_or(Err(ApiError::Timeout));
        match outcome {
            Ok(result) => {
                self.reviews.with_label_values(&[review, "answered"]).inc();
                // Fails if the entry was evicted meanwhile; the result is as good.
                let _ = guard.insert(CachedReview { expires: started + REVIEW_TTL, result: Some(result.clone()) });
                Ok(result)
            }
            Err(error) => {
                self.reviews.with_label_values(&[review, "failed"]).inc();
                if error.is_forbidden() {
                    tracing::warn!(
                        review,
                        "RBAC does not permit the operator to create reviews; callers are denied: bind the ClusterRole \
                         busbar-operator-reviews (config/rbac/)"
                    );
                } else {
                    tracing::debug!(review, %error, "review failed");
                }
                let _ = guard.insert(CachedReview { expires: self.clock.mono() + FAILURE_TTL, result: None });
                Err(AuthError::Unavailable)
            }
        }
    }
}

/// How a review is made.
struct ReviewOptions<'a, F> {
    /// Which review, as in the metric and the log.
    review: &'a str,
    /// Its concurrency limit.
    slots: &'a Semaphore,
    /// Its user, if known, who has a concurrency limit too.
    user: Option<UserKey>,
    /// Called before the review; an error prevents it.
    admit: F,
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests;
