//! An operation for a caller: the connection he named, and whoever stands in for it.
//!
//! Stand-ins are asked only where both sides answer the same canonical record, in the order of `spec.fallback`, within one
//! budget: the first gets at most half of it, each further one half of what is left, the last all. A stale answer of the
//! first is kept for the case that nobody has a fresh one. The owner of a connection declares its stand-ins, so RBAC is
//! asked about the called connection only; each connection's licence profiles are judged by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::domain::key::ObjectKey;
use crate::domain::rights::Caller;
use crate::domain::time::Mono;
use crate::gateway::keep::Failed;
use crate::gateway::problem::{ErrorCode, Problem};
use crate::gateway::{Gateway, SOON};
use crate::provider::ask::{self, CannotAsk, Ended, Failure, FailureKind, Manner, Refusal};
use crate::provider::call::Answer;
use crate::provider::live::Live;
use crate::provider::profile::Operation;
use crate::provider::settings::{Settings, StandIn};

/// The whole time of a call with stand-ins, where the caller asks for nothing else.
pub const USUAL_DEADLINE: Duration = Duration::from_secs(3);
/// The longest that a caller may ask for, and the longest that one without a wish waits.
pub const LONGEST_DEADLINE: Duration = Duration::from_mins(1);
/// How often a connection that is declared but not running yet is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a caller asks for.
pub struct Asked {
    /// Of which connection.
    pub connection: ObjectKey,
    /// Which operation.
    pub operation: String,
    /// With these parameters.
    pub parameters: BTreeMap<String, String>,
    /// Whether he wants the provider's own body.
    pub raw: bool,
    /// Whether he asked by POST.
    pub post: bool,
    /// Within this time.
    pub deadline: Option<Duration>,
    /// Who he is.
    pub caller: Arc<Caller>,
}

/// What he gets.
#[derive(Clone, Debug)]
pub struct Got {
    /// The record, or the provider's own body.
    pub result: Value,
    /// The provider of the connection he called.
    pub provider: String,
    /// The provider that answered; with `_fallback` if it stood in.
    pub provider_used: String,
    /// The operation.
    pub endpoint: String,
    /// The HTTP status of the provider that answered.
    pub status_code: u16,
    /// Whether the answer was kept from an earlier call.
    pub cached: bool,
    /// Whether it is past its time.
    pub stale: bool,
}

/// One connection's answer, ready to hand out.
struct Ready {
    result: Value,
    answer: Answer,
}

/// Asks.
pub async fn run(gateway: &Gateway, asked: &Asked) -> Result<Got, Problem> {
    let began = gateway.clock.mono();
    let live = find(gateway, &asked.connection).await?;
    let settings = live.settings();
    let operation = offered(&settings, asked)?;
    let provider = settings.provider().to_owned();
    let got = |result, status_code, provider_used: String, cached, stale| Got {
        result,
        provider: provider.clone(),
        provider_used,
        endpoint: asked.operation.clone(),
        status_code,
        cached,
        stale,
    };
    if let Some(stub) = &operation.stub {
        // No call, so the call path cannot judge.
        if let Err(error) = live.permit(&asked.caller, &asked.operation).await {
            return Err(match ask::refusal(&error) {
                Some(refusal) => refused(&refusal),
                None => of_failure(&UNKNOWN),
            });
        }
        return Ok(got(stub.clone(), 200, provider.clone(), false, false));
    }
    let stand_ins = if asked.raw { Vec::new() } else { stand_ins(gateway, &settings, operation, asked) };
    let budget = match asked.deadline {
        Some(asked) => asked.min(LONGEST_DEADLINE),
        None if stand_ins.is_empty() => LONGEST_DEADLINE,
        None => USUAL_DEADLINE,
    };
    let end = began + budget;
    let within = if stand_ins.is_empty() { budget } else { budget / 2 };
    let first = one(gateway, &live, &settings, operation, asked, within, !stand_ins.is_empty()).await?;
    let of_first = |ready: Ready| {
        let meta = ready.answer.meta;
        got(ready.result, ready.answer.status.as_u16(), provider.clone(), meta.cached, meta.stale)
    };
    let (failure, stale) = match first {
        Ok(ready) if !ready.answer.meta.stale || stand_ins.is_empty() => return Ok(of_first(ready)),
        Ok(ready) => (None, Some(ready)),
        Err(failure) => (Some(failure), None),
    };
    let mut tried = Vec::new();
    for (index, stand_in) in stand_ins.iter().enumerate() {
        let left = end.since(gateway.clock.mono());
        if left.is_zero() {
            break;
        }
        let within = if index + 1 == stand_ins.len() { left } else { left / 2 };
        let settings = stand_in.settings();
        let Ok(operation) = ask::operation(&settings, &asked.operation) else { continue };
        let code = match one(gateway, stand_in, &settings, operation, asked, within, true).await {
            Ok(Ok(ready)) if !ready.answer.meta.stale => {
                let used = format!("{}_fallback", settings.provider());
                let status = ready.answer.status.as_u16();
                return Ok(got(ready.result, status, used, ready.answer.meta.cached, false));
            }
            // No better than ours would be.
            Ok(Ok(_)) => "stale",
            Ok(Err(failure)) => failure.code,
            Err(_) => "refused",
        };
        tried.push(serde_json::json!({ "provider": settings.provider(), "code": code }));
    }
    if let Some(stale) = stale {
        return Ok(of_first(stale));
    }
    let failure = failure.unwrap_or(UNKNOWN);
    let failed = Failed {
        connection: &asked.connection,
        uid: live.uid(),
        provider: &provider,
        name: &asked.operation,
        operation,
        parameters: &asked.parameters,
        caller: &asked.caller,
        failure: &failure,
    };
    let kept = gateway.keep.keep(&failed).await;
    let mut problem = of_failure(&failure).with("provider", provider.as_str()).kept(kept);
    if !tried.is_empty() {
        problem = problem.with("stand_ins", tried);
    }
    Err(problem)
}

