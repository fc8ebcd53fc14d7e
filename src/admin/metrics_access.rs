//! Who may scrape `/metrics`: every client, or only users whom RBAC allows it (`--metrics-auth=kubernetes`).
//!
//! The admin port opens before there is a connection to the API server, and until then an authenticated scrape gets 503.
//! As on the gateway, a review is cached for ten seconds, and a token that was valid within the last hour is reviewed
//! whatever else its address sends; other tokens are limited per address, because each costs the API server a review.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::clock::Clock;
use crate::cluster::auth::{AuthError, Authorizer, bearer_token};
use crate::cluster::review_limit::ReviewLimit;

/// The non-resource URL that RBAC must allow.
const PATH: &str = "/metrics";

/// Why a scrape is denied.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScrapeDenied {
    /// The request has no token.
    #[error("no bearer token (--metrics-auth=kubernetes); send Authorization: Bearer with a token of the API server")]
    NoToken,
    /// The API server does not accept the token.
    #[error("invalid token: rejected by the API server's TokenReview; check its expiry and audience")]
    InvalidToken,
    /// RBAC does not allow the user to scrape.
    #[error(
        "RBAC denies verb get on the non-resource URL /metrics for this user; bind ClusterRole busbar-metrics-reader \
         (config/rbac/metrics.yaml)"
    )]
    Forbidden,
    /// Too many unverified tokens from this address, or too many reviews of this user.
    #[error("rate limit exceeded for token and access reviews of this address or user; see Retry-After")]
    RateLimited(Duration),
    /// The API server could not be asked.
    #[error("TokenReview or SubjectAccessReview failed: the API server is unavailable; retry after Retry-After")]
    Unavailable,
}

impl From<AuthError> for ScrapeDenied {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::InvalidToken => Self::InvalidToken,
            AuthError::Unavailable => Self::Unavailable,
            AuthError::RateLimited { retry_after } => Self::RateLimited(retry_after),
        }
    }
}

impl IntoResponse for ScrapeDenied {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        let retry_after = |wait: Duration| (header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        match self {
            Self::NoToken | Self::InvalidToken => {
                let challenge = (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                (StatusCode::UNAUTHORIZED, [challenge], text).into_response()
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, text).into_response(),
            Self::RateLimited(wait) => {
                // Rounded up: a client that waits this long is admitted.
                let wait = wait + Duration::from_millis(999);
                (StatusCode::TOO_MANY_REQUESTS, [retry_after(wait)], text).into_response()
            }
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, [retry_after(Duration::from_secs(1))], text).into_response()
            }
        }
    }
}

/// Access to `/metrics`. Cloning shares it.
#[derive(Clone, Default)]
pub struct MetricsAccess(Option<Arc<Reviewed>>);

/// Access by review.
struct Reviewed {
    /// Unset until the process is connected to the API server.
    authorizer: OnceLock<Authorizer>,
    limit: ReviewLimit,
}

impl MetricsAccess {
    /// Every client may scrape.
    pub fn open() -> Self {
        Self::default()
    }

    /// Only users whom RBAC allows it may scrape, and none before [`Self::connect`].
    pub fn reviewed(clock: Clock) -> Self {
        Self(Some(Arc::new(Reviewed { authorizer: OnceLock::new(), limit: ReviewLimit::new(clock) })))
    }

    /// Sets the authorizer, once; without effect on open access.
    pub fn connect(&self, authorizer: Authorizer) {
        if let Some(reviewed) = &self.0 {
            // A second one would be the same.
            drop(reviewed.authorizer.set(authorizer));
        }
    }

