//! Calls whose token is refused: what is asked for anew, what is sent again, and whose turn that is.

use http::StatusCode;
use tower::ServiceExt as _;

use super::*;
use crate::domain::breaker::CallClass;
use crate::domain::quota::{Limit, Scope, Unit};
use crate::provider::admission::Admission;
use crate::provider::auth::Authenticate;
use crate::provider::call::{Answer, Request};
use crate::provider::classify::{Class, Reading};
use crate::provider::deadline::Timed;
use crate::provider::quota::Turn;
use crate::provider::settings::Draft;
use crate::provider::testkit::{Asked, answer, asking, scripted};

type End = Result<Answer, CallError>;

fn read_as(status: u16, class: Class) -> Answer {
    Answer { reading: Reading { class, ..Reading::default() }, ..answer(status) }
}

fn of(class: CallClass) -> Request {
    Request { class, ..Request::get("x", "/") }
}

struct World {
    core: Arc<Core>,
    settings: Arc<Settings>,
    bank: Arc<Bank>,
    tokens: Arc<Tokens>,
}

fn world(change: impl FnOnce(&mut Draft)) -> World {
    let settings = settings(change);
    let (core, bank) = (core(&settings), Arc::new(Bank::default()));
    let tokens = tokens_of(&core, &bank, None);
    World { core, settings, bank, tokens }
}

impl World {
    /// One call over a provider that ends its requests like this.
    async fn call(&self, request: Request, ends: Vec<End>) -> (End, Asked) {
        let (inner, asked) = scripted(ends);
        let (core, settings) = (Arc::clone(&self.core), Arc::clone(&self.settings));
        let proof = proof(Arc::clone(&self.tokens), &settings, &core);
        let auth = Authenticate::new(inner, Arc::clone(&core), Arc::clone(&settings), proof);
        let path = Turn::new(auth, Arc::clone(&core), Arc::clone(&settings));
        let path = Admission::new(path, Arc::clone(&core), settings);
        let deadline = core.clock().mono() + Duration::from_secs(30);
        (path.oneshot(Timed::new(request, deadline)).await, asked)
    }
}

fn sent(asked: &Asked) -> usize {
    asked.lock().unwrap().len()
}

fn status(end: &End) -> StatusCode {
    end.as_ref().unwrap().status
}

