//! Providers as a user of the operator meets them: one of his own, one that stands in for another, the series and spans of
//! their calls, and a failed call that outlives the process.

use std::path::Path;

use busbar::api::v1alpha1::ProviderConnection;
use busbar::ledger::dead_requests::{DeadRequest, DeadRequestFilter, DeadRequestState, DeadRequests as _};
use busbar::ledger::sqlite::SqliteLedger;
use busbar::testbed::sim::otlp::{Span, TraceCollector};
use busbar::testbed::sim::{BankConfig, BankHandle, Behaviour};

use crate::gateway::{account, get, until};
use crate::jobs::ledger_file;
use crate::support::plane::PATIENCE;
use crate::support::world::condition;
use crate::support::{Operator, World, eventually};

const FMP_QUOTE: &str = r#"[{"symbol":"ACME","price":101.25,"timestamp":1767225600}]"#;
const POLYGON_QUOTE: &str = r#"{"status":"OK","ticker":{"ticker":"ACME","todaysChange":1.2,"todaysChangePerc":1.1,
    "day":{"o":100.1,"h":102,"l":99,"c":101,"v":1000},"lastTrade":{"p":101.30},"prevDay":{"c":100},"updated":1767225600000000000}}"#;

/// A provider of the user's own, as he would write it.
const OWN: &str = r"id: acme-rates
title: Acme exchange rates
breaker: Api
healthCheck: {path: /health}
operations:
  rate:
    path: /rates/{pair}
    parameters: {pair: {kind: word, required: true, maxLength: 6, public: true}}
  order:
    path: /orders
    method: POST
    class: Money
";

/// A provider that answers `path` with `body` and wants no credentials.
async fn provider(world: &World, name: &str, path: &str, body: &str) -> BankHandle {
    let mut config = BankConfig::new(name);
    config.canned.insert(path.to_owned(), body.to_owned());
    world.sim.add_bank(config).await.expect("a bank")
}

/// The connection `name` of the provider `id`, with further fields.
fn connection(name: &str, id: &str, bank: &BankHandle, fields: &str) -> String {
    format!(
        "{{apiVersion: busbar.dev/v1alpha1, kind: ProviderConnection, metadata: {{name: {name}}}, spec: {{
          provider: '{id}', environment: Sandbox, endpoint: {{baseURL: '{}', insecure: true}}, {fields}}}}}",
        bank.base_url()
    )
}

/// The credentials of the built-in profiles.
async fn credentials(world: &World, name: &str) -> String {
    let secret = format!("{name}-credentials");
    world.ns.secret(&secret, &[("api-key", world.ns.canary(name).as_bytes())]).await;
    format!("auth: {{profile: {{secretRef: {{name: {secret}}}}}}}")
}

/// A market data provider by its built-in profile, with further fields of its connection.
async fn market(world: &World, name: &str, (path, body): (&str, &str), fields: &str) -> BankHandle {
    let bank = provider(world, name, path, body).await;
    let auth = credentials(world, name).await;
    world.put(&connection(name, name, &bank, &format!("{auth}, {fields}"))).await;
    bank
}