/// There is always a failure where there is no answer; should that ever be wrong, this is what is said.
const UNKNOWN: Failure =
    Failure { kind: FailureKind::Provider, code: "no_answer", status: None, retry_in: None, again: true };

/// Asks one connection. Outside: what ends the whole request. Inside: a failure that somebody else may make good.
async fn one(
    gateway: &Gateway,
    live: &Live,
    settings: &Settings,
    operation: &Operation,
    asked: &Asked,
    within: Duration,
    hasty: bool,
) -> Result<Result<Ready, Failure>, Problem> {
    let manner = Manner { caller: Some(Arc::clone(&asked.caller)), within: Some(within), hasty };
    let request = ask::request(settings, &asked.operation, operation, &asked.parameters, manner)
        .map_err(|e| invalid(&e.into()))?;
    match ask::ask(live, request, || gateway.clock.now().wall).await {
        Ended::Good(answer) => Ok(ready(operation, asked, answer)),
        Ended::NotFound(answer) => Err(Problem::new(ErrorCode::ItemNotFound, "the provider has no such item")
            .with("status_code", answer.status.as_u16())),
        Ended::Refused(answer) => {
            let text = "the provider refused the request as it is: asking again will not help";
            Err(Problem::new(ErrorCode::ProviderRefused, text)
                .with("status_code", answer.status.as_u16())
                .with("bytes", answer.body.len()))
        }
        Ended::Denied(refusal) => Err(refused(&refusal)),
        Ended::Failed(failure) => Ok(Err(failure)),
    }
}

/// The record that was asked for, or the provider's own body.
fn ready(operation: &Operation, asked: &Asked, answer: Answer) -> Result<Ready, Failure> {
    let failure = |code| Failure {
        kind: FailureKind::Provider,
        code,
        status: Some(answer.status.as_u16()),
        retry_in: None,
        again: false,
    };
    let result = match operation.canonical(&answer.body).filter(|_| !asked.raw) {
        Some(Ok(record)) => record,
        Some(Err(_)) => return Err(failure("unexpected_shape")),
        None if answer.body.is_empty() => Value::Null,
        None => match serde_json::from_slice(&answer.body) {
            Ok(body) => body,
            // Not JSON is nothing that fits into an answer of ours.
            Err(_) => return Err(failure("not_json")),
        },
    };
    Ok(Ready { result, answer })
}

