mod calls;
mod rotation;

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;

use futures::future::join_all;

use super::*;
use crate::provider::auth::Proof;
use crate::provider::auth::fetch::Endpoint;
use crate::provider::auth::keys::{Keys, Lookup};
use crate::provider::auth::vault::{Safe, SecretSource};
use crate::provider::clients::Clients;
use crate::provider::observe::Core;
use crate::provider::settings::{Auth, Settings, TokenClient};
use crate::provider::testkit::{core, settings};

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

fn token(expires_in: Option<u64>, refresh_before: u64) -> (u64, u64) {
    let fetched = Fetched {
        access_token: secret("canary-token"),
        expires_in: expires_in.map(Duration::from_secs),
        refresh_token: None,
        asked: Mono::ZERO,
    };
    let token = Token::new(&fetched, Duration::from_secs(refresh_before));
    let seconds = |at: Mono| at.since(Mono::ZERO).as_secs();
    (seconds(token.refresh_at), seconds(token.expires_at))
}

#[test]
fn a_token_is_refreshed_early_but_never_all_its_life() {
    assert_eq!(token(Some(3600), 60), (3540, 3600), "refreshBefore bounds a long life");
    assert_eq!(token(Some(90), 60), (60, 90), "a third of a short one");
    assert_eq!(token(Some(2), 60), (1, 2), "at least a second");
    assert_eq!(token(Some(2), 0), (1, 2), "refreshBefore below a second is a second");
    assert_eq!(token(Some(0), 60), (0, 0));
    assert_eq!(token(None, 60), (240, 300), "an unknown life is short, not over");
    assert_eq!(token(Some(86_400), 60), (3540, 3600), "kept an hour at most");
}

/// How the endpoint answers: a life in seconds, or an error.
type Said = Result<u64, NotFetched>;

/// A token endpoint that answers after a while, as it was told; told nothing, with tokens of an hour. With `rotates` it
/// takes each refresh token once.
#[derive(Default)]
struct Bank {
    said: Mutex<VecDeque<Said>>,
    asked: AtomicUsize,
    rotates: bool,
    good: Mutex<String>,
    sent: Mutex<Vec<String>>,
}

