//! Resolves a request's operation in a connection's profile, and the fallbacks that may answer it.

use std::sync::Arc;

use crate::domain::breaker::CallClass;
use crate::gateway::call::CallRequest;
use crate::gateway::problem::{ErrorCode, Problem};
use crate::gateway::state::Gateway;
use crate::profile::Operation;
use crate::provider::connection::Connection;
use crate::provider::invoke::{self, InvalidOperation, InvokeOptions};
use crate::settings::{FallbackTarget, Settings};

/// Replaces a list operation by the operation for one item of the list, if the request has an item ID: the operation
/// whose path is the list's path plus one parameter.
pub(super) fn resolve_item(settings: &Settings, request: &mut CallRequest) -> Result<(), Problem> {
    let Some(id) = request.item.take() else { return Ok(()) };
    let operations = &settings.profile().operations;
    let found = operations.get(&request.operation).and_then(|list| {
        operations.iter().find_map(|(name, operation)| {
            let suffix = operation.path.as_str().strip_prefix(list.path.as_str())?;
            let parameter = suffix.strip_prefix("/{")?.strip_suffix('}')?;
            let matches = operation.method == list.method && operation.parameters.contains_key(parameter);
            matches.then(|| (name.clone(), parameter.to_owned()))
        })
    });
    let Some((name, parameter)) = found else {
        let text = "operation not found: the provider's profile has no operation for one item of this list";
        return Err(Problem::new(ErrorCode::OperationNotFound, text).with("provider", settings.provider()));
    };
    if request.parameters.insert(parameter.clone(), id).is_some() {
        let text = "the item ID is given twice: in the path and as a parameter; remove the parameter";
        return Err(Problem::new(ErrorCode::InvalidRequest, text).with("parameter", parameter));
    }
    request.operation = name;
    Ok(())
}

/// The operation of the request, if the profile has it, it is callable with this method, and its parameters are valid.
pub(super) fn resolve_operation<'a>(settings: &'a Settings, request: &CallRequest) -> Result<&'a Operation, Problem> {
    let operation = invoke::find_operation(settings, &request.operation).map_err(|error| {
        let known: Vec<&str> = settings.profile().operations.keys().map(String::as_str).collect();
        invalid_operation(&error).with("provider", settings.provider()).with("operations", known)
    })?;
    if operation.class() == CallClass::Money {
        let text = "an operation that moves money is not callable here; use the payouts path";
        return Err(Problem::new(ErrorCode::NotCallable, text));
    }
    if !invoke::is_repeatable(operation) && !request.post {
        return Err(Problem::new(ErrorCode::NotCallable, "an operation that writes is not callable by GET; use POST"));
    }
    // Validated before anything is sent, so that an invalid parameter costs no call and is reported as such, whether
    // the connection or a fallback would answer.
    let options = InvokeOptions::default();
    invoke::build_request(settings, &request.operation, operation, &request.parameters, options)
        .map_err(|error| invalid_operation(&error.into()))?;
    Ok(operation)
}

/// The connections that may answer this operation as fallback, in the order of `spec.fallback`: those whose operation
/// of the same name maps to the same canonical record.
pub(super) fn eligible_fallbacks(
    gateway: &Gateway,
    settings: &Settings,
    operation: &Operation,
    request: &CallRequest,
) -> Vec<Arc<Connection>> {
    let Some(canonical) = &operation.canonical else { return Vec::new() };
    if !invoke::is_repeatable(operation) {
        return Vec::new();
    }
    let covers_operation = |target: &&FallbackTarget| {
        target.operations.as_ref().is_none_or(|operations| operations.contains(&request.operation))
    };
    let has_same_record = |connection: &Arc<Connection>| {
        let settings = connection.settings();
        invoke::find_operation(&settings, &request.operation).is_ok_and(|operation| {
            invoke::is_repeatable(operation)
                && operation.canonical.as_ref().is_some_and(|mapping| mapping.record == canonical.record)
        })
    };
    settings
        .fallback()
        .iter()
        .filter(covers_operation)
        .filter_map(|target| gateway.registry.get(&request.connection.sibling(target.connection.as_str())))
        .filter(|connection| *connection.key() != request.connection)
        .filter(has_same_record)
        .collect()
}

/// The problem for an operation that cannot be called as requested.
pub(super) fn invalid_operation(error: &InvalidOperation) -> Problem {
    match error {
        InvalidOperation::Unknown => Problem::new(ErrorCode::OperationNotFound, error.to_string()),
        InvalidOperation::FeatureDisabled(feature) => {
            Problem::new(ErrorCode::OperationNotFound, error.to_string()).with("feature", feature.as_str())
        }
        InvalidOperation::Parameter(parameter) => {
            Problem::new(ErrorCode::InvalidRequest, error.to_string()).with("parameter", parameter.field.as_str())
        }
    }
}
