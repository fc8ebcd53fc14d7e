//! An operation for a caller: the connection he named, and whoever stands in for it.
//!
//! Stand-ins are asked only where both sides answer the same canonical record, in the order of `spec.fallback`, within one
//! budget: the first gets at most half of it, each further one half of what is left, the last all that is left. A stale answer of the
//! first is kept for the case that nobody has a fresh one. The owner of a connection declares its stand-ins, so RBAC is
//! asked about the called connection only; each connection's licence profiles are judged by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::domain::key::ObjectKey;
use crate::domain::rights::{Caller, Judgement};
use crate::domain::time::Mono;
use crate::gateway::keep::Failed;
use crate::gateway::offer::{invalid, item, offered, stand_ins};
use crate::gateway::problem::{ErrorCode, Problem};
use crate::gateway::refused::{Refused, UNKNOWN_OPERATION};
use crate::gateway::{Gateway, SOON};
use crate::provider::ask::{self, Ended, Failure, FailureKind, Manner, Refusal};
use crate::provider::call::Answer;
use crate::provider::classify::Class;
use crate::provider::json;
use crate::provider::live::Live;
use crate::provider::profile::{MappingError, Operation, Shape};
use crate::provider::settings::Settings;

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
    /// Which item of that operation's list, where one is asked for.
    pub item: Option<String>,
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
pub async fn run(gateway: &Gateway, mut asked: Asked) -> Result<Got, Problem> {
    let began = gateway.clock.mono();
    let until = began + asked.deadline.map_or(SOON, |all| all.min(SOON));
    let (live, waited) = find(gateway, &asked.connection, until).await?;
    let settings = live.settings();
    let item_found = item(&settings, &mut asked);
    let asked = &asked;
    let operation = match item_found.and_then(|()| offered(&settings, asked)) {
        Ok(operation) => operation,
        Err(problem) => return Err(for_his_eyes(gateway, &live, &settings, asked, problem)),
    };
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
    // What the wait for the connection took is gone, for everybody. Without one nothing is subtracted: requests that are
    // alike to the nanosecond share one call.
    let left = if waited { end.since(gateway.clock.mono()) } else { budget };
    let within = match asked.deadline {
        _ if !stand_ins.is_empty() => left / 2,
        Some(_) => left,
        // Who does not say how long he waits waits as long as the connection does.
        None => left.min(settings.timeouts().total),
    };
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
        Ended::Good(answer) => ready(operation, asked, answer),
        Ended::NotFound(answer) => Err(no_such_item(&answer)),
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

fn no_such_item(answer: &Answer) -> Problem {
    Problem::new(ErrorCode::ItemNotFound, "the provider has no such item").with("status_code", answer.status.as_u16())
}

/// The record that was asked for, or the provider's own body.
fn ready(operation: &Operation, asked: &Asked, answer: Answer) -> Result<Result<Ready, Failure>, Problem> {
    let failure = |code| Failure {
        kind: FailureKind::Provider,
        code,
        status: Some(answer.status.as_u16()),
        retry_in: None,
        again: false,
    };
    let ended = answer.reading.class == Class::EndOfData;
    let list = operation.canonical.as_ref().is_some_and(|mapping| mapping.shape == Shape::List);
    let result = match operation.canonical(&answer.body).filter(|_| !asked.raw) {
        Some(Ok(record)) => record,
        // How some say that they do not know a ticker: a good answer, with nothing in it.
        Some(Err(MappingError::Nothing)) => return Err(no_such_item(&answer)),
        // How some say that they show no more of a list, which may well be longer: an error without records.
        Some(Err(_)) if ended && list => serde_json::json!({ "records": [], "complete": false }),
        Some(Err(_)) if ended => return Err(no_such_item(&answer)),
        Some(Err(_)) => return Ok(Err(failure("unexpected_shape"))),
        None if answer.body.is_empty() => Value::Null,
        None => match json::parse(&answer.body) {
            Ok(body) => body,
            // Not JSON, or not of a sane depth, is nothing that fits into an answer of ours.
            Err(_) => return Ok(Err(failure("not_json"))),
        },
    };
    Ok(Ok(Ready { result, answer }))
}

/// The running connection of that name; one that is declared but not running here yet is waited for until then: it is being
/// taken over, or its first reconcile is under way. Also, whether it was waited for.
async fn find(gateway: &Gateway, key: &ObjectKey, until: Mono) -> Result<(Arc<Live>, bool), Problem> {
    let mut waited = false;
    loop {
        if let Some(live) = gateway.registry.get(key) {
            return Ok((live, waited));
        }
        if !(gateway.declared)(key) || gateway.clock.mono() >= until {
            let text =
                "no connection of that name is in service: does it exist, and what does its condition Ready say?";
            return Err(Problem::new(ErrorCode::ConnectionNotFound, text)
                .with("namespace", &*key.namespace)
                .with("connection", &*key.name));
        }
        waited = true;
        gateway.clock.sleep_until(until.min(gateway.clock.mono() + LOOK_EVERY)).await;
    }
}

/// What is wrong with a request is told to those who have a right to the operation; others learn that they have none, and
/// not what there is. Nothing is counted against a licence, for nothing was asked.
fn for_his_eyes(gateway: &Gateway, live: &Live, settings: &Settings, asked: &Asked, problem: Problem) -> Problem {
    let Some(rights) = settings.rights() else { return problem };
    match rights.judge(&asked.caller, &asked.operation) {
        Judgement::Allowed(_) => problem,
        Judgement::Denied { profile, action, why } => {
            let known = settings.profile().operations.contains_key(&asked.operation);
            gateway.refused(&Refused {
                connection: live.key(),
                provider: Some(settings.provider()),
                // Not any word that somebody sends.
                operation: if known { &action } else { UNKNOWN_OPERATION },
                caller: &asked.caller,
                profile: profile.as_deref(),
                reason: why.as_str(),
            });
            refused(&Refusal::Rights { action: action.into(), why })
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
