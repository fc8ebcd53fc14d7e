//! The gateway over real sockets: responses, errors, fallbacks and dead requests.

mod api;
mod budget;
mod bulkheads;
mod codes;
mod consumers;
mod contract;
mod contract_routing;
mod dead;
mod fallback_rights;
mod fallbacks;
mod floods;
mod harness;
mod haste;
mod isolation;
mod large_answers;
mod later;
mod ledger_faults;
mod oddities;
mod own;
mod quiet;
mod refusals;
mod retry_reasons;
mod routing;
mod schemathesis;
mod scripted_hooks;
mod scripted_routes;
mod strangers;
mod syncs;
mod traced;
mod webhooks;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::rights::{LicenceProfile, LicenceSubject, Rights};
use busbar::gateway::connection_limits::ConnectionLimits;
use busbar::gateway::rate_limit::Rate;
use busbar::gateway::server::Server;
use busbar::gateway::tls::ServerCertificate;
use busbar::tasks::TaskGroup;
use busbar::testbed::sim::{Behaviour, FailurePoint, ScriptStep};
use serde_json::json;

use harness::{GatewayHarness, Plan, said};

const QUOTE: &str = "/api/providers/treasury/fmp/quote?symbol=ACME";

#[tokio::test]
async fn an_operation_returns_its_canonical_record_or_the_providers_own_body() {
    let harness = GatewayHarness::new().await;
    let quote = harness.get(QUOTE).await;
    assert_eq!(quote.status, 200, "{quote:?}");
    assert_eq!(
        quote.body["detail"],
        json!({"status_code": "200", "status_name": "OK", "status_description": "Success"})
    );
    let record = &quote.body["data"]["result"];
    assert_eq!(
        (&record["symbol"], &record["price"]),
        (&json!("ACME"), &json!("101.2500")),
        "no digit is lost: {record}"
    );
    for (name, wanted) in [
        ("provider", json!("fmp")),
        ("provider_used", json!("fmp")),
        ("endpoint", json!("quote")),
        ("status_code", json!(200)),
        ("cached", json!(false)),
        ("stale", json!(false)),
    ] {
        assert_eq!(*quote.meta(name), wanted, "{name}");
    }
    let own = harness.get(&format!("{QUOTE}&shape=provider")).await;
    assert_eq!(
        own.body["data"]["result"].to_string(),
        serde_json::from_str::<serde_json::Value>(harness::FMP_QUOTE).unwrap().to_string()
    );
    let post = harness.http.post(harness.url("/api/providers/treasury/fmp/quote")).bearer_auth("token-ann");
    let posted = said(post.header("content-type", "application/json").body(r#"{"symbol":"ACME"}"#)).await;
    assert_eq!(posted.body["data"]["result"], *record);
}

#[tokio::test]
async fn a_request_id_is_kept_if_it_is_a_uuid_and_replaced_if_not() {
    let harness = GatewayHarness::new().await;
    let own = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let kept = harness.ask("GET", QUOTE, "token-ann", &[("x-request-id", own)]).await;
    assert_eq!(kept.header("x-request-id"), Some(own));
    let replaced = harness.ask("GET", QUOTE, "token-ann", &[("x-request-id", "drop table")]).await;
    let id = replaced.header("x-request-id").unwrap();
    assert!(uuid::Uuid::parse_str(id).is_ok(), "{id}");
    assert!(harness.ask("GET", "/nothing", "", &[]).await.header("x-request-id").is_some());
}

#[tokio::test]
async fn every_error_has_the_same_format_and_its_own_code() {
    let harness = GatewayHarness::new().await;
    let path = "/api/providers/treasury/fmp/quote";
    for (method, path, token, status, error) in [
        ("GET", path, "", 401, "unauthenticated"),
        ("GET", path, "forged", 401, "unauthenticated"),
        ("GET", path, "token-outsider", 403, "forbidden"),
        ("GET", "/api/nothing", "token-ann", 404, "not_found"),
        ("GET", "/api/nothing", "", 401, "unauthenticated"),
        ("DELETE", path, "token-ann", 405, "method_not_allowed"),
        ("GET", path, "token-ann", 400, "invalid_request"),
        ("GET", "/api/providers/treasury/fmp/quote?symbol=a%20b", "token-ann", 400, "invalid_request"),
        ("GET", "/api/providers/treasury/fmp/quote?symbol=A&symbol=B", "token-ann", 400, "invalid_request"),
        ("GET", "/api/providers/treasury/fmp/quote?symbol=A&other=B", "token-ann", 400, "invalid_request"),
        ("GET", "/api/providers/treasury/fmp/quote?symbol=A&shape=other", "token-ann", 400, "invalid_request"),
        ("GET", "/api/providers/treasury/fmp/quote?symbol=A&deadline_ms=99", "token-ann", 400, "invalid_request"),
        ("GET", "/api/providers/treasury/fmp/nothing", "token-ann", 404, "operation_not_found"),
        ("GET", "/api/providers/treasury/nothing/quote?symbol=A", "token-ann", 404, "connection_not_found"),
        ("GET", "/api/providers/Bad%2FName/fmp/quote?symbol=A", "token-ann", 404, "connection_not_found"),
        ("GET", "/api/providers/treasury/finastra/collateral?id=COL-99999999", "token-ann", 404, "item_not_found"),
        ("GET", "/api/dead-requests", "token-caller", 403, "forbidden"),
        ("GET", "/api/dead-requests?limit=0", "token-ann", 400, "invalid_request"),
        ("GET", "/api/dead-requests?cursor=x", "token-ann", 400, "invalid_request"),
        ("POST", "/api/dead-requests/0f8fad5b-d9cb-469f-a165-70867728950e/replay", "token-ann", 404, "not_found"),
    ] {
        let said = harness.ask(method, path, token, &[]).await;
        assert_eq!((said.status, said.error()), (status, error), "{method} {path}: {said:?}");
        assert_eq!(said.body["detail"]["status_code"], status.to_string());
        assert!(said.body["data"]["details"].is_object() && said.header("x-request-id").is_some());
        assert_eq!(status == 401, said.header("www-authenticate").is_some());
    }
    let post = harness.http.post(harness.url(path)).bearer_auth("token-ann").header("content-type", "application/json");
    let large = said(post.body("x".repeat(1024 * 1024 + 1))).await;
    assert_eq!((large.status, large.error()), (413, "body_too_large"));
    assert!(harness.fmp.arrivals().entries.is_empty(), "nothing was sent for any of them");
    for open in ["/livez", "/readyz"] {
        assert_eq!(harness.ask("GET", open, "", &[]).await.status, 200);
    }
    assert_eq!(harness.ask("GET", "/openapi.json", "", &[]).await.status, 401);
}

#[tokio::test]
async fn new_callers_are_rejected_while_the_api_server_is_unavailable() {
    let harness = GatewayHarness::new().await;
    assert_eq!(harness.get(QUOTE).await.status, 200);
    harness.api.down.store(true, Ordering::Relaxed);
    let unknown = harness.ask("GET", QUOTE, "token-bob", &[]).await;
    assert_eq!((unknown.status, unknown.error()), (503, "authorization_unavailable"));
    assert!(unknown.header("retry-after").is_some());
    assert_eq!(harness.get(QUOTE).await.status, 200, "the recent review is still valid");
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_next_request_is_served() {
    let harness = GatewayHarness::new().await;
    let broken = harness.ask("GET", QUOTE, "token-panic", &[]).await;
    assert_eq!((broken.status, broken.error()), (500, "internal"));
    assert_eq!(harness.get(QUOTE).await.status, 200);
    let text = harness.metrics.render().unwrap();
    let counts = crate::kit::metrics::find(&text, "busbar_gateway_panics_total", &[]);
    assert!(counts.len() > 5, "every route has its counter, at 0 before its first panic: {counts:?}");
    assert!((counts.iter().map(|sample| sample.value).sum::<f64>() - 1.0).abs() < f64::EPSILON, "{counts:?}");
}

#[tokio::test]
async fn callers_and_addresses_without_a_valid_token_are_rate_limited() {
    let rate = |requests| Rate { requests, per: Duration::from_hours(1) };
    let harness = GatewayHarness::with(Plan { caller: rate(3), address: rate(2), ..Plan::default() }).await;
    for _ in 0..3 {
        assert_eq!(harness.get(QUOTE).await.status, 200);
    }
    let often = harness.get(QUOTE).await;
    assert_eq!((often.status, often.error()), (429, "rate_limited"));
    assert!(often.header("retry-after").unwrap().parse::<u64>().unwrap() > 60);
    assert_eq!(harness.ask("GET", QUOTE, "token-bob", &[]).await.status, 200, "other callers are not limited");
    for token in ["forged-1", ""] {
        assert_eq!(harness.ask("GET", QUOTE, token, &[]).await.status, 401);
    }
    for token in ["forged-2", "", "token-carl"] {
        let said = harness.ask("GET", QUOTE, token, &[]).await;
        assert_eq!((said.status, said.error()), (429, "rate_limited"), "{token}: new tokens are not reviewed");
    }
    assert_eq!(harness.ask("GET", QUOTE, "token-bob", &[]).await.status, 200, "a known token is not a guess");
}

/// Waits for `done`.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let clock = Clock::system();
    let end = clock.mono() + Duration::from_secs(20);
    while !done() {
        assert!(clock.mono() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn requests_beyond_the_concurrency_limit_are_rejected_except_probes() {
    let harness = GatewayHarness::with(Plan { under_way: 2, ..Plan::default() }).await;
    harness.fmp.fail_with(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    let stalled = |_| {
        let (url, http) = (harness.url(&format!("{QUOTE}&deadline_ms=20000")), harness.http.clone());
        tokio::spawn(async move { http.get(url).bearer_auth("token-ann").send().await.map(drop) })
    };
    let under_way: Vec<_> = (0..2).map(stalled).collect();
    until("both calls are in flight", || harness.fmp.arrivals().entries.len() == 2).await;
    let said = harness.get(QUOTE).await;
    assert_eq!((said.status, said.error()), (503, "unavailable"), "{said:?}");
    assert!(said.header("retry-after").is_some() && said.header("x-request-id").is_some());
    assert_eq!(harness.ask("GET", "/livez", "", &[]).await.status, 200);
    // The calls end when their clients disconnect.
    for request in under_way {
        request.abort();
    }
    harness.fmp.recover().await;
    let clock = Clock::system();
    let end = clock.mono() + Duration::from_secs(20);
    while harness.get(QUOTE).await.status != 200 {
        assert!(clock.mono() < end, "the permits are released");
    }
}

fn desk(requests_per_day: Option<u64>) -> Arc<Rights> {
    let profile = |name: &str, actions: &[&str]| LicenceProfile {
        name: name.into(),
        subjects: vec![LicenceSubject::User("ann".into())],
        actions: actions.iter().map(ToString::to_string).collect::<BTreeSet<_>>(),
        requests_per_day,
    };
    Arc::new(Rights { profiles: vec![profile("desk", &["quote"]), profile("research", &["quote", "export_pdf"])] })
}

#[tokio::test]
async fn licence_profiles_deny_before_any_call_and_every_call_is_audited() {
    let mut harness = GatewayHarness::new().await;
    harness.connect("fmp", &harness.fmp, |draft| draft.rights = Some(desk(None)));
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let refused = harness
        .ask("GET", "/api/providers/treasury/fmp/earnings?symbol=ACME", "token-ann", &[("x-request-id", id)])
        .await;
    assert_eq!((refused.status, refused.error()), (403, "rights_denied"));
    assert_eq!(refused.body["data"]["details"], json!({"action": "earnings", "reason": "action_not_allowed"}));
    assert_eq!(harness.ask("GET", QUOTE, "token-bob", &[]).await.error(), "rights_denied");
    let export = format!("{QUOTE}&purpose=export_pdf");
    assert_eq!(
        harness.ask("GET", &export, "token-ann", &[("x-rights-profile", "desk")]).await.error(),
        "rights_denied"
    );
    assert_eq!(harness.ask("GET", QUOTE, "token-ann", &[("x-rights-profile", "other")]).await.error(), "rights_denied");
    assert!(harness.fmp.arrivals().entries.is_empty());
    assert_eq!(harness.get(&export).await.status, 200);
    // Refusals are collected for a moment before they are written, calls are not.
    let (calls, refusals): (Vec<_>, Vec<_>) = harness.audit().await.into_iter().partition(|entry| entry.allowed);
    let said: Vec<_> =
        refusals.iter().map(|e| (e.subject.as_str(), e.action.as_str(), e.rights_profile.as_deref())).collect();
    assert_eq!(
        said,
        [
            ("ann", "earnings", Some("desk")),
            ("bob", "quote", None),
            ("ann", "export_pdf", Some("desk")),
            ("ann", "quote", None),
        ]
    );
    assert_eq!(refusals[0].request_id.unwrap().to_string(), id);
    let said: Vec<_> = calls.iter().map(|e| (e.action.as_str(), e.rights_profile.as_deref())).collect();
    assert_eq!(said, [("quote", Some("research"))]);
    assert_eq!(calls[0].purpose.as_deref(), Some("export_pdf"));
}

#[tokio::test]
async fn a_licence_profile_has_a_daily_quota() {
    let harness = GatewayHarness::new().await;
    harness.connect("fmp", &harness.fmp, |draft| draft.rights = Some(desk(Some(2))));
    for _ in 0..2 {
        assert_eq!(harness.get(QUOTE).await.status, 200);
    }
    let over = harness.get(QUOTE).await;
    assert_eq!((over.status, over.error()), (429, "rights_quota_exhausted"));
    let wait: u64 = over.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait), "until midnight: {wait}");
    assert_eq!(harness.fmp.arrivals().entries.len(), 2);
}

#[tokio::test]
async fn the_finastra_aliases_call_one_connection_and_stubs_are_off_by_default() {
    let harness = GatewayHarness::with(Plan { finastra: false, ..Plan::default() }).await;
    let unset = harness.get("/finastra/b2b/collaterals").await;
    assert_eq!((unset.status, unset.error()), (404, "not_found"));
    assert!(unset.body["detail"]["status_description"].as_str().unwrap().contains("--finastra-alias"));

    let harness = GatewayHarness::new().await;
    let page = harness.get("/finastra/b2b/collaterals?top=2&startingIndex=1").await;
    assert_eq!(page.body["data"]["result"]["items"].as_array().unwrap().len(), 2, "{page:?}");
    let sent = harness.finastra.arrivals().entries.pop().unwrap();
    assert!(sent.path.contains("/collaterals"), "{sent:?}");
    let one = harness.get("/finastra/b2b/collaterals/COL-00000001").await;
    assert_eq!(one.body["data"]["result"]["id"], "COL-00000001");
    for (top, status) in [("0", 400), ("101", 400), ("100", 200)] {
        assert_eq!(harness.get(&format!("/finastra/b2b/collaterals?top={top}")).await.status, status, "{top}");
    }
    let stub = harness.get("/finastra/b2c/accounts").await;
    assert_eq!((stub.status, stub.error()), (404, "operation_not_found"));
    assert!(stub.body["detail"]["status_description"].as_str().unwrap().contains("spec.features.b2c-stubs"));
    let seen = harness.finastra.arrivals().next;
    harness.connect("finastra", &harness.finastra, |draft| {
        draft.parameters.insert("tenant".into(), "sandbox".into());
        draft.features.insert("b2c-stubs".into(), true);
    });
    assert_eq!(harness.get("/finastra/b2c/balances").await.status, 200);
    assert_eq!(harness.finastra.arrivals().next, seen, "a stub makes no call");
}

#[tokio::test]
async fn shutdown_finishes_active_requests_and_accepts_no_more() {
    let mut harness = GatewayHarness::new().await;
    harness.fmp.fail_with(ScriptStep::slow(Duration::from_millis(300))).await.unwrap();
    let (url, http) = (harness.url(QUOTE), harness.http.clone());
    let under_way = tokio::spawn(async move { said(http.get(url).bearer_auth("token-ann")).await });
    until("the request arrives", || !harness.fmp.arrivals().entries.is_empty()).await;
    harness.stop.cancel();
    assert_eq!(under_way.await.unwrap().status, 200);
    tokio::time::timeout(Duration::from_secs(10), &mut harness.serving).await.unwrap().unwrap();
    assert!(harness.http.get(harness.url("/livez")).send().await.is_err());
}

#[tokio::test]
async fn a_renewed_certificate_is_served_to_the_next_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let renew = || {
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&cert, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        reqwest::Certificate::from_pem(pair.cert.pem().as_bytes()).unwrap()
    };
    let first = renew();
    let served = ServerCertificate::open(cert.clone(), key.clone()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let app = axum::Router::new().route("/", axum::routing::get(|| async { "well" }));
    let stop = tokio_util::sync::CancellationToken::new();
    let tls = Some(served.config().unwrap());
    let (limits, clock, tasks) = (ConnectionLimits::default(), Clock::system(), TaskGroup::default());
    let door = Server { listener, app, tls, limits, clock, tasks, metrics: None };
    let serving = tokio::spawn(door.serve(stop.clone()));
    // A client each: a pooled connection keeps the certificate of its handshake.
    let get = async |root: &reqwest::Certificate| {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([root.clone()]).build().unwrap();
        client.get(&url).send().await.map(|answer| answer.status().as_u16())
    };
    assert_eq!(get(&first).await.unwrap(), 200);
    let second = renew();
    assert!(served.reload().unwrap());
    assert_eq!(get(&second).await.unwrap(), 200);
    assert!(get(&first).await.is_err(), "the old certificate is no longer served");
    stop.cancel();
    serving.await.unwrap();
}
