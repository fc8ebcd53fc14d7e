//! Traces of calls, as a collector receives them: the parent of each span, its attributes, and what it must never hold.

use std::collections::BTreeMap;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profiles};
use busbar::provider::call::{CacheMode, Request};
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::provider::trace::{IncomingRequest, IncomingSpan};
use busbar::settings::{
    Auth, CachePolicy, ClientAuthentication, DEFAULT_REFRESH_BEFORE, Draft, Placement, TokenClient,
};
use busbar::tasks::TaskGroup;
use busbar::telemetry::traces::{Traces, parse_collector_url};
use busbar::testbed::sim::otlp::{Span, TraceCollector};
use busbar::testbed::sim::{BankConfig, Behaviour, RequiredAuth, Script, ScriptStep};
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;

use crate::kit::banks::{plain_bank, start_bank};
use crate::kit::connections::{apply, draft, registry};
use crate::kit::wait::{PATIENCE, eventually};

fn traced(endpoint: &str) -> (Registry, Traces, Metrics) {
    let metrics = Metrics::new();
    let (endpoint, tasks) = (parse_collector_url(endpoint).unwrap(), TaskGroup::default());
    let traces = Traces::export_to(&endpoint, "0.0.0", "replica-1", &metrics, &tasks).unwrap();
    let access = RegistryOptions { traces: traces.clone(), ..RegistryOptions::allowing_loopback() };
    (Registry::new(Clock::system(), &metrics, access).unwrap(), traces, metrics)
}

fn only(spans: Vec<Span>) -> Span {
    assert_eq!(spans.len(), 1, "{spans:#?}");
    spans.into_iter().next().unwrap()
}

fn attribute(span: &Span, name: &str) -> String {
    span.attributes.get(name).cloned().unwrap_or_default()
}

const SECRET: &str = "canary-secret-not-real";

const ACCOUNT: &str = "canary-account-0123456789";

const NARRATION: &str = "canary-narration-of-the-provider";

#[tokio::test]
async fn a_call_is_a_span_between_the_gateway_and_its_tries() {
    let required = RequiredAuth::OAuth2 {
        client_id: "canary-client".to_owned(),
        client_secret: SECRET.to_owned(),
        expires_in_seconds: 3600,
    };
    let (_sim, bank) = start_bank(BankConfig::new("bank").auth(required)).await;
    let body = Some(NARRATION.to_owned());
    let busy = Behaviour::Status { code: 503, headers: [].into(), body };
    bank.set_script(Script::from(ScriptStep::from(busy).times(1))).await.unwrap();
    let collector = TraceCollector::start().await.unwrap();
    let (registry, traces, _) = traced(&collector.endpoint());
    let mut draft = draft(bank.base_url());
    draft.retry.retries = 3;
    draft.retry.base = Duration::from_millis(1);
    draft.retry.min_pacing = Duration::ZERO;
    draft.auth = Auth::ClientCredentials(TokenClient {
        token_url: bank.token_url(),
        scopes: vec!["openid".to_owned()],
        audience: None,
        refresh_before: DEFAULT_REFRESH_BEFORE,
        client_authentication: ClientAuthentication::Auto,
        client_id: SecretString::from("canary-client"),
        client_secret: SecretString::from(SECRET),
    });
    let connection = apply(&registry, draft);

    let mut headers = HeaderMap::new();
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    headers.insert("traceparent", format!("00-{trace}-{parent}-01").parse().unwrap());
    let incoming = IncomingSpan::from_headers(registry.traces(), Clock::system(), &headers);
    let mut request = Request::get("accounts", "/health").with_query("account", ACCOUNT);
    request.trace_parameters = vec![("symbol".to_owned(), "AAPL".to_owned())];
    let serving = async { connection.call(request).await.unwrap().status };
    let route = "/api/providers/{namespace}/{connection}/{operation}";
    let request = IncomingRequest { method: "GET", route, id: uuid::Uuid::nil() };
    assert_eq!(incoming.serve(&request, serving, |status| *status).await, StatusCode::OK);
    traces.close(PATIENCE).await;

    let gateway = only(collector.spans_named("gateway.request"));
    assert_eq!((&*gateway.trace_id, &*gateway.parent_id, &*gateway.kind), (trace, parent, "SERVER"));
    assert_eq!(attribute(&gateway, "request_id"), uuid::Uuid::nil().to_string());

    let call = only(collector.spans_named("provider.call"));
    assert_eq!((&call.trace_id, &call.parent_id), (&gateway.trace_id, &gateway.span_id));
    for (name, value) in [
        ("provider", "generic"),
        ("endpoint", "accounts"),
        ("symbol", "AAPL"),
        ("status", "200"),
        ("tries", "2"),
        ("cached", "false"),
        ("namespace", "treasury"),
        ("connection", "bank"),
        ("class", "Read"),
    ] {
        assert_eq!(attribute(&call, name), value, "{name} of {call:#?}");
    }
    assert!(attribute(&call, "latency_ms").parse::<u64>().is_ok() && call.nanos.0 <= call.nanos.1, "{call:#?}");
    assert_eq!(call.failure, None);

    let tries = collector.spans_named("provider.try");
    assert!(tries.len() == 2 && tries.iter().all(|one| one.parent_id == call.span_id && one.kind == "CLIENT"));
    let statuses: Vec<String> = tries.iter().map(|one| attribute(one, "status")).collect();
    assert_eq!(statuses, ["503", "200"]);
    assert_eq!(tries[0].failure.as_deref(), Some("http_status"));
    let token = only(collector.spans_named("provider.token"));
    assert_eq!(
        (&token.parent_id, attribute(&token, "status").as_str()),
        (&tries[0].span_id, "200"),
        "the first try, which had no token"
    );
    assert_eq!(call.resource["service.name"], "busbar");
    assert_eq!(call.resource["service.instance.id"], "replica-1");

    let bytes: Vec<u8> = collector.bytes().concat();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("provider.call"), "the search finds what is there");
    // `sim-` is what the bank's tokens begin with.
    for never in [SECRET, "canary-client", ACCOUNT, NARRATION, &bank.base_url(), "Bearer", "sim-"] {
        assert!(!holds(never), "{never}");
    }
}

