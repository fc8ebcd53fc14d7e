//! The middleware that authenticates callers by `TokenReview` and applies their rate limits.
//!
//! Every route except the probes passes it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use zeroize::Zeroizing;

use crate::cluster::auth::{AuthError, Authorizer, ReviewedToken, UserInfo, bearer_token};
use crate::gateway::access::{AccessControl, too_many_reviews, unavailable};
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::rate_limit::RateLimits;
use crate::gateway::request_limits::RequestPermit;
use crate::gateway::state::Gateway;
use crate::http_server::Peer;

/// Middleware: rejects requests without a valid token and requests beyond the caller's limits.
pub async fn authenticate(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    // Only requests of tests have no address.
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let token = bearer_token(request.headers()).map(|token| Zeroizing::new(token.to_owned()));
    match caller(&gateway, token.as_ref().map(|token| token.as_str()), peer).await {
        Ok(subject) => {
            let permit = request.extensions().get::<Arc<RequestPermit>>();
            if let Some(Err(limit)) = permit.map(|permit| permit.set_caller(&subject.user)) {
                return gateway.too_many_requests(limit).into_response();
            }
            request.extensions_mut().insert(subject);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn caller(gateway: &Gateway, token: Option<&str>, peer: Option<IpAddr>) -> Result<Arc<UserInfo>, Problem> {
    let subject = match &gateway.access {
        AccessControl::Off(subject) => Arc::clone(subject),
        AccessControl::Kubernetes(authorizer) => known(&gateway.rate_limits, authorizer, token, peer).await?,
    };
    gateway.rate_limits.check_user(&subject.user).map_err(|wait| {
        Problem::new(ErrorCode::RateLimited, "rate limit exceeded for this caller; see Retry-After").retry_in(wait)
    })?;
    Ok(subject)
}

async fn known(
    limits: &RateLimits,
    authorizer: &Authorizer,
    token: Option<&str>,
    peer: Option<IpAddr>,
) -> Result<Arc<UserInfo>, Problem> {
    let too_often = |wait| {
        let text = "rate limit exceeded for requests without a valid token from this address; see Retry-After";
        Problem::new(ErrorCode::RateLimited, text).retry_in(wait)
    };
    let reject = |text: &str| {
        if let Some(address) = peer {
            limits.check_address(address).map_err(too_often)?;
        }
        Err(Problem::new(ErrorCode::Unauthenticated, text))
    };
    let Some(token) = token else {
        return reject("no bearer token; send Authorization: Bearer with a token that the API server accepts");
    };
    let invalid = "invalid token: rejected by the API server's TokenReview; check its expiry and audience";
    match authorizer.cached(token) {
        Some(ReviewedToken::Valid(subject)) => return Ok(subject),
        Some(ReviewedToken::Invalid) => return reject(invalid),
        None => {}
    }
    // The address is charged before the review, or it could have any number of guesses reviewed concurrently; the
    // charge is refunded for a valid token.
    let paid = AtomicBool::new(false);
    let pay = || {
        if let Some(address) = peer {
            limits.check_address(address)?;
            paid.store(true, Ordering::Relaxed);
        }
        Ok(())
    };
    let end = authorizer.authenticate(token, pay).await;
    let paid = paid.into_inner();
    if let (Some(address), true, Ok(_) | Err(AuthError::Unavailable)) = (peer, paid, &end) {
        limits.refund_address(address);
    }
    match end {
        Ok(subject) => Ok(subject),
        Err(AuthError::InvalidToken) if paid => Err(Problem::new(ErrorCode::Unauthenticated, invalid)),
        Err(AuthError::InvalidToken) => reject(invalid),
        Err(AuthError::RateLimited { retry_after }) => Err(too_many_reviews(retry_after)),
        Err(AuthError::Unavailable) => Err(unavailable()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures::future::{BoxFuture, join_all};

    use super::*;
    use crate::clock::Clock;
    use crate::cluster::ApiError;
    use crate::cluster::auth::{AccessRequest, REVIEW_TTL, Reviewer};
    use crate::gateway::rate_limit::Rate;
    use crate::metrics::Metrics;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Takes a second to review each token; valid ones begin with "good".
    #[derive(Default)]
    struct SlowReviewer {
        token_reviews: AtomicUsize,
        down: AtomicBool,
    }

    impl Reviewer for SlowReviewer {
        fn review_token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<UserInfo>, ApiError>> {
            self.token_reviews.fetch_add(1, Ordering::Relaxed);
            let down = self.down.load(Ordering::Relaxed);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let good = token.starts_with("good").then(|| UserInfo::new(token, None, vec![], BTreeMap::new()));
                if down { Err(ApiError::Timeout) } else { Ok(good) }
            })
        }

        fn review_access<'a>(&'a self, _: &'a UserInfo, _: &'a AccessRequest) -> BoxFuture<'a, Result<bool, ApiError>> {
            Box::pin(async { Ok(true) })
        }
    }

    /// An authenticator whose addresses may guess three times an hour.
    struct Fixture {
        limits: RateLimits,
        authorizer: Authorizer,
        reviewer: Arc<SlowReviewer>,
    }

    impl Fixture {
        fn new() -> Self {
            let (clock, reviewer) = (Clock::system(), Arc::new(SlowReviewer::default()));
            let hour = Rate { requests: 3, per: Duration::from_hours(1) };
            let authorizer = Authorizer::new(reviewer.clone(), clock, &Metrics::new()).unwrap();
            Self { limits: RateLimits::new(clock, hour, hour), authorizer, reviewer }
        }

        async fn authenticate(&self, token: &str) -> u16 {
            match known(&self.limits, &self.authorizer, Some(token), Some(HOME)).await {
                Ok(_) => 200,
                Err(problem) => problem.code().status().as_u16(),
            }
        }

        fn reviews(&self) -> usize {
            self.reviewer.token_reviews.swap(0, Ordering::Relaxed)
        }
    }

    fn count(all: &[u16], status: u16) -> usize {
        all.iter().filter(|one| **one == status).count()
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_guesses_cause_no_more_reviews_than_the_address_limit() {
        let fixture = Fixture::new();
        let tokens: Vec<String> = (0..1_000).map(|n| format!("forged-{n}")).collect();
        let all = join_all(tokens.iter().map(|token| fixture.authenticate(token))).await;
        assert_eq!((count(&all, 401), count(&all, 429), fixture.reviews()), (3, 997, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_requests_with_one_new_token_cause_one_review() {
        let fixture = Fixture::new();
        let all = join_all((0..100).map(|_| fixture.authenticate("good-ann"))).await;
        assert_eq!((count(&all, 200), fixture.reviews()), (100, 1));
        let all = join_all((0..100).map(|_| fixture.authenticate("forged"))).await;
        assert_eq!(
            (count(&all, 401), count(&all, 429), fixture.reviews()),
            (3, 97, 1),
            "each of them counts as a request without a valid token"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_recently_valid_token_is_not_locked_out_by_guesses_from_its_address() {
        let fixture = Fixture::new();
        assert_eq!(fixture.authenticate("good-ann").await, 200);
        for n in 0..3 {
            assert_eq!(fixture.authenticate(&format!("forged-{n}")).await, 401);
        }
        assert_eq!(fixture.authenticate("good-new").await, 429, "indistinguishable from a guess");
        fixture.reviews();
        for _ in 0..3 {
            tokio::time::advance(REVIEW_TTL).await;
            assert_eq!(fixture.authenticate("good-ann").await, 200);
            assert_eq!(fixture.reviews(), 1, "the token is reviewed again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_not_charged_while_the_api_server_is_unavailable() {
        let fixture = Fixture::new();
        fixture.reviewer.down.store(true, Ordering::Relaxed);
        for n in 0..10 {
            assert_eq!(fixture.authenticate(&format!("good-{n}")).await, 503);
        }
        fixture.reviewer.down.store(false, Ordering::Relaxed);
        assert_eq!(fixture.authenticate("good-ann").await, 200);
    }
}
