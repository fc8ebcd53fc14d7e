//! Executes an operation for a caller: on the named connection, and on its fallbacks if that fails.
//!
//! A fallback is eligible only if both sides map to the same canonical record. Fallbacks are tried in the order of
//! `spec.fallback` within one time budget: the first connection gets at most half of it, each further one half of the
//! rest, the last all of the rest. A stale answer of the first connection is returned only if no fallback has a fresh
//! one. RBAC ([`crate::gateway::fallback_access`]) and the licence profiles of each connection are evaluated separately.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::domain::key::ObjectKey;
use crate::domain::rights::AccessDecision;
use crate::domain::time::Mono;
use crate::gateway::Gateway;
use crate::gateway::audit::{DeniedCall, UNKNOWN_OPERATION};
use crate::gateway::call::{CallRequest, CallResponse};
use crate::gateway::candidates::{eligible_fallbacks, invalid_operation, resolve_item, resolve_operation};
use crate::gateway::dead_requests::recorder::FailedCall;
use crate::gateway::fallback_access::{AuthorizedFallbacks, DeniedFallback, authorize_fallbacks};
use crate::gateway::problem::{DEFAULT_RETRY_AFTER, ErrorCode, Problem};
use crate::profile::{MappingError, Operation, RecordShape, ResponseClass, json};
use crate::provider::call::Response;
use crate::provider::connection::Connection;
use crate::provider::invoke::{self, AccessDenial, FailureKind, InvokeFailure, InvokeOptions, InvokeOutcome};
use crate::settings::Settings;

/// Deadline of a call with fallbacks, unless the caller sets one.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(3);
/// The longest deadline that a caller may set, and the limit of a call without one.
pub const MAX_DEADLINE: Duration = Duration::from_mins(1);
/// How often the registry is polled for a connection that exists but is not running yet.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// One connection's answer and its result for the caller.
struct Answered {
    result: Value,
    answer: Response,
}

/// Why one connection gave no answer.
enum AttemptError {
    /// The request itself cannot succeed: no fallback is tried.
    Final(Problem),
    /// The connection failed: a fallback may succeed.
    Failed(InvokeFailure),
}

impl From<Problem> for AttemptError {
    fn from(problem: Problem) -> Self {
        Self::Final(problem)
    }
}

