//! What a connection offers to a request: its operation, and who can stand in for it.

use std::sync::Arc;

use crate::domain::breaker::CallClass;
use crate::gateway::Gateway;
use crate::gateway::operation::Asked;
use crate::gateway::problem::{ErrorCode, Problem};
use crate::provider::ask::{self, CannotAsk, Manner};
use crate::provider::live::Live;
use crate::provider::profile::Operation;
use crate::provider::settings::{Settings, StandIn};

/// Puts the operation for one item in the place of the one for their list: the one whose path is the list's and one
/// parameter more.
pub(super) fn item(settings: &Settings, asked: &mut Asked) -> Result<(), Problem> {
    let Some(id) = asked.item.take() else { return Ok(()) };
    let operations = &settings.profile().operations;
    let found = operations.get(&asked.operation).and_then(|list| {
        operations.iter().find_map(|(name, one)| {
            let more = one.path.as_str().strip_prefix(list.path.as_str())?;
            let parameter = more.strip_prefix("/{")?.strip_suffix('}')?;
            let alike = one.method == list.method && one.parameters.contains_key(parameter);
            alike.then(|| (name.clone(), parameter.to_owned()))
        })
    });
    let Some((name, parameter)) = found else {
        let text = "the provider's profile has no operation for one item of that list";
        return Err(Problem::new(ErrorCode::OperationNotFound, text).with("provider", settings.provider()));
    };
    if asked.parameters.insert(parameter.clone(), id).is_some() {
        let text = "the item is named by the path: leave the parameter out";
        return Err(Problem::new(ErrorCode::InvalidRequest, text).with("parameter", parameter));
    }
    asked.operation = name;
    Ok(())
}

/// The operation, if the connection offers it to this kind of request.
pub(super) fn offered<'a>(settings: &'a Settings, asked: &Asked) -> Result<&'a Operation, Problem> {
    let operation = ask::operation(settings, &asked.operation).map_err(|error| {
        let known: Vec<&str> = settings.profile().operations.keys().map(String::as_str).collect();
        invalid(&error).with("provider", settings.provider()).with("operations", known)
    })?;
    if operation.class() == CallClass::Money {
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
pub(super) fn stand_ins(
    gateway: &Gateway,
    settings: &Settings,
    operation: &Operation,
    asked: &Asked,
) -> Vec<Arc<Live>> {
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

pub(super) fn invalid(error: &CannotAsk) -> Problem {
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
