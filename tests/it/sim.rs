//! Every behaviour of the simulated banks, seen by a plain HTTP client over real sockets.

use std::collections::HashSet;
use std::time::Duration;

use busbar::testbed::sim::{
    AccountConfig, BankConfig, BankHandle, Behaviour, CertificateKind, Direction, Down, FailurePoint, Garbage,
    MonoConfig, PageShape, RequiredAuth, Rule, Script, ScriptStep, Sim, SimConfig, Transaction,
};
use reqwest::{Certificate as Ca, Client, Response, StatusCode};
use serde_json::Value;

/// Long enough for any answer on a busy machine, short enough to show that one never comes.
const PATIENCE: Duration = Duration::from_secs(20);
const IMPATIENCE: Duration = Duration::from_secs(1);

async fn one(config: BankConfig) -> (Sim, BankHandle) {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let bank = sim.add_bank(config).await.unwrap();
    (sim, bank)
}

async fn plain() -> (Sim, BankHandle) {
    one(BankConfig::new("bank-a")).await
}

fn client() -> Client {
    Client::builder().timeout(PATIENCE).build().unwrap()
}

fn impatient() -> Client {
    Client::builder().timeout(IMPATIENCE).build().unwrap()
}

async fn get(bank: &BankHandle, path: &str) -> reqwest::Result<Response> {
    client().get(format!("{}{path}", bank.base_url())).send().await
}

async fn status(bank: &BankHandle, path: &str) -> u16 {
    get(bank, path).await.unwrap().status().as_u16()
}

