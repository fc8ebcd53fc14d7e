//! Every behaviour of the simulated banks, seen by a plain HTTP client over real sockets.

use std::collections::HashSet;
use std::time::Duration;

use busbar::testbed::sim::{
    AccountConfig, BankConfig, BankHandle, Behaviour, CertificateKind, Direction, Down, FailurePoint, Garbage,
    MonoConfig, PageShape, RequiredAuth, Rule, Script, ScriptStep, Transaction,
};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use crate::kit::banks::{plain_bank, simulator, start_bank};
use crate::kit::http::{client, client_with_timeout, json, trusting_client};
use crate::kit::time::ManualTime;
use crate::kit::wait::eventually;

/// By how much the clock is advanced while a client waits.
const STEP: Duration = Duration::from_millis(10);

/// A client that gives up soon, to show that an answer never comes.
fn impatient_client() -> Client {
    client_with_timeout(50 * STEP)
}

async fn get(bank: &BankHandle, path: &str) -> reqwest::Result<Response> {
    client().get(format!("{}{path}", bank.base_url())).send().await
}

async fn status(bank: &BankHandle, path: &str) -> u16 {
    get(bank, path).await.unwrap().status().as_u16()
}

/// The whole chain of causes in one line: which of them says "reset" depends on the client.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error:?}");
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause:?}");
        next = cause.source();
    }
    text
}

