//! Who calls, and whether RBAC lets him.
//!
//! Every route but the probes' stands behind [`authenticate`]; each handler then asks [`Access::require`] for its act.
//! The demo's mode lets everybody in as one made-up user and exists on loopback only.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use zeroize::Zeroizing;

use crate::cluster::auth::{Act, AuthError, Authorizer, Subject};
use crate::gateway::Gateway;
use crate::gateway::problem::{ErrorCode, Problem};

/// Longer tokens are nobody's.
const MAX_TOKEN: usize = 16 * 1024;

/// The user that everybody is while authentication is off.
pub const DEMO_USER: &str = "busbar:unauthenticated";

/// How callers are known.
pub enum Access {
    /// By the API server.
    Kubernetes(Authorizer),
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
        Access::Kubernetes(authorizer) => known(gateway, authorizer, token, peer).await?,
    };
    gateway.limits.subject(&subject.id).map_err(|wait| {
        Problem::new(ErrorCode::RateLimited, "you call too often: wait, then go on more slowly").retry_in(wait)
    })?;
    Ok(subject)
}

async fn known(
    gateway: &Gateway,
    authorizer: &Authorizer,
    token: Option<&str>,
    peer: Option<IpAddr>,
) -> Result<Arc<Subject>, Problem> {
    let too_often = |wait| {
        Problem::new(ErrorCode::RateLimited, "too many requests without a valid token from your address").retry_in(wait)
    };
    let nobody = |text: &str| {
        if let Some(address) = peer {
            gateway.limits.address(address).map_err(too_often)?;
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
    if let Some(address) = peer {
        gateway.limits.peek(address).map_err(too_often)?;
    }
    match authorizer.authenticate(token).await {
        Ok(subject) => Ok(subject),
        Err(AuthError::InvalidToken) => nobody(invalid),
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
