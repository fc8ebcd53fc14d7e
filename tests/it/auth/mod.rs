//! How calls prove who they are and where they may go, over real sockets: addresses, client certificates, tokens, and
//! what a walk through pages makes of a credential that changes under it.

use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::EffectiveState;
use busbar::metrics::Metrics;
use busbar::provider::call::{CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, DEFAULT_REFRESH_BEFORE, Draft, TokenClient};
use busbar::testbed::sim::{BankConfig, BankHandle, RequiredAuth, Sim};
use secrecy::SecretString;

use crate::call_path::{apply, bank, draft};

mod addresses;
mod certificates;
mod refresh;
mod rotated;
mod silence;
mod tokens;
mod walks;

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

/// A draft whose calls are one try, so that each call is one thing to look at.
fn once(base_url: impl Into<String>) -> Draft {
    let mut draft = draft(base_url);
    draft.retry.retries = 0;
    draft
}

fn registry(access: RegistryOptions) -> (Registry, Metrics) {
    let metrics = Metrics::new();
    (Registry::new(Clock::system(), &metrics, access).unwrap(), metrics)
}

fn live(draft: Draft) -> Arc<Connection> {
    apply(&registry(RegistryOptions::allowing_loopback()).0, draft)
}

async fn get(live: &Connection, path: &str) -> Result<u16, CallError> {
    live.call(Request::get("test", path)).await.map(|answer| answer.status.as_u16())
}

fn client(token_url: String) -> TokenClient {
    TokenClient {
        token_url,
        scopes: Vec::new(),
        audience: None,
        refresh_before: DEFAULT_REFRESH_BEFORE,
        client_id: secret("canary-client"),
        client_secret: secret("canary-secret"),
    }
}

fn issues(seconds: u64) -> RequiredAuth {
    RequiredAuth::OAuth2 {
        client_id: "canary-client".to_owned(),
        client_secret: "canary-secret".to_owned(),
        expires_in_seconds: seconds,
    }
}

/// A bank that gives tokens of `seconds`, and what a connection to it needs.
async fn token_bank(seconds: u64) -> (Sim, BankHandle, Draft) {
    let (sim, bank) = bank(BankConfig::new("bank").auth(issues(seconds))).await;
    let mut draft = once(bank.base_url());
    draft.auth = Auth::ClientCredentials(client(bank.token_url()));
    (sim, bank, draft)
}

fn closed(live: &Connection) -> bool {
    live.snapshot().effective == EffectiveState::Closed
}

/// Long enough for a token of `seconds` to have ended, by the bank's clock too.
async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds) + Duration::from_millis(50)).await;
}