async fn json(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// The whole chain of causes in one line: which of them says "reset" is the client's business.
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
    let (sim, bank) = plain().await;
    assert_eq!(get(&bank, "/health").await.unwrap().text().await.unwrap(), r#"{"status":"ok"}"#);
    let ca = Ca::from_pem(sim.ca_pem().as_bytes()).unwrap();
    let trusting = Client::builder()
        .tls_certs_only([ca])
        .resolve("bank-a.sim.test", bank.address())
        .timeout(PATIENCE)
        .build()
        .unwrap();
    for base in [bank.https_url(), format!("https://bank-a.sim.test:{}", bank.address().port())] {
        let answer = trusting.get(format!("{base}/health")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let seen: Vec<_> = bank.arrivals().entries.iter().map(|a| a.tls).collect();
    assert_eq!(seen, [false, true, true]);
    assert!(client().get(bank.https_url()).send().await.is_err(), "a client that does not trust the CA must fail");
}

#[tokio::test]
async fn bad_certificates_are_bad() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let ca = Ca::from_pem(sim.ca_pem().as_bytes()).unwrap();
    let trusting = Client::builder().tls_certs_only([ca]).timeout(PATIENCE).build().unwrap();
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
async fn statuses_come_with_their_headers_for_as_many_requests_as_told() {
    let (_sim, bank) = plain().await;
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
async fn a_rule_for_a_path_leaves_the_others_alone() {
    let (_sim, bank) = plain().await;
    bank.fail_with(Rule::on("/c/1/", [Behaviour::status(500).into()])).await.unwrap();
    assert_eq!(status(&bank, "/c/1/health").await, 500);
    assert_eq!(status(&bank, "/c/2/health").await, 200);
    assert_eq!(status(&bank, "/health").await, 200);
}

#[tokio::test]
async fn a_stall_before_the_head_never_answers_and_after_it_never_ends() {
    let (_sim, bank) = plain().await;
    bank.fail_with(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    let url = format!("{}/health", bank.base_url());
    assert!(impatient().get(&url).send().await.unwrap_err().is_timeout());
    bank.fail_with(Behaviour::Stall(FailurePoint::AfterHead)).await.unwrap();
    let answer = impatient().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap_err().is_timeout());
    let log = bank.arrivals().entries;
    assert_eq!(log.iter().map(|a| a.status).collect::<Vec<_>>(), [None, Some(200)]);
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let (sim, bank) = plain().await;
    let ca = Ca::from_pem(sim.ca_pem().as_bytes()).unwrap();
    let trusting = Client::builder().tls_certs_only([ca]).timeout(PATIENCE).build().unwrap();
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
    let (_sim, bank) = plain().await;
    bank.fail_with(Behaviour::Truncate { percent: 50 }).await.unwrap();
    let answer = get(&bank, "/v2/accounts/acc-1/transactions").await.unwrap();
    assert!(answer.content_length().unwrap() > 1_000);
    let error = answer.text().await.unwrap_err();
    assert!(causes(&error).contains("IncompleteBody") || causes(&error).contains("UnexpectedEof"), "{error:?}");
}

#[tokio::test]
async fn a_dribble_is_whole_in_the_end_but_not_soon() {
    let (sim, bank) = plain().await;
    bank.fail_with(Behaviour::Dribble { bytes: 5, every_ms: 30 }).await.unwrap();
    let before = sim.now_ns();
    let answer = get(&bank, "/health").await.unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"status":"ok"}"#);
    // 15 bytes: two pauses between three pieces.
    assert!(sim.now_ns() - before >= 60_000_000);
}

#[tokio::test]
async fn garbage_is_not_what_was_asked_for() {
    let (_sim, bank) = plain().await;
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
    let (sim, bank) = plain().await;
    bank.fail_with(ScriptStep::slow(Duration::from_millis(80)).times(1)).await.unwrap();
    let before = sim.now_ns();
    assert_eq!(status(&bank, "/health").await, 200);
    assert!(sim.now_ns() - before >= 80_000_000);
    assert!(bank.arrivals().entries[0].at_ns >= before, "the arrival is logged when it comes");
}

#[tokio::test]
async fn down_refuses_closes_or_hangs_also_for_connections_that_were_open() {
    let (_sim, bank) = plain().await;
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
    assert!(impatient().get(&url).send().await.unwrap_err().is_timeout());
    // A time that ends by itself, with nobody asking in between.
    bank.fail_with(ScriptStep::from(Behaviour::Down(Down::Refuse)).during(Duration::from_millis(50))).await.unwrap();
    let up_again = async {
        while get(&bank, "/health").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, up_again).await.unwrap();
}

#[tokio::test]
async fn each_kind_of_credentials_is_checked_and_can_change_at_run_time() {
    let (_sim, bank) = one(BankConfig::mono("bank-a", "canary-mono")).await;
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
    let verdicts: Vec<_> = log.entries.iter().map(|a| a.auth.as_str()).collect();
    assert_eq!(verdicts, ["missing", "ok", "missing", "ok", "ok", "ok"]);
}

#[tokio::test]
async fn the_token_endpoint_issues_tokens_that_work_until_they_end() {
    let oauth = |life| RequiredAuth::OAuth2 {
        client_id: "id".into(),
        client_secret: "canary/secret".into(),
        expires_in_seconds: life,
    };
    let (_sim, bank) = one(BankConfig::new("bank-a").auth(oauth(3600))).await;
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

async fn walk(bank: &BankHandle, query: &str, body: PageShape) -> Vec<Value> {
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
        let (_sim, bank) = one(BankConfig { mono, ..BankConfig::new("bank-a").accounts([account.clone()]) }).await;
        let rows = walk(&bank, "limit=7", body).await;
        assert_eq!(rows.len(), 240);
        assert_eq!(rows.iter().map(|r| r["id"].as_str().unwrap()).collect::<HashSet<_>>().len(), 240);
        assert_eq!(rows, walk(&bank, "limit=50", body).await);
        assert!(rows.iter().all(|r| r["amount"].is_i64() && r.get("currency").is_none()));
        let day = walk(&bank, "limit=10&start=08-03-2026&end=09-03-2026", body).await;
        assert_eq!(day.len(), 48);
        assert!(day.iter().all(|r| r["date"].as_str().unwrap() >= "2026-03-08"));
        let last = bank.arrivals().entries.pop().unwrap();
        assert_eq!((last.query_value("page"), last.query_value("start")), (Some("5"), Some("08-03-2026")));
        assert_eq!(status(&bank, "/v2/accounts/acc-1/transactions?start=2026-03-08").await, 400);
        assert_eq!(status(&bank, "/v2/accounts/nobody/transactions").await, 404);
    }
}

#[tokio::test]
async fn an_account_names_its_currency_and_takes_new_transactions() {
    let (_sim, bank) = plain().await;
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
    assert!(!bank.put_transactions("nobody", vec![]));
    let rows = walk(&bank, "limit=50", PageShape::Flat).await;
    assert_eq!((rows.len(), rows[0]["id"].as_str(), rows[0]["amount"].as_i64()), (121, Some("late-1"), Some(54_321)));
    bank.reset().await.unwrap();
    assert_eq!(walk(&bank, "limit=50", PageShape::Flat).await.len(), 120);
}

#[tokio::test]
async fn finastra_lists_collaterals_by_offset() {
    let (_sim, bank) = plain().await;
    let path = "/total-lending/collaterals/b2b/v2/collaterals";
    let answer = json(get(&bank, &format!("{path}?startingIndex=100&pageSize=50")).await.unwrap()).await;
    assert_eq!((answer["items"].as_array().unwrap().len(), answer["_meta"]["totalCount"].as_u64()), (20, Some(120)));
    let id = answer["items"][0]["id"].as_str().unwrap();
    assert_eq!(status(&bank, &format!("{path}/{id}")).await, 200);
    assert_eq!(status(&bank, &format!("{path}/COL-99999999")).await, 404);
}

#[tokio::test]
async fn hundreds_of_connections_share_one_bank_and_go_down_together() {
    let (_sim, bank) = plain().await;
    let keeping = client();
    let ask = |i: usize| {
        let url = format!("{}/health", bank.labelled_url(&i.to_string()));
        let keeping = keeping.clone();
        async move { keeping.get(url).send().await.map(|r| r.status().as_u16()) }
    };
    // All at once, so that none can be served on another's connection: each is answered only after a while.
    bank.fail_with(ScriptStep::slow(Duration::from_millis(500))).await.unwrap();
    let all = futures::future::join_all((0..200).map(ask)).await;
    assert!(all.iter().all(|r| matches!(r, Ok(200))));
    let log = bank.arrivals().entries;
    assert_eq!(log.iter().map(|a| a.path.as_str()).collect::<HashSet<_>>().len(), 200);
    assert!(bank.counters().connections_open > 20, "{:?}", bank.counters());
    bank.fail_with(Behaviour::Down(Down::Refuse)).await.unwrap();
    assert!(ask(0).await.unwrap_err().is_connect());
    let all_closed = async {
        while bank.counters().connections_open > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_closed).await.unwrap();
}