#[tokio::test]
async fn a_cached_response_has_no_try_and_a_failed_call_an_error() {
    let (_sim, bank) = plain_bank().await;
    let collector = TraceCollector::start().await.unwrap();
    let (registry, traces, _) = traced(&collector.endpoint());
    let mut draft = draft(bank.base_url());
    draft.cache = Some(CachePolicy { ttl: Duration::from_mins(10), max_stale: Duration::from_hours(1) });
    draft.retry.retries = 0;
    let (placement, name, prefix) = (Placement::Query, "apikey".to_owned(), String::new());
    draft.auth = Auth::ApiKey { placement, name, prefix, key: SecretString::from(SECRET) };
    let connection = apply(&registry, draft);
    let cached = || Request { cache: CacheMode::FreshOrStale, ..Request::get("kept", "/health") };
    connection.call(cached()).await.unwrap();
    connection.call(cached()).await.unwrap();
    bank.set_script(Script::from(ScriptStep::from(Behaviour::Down(busbar::testbed::sim::Down::Refuse)))).await.unwrap();
    connection.call(Request::get("failed", "/health")).await.unwrap_err();
    traces.close(PATIENCE).await;

    let spans = collector.spans_named("provider.call");
    let [first, second, failed] = spans.as_slice() else { panic!("{spans:#?}") };
    assert_eq!((attribute(first, "cached"), attribute(second, "cached")), ("false".to_owned(), "true".to_owned()));
    assert!(first.parent_id.is_empty() && first.trace_id != second.trace_id, "two callers, two traces");
    assert_eq!((attribute(failed, "status"), attribute(failed, "error")), ("error".to_owned(), "connect".to_owned()));
    assert_eq!(failed.failure.as_deref(), Some("connect"));
    let parents: Vec<String> = collector.spans_named("provider.try").into_iter().map(|one| one.parent_id).collect();
    assert_eq!(parents, [first.span_id.clone(), failed.span_id.clone()]);
    let sent = bank.arrivals().entries;
    assert!(sent.iter().all(|arrival| arrival.query.iter().any(|name| name == "apikey")), "{sent:?}");
    let bytes: Vec<u8> = collector.bytes().concat();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("connect"), "the search finds what is there");
    for never in [SECRET, "apikey", &bank.base_url()] {
        assert!(!holds(never), "{never}");
    }
}

