//! Access control: authorization of callers by RBAC, and what replaces it while authentication is off.
//!
//! Every handler calls [`AccessControl::require`] for its action. With authentication off, which is allowed on loopback
//! only, every request is accepted as one synthetic user.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::auth::{AccessRequest, AuthError, Authorizer, UserInfo};
use crate::domain::consumer::is_consumer_user;
use crate::domain::key::ObjectKey;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;

/// The user of every request while authentication is off.
pub const DEMO_USER: &str = "busbar:unauthenticated";

/// How callers are authenticated and authorized.
pub enum AccessControl {
    /// By the API server's `TokenReview` and `SubjectAccessReview`.
    Kubernetes(Box<Authorizer>),
    /// Not at all: for demonstrations on loopback.
    Off(Arc<UserInfo>),
}

impl AccessControl {
    /// Access control that accepts every request.
    pub fn off() -> Self {
        Self::Off(Arc::new(UserInfo::new(DEMO_USER, None, Vec::new(), BTreeMap::new())))
    }

    /// Fails unless RBAC allows `subject` to do `act`.
    pub async fn require(&self, subject: &UserInfo, act: AccessRequest) -> Result<(), Problem> {
        // RBAC knows no consumers, and authentication that is off is not meant for them.
        if is_consumer_user(&subject.user) {
            return Err(not_for_consumers());
        }
        let Self::Kubernetes(authorizer) = self else { return Ok(()) };
        match authorizer.is_allowed(subject, &act).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let resource = match act.subresource {
                    "" => act.resource.to_owned(),
                    subresource => format!("{}/{subresource}", act.resource),
                };
                let text = format!(
                    "RBAC denies verb {} on {resource}.busbar.dev for this user; bind a role that allows it",
                    act.verb
                );
                Err(Problem::new(ErrorCode::Forbidden, text)
                    .with("verb", act.verb)
                    .with("resource", resource)
                    .with("namespace", act.namespace)
                    .with("name", act.name))
            }
            Err(AuthError::RateLimited { retry_after }) => Err(too_many_reviews(retry_after)),
            Err(AuthError::InvalidToken | AuthError::Unavailable) => Err(unavailable()),
        }
    }
}

/// The error of a consumer for everything that is not its own; the same whether or not it exists.
pub(super) fn not_for_consumers() -> Problem {
    let text = "forbidden for consumers: an API key reads and confirms the consumer's own events, and calls connections \
                whose licence profiles name the consumer";
    Problem::new(ErrorCode::Forbidden, text)
}

/// The right to call a connection.
pub(super) fn call_access(connection: &ObjectKey) -> AccessRequest {
    AccessRequest {
        verb: "create",
        resource: "providerconnections",
        subresource: "call",
        namespace: connection.namespace.to_string(),
        name: connection.name.to_string(),
    }
}

/// The error while the API server is unavailable for reviews.
pub(super) fn unavailable() -> Problem {
    Problem::new(
        ErrorCode::AuthorizationUnavailable,
        "TokenReview or SubjectAccessReview failed: the API server is unavailable; retry after Retry-After",
    )
}

/// The error of an address with too many new tokens, or of a caller with too many tokens or targets.
pub(super) fn too_many_reviews(wait: Duration) -> Problem {
    let text = "rate limit exceeded for token and access reviews of this address or caller; see Retry-After";
    Problem::new(ErrorCode::RateLimited, text).retry_in(wait)
}
