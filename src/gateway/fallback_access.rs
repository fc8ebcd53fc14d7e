//! Which fallbacks may serve a caller.
//!
//! A fallback answers with another connection's credential and quota, so it serves only callers who may call that
//! connection too. A fallback that the caller may not use is treated as if it were not declared; only the error of a
//! failed call names it. With [`FallbackAuthorization::Author`] the right of the user who declared the fallback, which
//! an admission policy has checked (`config/admission/references.yaml`), takes the place of the caller's.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::cluster::auth::UserInfo;
use crate::domain::key::ObjectKey;
use crate::gateway::Gateway;
use crate::gateway::access::call_access;
use crate::gateway::problem::{ErrorCode, Problem};
use crate::provider::connection::Connection;

/// Whose right a fallback requires.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum FallbackAuthorization {
    /// The caller's, checked at each call.
    #[default]
    Caller,
    /// The author's, checked by the admission policy when the fallback was declared.
    Author,
}

impl std::str::FromStr for FallbackAuthorization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Caller" => Ok(Self::Caller),
            "Author" => Ok(Self::Author),
            _ => Err("must be Caller or Author".to_owned()),
        }
    }
}

/// A fallback that may not serve the caller.
pub(super) struct DeniedFallback {
    pub(super) connection: Arc<Connection>,
    /// Why, as in the error of a failed call.
    pub(super) code: &'static str,
}

/// The fallbacks of a request, by whether they may serve its caller.
pub(super) struct AuthorizedFallbacks {
    pub(super) allowed: Vec<Arc<Connection>>,
    pub(super) denied: Vec<DeniedFallback>,
}

/// Divides `fallbacks` by whether they may serve `subject`. The reviews are made at the same time, and one that takes
/// longer than `limit` denies.
pub(super) async fn authorize_fallbacks(
    gateway: &Gateway,
    subject: &UserInfo,
    fallbacks: Vec<Arc<Connection>>,
    limit: Duration,
) -> AuthorizedFallbacks {
    let review = async |fallback: &Arc<Connection>| {
        let review = may_use_fallback(gateway, subject, fallback.key());
        match tokio::time::timeout(limit, review).await {
            Ok(Ok(())) => None,
            Ok(Err(problem)) if problem.code() == ErrorCode::Forbidden => Some("forbidden"),
            Ok(Err(_)) | Err(_) => Some("authorization_unavailable"),
        }
    };
    let denials = join_all(fallbacks.iter().map(review)).await;
    let mut authorized = AuthorizedFallbacks { allowed: Vec::new(), denied: Vec::new() };
    for (connection, denial) in fallbacks.into_iter().zip(denials) {
        match denial {
            None => authorized.allowed.push(connection),
            Some(code) => authorized.denied.push(DeniedFallback { connection, code }),
        }
    }
    authorized
}

/// Fails unless `subject` may be served by `fallback`.
async fn may_use_fallback(gateway: &Gateway, subject: &UserInfo, fallback: &ObjectKey) -> Result<(), Problem> {
    match gateway.fallback_authorization {
        FallbackAuthorization::Author => Ok(()),
        FallbackAuthorization::Caller => gateway.access.require(subject, call_access(fallback)).await,
    }
}