#[tokio::test]
async fn callers_of_one_shared_request_have_a_span_each() {
    let (_sim, bank) = plain_bank().await;
    bank.set_script(Script::from(ScriptStep::slow(Duration::from_millis(100)))).await.unwrap();
    let collector = TraceCollector::start().await.unwrap();
    let (registry, traces, _) = traced(&collector.endpoint());
    let mut draft = draft(bank.base_url());
    draft.cache = Some(CachePolicy { ttl: Duration::from_mins(10), max_stale: Duration::from_hours(1) });
    let connection = apply(&registry, draft);
    let calls =
        (0..5).map(|_| connection.call(Request { cache: CacheMode::FreshOrStale, ..Request::get("kept", "/health") }));
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    traces.close(PATIENCE).await;
    let calls = collector.spans_named("provider.call");
    let one = only(collector.spans_named("provider.try"));
    assert_eq!(calls.len(), 5);
    assert_eq!(calls.iter().filter(|call| call.span_id == one.parent_id).count(), 1);
}

#[tokio::test]
async fn spans_that_the_collector_rejects_are_counted() {
    let (_sim, bank) = plain_bank().await;
    let collector = TraceCollector::start().await.unwrap();
    collector.reject_with(Some(StatusCode::BAD_REQUEST));
    let (registry, traces, metrics) = traced(&collector.endpoint());
    let connection = apply(&registry, draft(bank.base_url()));
    for _ in 0..10 {
        assert!(connection.call(Request::get("test", "/health")).await.is_ok());
    }
    eventually("the collector was called", || async { collector.requests() > 0 }).await;
    traces.close(PATIENCE).await;
    let text = metrics.render().unwrap();
    let value = |outcome: &str| {
        let name = format!("busbar_trace_spans_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!((value("ended"), value("exported"), value("failed")), (20, 0, 20), "ten calls, ten tries");
    assert!(collector.spans().is_empty());
}

#[tokio::test]
async fn a_collector_that_never_answers_delays_neither_a_call_nor_the_end() {
    /// More spans than the exporter's queue and its batch hold; a call has two.
    const CALLS: usize = 3_000;
    let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let (_sim, bank) = plain_bank().await;
    let (registry, traces, metrics) = traced(&endpoint);
    let connection = apply(&registry, draft(bank.base_url()));
    let calls = futures::stream::iter(0..CALLS)
        .map(|_| connection.call(Request::get("test", "/health")))
        .buffer_unordered(16)
        .filter(|result| std::future::ready(result.is_ok()));
    let done = tokio::time::timeout(PATIENCE, calls.count()).await;
    assert_eq!(done.expect("no call waits for the collector"), CALLS);
    let ended = format!("busbar_trace_spans_total{{outcome=\"ended\"}} {}", 2 * CALLS);
    assert!(metrics.render().unwrap().contains(&ended));
    let closed = tokio::time::timeout(PATIENCE, traces.close(Duration::from_millis(100))).await;
    closed.expect("the end waits no longer than it is told to");
}

#[tokio::test]
async fn without_a_collector_nothing_is_traced() {
    let (_sim, bank) = plain_bank().await;
    let (registry, metrics) = registry();
    let connection = apply(&registry, draft(bank.base_url()));
    assert!(connection.call(Request::get("test", "/health")).await.is_ok());
    assert!(registry.traces().tracer().is_none());
    assert!(!metrics.render().unwrap().contains("busbar_trace"));
    // A ticker may be in a trace only where its profile says so.
    let fmp = Profiles::builtin().unwrap().get("fmp").unwrap();
    let given = [("symbol".to_owned(), "AAPL".to_owned())].into();
    let request = fmp.operations["quote"].request(&given, &BTreeMap::new()).unwrap();
    assert_eq!(request.public_parameters, [("symbol".to_owned(), "AAPL".to_owned())]);
    assert_eq!(Draft::new(fmp, Environment::Sandbox).environment, Environment::Sandbox);
}