/// The running connection of that name; one that is declared but not running here yet is waited for a moment: it is being
/// taken over, or its first reconcile is under way.
async fn find(gateway: &Gateway, key: &ObjectKey) -> Result<Arc<Live>, Problem> {
    let until: Mono = gateway.clock.mono() + SOON;
    loop {
        if let Some(live) = gateway.registry.get(key) {
            return Ok(live);
        }
        if !(gateway.declared)(key) || gateway.clock.mono() >= until {
            let text =
                "no connection of that name is in service: does it exist, and what does its condition Ready say?";
            return Err(Problem::new(ErrorCode::ConnectionNotFound, text)
                .with("namespace", &*key.namespace)
                .with("connection", &*key.name));
        }
        gateway.clock.sleep_until(gateway.clock.mono() + LOOK_EVERY).await;
    }
}

/// The operation, if the connection offers it to this kind of request.
fn offered<'a>(settings: &'a Settings, asked: &Asked) -> Result<&'a Operation, Problem> {
    let operation = ask::operation(settings, &asked.operation).map_err(|error| {
        let known: Vec<&str> = settings.profile().operations.keys().map(String::as_str).collect();
        invalid(&error).with("provider", settings.provider()).with("operations", known)
    })?;
    if operation.class() == crate::domain::breaker::CallClass::Money {
        let text = "an operation that moves money cannot be called here: payouts have a path of their own";
        return Err(Problem::new(ErrorCode::NotCallable, text));
    }
    if !ask::may_be_repeated(operation) && !asked.post {
        let text = "an operation that changes something is called by POST";
        return Err(Problem::new(ErrorCode::NotCallable, text));
    }
    // Checked first of all, so that a wrong parameter costs nothing and is told as such, whoever would answer.
    let manner = Manner::default();
    ask::request(settings, &asked.operation, operation, &asked.parameters, manner).map_err(|e| invalid(&e.into()))?;
    Ok(operation)
}

/// Who can stand in for this operation, in order.
fn stand_ins(gateway: &Gateway, settings: &Settings, operation: &Operation, asked: &Asked) -> Vec<Arc<Live>> {
    let Some(canonical) = &operation.canonical else { return Vec::new() };
    if !ask::may_be_repeated(operation) {
        return Vec::new();
    }
    let meant = |stand_in: &&StandIn| {
        stand_in.operations.as_ref().is_none_or(|operations| operations.contains(&asked.operation))
    };
    let same_record = |live: &Arc<Live>| {
        let settings = live.settings();
        let theirs = ask::operation(&settings, &asked.operation).ok();
        theirs.is_some_and(|theirs| {
            ask::may_be_repeated(theirs) && theirs.canonical.as_ref().is_some_and(|c| c.record == canonical.record)
        })
    };
    settings
        .fallback()
        .iter()
        .filter(meant)
        .filter_map(|stand_in| gateway.registry.get(&asked.connection.sibling(stand_in.connection.as_str())))
        .filter(|live| *live.key() != asked.connection)
        .filter(same_record)
        .collect()
}

fn invalid(error: &CannotAsk) -> Problem {
    match error {
        CannotAsk::Unknown => Problem::new(ErrorCode::OperationNotFound, error.to_string()),
        CannotAsk::SwitchedOff(feature) => {
            Problem::new(ErrorCode::OperationNotFound, error.to_string()).with("feature", feature.as_str())
        }
        CannotAsk::Parameter(parameter) => {
            Problem::new(ErrorCode::InvalidRequest, error.to_string()).with("parameter", parameter.field.as_str())
        }
    }
}

fn refused(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::Rights { action, why } => {
            let text = format!("you have no right to {action}: no licence profile of yours allows it");
            Problem::new(ErrorCode::RightsDenied, text).with("action", &**action).with("reason", why.as_str())
        }
        Refusal::Quota { retry_in } => {
            let text = "the requests of your licence profile are used up for today";
            Problem::new(ErrorCode::RightsQuotaExhausted, text).retry_in(*retry_in)
        }
    }
}

/// What a caller is told of a failure: the code and the status, not a word of the provider's.
fn of_failure(failure: &Failure) -> Problem {
    let (code, text) = match failure.kind {
        FailureKind::Provider => (ErrorCode::ProviderFailed, "the provider failed, and nobody could stand in"),
        FailureKind::CircuitOpen => {
            (ErrorCode::CircuitOpen, "the provider has failed too often lately: its circuit is open, nothing was sent")
        }
        FailureKind::Quota => (ErrorCode::QuotaExhausted, "the provider's quota is used up, or it asked for a pause"),
        FailureKind::Suspended => (ErrorCode::Suspended, "the connection is suspended (spec.suspend)"),
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
