//! Authenticates callers, users of the API server by `TokenReview` and consumers by their API keys, and
//! applies their rate limits.
//!
//! Every route except the probes and the webhooks passes it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use zeroize::Zeroizing;

use crate::cluster::auth::{AuthError, Authorizer, ReviewedToken, UserInfo, bearer_token};
use crate::domain::consumer::{consumer_user, is_consumer_user};
use crate::gateway::access::{AccessControl, too_many_reviews, unavailable};
use crate::gateway::consumers::access::KeyError;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::{Problem, UnauditedError};
use crate::gateway::rate_limit::RateLimits;
use crate::gateway::request_label::RequestLabel;
use crate::gateway::request_limits::RequestPermit;
use crate::gateway::state::Gateway;
use crate::http_server::Peer;
use crate::ledger::delivery::Consumer;
use crate::provider::trace::{IncomingRequest, IncomingSpan};

/// The header of a consumer's key.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Whether a request names its caller twice.
pub(super) fn has_two_credentials(request: &Request) -> bool {
    let headers = request.headers();
    headers.contains_key(&API_KEY) && headers.contains_key(header::AUTHORIZATION)
}

/// Rejects requests without a valid token and requests beyond the caller's limits.
pub(super) async fn authenticate(
    gateway: &Gateway,
    label: &RequestLabel,
    permit: RequestPermit,
    request: Request,
    next: Next,
) -> Response {
    match known_caller(gateway, request).await {
        Ok((caller, request)) => serve(gateway, label, permit, caller, request, next).await,
        Err(problem) => problem.into_response(),
    }
}

/// The caller of a request. The request of a consumer has it as an extension.
async fn known_caller(gateway: &Gateway, mut request: Request) -> Result<(Arc<UserInfo>, Request), Problem> {
    // Only requests of tests have no address.
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    if request.headers().contains_key(&API_KEY) {
        let consumer = consumer(gateway, request.headers(), peer).await?;
        let subject = UserInfo::new(consumer_user(&consumer.name), None, Vec::new(), BTreeMap::new());
        request.extensions_mut().insert(consumer);
        return Ok((Arc::new(subject), request));
    }
    let token = bearer_token(request.headers()).map(|token| Zeroizing::new(token.to_owned()));
    let subject = caller(gateway, token.as_ref().map(|token| token.as_str()), peer).await?;
    Ok((subject, request))
}

/// Serves a request whose caller is known, within the caller's limit; an error is in the audit.
async fn serve(
    gateway: &Gateway,
    label: &RequestLabel,
    mut permit: RequestPermit,
    subject: Arc<UserInfo>,
    mut request: Request,
    next: Next,
) -> Response {
    let response = if let Err(limit) = permit.set_caller(&subject.user) {
        gateway.too_many_requests(limit).into_response()
    } else {
        request.extensions_mut().insert(Arc::clone(&subject));
        trace(gateway, label, request, next).await
    };
    if let Some(error) = response.extensions().get::<UnauditedError>() {
        gateway.audit_error(&subject, label, *error);
    }
    response
}

/// After authentication: the request's span, as a child of the client's span. An unauthenticated client cannot start a
/// trace or set its sampling.
async fn trace(gateway: &Gateway, label: &RequestLabel, request: Request, next: Next) -> Response {
    let incoming = IncomingSpan::from_headers(gateway.registry.traces(), gateway.clock, request.headers());
    let shown = IncomingRequest { method: label.method(), route: label.route(), id: label.id() };
    incoming.serve(&shown, next.run(request), Response::status).await
}