#[tokio::test(start_paused = true)]
async fn a_token_refused_once_is_fetched_anew_once_and_the_call_goes_on() {
    for refusal in [Ok(answer(401)), Ok(read_as(200, Class::Auth)), Ok(read_as(400, Class::Auth))] {
        let world = world(|_| {});
        let (end, asked) = world.call(of(CallClass::Read), vec![refusal, Ok(answer(200))]).await;
        assert_eq!((status(&end), sent(&asked), world.bank.asked()), (StatusCode::OK, 2, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_refused_twice_is_answered_with_the_refusal() {
    let world = world(|_| {});
    let (end, asked) = world.call(of(CallClass::Read), vec![Ok(answer(401))]).await;
    assert_eq!((status(&end), sent(&asked), world.bank.asked()), (StatusCode::UNAUTHORIZED, 2, 2));
    let (end, asked) = world.call(of(CallClass::Read), vec![Ok(answer(401))]).await;
    assert_eq!((status(&end), sent(&asked), world.bank.asked()), (StatusCode::UNAUTHORIZED, 1, 2), "not at every call");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_ends_the_call_with_what_the_token_endpoint_said() {
    let refused = CallError::CredentialsRefused { status: 401 };
    for (said, code) in [(NotFetched::from(refused), "credentials_refused"), (no_token(503), "no_token")] {
        let world = world(|_| {});
        world.bank.says([Ok(3600), Err(said)]);
        let (end, asked) = world.call(of(CallClass::Read), vec![Ok(answer(401)), Ok(answer(200))]).await;
        assert_eq!((end.unwrap_err().code(), sent(&asked)), (code, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_about_the_credentials_costs_no_token() {
    for status in [200, 401, 403, 404, 429, 503] {
        for class in Class::ALL.into_iter().filter(|class| *class != Class::Auth) {
            let world = world(|_| {});
            for _ in 0..3 {
                let (_, asked) = world.call(of(CallClass::Probe), vec![Ok(read_as(status, class))]).await;
                assert!(sent(&asked) <= 1, "{status} {class:?}");
            }
            assert_eq!(world.bank.asked(), 1, "{status} {class:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn money_is_sent_again_only_after_a_401_which_did_nothing() {
    let world = world(|_| {});
    let (end, asked) = world.call(of(CallClass::Money), vec![Ok(answer(401)), Ok(answer(200))]).await;
    assert_eq!((status(&end), sent(&asked)), (StatusCode::OK, 2));
    let (end, asked) = world.call(of(CallClass::Money), vec![Ok(read_as(200, Class::Auth)), Ok(answer(200))]).await;
    assert_eq!((end.unwrap().reading.class, sent(&asked)), (Class::Auth, 1));
    let (_, asked) = world.call(of(CallClass::Money), vec![Ok(answer(200))]).await;
    assert_eq!((sent(&asked), world.bank.asked()), (1, 3), "the next call has another token all the same");
}

fn a_day(requests: u32) -> impl FnOnce(&mut Draft) {
    let (name, scope, operations) = ("day".to_owned(), Scope::Connection, Vec::new());
    let limit = Limit { name, scope, requests, unit: Unit::Day, burst: None, operations };
    move |draft| draft.limits = vec![limit]
}

#[tokio::test(start_paused = true)]
async fn the_second_request_takes_a_turn_and_without_one_the_refusal_is_the_answer() {
    let world = world(a_day(3));
    let (end, asked) = world.call(of(CallClass::Read), vec![Ok(answer(401)), Ok(answer(200))]).await;
    assert_eq!((status(&end), sent(&asked)), (StatusCode::OK, 2));
    let (end, asked) = world.call(of(CallClass::Read), vec![Ok(answer(401)), Ok(answer(200))]).await;
    assert_eq!((status(&end), sent(&asked)), (StatusCode::UNAUTHORIZED, 1), "the third of three is spent");
    let (end, _) = world.call(of(CallClass::Read), vec![Ok(answer(200))]).await;
    assert_eq!(end.unwrap_err().code(), "quota_exhausted");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_with_a_revoked_token_make_no_request_that_is_not_counted() {
    let world = world(a_day(1500));
    let ends = join_all((0..1000).map(|_| world.call(of(CallClass::Read), vec![Ok(answer(401)), Ok(answer(200))])));
    let ends = ends.await;
    let requests: usize = ends.iter().map(|(_, asked)| sent(asked)).sum();
    assert_eq!(requests, 1500);
    assert_eq!(world.bank.asked(), 2, "one new token for all");
}

#[tokio::test(start_paused = true)]
async fn the_second_request_keeps_to_a_pause_that_the_provider_asked_for() {
    let world = world(|_| {});
    let paused = Arc::clone(&world.core);
    let pause = async {
        // While the call waits for its new token.
        tokio::time::sleep(Duration::from_millis(150)).await;
        paused.heard(&world.settings, ("x", None), asking(429, 10).reading);
    };
    let call = world.call(of(CallClass::Read), vec![Ok(answer(401)), Ok(answer(200))]);
    let ((end, asked), ()) = futures::future::join(call, pause).await;
    assert_eq!(status(&end), StatusCode::OK);
    let asked = asked.lock().unwrap();
    assert!(asked[1].saturating_sub(asked[0]) >= Duration::from_secs(10), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn the_second_request_is_not_made_once_the_circuit_is_open() {
    let world = world(|draft| draft.breaker.consecutive_failures = 1);
    let core = Arc::clone(&world.core);
    let opened = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let failing = Admission::new(scripted([Ok(answer(500))]).0, core, Arc::clone(&world.settings));
        drop(failing.oneshot(Timed::new(of(CallClass::Read), Mono::MAX)).await);
    };
    let call = world.call(of(CallClass::Read), vec![Ok(answer(401)), Ok(answer(200))]);
    let ((end, asked), ()) = futures::future::join(call, opened).await;
    assert_eq!((status(&end), sent(&asked)), (StatusCode::UNAUTHORIZED, 1));
}