#[tokio::test]
async fn a_healthy_bank_answers_over_http_and_https_on_one_port() {
    let (sim, bank) = plain_bank().await;
    assert_eq!(get(&bank, "/health").await.unwrap().text().await.unwrap(), r#"{"status":"ok"}"#);
    let trusting = trusting_client(sim.ca_pem()).resolve("bank.sim.test", bank.address()).build().unwrap();
    for base in [bank.https_url(), format!("https://bank.sim.test:{}", bank.address().port())] {
        let answer = trusting.get(format!("{base}/health")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let seen: Vec<_> = bank.arrivals().entries.iter().map(|a| a.tls).collect();
    assert_eq!(seen, [false, true, true]);
    assert!(client().get(bank.https_url()).send().await.is_err(), "a client that does not trust the CA must fail");
}

#[tokio::test]
async fn each_kind_of_bad_certificate_fails_its_own_check() {
    let sim = simulator().await;
    let trusting = trusting_client(sim.ca_pem()).build().unwrap();
    for (kind, want) in [
        (CertificateKind::Expired, "Expired"),
        (CertificateKind::WrongName, "NotValidForName"),
        (CertificateKind::Untrusted, "UnknownIssuer"),
    ] {
        let bank = sim.add_bank(BankConfig { certificate: kind, ..BankConfig::new(want) }).await.unwrap();
        let error = trusting.get(bank.https_url()).send().await.unwrap_err();
        assert!(causes(&error).contains(want), "{}", causes(&error));
    }
}

#[tokio::test]
async fn a_status_step_lasts_for_its_number_of_requests() {
    let (_sim, bank) = plain_bank().await;
    let steps = [
        ScriptStep::from(Behaviour::rate_limited("7")).times(1),
        ScriptStep::from(Behaviour::status(401)).times(1),
        ScriptStep::from(Behaviour::status(503)).times(2),
    ];
    bank.fail_with(Script::sequence(steps)).await.unwrap();
    let limited = get(&bank, "/health").await.unwrap();
    assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(status(&bank, "/health").await);
    }
    assert_eq!(codes, [401, 503, 503, 200]);
    bank.fail_with(Behaviour::status(500)).await.unwrap();
    assert_eq!(status(&bank, "/health").await, 500);
    bank.recover().await;
    assert_eq!(status(&bank, "/health").await, 200);
}

#[tokio::test]
async fn a_rule_for_a_path_does_not_affect_others() {
    let (_sim, bank) = plain_bank().await;
    bank.fail_with(Rule::on("/c/1/", [Behaviour::status(500).into()])).await.unwrap();
    assert_eq!(status(&bank, "/c/1/health").await, 500);
    assert_eq!(status(&bank, "/c/2/health").await, 200);
    assert_eq!(status(&bank, "/health").await, 200);
}

#[tokio::test]
async fn a_stall_ends_neither_head_nor_body() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    bank.fail_with(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    let url = format!("{}/health", bank.base_url());
    assert!(time.run(STEP, impatient_client().get(&url).send()).await.unwrap_err().is_timeout());
    bank.fail_with(Behaviour::Stall(FailurePoint::AfterHead)).await.unwrap();
    let answer = impatient_client().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(time.run(STEP, answer.text()).await.unwrap_err().is_timeout());
    let log = bank.arrivals().entries;
    assert_eq!(log.iter().map(|a| a.status).collect::<Vec<_>>(), [None, Some(200)]);
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let (sim, bank) = plain_bank().await;
    let trusting = trusting_client(sim.ca_pem()).build().unwrap();
    for base in [bank.base_url(), bank.https_url()] {
        bank.fail_with(Behaviour::Reset(FailurePoint::BeforeHead)).await.unwrap();
        let error = trusting.get(format!("{base}/health")).send().await.unwrap_err();
        assert!(causes(&error).contains("ConnectionReset"), "{}", causes(&error));
        bank.fail_with(Behaviour::Reset(FailurePoint::AfterHead)).await.unwrap();
        let answer = trusting.get(format!("{base}/health")).send().await.unwrap();
        let error = answer.text().await.unwrap_err();
        assert!(causes(&error).contains("ConnectionReset"), "{}", causes(&error));
    }
}

#[tokio::test]
async fn a_truncated_body_ends_before_its_length() {
    let (_sim, bank) = plain_bank().await;
    bank.fail_with(Behaviour::Truncate { percent: 50 }).await.unwrap();
    let answer = get(&bank, "/v2/accounts/acc-1/transactions").await.unwrap();
    assert!(answer.content_length().unwrap() > 1_000);
    let error = answer.text().await.unwrap_err();
    assert!(causes(&error).contains("IncompleteBody") || causes(&error).contains("UnexpectedEof"), "{error:?}");
}

#[tokio::test]
async fn a_dribbled_response_is_complete_but_slow() {
    let time = ManualTime::start();
    let (sim, bank) = plain_bank().await;
    bank.fail_with(Behaviour::Dribble { bytes: 5, every_ms: 30 }).await.unwrap();
    let before = sim.now_ns();
    let answer = get(&bank, "/health").await.unwrap();
    assert_eq!(time.run(STEP, answer.text()).await.unwrap(), r#"{"status":"ok"}"#);
    // 15 bytes: two pauses between three pieces.
    assert!(sim.now_ns() - before >= 60_000_000);
}

#[tokio::test]
async fn a_garbage_response_is_not_what_was_requested() {
    let (_sim, bank) = plain_bank().await;
    for (kind, content_type, parses) in [
        (Garbage::Html, "text/html; charset=utf-8", false),
        (Garbage::InvalidJson, "application/json", false),
        (Garbage::ContentType, "text/plain", true),
        (Garbage::Empty, "application/json", false),
    ] {
        bank.fail_with(Behaviour::Garbage(kind)).await.unwrap();
        let answer = get(&bank, "/v2/accounts/acc-1").await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, content_type));
        assert_eq!(serde_json::from_str::<Value>(&answer.text().await.unwrap()).is_ok(), parses, "{kind:?}");
    }
}

#[tokio::test]
async fn latency_delays_and_does_not_change_the_answer() {
    let time = ManualTime::start();
    let (sim, bank) = plain_bank().await;
    bank.fail_with(ScriptStep::slow(Duration::from_millis(80)).times(1)).await.unwrap();
    let before = sim.now_ns();
    assert_eq!(time.run(STEP, status(&bank, "/health")).await, 200);
    assert!(sim.now_ns() - before >= 80_000_000);
    assert!(bank.arrivals().entries[0].at_ns >= before, "the arrival is logged when it comes");
}

#[tokio::test]
async fn a_bank_that_is_down_closes_open_connections_too() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    let keeping = client();
    let url = format!("{}/health", bank.base_url());
    for round in 0..3 {
        assert_eq!(keeping.get(&url).send().await.unwrap().status(), StatusCode::OK, "round {round}");
        bank.fail_with(Behaviour::Down(Down::Refuse)).await.unwrap();
        let error = keeping.get(&url).send().await.unwrap_err();
        assert!(error.is_connect() && causes(&error).contains("ConnectionRefused"), "{}", causes(&error));
        bank.recover().await;
    }
    bank.fail_with(Behaviour::Down(Down::Close)).await.unwrap();
    assert!(keeping.get(&url).send().await.is_err());
    bank.fail_with(Behaviour::Down(Down::Hang)).await.unwrap();
    assert!(time.run(STEP, impatient_client().get(&url).send()).await.unwrap_err().is_timeout());
    // A time that ends by itself, without requests in between.
    bank.fail_with(ScriptStep::from(Behaviour::Down(Down::Refuse)).during(Duration::from_millis(50))).await.unwrap();
    time.advance(Duration::from_millis(60)).await;
    eventually("it is up again", async || get(&bank, "/health").await).await;
}

