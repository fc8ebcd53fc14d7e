//! Who calls, and whether RBAC lets him.
//!
//! Every route but the probes' stands behind [`authenticate`]; each handler then asks [`Access::require`] for its act.
//! The demo's mode lets everybody in as one made-up user and exists on loopback only.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use zeroize::Zeroizing;

use crate::cluster::auth::{Act, AuthError, Authorizer, Subject};
use crate::gateway::Gateway;
use crate::gateway::limit::Limits;
use crate::gateway::problem::{ErrorCode, Problem};

/// Longer tokens are nobody's.
const MAX_TOKEN: usize = 16 * 1024;

/// The user that everybody is while authentication is off.
pub const DEMO_USER: &str = "busbar:unauthenticated";

/// How callers are known.
pub enum Access {
    /// By the API server.
    Kubernetes(Box<Authorizer>),
    /// Not at all: the demo on loopback.
    Off(Arc<Subject>),
}

impl Access {
    /// Everybody is let in.
    pub fn off() -> Self {
        Self::Off(Arc::new(Subject::new(DEMO_USER, None, Vec::new(), BTreeMap::new())))
    }

    /// Fails unless `subject` may do `act`.
    pub async fn require(&self, subject: &Subject, act: Act) -> Result<(), Problem> {
        let Self::Kubernetes(authorizer) = self else { return Ok(()) };
        match authorizer.may(subject, &act).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let resource = match act.subresource {
                    "" => act.resource.to_owned(),
                    subresource => format!("{}/{subresource}", act.resource),
                };
                let text =
                    format!("you may not {} {resource} of busbar.dev here: bind a role that allows it", act.verb);
                Err(Problem::new(ErrorCode::Forbidden, text)
                    .with("verb", act.verb)
                    .with("resource", resource)
                    .with("namespace", act.namespace)
                    .with("name", act.name))
            }
            Err(_) => Err(unavailable()),
        }
    }
}

fn unavailable() -> Problem {
    Problem::new(
        ErrorCode::AuthorizationUnavailable,
        "the API server does not say who you are or what you may do: try again",
    )
}

/// The address a request came from.
#[derive(Copy, Clone, Debug)]
pub struct Peer(pub SocketAddr);