    /// Fails unless the request from `peer` with these headers may scrape.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(), ScrapeDenied> {
        let Some(reviewed) = &self.0 else { return Ok(()) };
        let token = bearer_token(headers).ok_or(ScrapeDenied::NoToken)?;
        let authorizer = reviewed.authorizer.get().ok_or(ScrapeDenied::Unavailable)?;
        let user = authorizer.authenticate(token, || reviewed.limit.consume(peer)).await?;
        if authorizer.may_get(&user, PATH).await? { Ok(()) } else { Err(ScrapeDenied::Forbidden) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use futures::future::BoxFuture;

    use super::*;
    use crate::cluster::ApiError;
    use crate::cluster::auth::{AccessRequest, REVIEW_TTL, Reviewer, UserInfo};
    use crate::cluster::review_limit::REVIEW_BURST;
    use crate::metrics::Metrics;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

    /// Knows the users of tokens `good-…`; only prometheus may scrape.
    #[derive(Default)]
    struct Reviews {
        token: AtomicUsize,
        path: AtomicUsize,
        down: AtomicBool,
    }

    impl Reviewer for Reviews {
        fn review_token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<UserInfo>, ApiError>> {
            self.token.fetch_add(1, Ordering::Relaxed);
            let user = token.strip_prefix("good-").map(|name| UserInfo::new(name, None, vec![], BTreeMap::new()));
            let down = self.down.load(Ordering::Relaxed);
            Box::pin(async move { if down { Err(ApiError::Timeout) } else { Ok(user) } })
        }

        fn review_access<'a>(&'a self, _: &'a UserInfo, _: &'a AccessRequest) -> BoxFuture<'a, Result<bool, ApiError>> {
            Box::pin(async { Ok(true) })
        }

        fn review_path<'a>(&'a self, user: &'a UserInfo, path: &'static str) -> BoxFuture<'a, Result<bool, ApiError>> {
            Box::pin(async move {
                self.path.fetch_add(1, Ordering::Relaxed);
                Ok(user.user == "prometheus" && path == "/metrics")
            })
        }
    }

    fn access() -> (MetricsAccess, Arc<Reviews>) {
        let (access, reviews) = (MetricsAccess::reviewed(Clock::system()), Arc::new(Reviews::default()));
        access.connect(Authorizer::for_scrapers(reviews.clone(), Clock::system(), &Metrics::new()).unwrap());
        (access, reviews)
    }

    async fn scrape(access: &MetricsAccess, token: &str, peer: IpAddr) -> Result<(), ScrapeDenied> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        access.check(&headers, peer).await
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_user_whom_rbac_allows_the_path_may_scrape() {
        let (access, reviews) = access();
        assert_eq!(access.check(&HeaderMap::new(), PEER).await, Err(ScrapeDenied::NoToken));
        assert_eq!(scrape(&access, "forged", PEER).await, Err(ScrapeDenied::InvalidToken));
        assert_eq!(scrape(&access, "good-guest", PEER).await, Err(ScrapeDenied::Forbidden));
        for _ in 0..100 {
            assert_eq!(scrape(&access, "good-prometheus", PEER).await, Ok(()));
        }
        assert_eq!((reviews.token.load(Ordering::Relaxed), reviews.path.load(Ordering::Relaxed)), (3, 2), "cached");
        reviews.down.store(true, Ordering::Relaxed);
        assert_eq!(scrape(&access, "good-prometheus", PEER).await, Ok(()), "for ten seconds");
        tokio::time::advance(REVIEW_TTL).await;
        assert_eq!(scrape(&access, "good-prometheus", PEER).await, Err(ScrapeDenied::Unavailable));
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_of_one_address_cost_a_bounded_number_of_reviews() {
        let (access, reviews) = access();
        assert_eq!(scrape(&access, "good-prometheus", PEER).await, Ok(()));
        for n in 0..1_000 {
            assert!(scrape(&access, &format!("forged-{n}"), PEER).await.is_err());
        }
        assert_eq!(reviews.token.load(Ordering::Relaxed), usize::try_from(REVIEW_BURST).unwrap());
        assert!(matches!(scrape(&access, "good-new", PEER).await, Err(ScrapeDenied::RateLimited(_))));
        tokio::time::advance(REVIEW_TTL).await;
        assert_eq!(scrape(&access, "good-prometheus", PEER).await, Ok(()), "verified within the hour");
        let other = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 8));
        assert_eq!(scrape(&access, "good-guest", other).await, Err(ScrapeDenied::Forbidden), "another address");
    }

    #[tokio::test]
    async fn without_a_connection_to_the_api_server_only_open_access_allows_a_scrape() {
        let access = MetricsAccess::reviewed(Clock::system());
        assert_eq!(scrape(&access, "good-prometheus", PEER).await, Err(ScrapeDenied::Unavailable));
        assert_eq!(MetricsAccess::open().check(&HeaderMap::new(), PEER).await, Ok(()));
    }
}
