//! Executes an operation for a caller: on the called connection, and on its fallbacks if that fails.
//!
//! The request is resolved once into an ordered list of candidates (`gateway::candidates`), which are tried
//! in that order within one time budget ([`crate::gateway::call_budget`]). A stale answer of the called connection is
//! returned only if no fallback has a fresh one. RBAC and the licence profiles of each connection are evaluated
//! separately.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::rights::AccessDecision;
use crate::gateway::attempt::{Answer, AttemptError, AttemptOptions};
use crate::gateway::audit::{DeniedCall, UNKNOWN_OPERATION};
use crate::gateway::call::{CallRequest, CallResponse};
use crate::gateway::call_budget::CallBudget;
use crate::gateway::call_problem::{denied, provider_failed};
use crate::gateway::candidates::{
    Candidate, Candidates, ResolvedConnection, Role, candidates, declared_fallbacks, resolve_item,
};
use crate::gateway::dead_requests::recorder::FailedCall;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::fallback_access::{DeniedFallback, remove_denied};
use crate::gateway::fallback_code::{FallbackCode, FallbackResult};
use crate::gateway::problem::{DEFAULT_RETRY_AFTER, Problem};
use crate::gateway::state::Gateway;
use crate::provider::access_denial::AccessDenial;
use crate::provider::connection::Connection;
use crate::provider::failure_reason::FailureReason;
use crate::provider::invoke::{FailureKind, InvokeFailure};

/// How often the registry is polled for a connection that exists but is not running yet.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a failed call waits for its dead request to be stored, which takes milliseconds.
const RECORD_TIMEOUT: Duration = Duration::from_secs(1);

/// The failure of a call whose time ended before any candidate was tried.
const NO_TIME_LEFT: InvokeFailure = InvokeFailure {
    kind: FailureKind::Provider,
    reason: FailureReason::Timeout,
    status: None,
    retry_in: None,
    retryable: true,
};

/// A connection that was found, and how long it was waited for.
struct Found {
    connection: Arc<Connection>,
    waited: Duration,
}

/// A fallback that did not answer.
struct FailedFallback<'a> {
    provider: &'a str,
    code: FallbackCode,
}

/// Why a request was not answered.
struct Unanswered<'a> {
    /// What the called connection's attempt ended with.
    error: AttemptError,
    /// The fallbacks that were tried, in order.
    fallbacks: Vec<FailedFallback<'a>>,
}

/// Executes the request.
pub async fn execute(gateway: &Gateway, mut request: CallRequest) -> Result<CallResponse, Problem> {
    let Found { connection, waited } = find(gateway, &request).await?;
    let called = ResolvedConnection::from(connection);
    let item = resolve_item(&called.settings, &mut request);
    let redact = |problem| redact_if_unauthorized(gateway, &called, &request, problem);
    item.map_err(redact)?;
    let fallbacks = declared_fallbacks(&gateway.registry, &called, &request);
    let mut candidates = candidates(&called, &fallbacks, &request).map_err(redact)?;
    let started = gateway.clock.mono();
    let denied = remove_denied(gateway, &mut candidates, &request).await;
    let reviewed = gateway.clock.mono().since(started);
    let mut budget = CallBudget::new(request.deadline, candidates.len(), called.settings.timeouts().total);
    budget.spend(waited);
    // Requests with exactly the same time-out share one call, so cached reviews cost no time.
    if reviewed >= POLL_INTERVAL {
        budget.spend(reviewed);
    }
    let mut unanswered = match try_in_order(&candidates, &request, budget, gateway.clock).await {
        Ok(response) => return Ok(response),
        Err(unanswered) => unanswered,
    };
    Err(match unanswered.error {
        AttemptError::Invalid(problem) => redact(problem),
        AttemptError::Refused(problem) => problem,
        AttemptError::Failed(failure) => {
            for DeniedFallback { candidate, result } in &denied {
                if *result == FallbackResult::Forbidden {
                    gateway.audit_rbac_denial(candidate.connection.key(), &request.operation, &request.caller);
                }
                let (provider, code) = (candidate.settings.provider(), FallbackCode::Unused(*result));
                unanswered.fallbacks.push(FailedFallback { provider, code });
            }
            let dead_request = record(gateway, &candidates.called, &request, &failure).await;
            let problem = provider_failed(&failure).with("provider", called.settings.provider());
            with_fallbacks(problem, &unanswered.fallbacks).with_dead_request(dead_request)
        }
    })
}

