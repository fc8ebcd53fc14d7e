//! Connections that run in the test's own process, against simulated banks over real sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::{EffectiveState, OnUnhealthy};
use busbar::domain::key::ObjectKey;
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profile, Profiles};
use busbar::provider::call::{CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, ClientAuthentication, DEFAULT_REFRESH_BEFORE, Draft, Settings, TokenClient};
use busbar::testbed::sim::{BankConfig, BankHandle, RequiredAuth, Sim};
use secrecy::SecretString;

use super::banks::start_bank;

/// What a bank knows the operator by, in tests of tokens.
pub(crate) const CLIENT_ID: &str = "canary-client";
/// Its secret.
pub(crate) const CLIENT_SECRET: &str = "canary-secret";

/// The key of an object in the namespace of these tests.
pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("treasury", name)
}

/// A credential.
pub(crate) fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

/// A profile that comes with the operator.
pub(crate) fn builtin_profile(id: &str) -> Arc<Profile> {
    Profiles::builtin().unwrap().get(id).unwrap()
}

/// A connection of a built-in profile in the sandbox.
pub(crate) fn profile_draft(id: &str, base_url: impl Into<String>) -> Draft {
    let mut draft = Draft::new(builtin_profile(id), Environment::Sandbox);
    draft.base_url = base_url.into();
    draft
}

/// A connection of the generic provider to `base_url`, checked at `/health`. It makes no retries, so that each call is one
/// request.
pub(crate) fn draft(base_url: impl Into<String>) -> Draft {
    let mut draft = profile_draft("generic", base_url);
    draft.health_check.path = Some("/health".to_owned());
    draft.breaker.jitter_seed = 1;
    draft.retry.retries = 0;
    draft
}

/// The same with quick retries, short reads, and a breaker that never opens.
pub(crate) fn with_quick_retries(mut draft: Draft) -> Draft {
    draft.retry.retries = 3;
    draft.retry.base = Duration::from_millis(20);
    draft.retry.min_pacing = Duration::ZERO;
    draft.breaker.consecutive_failures = 0;
    draft.breaker.unhealthy = OnUnhealthy::Ignore;
    draft.timeouts.read = Some(Duration::from_millis(150));
    draft
}

/// A registry that may call loopback addresses, and the metrics of its connections.
pub(crate) fn registry() -> (Registry, Metrics) {
    registry_with(RegistryOptions::allowing_loopback())
}

/// The same with other options.
pub(crate) fn registry_with(options: RegistryOptions) -> (Registry, Metrics) {
    let metrics = Metrics::new();
    (Registry::new(Clock::system(), &metrics, options).unwrap(), metrics)
}

/// Applies the settings of the connection `bank`.
pub(crate) fn apply(registry: &Registry, draft: Draft) -> Arc<Connection> {
    apply_as(registry, "bank", draft)
}

/// Applies the settings of the connection `name`.
pub(crate) fn apply_as(registry: &Registry, name: &str, draft: Draft) -> Arc<Connection> {
    registry.apply(&key(name), &format!("uid-of-{name}"), Settings::resolve(draft).unwrap(), None)
}

/// A connection with a registry of its own.
pub(crate) fn connect(draft: Draft) -> Arc<Connection> {
    apply(&registry().0, draft)
}

/// The HTTP status that a health check finds.
pub(crate) async fn probe(connection: &Connection) -> Result<u16, CallError> {
    connection.probe().await.unwrap().result.map(|answer| answer.status.as_u16())
}

/// The HTTP status that a read finds.
pub(crate) async fn get(connection: &Connection, path: &str) -> Result<u16, CallError> {
    connection.call(Request::get("test", path)).await.map(|answer| answer.status.as_u16())
}

/// Whether calls are let through.
pub(crate) fn is_closed(connection: &Connection) -> bool {
    connection.snapshot().effective == EffectiveState::Closed
}

/// The client of [`required_oauth2`].
pub(crate) fn token_client(token_url: String) -> TokenClient {
    TokenClient {
        token_url,
        scopes: vec!["openid".to_owned()],
        audience: None,
        refresh_before: DEFAULT_REFRESH_BEFORE,
        client_authentication: ClientAuthentication::Auto,
        client_id: secret(CLIENT_ID),
        client_secret: secret(CLIENT_SECRET),
    }
}

/// The credentials of a connection to a bank with [`required_oauth2`].
pub(crate) fn client_credentials(bank: &BankHandle) -> Auth {
    Auth::ClientCredentials(token_client(bank.token_url()))
}

/// A bank that issues tokens with this lifetime to [`token_client`].
pub(crate) fn required_oauth2(lifetime_seconds: u64) -> RequiredAuth {
    required_oauth2_with(CLIENT_SECRET, lifetime_seconds)
}

/// The same for another client secret.
pub(crate) fn required_oauth2_with(client_secret: &str, lifetime_seconds: u64) -> RequiredAuth {
    RequiredAuth::OAuth2 {
        client_id: CLIENT_ID.to_owned(),
        client_secret: client_secret.to_owned(),
        expires_in_seconds: lifetime_seconds,
    }
}

/// A bank whose tokens have this lifetime, and what a connection to it needs.
pub(crate) async fn token_bank(lifetime_seconds: u64) -> (Sim, BankHandle, Draft) {
    let (sim, bank) = start_bank(BankConfig::new("bank").auth(required_oauth2(lifetime_seconds))).await;
    let mut draft = draft(bank.base_url());
    draft.auth = client_credentials(&bank);
    (sim, bank, draft)
}

/// Texts by name, owned.
pub(crate) fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