/// Executes the request.
pub async fn execute(gateway: &Gateway, mut request: CallRequest) -> Result<CallResponse, Problem> {
    let began = gateway.clock.mono();
    let wait = request.deadline.map_or(DEFAULT_RETRY_AFTER, |deadline| deadline.min(DEFAULT_RETRY_AFTER));
    let (connection, waited) = find(gateway, &request.connection, began + wait).await?;
    let settings = connection.settings();
    let item = resolve_item(&settings, &mut request);
    let request = &request;
    let operation = match item.and_then(|()| resolve_operation(&settings, request)) {
        Ok(operation) => operation,
        Err(problem) => return Err(redact_if_unauthorized(gateway, &connection, &settings, request, problem)),
    };
    let provider = settings.provider().to_owned();
    let respond = |result, status_code, provider_used: String, cached, stale| CallResponse {
        result,
        provider: provider.clone(),
        provider_used,
        endpoint: request.operation.clone(),
        status_code,
        cached,
        stale,
    };
    if let Some(stub) = &operation.stub {
        // A stub makes no call, so the call path does not check the licence profiles.
        if let Err(error) = connection.authorize(&request.caller, &request.operation).await {
            return Err(match invoke::access_denial(&error) {
                Some(denial) => denied(&denial),
                None => provider_failed(&UNKNOWN),
            });
        }
        return Ok(respond(stub.clone(), 200, provider.clone(), false, false));
    }
    let fallbacks = if request.raw { Vec::new() } else { eligible_fallbacks(gateway, &settings, operation, request) };
    let review_limit = request.deadline.unwrap_or(DEFAULT_DEADLINE) / 2;
    let AuthorizedFallbacks { allowed: fallbacks, denied: denied_fallbacks } =
        authorize_fallbacks(gateway, &request.subject, fallbacks, review_limit).await;
    // Cached reviews take no time that counts.
    let waited = waited || gateway.clock.mono().since(began) >= POLL_INTERVAL;
    let budget = match request.deadline {
        Some(deadline) => deadline.min(MAX_DEADLINE),
        None if fallbacks.is_empty() => MAX_DEADLINE,
        None => DEFAULT_DEADLINE,
    };
    let end = began + budget;
    // The wait for the connection counts against the budget. Without one nothing is subtracted: requests with exactly
    // the same timeout share one call.
    let remaining = if waited { end.since(gateway.clock.mono()) } else { budget };
    let timeout = match request.deadline {
        _ if !fallbacks.is_empty() => remaining / 2,
        Some(_) => remaining,
        // Without a deadline the connection's own time-out applies.
        None => remaining.min(settings.timeouts().total),
    };
    let first = attempt(gateway, &connection, &settings, operation, request, timeout, !fallbacks.is_empty()).await;
    let respond_first = |answered: Answered| {
        let meta = answered.answer.meta;
        respond(answered.result, answered.answer.status.as_u16(), provider.clone(), meta.cached, meta.stale)
    };
    let (failure, stale) = match first {
        Ok(answered) if !answered.answer.meta.stale || fallbacks.is_empty() => return Ok(respond_first(answered)),
        Ok(answered) => (None, Some(answered)),
        Err(AttemptError::Failed(failure)) => (Some(failure), None),
        Err(AttemptError::Final(problem)) => return Err(problem),
    };
    let mut tried = Vec::new();
    for (index, fallback) in fallbacks.iter().enumerate() {
        let remaining = end.since(gateway.clock.mono());
        if remaining.is_zero() {
            break;
        }
        let timeout = if index + 1 == fallbacks.len() { remaining } else { remaining / 2 };
        let settings = fallback.settings();
        let Ok(operation) = invoke::find_operation(&settings, &request.operation) else { continue };
        let code = match attempt(gateway, fallback, &settings, operation, request, timeout, true).await {
            Ok(answered) if !answered.answer.meta.stale => {
                let used = format!("{}_fallback", settings.provider());
                let status = answered.answer.status.as_u16();
                return Ok(respond(answered.result, status, used, answered.answer.meta.cached, false));
            }
            // No better than a stale answer of the first connection.
            Ok(_) => "stale",
            Err(AttemptError::Failed(failure)) => failure.code,
            Err(AttemptError::Final(_)) => "refused",
        };
        tried.push(serde_json::json!({ "provider": settings.provider(), "code": code }));
    }
    if let Some(stale) = stale {
        return Ok(respond_first(stale));
    }
    for DeniedFallback { connection, code } in &denied_fallbacks {
        tried.push(serde_json::json!({ "provider": connection.settings().provider(), "code": code }));
        if *code == "forbidden" {
            gateway.audit_rbac_denial(connection.key(), &request.operation, &request.caller);
        }
    }
    let failure = failure.unwrap_or(UNKNOWN);
    let failed = FailedCall {
        connection: &request.connection,
        uid: connection.uid(),
        provider: &provider,
        name: &request.operation,
        operation,
        parameters: &request.parameters,
        caller: &request.caller,
        failure: &failure,
    };
    let dead_request = gateway.dead_requests.record(&failed).await;
    let mut problem = provider_failed(&failure).with("provider", provider.as_str()).with_dead_request(dead_request);
    if !tried.is_empty() {
        problem = problem.with("stand_ins", tried);
    }
    Err(problem)
}

/// A placeholder: there is always a failure where there is no answer.
const UNKNOWN: InvokeFailure =
    InvokeFailure { kind: FailureKind::Provider, code: "no_answer", status: None, retry_in: None, retryable: true };

/// Calls one connection.
async fn attempt(
    gateway: &Gateway,
    connection: &Connection,
    settings: &Settings,
    operation: &Operation,
    request: &CallRequest,
    timeout: Duration,
    single_attempt: bool,
) -> Result<Answered, AttemptError> {
    let options = InvokeOptions { caller: Some(Arc::clone(&request.caller)), timeout: Some(timeout), single_attempt };
    let call = invoke::build_request(settings, &request.operation, operation, &request.parameters, options)
        .map_err(|error| invalid_operation(&error.into()))?;
    match invoke::invoke(connection, call, || gateway.clock.now().wall).await {
        InvokeOutcome::Success(answer) => map_answer(operation, request, answer),
        InvokeOutcome::NotFound(answer) => Err(item_not_found(&answer).into()),
        InvokeOutcome::Rejected(answer) => {
            let text = "the provider rejected the request; retrying the same request will fail again";
            let problem = Problem::new(ErrorCode::ProviderRefused, text)
                .with("status_code", answer.status.as_u16())
                .with("bytes", answer.body.len());
            Err(problem.into())
        }
        InvokeOutcome::Denied(denial) => Err(denied(&denial).into()),
        InvokeOutcome::Failed(failure) => Err(AttemptError::Failed(failure)),
    }
}

fn item_not_found(answer: &Response) -> Problem {
    Problem::new(ErrorCode::ItemNotFound, "the provider has no such item").with("status_code", answer.status.as_u16())
}

