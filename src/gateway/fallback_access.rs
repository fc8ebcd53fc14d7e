//! Which fallbacks may serve a caller.
//!
//! A fallback answers with another connection's credential and quota, so it serves only callers who may call that
//! connection too. A fallback that the caller may not use is treated as if it were not declared; only the error of a
//! failed call names it. With [`FallbackAuthorization::Author`] the right of the user who declared the fallback, which
//! an admission policy has checked (`config/admission/references.yaml`), takes the place of the caller's.

use futures::future::join_all;

use crate::cluster::auth::UserInfo;
use crate::domain::key::ObjectKey;
use crate::gateway::call::CallRequest;
use crate::gateway::call_budget::DEFAULT_DEADLINE;
use crate::gateway::candidates::{Candidate, Candidates};
use crate::gateway::error_code::ErrorCode;
use crate::gateway::fallback_authorization::FallbackAuthorization;
use crate::gateway::fallback_code::FallbackResult;
use crate::gateway::state::Gateway;

/// A fallback that may not serve the caller, and why.
pub(super) struct DeniedFallback<'a> {
    pub(super) candidate: Candidate<'a>,
    pub(super) result: FallbackResult,
}

/// Removes the fallbacks that may not serve the caller from `candidates`, and returns them. The reviews are made at the
/// same time; one that takes longer than the share of the first candidate denies.
pub(super) async fn remove_denied<'a>(
    gateway: &Gateway,
    candidates: &mut Candidates<'a>,
    request: &CallRequest,
) -> Vec<DeniedFallback<'a>> {
    let limit = request.deadline.unwrap_or(DEFAULT_DEADLINE) / 2;
    let review = async |fallback: &Candidate<'_>| {
        let review = may_use_fallback(gateway, &request.subject, fallback.connection.key());
        tokio::time::timeout(limit, review).await.unwrap_or(Err(FallbackResult::AuthorizationUnavailable))
    };
    let results = join_all(candidates.fallbacks.iter().map(review)).await;
    let mut denied = Vec::new();
    for (candidate, result) in std::mem::take(&mut candidates.fallbacks).into_iter().zip(results) {
        match result {
            Ok(()) => candidates.fallbacks.push(candidate),
            Err(result) => denied.push(DeniedFallback { candidate, result }),
        }
    }
    denied
}

/// Fails unless `subject` may be served by `fallback`.
async fn may_use_fallback(gateway: &Gateway, subject: &UserInfo, fallback: &ObjectKey) -> Result<(), FallbackResult> {
    match gateway.fallback_authorization {
        FallbackAuthorization::Author => Ok(()),
        FallbackAuthorization::Caller => {
            gateway.require_call(subject, fallback).await.map_err(|problem| match problem.code() {
                ErrorCode::Forbidden => FallbackResult::Forbidden,
                _ => FallbackResult::AuthorizationUnavailable,
            })
        }
    }
}
