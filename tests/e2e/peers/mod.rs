//! The call path against servers that other people wrote. No cluster is needed: connections are made in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::BreakerState;
use busbar::domain::key::ObjectKey;
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profiles};
use busbar::provider::call::{CallError, Request, Response};
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, Draft, Settings};
use secrecy::SecretString;

mod ground;
mod mountebank;
mod oauth2;
mod prism;
mod slow;
mod stripe;

/// A connection of a built-in profile to `base_url`, its Secret's values as given. Retries wait next to nothing; the
/// second failed call in a row opens the circuit, so that tries which are counted as calls would show.
fn draft(profile: &str, base_url: String, parameters: &[(&str, &str)], secrets: &[(&str, &str)]) -> Draft {
    let profile = Profiles::builtin().unwrap().get(profile).unwrap();
    let mut draft = Draft::new(profile, Environment::Sandbox);
    draft.parameters = texts(parameters);
    let secrets = texts(secrets);
    let secret = |key: &str| secrets.get(key).map(|value| SecretString::from(value.as_str()));
    draft.auth = match draft.profile.auth.as_ref() {
        Some(mapping) => Auth::from_profile(mapping, &base_url, &draft.parameters, secret).unwrap(),
        None => Auth::None,
    };
    draft.base_url = base_url;
    draft.retry.base = Duration::from_millis(10);
    draft.retry.max = Duration::from_millis(20);
    draft.retry.min_pacing = Duration::ZERO;
    draft.breaker.consecutive_failures = 2;
    draft
}

/// The running connection.
fn live(draft: Draft) -> Arc<Connection> {
    let registry = Registry::new(Clock::system(), &Metrics::new(), RegistryOptions::allowing_loopback()).unwrap();
    registry.apply(&ObjectKey::new("treasury", "bank"), "uid-1", Settings::resolve(draft).unwrap(), None)
}

/// The circuit.
fn circuit(live: &Connection) -> BreakerState {
    live.snapshot().circuit.state
}

/// The request of an operation of the connection's profile.
fn request(live: &Connection, operation: &str, parameters: &[(&str, &str)]) -> Request {
    let settings = live.settings();
    let wanted = settings.profile().operations.get(operation).unwrap();
    Request::from_operation(operation, wanted.request(&texts(parameters), settings.parameters()).unwrap())
}

/// Calls an operation of the connection's profile.
async fn call(live: &Connection, operation: &str, parameters: &[(&str, &str)]) -> Result<Response, CallError> {
    live.call(request(live, operation, parameters)).await
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