/// Maps an answer to the canonical record, or to the provider's own body.
fn map_answer(operation: &Operation, request: &CallRequest, answer: Response) -> Result<Answered, AttemptError> {
    let failure = |code| {
        AttemptError::Failed(InvokeFailure {
            kind: FailureKind::Provider,
            code,
            status: Some(answer.status.as_u16()),
            retry_in: None,
            retryable: false,
        })
    };
    let ended = answer.classification.class == ResponseClass::EndOfData;
    let list = operation.canonical.as_ref().is_some_and(|mapping| mapping.shape == RecordShape::List);
    let result = match operation.canonical(&answer.body).filter(|_| !request.raw) {
        Some(Ok(record)) => record,
        // Some providers answer an unknown ticker with a success and no record.
        Some(Err(MappingError::NotFound)) => return Err(item_not_found(&answer).into()),
        // Some providers answer a list beyond the plan's limit, which may be longer, with an error and no records.
        Some(Err(_)) if ended && list => serde_json::json!({ "records": [], "complete": false }),
        Some(Err(_)) if ended => return Err(item_not_found(&answer).into()),
        Some(Err(_)) => return Err(failure("unexpected_shape")),
        None if answer.body.is_empty() => Value::Null,
        // A body that is not JSON, or nested too deeply, cannot be part of a response.
        None => json::parse(&answer.body).map_err(|_| failure("not_json"))?,
    };
    Ok(Answered { result, answer })
}

/// The running connection, and whether it was waited for. One that exists but is not running here yet is waited for
/// `until`: it is being taken over, or its first reconcile is in progress.
async fn find(gateway: &Gateway, key: &ObjectKey, until: Mono) -> Result<(Arc<Connection>, bool), Problem> {
    let mut waited = false;
    loop {
        if let Some(connection) = gateway.registry.get(key) {
            return Ok((connection, waited));
        }
        if !(gateway.exists)(key) || gateway.clock.mono() >= until {
            let text = "connection not found or not ready; check its Ready condition";
            return Err(Problem::new(ErrorCode::ConnectionNotFound, text)
                .with("namespace", &*key.namespace)
                .with("connection", &*key.name));
        }
        waited = true;
        gateway.clock.sleep_until(until.min(gateway.clock.mono() + POLL_INTERVAL)).await;
    }
}

/// Reports what is wrong with a request only to callers that may call the operation; other callers get the denial,
/// which does not reveal which operations exist. Nothing is counted against a licence, because nothing is sent.
fn redact_if_unauthorized(
    gateway: &Gateway,
    connection: &Connection,
    settings: &Settings,
    request: &CallRequest,
    problem: Problem,
) -> Problem {
    let Some(rights) = settings.rights() else { return problem };
    match rights.authorize(&request.caller, &request.operation) {
        AccessDecision::Allowed(_) => problem,
        AccessDecision::Denied { profile, action, reason } => {
            let known = settings.profile().operations.contains_key(&request.operation);
            gateway.audit_denied(&DeniedCall {
                connection: connection.key(),
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

/// The problem for a denial by the licence profiles.
fn denied(denial: &AccessDenial) -> Problem {
    match denial {
        AccessDenial::Rights { action, why } => {
            let text = format!("no licence profile of the caller allows {action}");
            Problem::new(ErrorCode::RightsDenied, text).with("action", &**action).with("reason", why.as_str())
        }
        AccessDenial::Quota { retry_in } => {
            let text = "daily request quota of the licence profile exhausted; see Retry-After";
            Problem::new(ErrorCode::RightsQuotaExhausted, text).retry_in(*retry_in)
        }
    }
}

/// The problem for a failure: a code and a status, nothing of the provider's response.
fn provider_failed(failure: &InvokeFailure) -> Problem {
    let (code, text) = match failure.kind {
        FailureKind::Provider => (ErrorCode::ProviderFailed, "provider failed and no fallback succeeded"),
        FailureKind::CircuitOpen => (
            ErrorCode::CircuitOpen,
            "circuit open after repeated provider failures; no request was sent; see Retry-After",
        ),
        FailureKind::Quota => {
            (ErrorCode::QuotaExhausted, "provider quota exhausted or rate limited by the provider; see Retry-After")
        }
        FailureKind::Suspended => (ErrorCode::Suspended, "connection is suspended (spec.suspend); no request was sent"),
    };
    let mut problem = Problem::new(code, text).with("reason", failure.code);
    if let Some(status) = failure.status {
        problem = problem.with("status_code", status);
    }
    match failure.retry_in {
        Some(wait) => problem.retry_in(wait),
        None => problem,
    }
}
