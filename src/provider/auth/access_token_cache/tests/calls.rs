//! Calls whose token is refused: when a token is fetched again and when the request is sent again.

use http::StatusCode;
use tower::ServiceExt as _;

use super::*;
use crate::domain::breaker::CallClass;
use crate::domain::quota::{Limit, LimitScope, LimitUnit};
use crate::profile::{Classification, ResponseClass};
use crate::provider::auth::AuthService;
use crate::provider::breaker::BreakerService;
use crate::provider::call::{Request, Response};
use crate::provider::call_context::CallContext;
use crate::provider::quota::QuotaService;
use crate::provider::testkit::{CallLog, rate_limited, response, scripted};
use crate::settings::Draft;

type CallEnd = Result<Response, CallError>;

fn classified(status: u16, class: ResponseClass) -> Response {
    Response { classification: Classification { class, ..Classification::default() }, ..response(status) }
}

fn request(class: CallClass) -> Request {
    Request { class, ..Request::get("x", "/") }
}

struct CallFixture {
    monitor: Arc<ConnectionMonitor>,
    settings: Arc<Settings>,
    server: Arc<FakeTokenServer>,
    tokens: Arc<AccessTokenCache>,
}

fn fixture(change: impl FnOnce(&mut Draft)) -> CallFixture {
    let settings = settings(change);
    let (monitor, server) = (monitor(&settings), Arc::new(FakeTokenServer::default()));
    let tokens = tokens_of(&monitor, &server, None);
    CallFixture { monitor, settings, server, tokens }
}

impl CallFixture {
    /// Makes one call to a provider that responds its requests like this.
    async fn call(&self, request: Request, ends: Vec<CallEnd>) -> (CallEnd, CallLog) {
        let (inner, log) = scripted(ends);
        let (monitor, settings) = (Arc::clone(&self.monitor), Arc::clone(&self.settings));
        let authenticator = authenticator(&self.tokens);
        let auth = AuthService::new(inner, Arc::clone(&monitor), Arc::clone(&settings), authenticator);
        let path = QuotaService::new(auth, Arc::clone(&monitor), Arc::clone(&settings));
        let path = BreakerService::new(path, Arc::clone(&monitor), settings);
        let deadline = monitor.clock().mono() + Duration::from_secs(30);
        (path.oneshot(CallContext::new(request, deadline)).await, log)
    }
}

fn sent(log: &CallLog) -> usize {
    log.lock().unwrap().len()
}

