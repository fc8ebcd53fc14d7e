mod binding;
mod calls;
mod rotation;
mod task_ends;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use secrecy::{ExposeSecret as _, SecretString};

use super::*;
use crate::provider::auth::authenticator::Authenticator;
use crate::provider::auth::credential_cache::CredentialCache;
use crate::provider::auth::endpoint_credential::EndpointCredential;
use crate::provider::auth::refresh_token_store::RefreshTokenEntry;
use crate::provider::auth::secret_source::SecretSource;
use crate::provider::auth::token_endpoint::TokenEndpoint;
use crate::provider::auth::token_response::TokenResponse;
use crate::provider::http_clients::HttpClients;
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::testkit::{monitor, settings};
use crate::settings::{Auth, ClientAuthentication, Settings, TokenClient};

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

fn token(expires_in: Option<u64>, refresh_before: u64) -> (u64, u64) {
    let response = TokenResponse {
        access_token: secret("canary-token"),
        expires_in: expires_in.map(Duration::from_secs),
        refresh_token: None,
        requested_at: Mono::ZERO,
    };
    let token = AccessToken::new(&response, CredentialId::unique(), Duration::from_secs(refresh_before));
    let seconds = |at: Mono| at.since(Mono::ZERO).as_secs();
    (seconds(token.refresh_at), seconds(token.expires_at))
}

#[test]
fn refresh_time_is_bounded_by_refresh_before_and_the_lifetime() {
    assert_eq!(token(Some(3600), 60), (3540, 3600), "refreshBefore bounds a long lifetime");
    assert_eq!(token(Some(90), 60), (60, 90), "a third of a short one");
    assert_eq!(token(Some(2), 60), (1, 2), "at least a second");
    assert_eq!(token(Some(2), 0), (1, 2), "refreshBefore below a second is a second");
    assert_eq!(token(Some(0), 60), (0, 0));
    assert_eq!(token(None, 60), (240, 300), "the default lifetime");
    assert_eq!(token(Some(86_400), 60), (3540, 3600), "cached for an hour at most");
}

/// How the endpoint responds: a lifetime in seconds, or an error.
type ScriptedResponse = Result<u64, TokenError>;

/// A token endpoint that responds after 100 ms as scripted, by default with tokens of an hour. With `rotates` it
/// accepts each refresh token once.
#[derive(Default)]
struct FakeTokenServer {
    script: Mutex<VecDeque<ScriptedResponse>>,
    requests: AtomicUsize,
    rotates: bool,
    valid_token: Mutex<String>,
    received: Mutex<Vec<String>>,
}

impl FakeTokenServer {
    fn respond_with(&self, script: impl IntoIterator<Item = ScriptedResponse>) {
        self.script.lock().unwrap().extend(script);
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

struct FakeTokenEndpoint(Arc<FakeTokenServer>, Clock);

impl TokenEndpoint for FakeTokenEndpoint {
    fn request<'a>(
        &'a self,
        refresh_token: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<TokenResponse, TokenError>> {
        async move {
            let (server, requested_at) = (&self.0, self.1.mono());
            let number = server.requests.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let lifetime = server.script.lock().unwrap().pop_front().unwrap_or(Ok(3600))?;
            let mut rotated = None;
            if let Some(sent) = refresh_token {
                server.received.lock().unwrap().push(sent.expose_secret().to_owned());
                let mut valid = server.valid_token.lock().unwrap();
                if *valid != sent.expose_secret() {
                    return Err(CallError::CredentialsRefused { status: 400 }.into());
                }
                if server.rotates {
                    *valid = format!("canary-rotated-{number}");
                    rotated = Some(secret(&valid));
                }
            }
            Ok(TokenResponse {
                access_token: secret(&format!("canary-{number}")),
                expires_in: Some(Duration::from_secs(lifetime)),
                refresh_token: rotated,
                requested_at,
            })
        }
        .boxed()
    }
}

fn no_token(status: u16) -> TokenError {
    CallError::NoToken { status: Some(status), class: ErrorClass::Connect }.into()
}

fn tokens_of(
    monitor: &Arc<ConnectionMonitor>,
    server: &Arc<FakeTokenServer>,
    rotation: Option<Rotation>,
) -> Arc<AccessTokenCache> {
    let (initial, secrets, entry) = match rotation {
        None => (settings(|_| {}), None, None),
        Some(Rotation { settings, entry, secrets }) => (settings, Some(secrets), Some(entry)),
    };
    let credentials = CredentialCache::new(initial, HttpClients::default(), Arc::clone(monitor), secrets);
    let (server, clock) = (Arc::clone(server), monitor.clock());
    let factory = move |_: &EndpointCredential| {
        Some(Arc::new(FakeTokenEndpoint(Arc::clone(&server), clock)) as Arc<dyn TokenEndpoint>)
    };
    let source = AccessTokenSource::new(Box::new(factory), credentials, Arc::clone(monitor), entry).unwrap();
    AccessTokenCache::new(source, monitor.clock(), Duration::from_mins(1))
}

/// What a connection with a refresh token needs in addition to its endpoint.
struct Rotation {
    settings: Arc<Settings>,
    entry: RefreshTokenEntry,
    secrets: Arc<dyn SecretSource>,
}

/// What the settings of a connection with a refresh token are made of.
#[derive(Copy, Clone)]
struct RefreshSpec<'a> {
    refresh_token: &'a str,
    owner: &'a str,
    /// Name, UID and version of the Secret.
    revision: &'a str,
    token_url: &'a str,
    client_id: &'a str,
}

/// The connection of most tests.
const REFRESH: RefreshSpec<'static> = RefreshSpec {
    refresh_token: "canary-first",
    owner: "uid-1",
    revision: "bank@1",
    token_url: "https://bank.test/token",
    client_id: "canary-client",
};