#[tokio::test]
async fn required_credentials_can_change_at_run_time() {
    let (_sim, bank) = start_bank(BankConfig::mono("bank", "canary-mono")).await;
    let url = format!("{}/health", bank.base_url());
    let ask = |name: &'static str, value: &'static str| client().get(&url).header(name, value).send();
    assert_eq!(status(&bank, "/health").await, 401);
    assert_eq!(ask("mono-sec-key", "canary-mono").await.unwrap().status(), StatusCode::OK);
    bank.set_auth(&RequiredAuth::Bearer { token: "canary-bearer".into() }).unwrap();
    assert_eq!(ask("mono-sec-key", "canary-mono").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask("authorization", "Bearer canary-bearer").await.unwrap().status(), StatusCode::OK);
    bank.set_auth(&RequiredAuth::Basic { username: "u".into(), password: "canary-basic".into() }).unwrap();
    let login = client().get(&url).basic_auth("u", Some("canary-basic")).send().await.unwrap();
    assert_eq!(login.status(), StatusCode::OK);
    bank.set_auth(&RequiredAuth::ApiKeyQuery { name: "apikey".into(), value: "canary-query".into() }).unwrap();
    assert_eq!(status(&bank, "/health?apikey=canary-query").await, 200);
    let log = bank.arrivals();
    assert!(!serde_json::to_string(&log).unwrap().contains("canary"));
    let results: Vec<_> = log.entries.iter().map(|a| a.auth.as_str()).collect();
    assert_eq!(results, ["missing", "ok", "missing", "ok", "ok", "ok"]);
}