fn status(end: &CallEnd) -> StatusCode {
    end.as_ref().unwrap().status
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_fetched_again_once_and_the_request_resent() {
    for refusal in
        [Ok(response(401)), Ok(classified(200, ResponseClass::Auth)), Ok(classified(400, ResponseClass::Auth))]
    {
        let fixture = fixture(|_| {});
        let (end, log) = fixture.call(request(CallClass::Read), vec![refusal, Ok(response(200))]).await;
        assert_eq!((status(&end), sent(&log), fixture.server.requests()), (StatusCode::OK, 2, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_refused_twice_returns_the_refusal() {
    let fixture = fixture(|_| {});
    let (end, log) = fixture.call(request(CallClass::Read), vec![Ok(response(401))]).await;
    assert_eq!((status(&end), sent(&log), fixture.server.requests()), (StatusCode::UNAUTHORIZED, 2, 2));
    let (end, log) = fixture.call(request(CallClass::Read), vec![Ok(response(401))]).await;
    assert_eq!(
        (status(&end), sent(&log), fixture.server.requests()),
        (StatusCode::UNAUTHORIZED, 1, 2),
        "no new token per call"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_ends_the_call_with_the_token_endpoints_error() {
    let refused = CallError::CredentialsRefused { status: 401 };
    for (error, code) in [(TokenError::from(refused), "credentials_refused"), (no_token(503), "no_token")] {
        let fixture = fixture(|_| {});
        fixture.server.respond_with([Ok(3600), Err(error)]);
        let (end, log) = fixture.call(request(CallClass::Read), vec![Ok(response(401)), Ok(response(200))]).await;
        assert_eq!((end.unwrap_err().code(), sent(&log)), (code, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn answers_not_about_credentials_do_not_trigger_a_token_fetch() {
    for status in [200, 401, 403, 404, 429, 503] {
        for class in ResponseClass::ALL.into_iter().filter(|class| *class != ResponseClass::Auth) {
            let fixture = fixture(|_| {});
            for _ in 0..3 {
                let (_, log) = fixture.call(request(CallClass::Probe), vec![Ok(classified(status, class))]).await;
                assert!(sent(&log) <= 1, "{status} {class:?}");
            }
            assert_eq!(fixture.server.requests(), 1, "{status} {class:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_money_call_is_resent_only_after_a_401() {
    let fixture = fixture(|_| {});
    let (end, log) = fixture.call(request(CallClass::Money), vec![Ok(response(401)), Ok(response(200))]).await;
    assert_eq!((status(&end), sent(&log)), (StatusCode::OK, 2));
    let (end, log) = fixture
        .call(request(CallClass::Money), vec![Ok(classified(200, ResponseClass::Auth)), Ok(response(200))])
        .await;
    assert_eq!((end.unwrap().classification.class, sent(&log)), (ResponseClass::Auth, 1));
    let (_, log) = fixture.call(request(CallClass::Money), vec![Ok(response(200))]).await;
    assert_eq!((sent(&log), fixture.server.requests()), (1, 3), "the next call still gets another token");
}

fn daily_limit(requests: u32) -> impl FnOnce(&mut Draft) {
    let (name, scope, operations) = ("day".to_owned(), LimitScope::Connection, Vec::new());
    let limit = Limit { name, scope, requests, unit: LimitUnit::Day, burst: None, operations };
    move |draft| draft.limits = vec![limit]
}

#[tokio::test(start_paused = true)]
async fn the_second_request_takes_quota_and_without_it_the_refusal_is_returned() {
    let fixture = fixture(daily_limit(3));
    let (end, log) = fixture.call(request(CallClass::Read), vec![Ok(response(401)), Ok(response(200))]).await;
    assert_eq!((status(&end), sent(&log)), (StatusCode::OK, 2));
    let (end, log) = fixture.call(request(CallClass::Read), vec![Ok(response(401)), Ok(response(200))]).await;
    assert_eq!((status(&end), sent(&log)), (StatusCode::UNAUTHORIZED, 1), "the third of three is used up");
    let (end, _) = fixture.call(request(CallClass::Read), vec![Ok(response(200))]).await;
    assert_eq!(end.unwrap_err().code(), "quota_exhausted");
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_with_a_revoked_token_never_exceed_the_quota() {
    let fixture = fixture(daily_limit(1500));
    let ends =
        join_all((0..1000).map(|_| fixture.call(request(CallClass::Read), vec![Ok(response(401)), Ok(response(200))])));
    let ends = ends.await;
    let requests: usize = ends.iter().map(|(_, log)| sent(log)).sum();
    assert_eq!(requests, 1500);
    assert_eq!(fixture.server.requests(), 2, "one new token for all");
}

#[tokio::test(start_paused = true)]
async fn the_second_request_waits_out_a_rate_limit() {
    let fixture = fixture(|_| {});
    let monitor = Arc::clone(&fixture.monitor);
    let rate_limit = async {
        // While the call waits for its new token.
        tokio::time::sleep(Duration::from_millis(150)).await;
        monitor.observe_rate_limit(&fixture.settings, CallClass::Read, "x", None, rate_limited(429, 10).classification);
    };
    let call = fixture.call(request(CallClass::Read), vec![Ok(response(401)), Ok(response(200))]);
    let ((end, log), ()) = futures::future::join(call, rate_limit).await;
    assert_eq!(status(&end), StatusCode::OK);
    let sent_at = log.lock().unwrap();
    assert!(sent_at[1].saturating_sub(sent_at[0]) >= Duration::from_secs(10), "{sent_at:?}");
}

#[tokio::test(start_paused = true)]
async fn the_second_request_is_not_sent_once_the_circuit_is_open() {
    let fixture = fixture(|draft| draft.breaker.consecutive_failures = 1);
    let monitor = Arc::clone(&fixture.monitor);
    let opened = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let failing = BreakerService::new(scripted([Ok(response(500))]).0, monitor, Arc::clone(&fixture.settings));
        drop(failing.oneshot(CallContext::new(request(CallClass::Read), Mono::MAX)).await);
    };
    let call = fixture.call(request(CallClass::Read), vec![Ok(response(401)), Ok(response(200))]);
    let ((end, log), ()) = futures::future::join(call, opened).await;
    assert_eq!((status(&end), sent(&log)), (StatusCode::UNAUTHORIZED, 1));
}