/// The consumer whose key the request has. Like a token, a key that is not known to be valid is paid for by its address
/// before it is verified.
async fn consumer(gateway: &Gateway, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Arc<Consumer>, Problem> {
    if headers.contains_key(header::AUTHORIZATION) {
        let text = "both Authorization and X-API-Key; send the one of the caller that is meant";
        return Err(Problem::new(ErrorCode::InvalidRequest, text));
    }
    let count = |result: &str| gateway.metrics.api_keys.with_label_values(&[result]).inc();
    let mut values = headers.get_all(&API_KEY).iter();
    let key = values.next().and_then(|value| value.to_str().ok()).filter(|_| values.next().is_none());
    let key = Zeroizing::new(key.unwrap_or_default().to_owned());
    let consumer = if let Some(consumer) = gateway.consumers.known(&key) {
        count("known");
        consumer
    } else {
        let charge = AddressCharge::new(&gateway.rate_limits, peer);
        let verified = gateway.consumers.verify(&key, || charge.pay()).await;
        if let Ok(_) | Err(KeyError::Ledger(_) | KeyError::Busy) = verified {
            charge.refund();
        }
        match verified {
            Ok(consumer) => {
                count("verified");
                consumer
            }
            Err(KeyError::Invalid) => {
                count("invalid");
                let text = "invalid API key: no consumer has it; check X-API-Key, or rotate the key";
                return Err(Problem::new(ErrorCode::Unauthenticated, text));
            }
            Err(KeyError::RateLimited(wait)) => {
                let text = "rate limit exceeded for requests without a valid key from this address; see Retry-After";
                return Err(Problem::new(ErrorCode::RateLimited, text).retry_in(wait));
            }
            Err(KeyError::Ledger(error)) => {
                count("unavailable");
                return Err(Problem::ledger(&error));
            }
            Err(KeyError::Busy) => {
                count("unavailable");
                let text = "too many API keys are being verified; retry after Retry-After";
                return Err(Problem::new(ErrorCode::Unavailable, text));
            }
        }
    };
    gateway.rate_limits.check_consumer(consumer.id).map_err(|wait| {
        Problem::new(ErrorCode::RateLimited, "rate limit exceeded for this consumer; see Retry-After").retry_in(wait)
    })?;
    Ok(consumer)
}

async fn caller(gateway: &Gateway, token: Option<&str>, peer: Option<IpAddr>) -> Result<Arc<UserInfo>, Problem> {
    let subject = match &gateway.access {
        AccessControl::Off(subject) => Arc::clone(subject),
        AccessControl::Kubernetes(authorizer) => known(&gateway.rate_limits, authorizer, token, peer).await?,
    };
    // The names of consumers are reserved: a licence profile that names one is not for a user who is called so.
    if is_consumer_user(&subject.user) {
        let text = "invalid user name: names that begin with busbar:consumer: are reserved for consumers";
        return Err(Problem::new(ErrorCode::Unauthenticated, text));
    }
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
    let charge = AddressCharge::new(limits, peer);
    let end = authorizer.authenticate(token, || charge.pay()).await;
    if let Ok(_) | Err(AuthError::Unavailable) = end {
        charge.refund();
    }
    match end {
        Ok(subject) => Ok(subject),
        Err(AuthError::InvalidToken) if charge.is_paid() => Err(Problem::new(ErrorCode::Unauthenticated, invalid)),
        Err(AuthError::InvalidToken) => reject(invalid),
        Err(AuthError::RateLimited { retry_after }) => Err(too_many_reviews(retry_after)),
        Err(AuthError::Unavailable) => Err(unavailable()),
    }
}

/// What the address of a request pays for a token or key that is not known to be valid.
struct AddressCharge<'a> {
    limits: &'a RateLimits,
    /// `None`: a request of a test.
    address: Option<IpAddr>,
    paid: AtomicBool,
}

impl<'a> AddressCharge<'a> {
    const fn new(limits: &'a RateLimits, address: Option<IpAddr>) -> Self {
        Self { limits, address, paid: AtomicBool::new(false) }
    }

    fn pay(&self) -> Result<(), Duration> {
        if let Some(address) = self.address {
            self.limits.check_address(address)?;
            self.paid.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn is_paid(&self) -> bool {
        self.paid.load(Ordering::Relaxed)
    }

    /// Gives back what was paid: the token is valid, or was not judged.
    fn refund(&self) {
        if let (Some(address), true) = (self.address, self.is_paid()) {
            self.limits.refund_address(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

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