#[tokio::test]
async fn the_token_endpoint_issues_tokens_that_work_until_they_expire() {
    let oauth = |life| RequiredAuth::OAuth2 {
        client_id: "id".into(),
        client_secret: "canary/secret".into(),
        expires_in_seconds: life,
    };
    let (_sim, bank) = start_bank(BankConfig::new("bank").auth(oauth(3600))).await;
    let form = [("grant_type", "client_credentials"), ("client_id", "id"), ("client_secret", "canary/secret")];
    let grant = || client().post(bank.token_url()).form(&form).send();
    let health = |token: Value| {
        let url = format!("{}/health", bank.base_url());
        async move { client().get(url).bearer_auth(token.as_str().unwrap()).send().await.unwrap().status().as_u16() }
    };
    let token = json(grant().await.unwrap()).await;
    assert_eq!(token["expires_in"], 3600);
    assert_eq!(health(token["access_token"].clone()).await, 200);
    assert_eq!(status(&bank, "/health").await, 401);
    // As Basic, form-encoded before (RFC 6749 §2.3.1).
    let basic = client().post(bank.token_url()).basic_auth("id", Some("canary%2Fsecret"));
    assert_eq!(basic.form(&form[..1]).send().await.unwrap().status(), StatusCode::OK);
    let wrong = client().post(bank.token_url()).form(&[form[0], form[1], ("client_secret", "no")]).send();
    assert_eq!(wrong.await.unwrap().status(), StatusCode::UNAUTHORIZED);
    bank.revoke_tokens();
    assert_eq!(health(token["access_token"].clone()).await, 401);
    bank.fail_with(Rule::on("/oauth", [Behaviour::status(503).into()])).await.unwrap();
    assert_eq!(grant().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    bank.recover().await;
    bank.set_auth(&oauth(0)).unwrap();
    let dead = json(grant().await.unwrap()).await;
    assert_eq!(health(dead["access_token"].clone()).await, 401);
    assert_eq!(bank.arrivals().entries.last().unwrap().auth, "expired");
    assert_eq!((bank.counters().tokens_issued, bank.counters().tokens_refused), (3, 1));
}

async fn read_pages(bank: &BankHandle, query: &str, body: PageShape) -> Vec<Value> {
    let (mut page, mut rows) = (1u64, Vec::new());
    loop {
        let path = format!("/v2/accounts/acc-1/transactions?page={page}&{query}");
        let mut answer = json(get(bank, &path).await.unwrap()).await;
        let (list, paging) = match body {
            PageShape::Flat => ("/data", "/meta"),
            PageShape::Nested => ("/data/transactions", "/data/paging"),
        };
        let next = answer.pointer(paging).unwrap()["next"].clone();
        rows.append(answer.pointer_mut(list).unwrap().as_array_mut().unwrap());
        let Some(next) = next.as_str() else { return rows };
        assert!(!next.contains("/accounts"), "as in the official example: {next}");
        page = next.rsplit_once("page=").unwrap().1.parse().unwrap();
    }
}

#[tokio::test]
async fn transactions_are_paged_windowed_and_the_same_every_time() {
    let newest = Some("2026-03-10T12:00:00Z".parse().unwrap());
    let account = AccountConfig { newest, ..AccountConfig::new("acc-1", 240) };
    for body in [PageShape::Flat, PageShape::Nested] {
        let mono = MonoConfig { body, ..MonoConfig::default() };
        let (_sim, bank) = start_bank(BankConfig { mono, ..BankConfig::new("bank").accounts([account.clone()]) }).await;
        let rows = read_pages(&bank, "limit=7", body).await;
        assert_eq!(rows.len(), 240);
        assert_eq!(rows.iter().map(|r| r["id"].as_str().unwrap()).collect::<HashSet<_>>().len(), 240);
        assert_eq!(rows, read_pages(&bank, "limit=50", body).await);
        assert!(rows.iter().all(|r| r["amount"].is_i64() && r.get("currency").is_none()));
        let day = read_pages(&bank, "limit=10&start=08-03-2026&end=09-03-2026", body).await;
        assert_eq!(day.len(), 48);
        assert!(day.iter().all(|r| r["date"].as_str().unwrap() >= "2026-03-08"));
        let last = bank.arrivals().entries.pop().unwrap();
        assert_eq!((last.query_value("page"), last.query_value("start")), (Some("5"), Some("08-03-2026")));
        assert_eq!(status(&bank, "/v2/accounts/acc-1/transactions?start=2026-03-08").await, 400);
        assert_eq!(status(&bank, "/v2/accounts/unknown/transactions").await, 404);
    }
}

#[tokio::test]
async fn an_account_accepts_new_transactions() {
    let (_sim, bank) = plain_bank().await;
    let account = json(get(&bank, "/v2/accounts/acc-1").await.unwrap()).await;
    assert_eq!(account["data"]["account"]["currency"], "ngn");
    let date = "2030-01-01T08:30:00Z".parse().unwrap();
    let new = Transaction {
        id: "late-1".into(),
        narration: "late".into(),
        amount: 12_345,
        direction: Direction::Credit,
        balance: 0,
        date,
        category: None,
    };
    assert!(bank.put_transactions("acc-1", vec![new.clone()]));
    assert!(bank.put_transactions("acc-1", vec![Transaction { amount: 54_321, ..new }]));
    assert!(!bank.put_transactions("unknown", vec![]));
    let rows = read_pages(&bank, "limit=50", PageShape::Flat).await;
    assert_eq!((rows.len(), rows[0]["id"].as_str(), rows[0]["amount"].as_i64()), (121, Some("late-1"), Some(54_321)));
    bank.reset().await.unwrap();
    assert_eq!(read_pages(&bank, "limit=50", PageShape::Flat).await.len(), 120);
}

#[tokio::test]
async fn finastra_lists_collaterals_by_offset() {
    let (_sim, bank) = plain_bank().await;
    let path = "/total-lending/collaterals/b2b/v2/collaterals";
    let answer = json(get(&bank, &format!("{path}?startingIndex=100&pageSize=50")).await.unwrap()).await;
    assert_eq!((answer["items"].as_array().unwrap().len(), answer["_meta"]["totalCount"].as_u64()), (20, Some(120)));
    let id = answer["items"][0]["id"].as_str().unwrap();
    assert_eq!(status(&bank, &format!("{path}/{id}")).await, 200);
    assert_eq!(status(&bank, &format!("{path}/COL-99999999")).await, 404);
}

#[tokio::test]
async fn hundreds_of_connections_to_one_bank_go_down_together() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    let keeping = client();
    let ask = |i: usize| {
        let url = format!("{}/health", bank.labelled_url(&i.to_string()));
        let keeping = keeping.clone();
        async move { keeping.get(url).send().await.map(|r| r.status().as_u16()) }
    };
    // All at once, so that none can be served on another's connection: each is answered only after a while.
    bank.fail_with(ScriptStep::slow(Duration::from_millis(500))).await.unwrap();
    let all = time.run(STEP, futures::future::join_all((0..200).map(ask))).await;
    assert!(all.iter().all(|r| matches!(r, Ok(200))));
    let log = bank.arrivals().entries;
    assert_eq!(log.iter().map(|a| a.path.as_str()).collect::<HashSet<_>>().len(), 200);
    assert!(bank.counters().connections_open > 20, "{:?}", bank.counters());
    bank.fail_with(Behaviour::Down(Down::Refuse)).await.unwrap();
    assert!(ask(0).await.unwrap_err().is_connect());
    eventually("all connections are closed", async || bank.counters().connections_open == 0).await;
}