/// A condition of a connection, awaited.
async fn until_condition(world: &World, name: &str, condition_type: &str, wanted: (&str, &str)) {
    let what = format!("{condition_type} is {wanted:?}");
    world
        .until::<ProviderConnection, _>(name, &what, |object| {
            let now = condition(&object.status.as_ref()?.conditions, condition_type)?;
            ((now.0.as_str(), now.1.as_str()) == wanted).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_profile_of_ones_own_is_called_like_a_built_in_one_and_one_that_nobody_loaded_is_named() {
    let world = World::new("own").await;
    let profiles = tempfile::tempdir().unwrap();
    std::fs::write(profiles.path().join("acme-rates.yaml"), OWN).unwrap();
    let bank = provider(&world, "acme", "/rates/EURUSD", r#"{"mid":"1.0842"}"#).await;
    world.put(&connection("acme", "profile:acme-rates", &bank, "")).await;
    world.put(&connection("unknown", "profile:nope", &bank, "")).await;
    let desk = account(&world.ns, "desk", Some("busbar-caller")).await;
    let operator = Operator::ready(&world.ns, &[&format!("--profiles-dir={}", profiles.path().display())]).await;
    world
        .until::<ProviderConnection, _>("acme", "it is Ready", |object| {
            let now = condition(&object.status.as_ref()?.conditions, "Ready")?;
            (now.0 == "True").then_some(())
        })
        .await;
    until_condition(&world, "unknown", "Stalled", ("True", "ProfileNotFound")).await;
    let path = format!("/api/providers/{}/acme/rate?pair=EURUSD", world.ns.name());
    until(&operator, &path, &desk, (200, "")).await;
    let (_, _, body) = get(&operator, &path, &desk).await;
    assert_eq!(body["data"]["result"]["mid"], "1.0842", "{body}");
    assert_eq!(body["data"]["meta"]["provider"], "profile:acme-rates", "{body}");
    // What moves money is no call of the gateway's, whoever wrote its profile.
    let order = format!("/api/providers/{}/acme/order", world.ns.name());
    assert_eq!(get(&operator, &order, &desk).await.1, "not_callable");
    operator.finish(&world.ns).await;
}

#[tokio::test]
async fn a_stand_in_answers_and_the_older_series_and_the_spans_tell_of_both_calls() {
    let world = World::new("standin").await;
    let collector = TraceCollector::start().await.unwrap();
    let quotes = ("/v2/snapshot/locale/us/markets/stocks/tickers/ACME", POLYGON_QUOTE);
    market(&world, "polygon", quotes, "").await;
    let fallback = "fallback: [{name: polygon, operations: [quote], connectionRef: {name: polygon}}]";
    let fmp = market(&world, "fmp", ("/quote", FMP_QUOTE), fallback).await;
    let finastra = world.secured("finastra").await;
    let fields = "auth: {bearer: {secretRef: {name: finastra-credentials}}}";
    world.put(&connection("finastra", "finastra", &finastra, fields)).await;
    let desk = account(&world.ns, "desk", Some("busbar-caller")).await;
    let endpoint = format!("--otlp-endpoint={}", collector.endpoint());
    let operator = Operator::ready(&world.ns, &["--compat-metrics=finastra,providers", &endpoint]).await;
    let call = |connection: &str, rest: &str| format!("/api/providers/{}/{connection}/{rest}", world.ns.name());
    // Another symbol than the one that is to be stood in for: what is kept of that would do.
    let quote = call("fmp", "quote?symbol=OTHER");
    until(&operator, &quote, &desk, (200, "")).await;
    until(&operator, &call("polygon", "quote?symbol=ACME"), &desk, (200, "")).await;
    until(&operator, &call("finastra", "collaterals"), &desk, (200, "")).await;
    let (_, _, body) = get(&operator, &quote, &desk).await;
    assert_eq!(body["data"]["meta"]["provider_used"], "fmp", "{body}");

    fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let other = call("fmp", "quote?symbol=ACME");
    let body = eventually(PATIENCE, "polygon stands in", async || {
        let (status, _, body) = get(&operator, &other, &desk).await;
        (status == 200 && body["data"]["meta"]["provider_used"] == "polygon_fallback").then_some(body)
    })
    .await;
    assert_eq!(body["data"]["meta"]["provider"], "fmp", "{body}");
    assert_eq!(body["data"]["result"]["price"], "101.30", "{body}");

    for (series, labels) in [
        ("provider_requests_total", [("provider", "fmp"), ("endpoint", "quote"), ("status", "503")].as_slice()),
        ("provider_requests_total", &[("provider", "polygon"), ("endpoint", "quote"), ("status", "200")]),
        ("finastra_api_calls_total", &[("endpoint", "collaterals"), ("status", "200")]),
    ] {
        assert!(operator.metric(series, labels).await.is_some_and(|calls| calls >= 1.0), "{series}{labels:?}");
    }
    eventually(PATIENCE, "the spans of both calls arrive", async || {
        let (calls, doors) = (collector.spans_named("provider.call"), collector.spans_named("gateway.request"));
        let of = |provider: &str, door: &Span| {
            calls.iter().any(|call| call.parent_id == door.span_id && call.attributes["provider"] == provider)
        };
        // Both of one request: the one that was stood in for.
        doors.iter().any(|door| of("fmp", door) && of("polygon", door)).then_some(())
    })
    .await;
    operator.finish(&world.ns).await;
}

async fn dead_requests(file: &Path) -> Vec<DeadRequest> {
    let ledger = SqliteLedger::open_read_only(file.to_owned()).await.expect("the ledger can be read");
    ledger.list_dead_requests(&DeadRequestFilter::default(), 10).await.expect("its failed requests")
}

#[tokio::test]
async fn a_failed_call_outlives_a_kill_and_is_answered_or_parked_by_the_next_process() {
    let world = World::new("killed").await;
    let fmp = market(&world, "fmp", ("/quote", FMP_QUOTE), "").await;
    let desk = account(&world.ns, "desk", Some("busbar-caller")).await;
    let mut operator = Operator::ready(&world.ns, &[]).await;
    let file = ledger_file(&world.ns, "a");
    let quote = |symbol: &str| format!("/api/providers/{}/fmp/quote?symbol={symbol}", world.ns.name());
    until(&operator, &quote("ACME"), &desk, (200, "")).await;
    // The pause keeps it pending while the process dies.
    let pause = Behaviour::rate_limited("8");
    fmp.fail_with(pause.clone()).await.unwrap();
    until(&operator, &quote("OTHER"), &desk, (503, "quota_exhausted")).await;
    let pending = dead_requests(&file).await;
    assert_eq!((pending.len(), pending[0].state, pending[0].tries), (1, DeadRequestState::Pending, 0), "{pending:?}");
    operator.kill9();
    fmp.recover().await;
    let seen = fmp.arrivals().next;
    operator.restart().await;
    eventually(PATIENCE, "it is answered after the restart", async || {
        let now = dead_requests(&file).await;
        (now.len() == 1 && now[0].state == DeadRequestState::Done && now[0].tries == 1).then_some(())
    })
    .await;
    let asked = fmp.arrivals_since(seen).entries;
    assert_eq!(asked.iter().filter(|arrival| arrival.path.starts_with("/quote")).count(), 1, "{asked:?}");

    // And one that would never be answered waits for a person.
    fmp.fail_with(pause).await.unwrap();
    until(&operator, &quote("THIRD"), &desk, (503, "quota_exhausted")).await;
    operator.kill9();
    fmp.fail_with(Behaviour::status(403)).await.unwrap();
    operator.restart().await;
    eventually(PATIENCE, "it is parked after the restart", async || {
        dead_requests(&file).await.iter().any(|dead| dead.state == DeadRequestState::Parked).then_some(())
    })
    .await;
    operator.finish(&world.ns).await;
}