/// Lets only those through whom the API server knows, and not too often.
pub async fn authenticate(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    // Nobody is without an address but a test's request.
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let token = bearer(&request).map(|token| Zeroizing::new(token.to_owned()));
    match caller(&gateway, token.as_ref().map(|token| token.as_str()), peer).await {
        Ok(subject) => {
            request.extensions_mut().insert(subject);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn caller(gateway: &Gateway, token: Option<&str>, peer: Option<IpAddr>) -> Result<Arc<Subject>, Problem> {
    let subject = match &gateway.access {
        Access::Off(subject) => Arc::clone(subject),
        Access::Kubernetes(authorizer) => known(&gateway.limits, authorizer, token, peer).await?,
    };
    gateway.limits.subject(&subject.id).map_err(|wait| {
        Problem::new(ErrorCode::RateLimited, "you call too often: wait, then go on more slowly").retry_in(wait)
    })?;
    Ok(subject)
}

async fn known(
    limits: &Limits,
    authorizer: &Authorizer,
    token: Option<&str>,
    peer: Option<IpAddr>,
) -> Result<Arc<Subject>, Problem> {
    let too_often = |wait| {
        Problem::new(ErrorCode::RateLimited, "too many requests without a valid token from your address").retry_in(wait)
    };
    let nobody = |text: &str| {
        if let Some(address) = peer {
            limits.address(address).map_err(too_often)?;
        }
        Err(Problem::new(ErrorCode::Unauthenticated, text))
    };
    let Some(token) = token else {
        return nobody("send a bearer token that the API server knows: Authorization: Bearer …");
    };
    let invalid = "the API server does not know the token: is it expired, or for another audience?";
    match authorizer.known(token) {
        Some(Some(subject)) => return Ok(subject),
        Some(None) => return nobody(invalid),
        None => {}
    }
    // The address pays before anybody is asked, or as many guesses as it likes would be under way at once; it gets back
    // what it paid for a token that was no guess.
    let paid = AtomicBool::new(false);
    let pay = || {
        if let Some(address) = peer {
            limits.address(address)?;
            paid.store(true, Ordering::Relaxed);
        }
        Ok(())
    };
    let end = authorizer.authenticate(token, pay).await;
    let paid = paid.into_inner();
    if let (Some(address), true, Ok(_) | Err(AuthError::Unavailable)) = (peer, paid, &end) {
        limits.give_back(address);
    }
    match end {
        Ok(subject) => Ok(subject),
        Err(AuthError::InvalidToken) if paid => Err(Problem::new(ErrorCode::Unauthenticated, invalid)),
        Err(AuthError::InvalidToken) => nobody(invalid),
        Err(AuthError::NotAsked { retry_in }) => Err(too_often(retry_in)),
        Err(AuthError::Unavailable) => Err(unavailable()),
    }
}

/// The bearer token of a request.
fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MAX_TOKEN).then_some(token)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures::future::{BoxFuture, join_all};

    use super::*;
    use crate::clock::Clock;
    use crate::cluster::ApiError;
    use crate::cluster::auth::{Reviewer, TTL};
    use crate::gateway::limit::Rate;
    use crate::metrics::Metrics;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Takes a second for each token; good ones begin so.
    #[derive(Default)]
    struct Slow {
        asked: AtomicUsize,
        down: AtomicBool,
    }

    impl Reviewer for Slow {
        fn token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Subject>, ApiError>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let down = self.down.load(Ordering::Relaxed);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let good = token.starts_with("good").then(|| Subject::new(token, None, vec![], BTreeMap::new()));
                if down { Err(ApiError::Timeout) } else { Ok(good) }
            })
        }

        fn access<'a>(&'a self, _: &'a Subject, _: &'a Act) -> BoxFuture<'a, Result<bool, ApiError>> {
            Box::pin(async { Ok(true) })
        }
    }

    /// A door whose addresses may guess three times an hour.
    struct Door {
        limits: Limits,
        authorizer: Authorizer,
        reviewer: Arc<Slow>,
    }

    impl Door {
        fn new() -> Self {
            let (clock, reviewer) = (Clock::system(), Arc::new(Slow::default()));
            let hour = Rate { requests: 3, per: Duration::from_hours(1) };
            let authorizer = Authorizer::new(reviewer.clone(), clock, &Metrics::new()).unwrap();
            Self { limits: Limits::new(clock, hour, hour), authorizer, reviewer }
        }

        async fn knock(&self, token: &str) -> u16 {
            match known(&self.limits, &self.authorizer, Some(token), Some(HOME)).await {
                Ok(_) => 200,
                Err(problem) => problem.code().status().as_u16(),
            }
        }

        fn asked(&self) -> usize {
            self.reviewer.asked.swap(0, Ordering::Relaxed)
        }
    }

    fn count(all: &[u16], status: u16) -> usize {
        all.iter().filter(|one| **one == status).count()
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_thousand_guesses_at_once_no_more_are_asked_about_than_the_address_may_make() {
        let door = Door::new();
        let tokens: Vec<String> = (0..1_000).map(|n| format!("forged-{n}")).collect();
        let all = join_all(tokens.iter().map(|token| door.knock(token))).await;
        assert_eq!((count(&all, 401), count(&all, 429), door.asked()), (3, 997, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn many_requests_with_one_new_token_are_one_question_and_one_guess() {
        let door = Door::new();
        let all = join_all((0..100).map(|_| door.knock("good-ann"))).await;
        assert_eq!((count(&all, 200), door.asked()), (100, 1));
        let all = join_all((0..100).map(|_| door.knock("forged"))).await;
        assert_eq!(
            (count(&all, 401), count(&all, 429), door.asked()),
            (3, 97, 1),
            "each of them is without a valid one"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_whose_token_was_valid_is_not_locked_out_by_the_guesses_of_his_address() {
        let door = Door::new();
        assert_eq!(door.knock("good-ann").await, 200);
        for n in 0..3 {
            assert_eq!(door.knock(&format!("forged-{n}")).await, 401);
        }
        assert_eq!(door.knock("good-new").await, 429, "nobody can tell it from a guess");
        door.asked();
        for _ in 0..3 {
            tokio::time::advance(TTL).await;
            assert_eq!(door.knock("good-ann").await, 200);
            assert_eq!(door.asked(), 1, "he is asked about again all the same");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_api_server_says_nothing_nobody_pays_for_it() {
        let door = Door::new();
        door.reviewer.down.store(true, Ordering::Relaxed);
        for n in 0..10 {
            assert_eq!(door.knock(&format!("good-{n}")).await, 503);
        }
        door.reviewer.down.store(false, Ordering::Relaxed);
        assert_eq!(door.knock("good-ann").await, 200);
    }
}
