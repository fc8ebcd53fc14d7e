//! Operations by their names in the profile: those of a custom profile, and one item of a list.

use busbar::profile::Profiles;
use busbar::testbed::sim::{BankConfig, Behaviour};
use serde_json::json;

use super::harness::{GatewayHarness, canned, said};

const ACME: &str = "id: acme
title: Acme
baseURL: {sandbox: 'https://api.acme.example'}
breaker: Api
healthCheck: {path: /ping}
operations:
  rate:
    path: '/rates/{pair}'
    parameters: {pair: {required: true, kind: word}}
    canonical:
      record: custom
      shape: one
      fields: {rate: {at: [/mid], kind: decimal, required: true}}
  note:
    method: POST
    class: Write
    path: /notes
    body: {kind: json, content: {text: '{text}'}}
    parameters: {text: {required: true}}
";

#[tokio::test]
async fn operations_of_a_custom_profile_are_called_like_built_in_ones() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("acme.yaml"), ACME).unwrap();
    let profile = Profiles::load(Some(dir.path())).unwrap().get("profile:acme").unwrap();
    let harness = GatewayHarness::new().await;
    let bodies = [("/rates/EURUSD", r#"{"mid":1.08450}"#)];
    let acme = harness.sim.add_bank(canned("acme", &bodies)).await.unwrap();
    harness.connect_by("acme", profile, &acme, |_| ());

    let path = "/api/providers/treasury/acme/rate";
    let got = harness.get(&format!("{path}?pair=EURUSD")).await;
    assert_eq!((got.status, &got.body["data"]["result"]), (200, &json!({"rate": "1.08450"})), "{got:?}");
    assert_eq!((got.meta("provider"), got.meta("endpoint")), (&json!("profile:acme"), &json!("rate")));
    let post = |path: &str, body: &'static str| {
        let request = harness.http.post(harness.url(path)).bearer_auth("token-ann");
        said(request.header("content-type", "application/json").body(body))
    };
    let posted = post(path, r#"{"pair":"EURUSD"}"#).await;
    assert_eq!(posted.body["data"]["result"], got.body["data"]["result"]);
    // A write is callable by POST only.
    let note = "/api/providers/treasury/acme/note";
    assert_eq!(harness.get(&format!("{note}?text=hello")).await.error(), "not_callable");
    let noted = Behaviour::Status { code: 200, headers: [].into(), body: Some(r#"{"id":7}"#.to_owned()) };
    acme.fail_with(noted).await.unwrap();
    assert_eq!(post(note, r#"{"text":"hello"}"#).await.body["data"]["result"], json!({"id": 7}));
    let paths: Vec<_> = acme.arrivals().entries.iter().map(|a| format!("{} {}", a.method, a.path)).collect();
    assert_eq!(paths, ["GET /rates/EURUSD", "GET /rates/EURUSD", "POST /notes"]);
    assert_eq!(harness.get(&format!("{path}?pair=a%20b")).await.error(), "invalid_request");
    assert_eq!(harness.get("/api/providers/treasury/acme/quote?symbol=A").await.error(), "operation_not_found");
}

#[tokio::test]
async fn one_item_of_a_list_has_a_path_below_the_list() {
    let harness = GatewayHarness::new().await;
    let lists = "/api/providers/treasury/finastra/collaterals";
    let one = harness.get(&format!("{lists}/COL-00000001")).await;
    assert_eq!((one.status, &one.body["data"]["result"]["id"]), (200, &json!("COL-00000001")), "{one:?}");
    assert_eq!(*one.meta("endpoint"), "collateral");
    let by_name = harness.get("/api/providers/treasury/finastra/collateral?id=COL-00000001").await;
    assert_eq!(by_name.body["data"]["result"], one.body["data"]["result"]);
    for (path, status, error) in [
        (format!("{lists}/COL-99999999"), 404, "item_not_found"),
        (format!("{lists}/COL-00000001?id=COL-00000002"), 400, "invalid_request"),
        ("/api/providers/treasury/finastra/collateral/COL-00000001".to_owned(), 404, "operation_not_found"),
        ("/api/providers/treasury/fmp/quote/ACME".to_owned(), 404, "operation_not_found"),
    ] {
        let said = harness.get(&path).await;
        assert_eq!((said.status, said.error()), (status, error), "{path}: {said:?}");
    }
    // An item's ID is one path segment, whatever it contains.
    let mono = harness.sim.add_bank(BankConfig::new("mono")).await.unwrap();
    mono.fail_with(Behaviour::status(404)).await.unwrap();
    harness.connect("mono", &mono, |_| ());
    let odd = harness.get("/api/providers/treasury/mono/accounts/a%2Fb").await;
    assert!(matches!(odd.status, 400 | 404), "{odd:?}");
    assert!(mono.arrivals().entries.iter().all(|a| !a.path.contains("a/b")), "{:?}", mono.arrivals().entries);
}