impl RefreshSpec<'_> {
    fn settings(self) -> Arc<Settings> {
        let client = TokenClient {
            token_url: self.token_url.to_owned(),
            scopes: Vec::new(),
            audience: None,
            refresh_before: Duration::from_mins(1),
            client_authentication: ClientAuthentication::Auto,
            client_id: secret(self.client_id),
            client_secret: secret("canary-secret"),
        };
        settings(|draft| {
            draft.owner = self.owner.into();
            draft.credential_revision = self.revision.to_owned();
            draft.auth = Auth::RefreshToken { client, refresh_token: secret(self.refresh_token) };
        })
    }
}

fn authenticator(tokens: &Arc<AccessTokenCache>) -> Authenticator {
    Authenticator::of(Arc::clone(tokens.source.credentials()), Some(Arc::clone(tokens)))
}

fn tokens(server: &Arc<FakeTokenServer>) -> Arc<AccessTokenCache> {
    tokens_of(&monitor(&settings(|_| {})), server, None)
}

async fn sleep_secs(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn concurrent_callers_with_an_expired_token_share_one_request() {
    let server = Arc::new(FakeTokenServer::default());
    let tokens = tokens(&server);
    tokens.get().await.unwrap();
    sleep_secs(3600).await;
    let all = join_all((0..1000).map(|_| tokens.get())).await;
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|token| Arc::ptr_eq(token.as_ref().unwrap(), first)));
    assert_eq!(server.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_due_for_refresh_is_used_while_one_request_fetches_the_next() {
    let server = Arc::new(FakeTokenServer::default());
    let tokens = tokens(&server);
    let first = tokens.get().await.unwrap();
    sleep_secs(3545).await;
    let all = join_all((0..1000).map(|_| tokens.get())).await;
    assert!(all.iter().all(|token| Arc::ptr_eq(token.as_ref().unwrap(), &first)), "no caller waits");
    sleep_secs(1).await;
    assert!(!Arc::ptr_eq(&tokens.get().await.unwrap(), &first));
    assert_eq!(server.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_cancel_the_fetch_for_others() {
    let server = Arc::new(FakeTokenServer::default());
    let tokens = tokens(&server);
    let (given_up, waiting) = (tokens.get(), tokens.get());
    let ends = futures::future::join(tokio::time::timeout(Duration::from_millis(10), given_up), waiting).await;
    assert!(ends.0.is_err() && ends.1.is_ok());
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_early_refresh_keeps_the_valid_token_and_is_retried_after_a_delay() {
    let server = Arc::new(FakeTokenServer::default());
    let tokens = tokens(&server);
    let first = tokens.get().await.unwrap();
    server.respond_with([Err(no_token(500)), Err(no_token(500))]);
    sleep_secs(3541).await;
    for _ in 0..40 {
        assert!(Arc::ptr_eq(&tokens.get().await.unwrap(), &first));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.requests(), 2);
    sleep_secs(6).await;
    drop(tokens.get().await);
    sleep_secs(6).await;
    drop(tokens.get().await);
    sleep_secs(1).await;
    assert!(!Arc::ptr_eq(&tokens.get().await.unwrap(), &first));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_wiped_when_it_expires_after_an_hour_at_most() {
    let server = Arc::new(FakeTokenServer::default());
    server.respond_with([Ok(86_400)]);
    let tokens = tokens(&server);
    let weak = Arc::downgrade(&tokens.get().await.unwrap());
    sleep_secs(3590).await;
    assert!(weak.upgrade().is_some());
    sleep_secs(11).await;
    assert!(weak.upgrade().is_none(), "wiped without a call");
    // The wiper task does not keep a dropped cache alive.
    let token = tokens.get().await.unwrap();
    let owner = Arc::downgrade(&tokens);
    drop((tokens, token));
    assert!(owner.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failing_token_endpoint_opens_its_own_circuit() {
    let server = Arc::new(FakeTokenServer::default());
    let tokens = tokens(&server);
    server.respond_with((0..6).map(|_| Err(no_token(503))));
    for _ in 0..5 {
        assert_eq!(tokens.get().await.err(), Some(no_token(503).error));
    }
    assert!(tokens.unavailable());
    let refused = tokens.get().await.err();
    assert!(matches!(refused, Some(CallError::TokenCircuitOpen { retry_in: Some(_) })), "{refused:?}");
    assert_eq!(server.requests(), 5, "an open circuit sends nothing");
    sleep_secs(31).await;
    assert_eq!(tokens.get().await.err(), Some(no_token(503).error), "the trial");
    assert!(matches!(tokens.get().await.err(), Some(CallError::TokenCircuitOpen { .. })));
    sleep_secs(31).await;
    assert!(tokens.get().await.is_ok());
    assert!(!tokens.unavailable());
}

#[tokio::test(start_paused = true)]
async fn token_endpoint_failures_do_not_open_the_providers_circuit() {
    let settings = settings(|draft| draft.breaker.consecutive_failures = 1);
    let monitor = monitor(&settings);
    let server = Arc::new(FakeTokenServer::default());
    server.respond_with((0..9).map(|_| Err(no_token(500))));
    let tokens = tokens_of(&monitor, &server, None);
    let inner = crate::provider::testkit::inner_fn(|_| async { Ok(crate::provider::testkit::response(200)) });
    let auth = crate::provider::auth::AuthService::new(
        inner,
        Arc::clone(&monitor),
        Arc::clone(&settings),
        authenticator(&tokens),
    );
    let path = crate::provider::breaker::BreakerService::new(auth, Arc::clone(&monitor), Arc::clone(&settings));
    for _ in 0..9 {
        let request = crate::provider::call::Request::get("x", "/");
        let ctx = crate::provider::call_context::CallContext::new(request, Mono::MAX);
        let error = tower::ServiceExt::oneshot(path.clone(), ctx).await.unwrap_err();
        assert!(matches!(error, CallError::NoToken { .. } | CallError::TokenCircuitOpen { .. }), "{error}");
    }
    let seen = monitor.snapshot(&settings);
    assert_eq!(seen.effective, crate::domain::breaker::EffectiveState::Closed);
    assert_eq!(seen.health, crate::domain::health::Health::Unknown, "no call reached the provider");
    assert!(seen.token_missing);
    assert_eq!(seen.authenticated, None);
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_not_sent_again_for_a_while() {
    let server = Arc::new(FakeTokenServer::default());
    let tokens = tokens(&server);
    let refused = CallError::CredentialsRefused { status: 401 };
    server.respond_with([Err(refused.clone().into())]);
    for _ in 0..100 {
        assert_eq!(tokens.get().await.err(), Some(refused.clone()));
    }
    assert_eq!(server.requests(), 1);
    sleep_secs(5).await;
    assert!(tokens.get().await.is_ok(), "the endpoint may accept them by now");
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_the_token_endpoint_is_honoured() {
    let server = Arc::new(FakeTokenServer::default());
    let tokens = tokens(&server);
    server.respond_with([Err(TokenError { retry_after: Some(Duration::from_secs(20)), ..no_token(429) })]);
    for _ in 0..10 {
        assert!(matches!(tokens.get().await.err(), Some(CallError::NoToken { status: Some(429), .. })));
        sleep_secs(1).await;
    }
    assert_eq!(server.requests(), 1);
    sleep_secs(11).await;
    assert!(tokens.get().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_refuses_every_token_does_not_cost_a_token_per_call() {
    let server = Arc::new(FakeTokenServer::default());
    let tokens = tokens(&server);
    let first = tokens.get().await.unwrap();
    first.mark_accepted();
    assert!(tokens.discard_refused(&first), "one forced refresh");
    for _ in 0..50 {
        let token = tokens.get().await.unwrap();
        assert!(!tokens.discard_refused(&token), "the new one was refused too");
    }
    assert_eq!(server.requests(), 2);
    assert!(tokens.discard_refused(&first), "a late caller with the old token gets the new one");
    sleep_secs(6).await;
    assert!(tokens.discard_refused(&tokens.get().await.unwrap()), "after a while another try is allowed");
}