/// Tries the candidates in order: the first fresh answer wins. An invalid or refused request ends with the called
/// connection; what a fallback refuses, the next one may answer.
async fn try_in_order<'a>(
    candidates: &'a Candidates<'a>,
    request: &CallRequest,
    mut budget: CallBudget,
    clock: Clock,
) -> Result<CallResponse, Unanswered<'a>> {
    let single_attempt = candidates.len() > 1;
    let mut fallbacks = Vec::new();
    // The called connection's stale answer or failure; it counts if no fallback has a fresh answer.
    let mut last_resort = Err(AttemptError::Failed(NO_TIME_LEFT));
    for (index, candidate) in candidates.iter().enumerate() {
        let Some(timeout) = budget.share(candidates.len() - index) else { break };
        let started = clock.mono();
        let result = candidate.attempt(request, AttemptOptions { timeout, single_attempt, clock }).await;
        budget.spend(clock.mono().since(started));
        match (candidate.role, result) {
            (_, Ok(answer)) if !answer.stale => return Ok(respond(candidates, candidate, request, answer)),
            (Role::Called, Err(error @ (AttemptError::Invalid(_) | AttemptError::Refused(_)))) => {
                return Err(Unanswered { error, fallbacks });
            }
            (Role::Called, result) => last_resort = result,
            (Role::Fallback, result) => fallbacks.push(FailedFallback {
                provider: candidate.settings.provider(),
                // No better than a stale answer of the called connection.
                code: result
                    .map_or_else(|error| error.fallback_code(), |_| FallbackCode::Unused(FallbackResult::Stale)),
            }),
        }
    }
    match last_resort {
        Ok(stale) => Ok(respond(candidates, &candidates.called, request, stale)),
        Err(error) => Err(Unanswered { error, fallbacks }),
    }
}

/// The response with the answer of `candidate`.
fn respond(
    candidates: &Candidates<'_>,
    candidate: &Candidate<'_>,
    request: &CallRequest,
    answer: Answer,
) -> CallResponse {
    let Answer { result, status_code, cached, stale } = answer;
    CallResponse {
        result,
        provider: candidates.called.settings.provider().to_owned(),
        provider_used: candidate.provider_used(),
        endpoint: request.operation.clone(),
        status_code,
        cached,
        stale,
    }
}

/// Stores the failed request for retries; returns its ID if it was stored.
async fn record(
    gateway: &Gateway,
    called: &Candidate<'_>,
    request: &CallRequest,
    failure: &InvokeFailure,
) -> Option<Uuid> {
    let failed = FailedCall {
        connection: &request.connection,
        uid: called.connection.uid(),
        provider: called.settings.provider(),
        name: &request.operation,
        operation: called.operation,
        parameters: &request.parameters,
        caller: &request.caller,
        failure,
    };
    // The caller's time is over: a ledger that hangs must not keep it. A request that is stored after this is retried
    // like any other, without its ID in the response.
    tokio::time::timeout(RECORD_TIMEOUT, gateway.dead_requests.record(&failed)).await.ok().flatten()
}

/// Adds the fallbacks that were tried.
fn with_fallbacks(problem: Problem, fallbacks: &[FailedFallback<'_>]) -> Problem {
    if fallbacks.is_empty() {
        return problem;
    }
    let tried = fallbacks.iter().map(|tried| json!({ "provider": tried.provider, "code": tried.code.as_str() }));
    problem.with("stand_ins", tried.collect::<Vec<_>>())
}

/// The running connection. One that exists but is not running here yet is waited for, no longer than the caller waits:
/// it is being taken over, or its first reconcile is in progress.
async fn find(gateway: &Gateway, request: &CallRequest) -> Result<Found, Problem> {
    let key = &request.connection;
    let began = gateway.clock.mono();
    let longest = request.deadline.map_or(DEFAULT_RETRY_AFTER, |deadline| deadline.min(DEFAULT_RETRY_AFTER));
    if let Some(connection) = gateway.registry.get(key) {
        // Requests with exactly the same time-out share one call, so the time of this look-up is not subtracted.
        return Ok(Found { connection, waited: Duration::ZERO });
    }
    while (gateway.exists)(key) {
        gateway.clock.sleep_until((began + longest).min(gateway.clock.mono() + POLL_INTERVAL)).await;
        let waited = gateway.clock.mono().since(began);
        if waited >= longest {
            break;
        }
        if let Some(connection) = gateway.registry.get(key) {
            return Ok(Found { connection, waited });
        }
    }
    let text = "connection not found or not ready; check its Ready condition";
    Err(Problem::new(ErrorCode::ConnectionNotFound, text)
        .with("namespace", &*key.namespace)
        .with("connection", &*key.name))
}

/// Reports what is wrong with a request only to callers that may call the operation; other callers get the denial,
/// which does not reveal which operations exist. Nothing is counted against a licence, because nothing is sent.
fn redact_if_unauthorized(
    gateway: &Gateway,
    called: &ResolvedConnection,
    request: &CallRequest,
    problem: Problem,
) -> Problem {
    let settings = &called.settings;
    let Some(rights) = settings.rights() else { return problem };
    match rights.authorize(&request.caller, &request.operation) {
        AccessDecision::Allowed(_) => problem,
        AccessDecision::Denied { profile, action, reason } => {
            let known = settings.profile().operations.contains_key(&request.operation);
            gateway.audit_denied(&DeniedCall {
                connection: called.connection.key(),
                provider: Some(settings.provider()),
                // An arbitrary word of the request is not recorded.
                operation: if known { &action } else { UNKNOWN_OPERATION },
                caller: &request.caller,
                profile: profile.as_deref(),
                reason: reason.as_str(),
            });
            denied(&AccessDenial::Rights { action: action.into(), why: reason })
        }
    }
}
