//! The call path against servers of other projects. No cluster is needed: connections run in this process.

mod mountebank;
mod oauth2;
mod peer_servers;
mod prism;
mod slow_responses;
mod stripe;

use std::time::Duration;

use busbar::domain::breaker::BreakerState;
use busbar::provider::call::{CallError, Request, Response};
use busbar::provider::connection::Connection;
use busbar::settings::{Auth, Draft};

use crate::kit::connections::{profile_draft, secret, texts};

/// A connection of a built-in profile to `base_url`, with these parameters and values of its Secret. Retries wait for next
/// to nothing; the second failed call in a row opens the circuit, so that tries which are counted as calls would show.
fn peer_draft(profile: &str, base_url: String, parameters: &[(&str, &str)], secrets: &[(&str, &str)]) -> Draft {
    let mut draft = profile_draft(profile, base_url);
    draft.parameters = texts(parameters);
    let secrets = texts(secrets);
    draft.auth = match draft.profile.auth.as_ref() {
        Some(mapping) => {
            let value = |key: &str| secrets.get(key).map(|value| secret(value));
            Auth::from_profile(mapping, &draft.base_url, &draft.parameters, value).unwrap()
        }
        None => Auth::None,
    };
    draft.retry.base = Duration::from_millis(10);
    draft.retry.max = Duration::from_millis(20);
    draft.retry.min_pacing = Duration::ZERO;
    draft.breaker.consecutive_failures = 2;
    draft
}

/// The state of the circuit.
fn circuit(connection: &Connection) -> BreakerState {
    connection.snapshot().circuit.state
}

/// The request of an operation of the connection's profile.
fn operation_request(connection: &Connection, operation: &str, parameters: &[(&str, &str)]) -> Request {
    let settings = connection.settings();
    let definition = settings.profile().operations.get(operation).unwrap();
    Request::from_operation(operation, definition.request(&texts(parameters), settings.parameters()).unwrap())
}

/// Calls an operation of the connection's profile.
async fn call_operation(
    connection: &Connection,
    operation: &str,
    parameters: &[(&str, &str)],
) -> Result<Response, CallError> {
    connection.call(operation_request(connection, operation, parameters)).await
}