impl Bank {
    fn says(&self, said: impl IntoIterator<Item = Said>) {
        self.said.lock().unwrap().extend(said);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

struct At(Arc<Bank>, Clock);

impl Endpoint for At {
    fn ask<'a>(&'a self, refresh_token: Option<&'a SecretString>) -> BoxFuture<'a, Result<Fetched, NotFetched>> {
        async move {
            let (bank, asked) = (&self.0, self.1.mono());
            let number = bank.asked.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let life = bank.said.lock().unwrap().pop_front().unwrap_or(Ok(3600))?;
            let mut rotated = None;
            if let Some(sent) = refresh_token {
                bank.sent.lock().unwrap().push(sent.expose_secret().to_owned());
                let mut good = bank.good.lock().unwrap();
                if *good != sent.expose_secret() {
                    return Err(CallError::CredentialsRefused { status: 400 }.into());
                }
                if bank.rotates {
                    *good = format!("canary-rotated-{number}");
                    rotated = Some(secret(&good));
                }
            }
            Ok(Fetched {
                access_token: secret(&format!("canary-{number}")),
                expires_in: Some(Duration::from_secs(life)),
                refresh_token: rotated,
                asked,
            })
        }
        .boxed()
    }
}

fn no_token(status: u16) -> NotFetched {
    CallError::NoToken { status: Some(status), class: ErrorClass::Connect }.into()
}

fn tokens_of(core: &Arc<Core>, bank: &Arc<Bank>, rotation: Option<Rotation>) -> Arc<Tokens> {
    let (first, secrets, safe) = match rotation {
        None => (settings(|_| {}), None, None),
        Some(Rotation { origin, safe, secrets }) => (of_secret(origin), Some(secrets), Some(safe)),
    };
    let keys =
        Keys::new(first, Arc::clone(core), secrets.map(|secrets| Lookup { secrets, clients: Clients::default() }));
    let (bank, clock) = (Arc::clone(bank), core.clock());
    let make = move |_: &Settings| Some(Arc::new(At(Arc::clone(&bank), clock)) as Arc<dyn Endpoint>);
    let source = Source::new(Box::new(make), keys, Arc::clone(core), safe).unwrap();
    Tokens::new(source, core.clock(), Duration::from_mins(1))
}

/// What a connection with a refresh token needs beside its endpoint.
struct Rotation {
    origin: SecretString,
    safe: Safe,
    secrets: Arc<dyn SecretSource>,
}

/// The connection as the Secret makes it that holds this refresh token.
fn of_secret(refresh_token: SecretString) -> Arc<Settings> {
    let client = TokenClient {
        token_url: "https://bank.test/token".to_owned(),
        scopes: Vec::new(),
        audience: None,
        refresh_before: Duration::from_mins(1),
        client_id: secret("canary-client"),
        client_secret: secret("canary-secret"),
    };
    settings(|draft| draft.auth = Auth::RefreshToken { client, refresh_token })
}

fn proof(tokens: Arc<Tokens>, settings: &Arc<Settings>, core: &Arc<Core>) -> Proof {
    Proof { keys: Keys::new(Arc::clone(settings), Arc::clone(core), None), tokens: Some(tokens) }
}

fn tokens(bank: &Arc<Bank>) -> Arc<Tokens> {
    tokens_of(&core(&settings(|_| {})), bank, None)
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_at_the_end_of_a_token_make_one_request() {
    let bank = Arc::new(Bank::default());
    let tokens = tokens(&bank);
    tokens.get().await.unwrap();
    pass(3600).await;
    let all = join_all((0..1000).map(|_| tokens.get())).await;
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|token| Arc::ptr_eq(token.as_ref().unwrap(), first)));
    assert_eq!(bank.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_before_its_end_use_it_while_one_request_fetches_the_next() {
    let bank = Arc::new(Bank::default());
    let tokens = tokens(&bank);
    let first = tokens.get().await.unwrap();
    pass(3545).await;
    let all = join_all((0..1000).map(|_| tokens.get())).await;
    assert!(all.iter().all(|token| Arc::ptr_eq(token.as_ref().unwrap(), &first)), "nobody waits");
    pass(1).await;
    assert!(!Arc::ptr_eq(&tokens.get().await.unwrap(), &first));
    assert_eq!(bank.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_takes_nothing_from_the_others() {
    let bank = Arc::new(Bank::default());
    let tokens = tokens(&bank);
    let (given_up, waiting) = (tokens.get(), tokens.get());
    let ends = futures::future::join(tokio::time::timeout(Duration::from_millis(10), given_up), waiting).await;
    assert!(ends.0.is_err() && ends.1.is_ok());
    assert_eq!(bank.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_early_refresh_leaves_the_valid_token_in_use_and_is_not_tried_again_at_once() {
    let bank = Arc::new(Bank::default());
    let tokens = tokens(&bank);
    let first = tokens.get().await.unwrap();
    bank.says([Err(no_token(500)), Err(no_token(500))]);
    pass(3541).await;
    for _ in 0..40 {
        assert!(Arc::ptr_eq(&tokens.get().await.unwrap(), &first));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(bank.asked(), 2);
    pass(6).await;
    drop(tokens.get().await);
    pass(6).await;
    drop(tokens.get().await);
    pass(1).await;
    assert!(!Arc::ptr_eq(&tokens.get().await.unwrap(), &first));
}

#[tokio::test(start_paused = true)]
async fn nobody_keeps_a_token_after_its_life_or_longer_than_an_hour() {
    let bank = Arc::new(Bank::default());
    bank.says([Ok(86_400)]);
    let tokens = tokens(&bank);
    let kept = Arc::downgrade(&tokens.get().await.unwrap());
    pass(3590).await;
    assert!(kept.upgrade().is_some());
    pass(11).await;
    assert!(kept.upgrade().is_none(), "wiped although nobody asked");
    // With its owner gone nothing is left waiting.
    let token = tokens.get().await.unwrap();
    let owner = Arc::downgrade(&tokens);
    drop((tokens, token));
    assert!(owner.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_has_a_circuit_of_its_own() {
    let bank = Arc::new(Bank::default());
    let tokens = tokens(&bank);
    bank.says((0..6).map(|_| Err(no_token(503))));
    for _ in 0..5 {
        assert_eq!(tokens.get().await.err(), Some(no_token(503).error));
    }
    assert!(tokens.unavailable());
    let refused = tokens.get().await.err();
    assert!(matches!(refused, Some(CallError::TokenCircuitOpen { retry_in: Some(_) })), "{refused:?}");
    assert_eq!(bank.asked(), 5, "an open circuit asks nobody");
    pass(31).await;
    assert_eq!(tokens.get().await.err(), Some(no_token(503).error), "the trial");
    assert!(matches!(tokens.get().await.err(), Some(CallError::TokenCircuitOpen { .. })));
    pass(31).await;
    assert!(tokens.get().await.is_ok());
    assert!(!tokens.unavailable());
}

#[tokio::test(start_paused = true)]
async fn the_circuit_of_the_endpoint_is_not_the_providers() {
    let settings = settings(|draft| draft.breaker.consecutive_failures = 1);
    let core = core(&settings);
    let bank = Arc::new(Bank::default());
    bank.says((0..9).map(|_| Err(no_token(500))));
    let tokens = tokens_of(&core, &bank, None);
    let inner = crate::provider::testkit::below(|_| async { Ok(crate::provider::testkit::answer(200)) });
    let auth = crate::provider::auth::Authenticate::new(
        inner,
        Arc::clone(&core),
        Arc::clone(&settings),
        proof(tokens, &settings, &core),
    );
    let path = crate::provider::admission::Admission::new(auth, Arc::clone(&core), Arc::clone(&settings));
    for _ in 0..9 {
        let request = crate::provider::call::Request::get("x", "/");
        let timed = crate::provider::deadline::Timed::new(request, Mono::MAX);
        let error = tower::ServiceExt::oneshot(path.clone(), timed).await.unwrap_err();
        assert!(matches!(error, CallError::NoToken { .. } | CallError::TokenCircuitOpen { .. }), "{error}");
    }
    let seen = core.observed(&settings);
    assert_eq!(seen.effective, crate::domain::breaker::Effective::Closed);
    assert_eq!(seen.health, crate::domain::health::Health::Unknown, "nothing was seen of the provider");
    assert!(seen.tokenless);
    assert_eq!(seen.authenticated, None);
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_not_sent_again_at_every_call() {
    let bank = Arc::new(Bank::default());
    let tokens = tokens(&bank);
    let refused = CallError::CredentialsRefused { status: 401 };
    bank.says([Err(refused.clone().into())]);
    for _ in 0..100 {
        assert_eq!(tokens.get().await.err(), Some(refused.clone()));
    }
    assert_eq!(bank.asked(), 1);
    pass(5).await;
    assert!(tokens.get().await.is_ok(), "somebody may have mended it there");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_asks_for_silence_gets_it() {
    let bank = Arc::new(Bank::default());
    let tokens = tokens(&bank);
    bank.says([Err(NotFetched { wait: Some(Duration::from_secs(20)), ..no_token(429) })]);
    for _ in 0..10 {
        assert!(matches!(tokens.get().await.err(), Some(CallError::NoToken { status: Some(429), .. })));
        pass(1).await;
    }
    assert_eq!(bank.asked(), 1);
    pass(11).await;
    assert!(tokens.get().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_refuses_every_token_costs_no_token_at_every_call() {
    let bank = Arc::new(Bank::default());
    let tokens = tokens(&bank);
    let first = tokens.get().await.unwrap();
    first.accepted();
    assert!(tokens.refused(&first), "one forced refresh");
    for _ in 0..50 {
        let token = tokens.get().await.unwrap();
        assert!(!tokens.refused(&token), "the new one was refused too: another would be no better");
    }
    assert_eq!(bank.asked(), 2);
    assert!(tokens.refused(&first), "who comes late with the old one gets the new one");
    pass(6).await;
    assert!(tokens.refused(&tokens.get().await.unwrap()), "after a while it is worth a try again");
}
