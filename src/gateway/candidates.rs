//! Resolves a request once into the ordered list of connections that may answer it.
//!
//! The called connection comes first, then those of `spec.fallback` whose operation of the same name maps to the same
//! canonical record. [`crate::gateway::fallback_access`] removes those that the caller may not use.

use std::sync::Arc;

use crate::domain::breaker::CallClass;
use crate::gateway::call::CallRequest;
use crate::gateway::call_problem::invalid_operation;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::profile::{CanonicalRecord, Operation};
use crate::provider::connection::Connection;
use crate::provider::invoke;
use crate::provider::registry::Registry;
use crate::settings::Settings;

/// A running connection and the settings that the request is resolved against.
pub(super) struct ResolvedConnection {
    pub(super) connection: Arc<Connection>,
    pub(super) settings: Arc<Settings>,
}

impl From<Arc<Connection>> for ResolvedConnection {
    fn from(connection: Arc<Connection>) -> Self {
        let settings = connection.settings();
        Self { connection, settings }
    }
}

/// A connection that may answer the request, and its operation.
pub(super) struct Candidate<'a> {
    pub(super) connection: &'a Connection,
    pub(super) settings: &'a Arc<Settings>,
    pub(super) operation: &'a Operation,
    pub(super) role: Role,
}

/// Why a connection is a candidate.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// The request names it.
    Called,
    /// The called connection declares it in `spec.fallback`.
    Fallback,
}

impl<'a> Candidate<'a> {
    fn new(resolved: &'a ResolvedConnection, operation: &'a Operation, role: Role) -> Self {
        Self { connection: &resolved.connection, settings: &resolved.settings, operation, role }
    }

    /// The provider as reported to the caller: a fallback's name ends with `_fallback`.
    pub(super) fn provider_used(&self) -> String {
        match self.role {
            Role::Called => self.settings.provider().to_owned(),
            Role::Fallback => format!("{}_fallback", self.settings.provider()),
        }
    }
}

/// The connections that may answer the request: at least the called one.
pub(super) struct Candidates<'a> {
    pub(super) called: Candidate<'a>,
    pub(super) fallbacks: Vec<Candidate<'a>>,
}

impl<'a> Candidates<'a> {
    /// Their number.
    pub(super) fn len(&self) -> usize {
        1 + self.fallbacks.len()
    }

    /// The candidates in the order in which they are tried.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Candidate<'a>> {
        std::iter::once(&self.called).chain(&self.fallbacks)
    }
}

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

/// The running connections that `called` declares as fallbacks for the operation, in the order of `spec.fallback`.
/// There are none for the provider's own body: it differs between providers.
pub(super) fn declared_fallbacks(
    registry: &Registry,
    called: &ResolvedConnection,
    request: &CallRequest,
) -> Vec<ResolvedConnection> {
    if request.raw {
        return Vec::new();
    }
    let covered =
        called.settings.fallback().iter().filter(|target| {
            target.operations.as_ref().is_none_or(|operations| operations.contains(&request.operation))
        });
    covered
        .filter_map(|target| registry.get(&request.connection.sibling(target.connection.as_str())))
        .filter(|connection| *connection.key() != request.connection)
        .map(ResolvedConnection::from)
        .collect()
}

/// The candidates of the request: the called connection, and those of its fallbacks that have the same record. Fails
/// if the called connection does not have the operation, or it is not callable with this method.
pub(super) fn candidates<'a>(
    called: &'a ResolvedConnection,
    fallbacks: &'a [ResolvedConnection],
    request: &CallRequest,
) -> Result<Candidates<'a>, Problem> {
    let operation = callable_operation(&called.settings, request)?;
    let record = shared_record(operation);
    let fallback = |fallback: &'a ResolvedConnection| {
        let operation = invoke::find_operation(&fallback.settings, &request.operation).ok()?;
        (record.is_some() && shared_record(operation) == record)
            .then(|| Candidate::new(fallback, operation, Role::Fallback))
    };
    Ok(Candidates {
        called: Candidate::new(called, operation, Role::Called),
        fallbacks: fallbacks.iter().filter_map(fallback).collect(),
    })
}

/// The operation of the request, if the profile has it and it is callable with this method.
fn callable_operation<'a>(settings: &'a Settings, request: &CallRequest) -> Result<&'a Operation, Problem> {
    let operation = invoke::find_operation(settings, &request.operation).map_err(|error| {
        let known: Vec<&str> = settings.profile().operations.keys().map(String::as_str).collect();
        invalid_operation(&error).with("provider", settings.provider()).with("operations", known)
    })?;
    if operation.class() == CallClass::Money {
        let text = "an operation that moves money is not callable here; use the payouts path";
        return Err(Problem::new(ErrorCode::NotCallable, text));
    }
    // It would cancel what the audit does not know of.
    if settings.profile().cancels_payouts(&request.operation) {
        let text = "an operation that cancels payouts is not callable here; use the payouts path";
        return Err(Problem::new(ErrorCode::NotCallable, text));
    }
    if !invoke::is_repeatable(operation) && !request.post {
        return Err(Problem::new(ErrorCode::NotCallable, "an operation that writes is not callable by GET; use POST"));
    }
    Ok(operation)
}

/// The record that another connection can return instead; `None` for operations without a mapping, for writes, which
/// must not be repeated elsewhere, and for stubs, which are not mapped.
fn shared_record(operation: &Operation) -> Option<CanonicalRecord> {
    let shared = invoke::is_repeatable(operation) && operation.stub.is_none();
    operation.canonical.as_ref().filter(|_| shared).map(|mapping| mapping.record)
}
