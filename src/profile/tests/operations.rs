use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::breaker::CallClass;
use crate::profile::*;

fn operation(profile: &str, name: &str) -> Operation {
    Profiles::builtin().unwrap().get(profile).unwrap().operations[name].clone()
}

fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn line(request: &OperationRequest) -> String {
    let query: Vec<_> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{} {}?{}", request.method, request.path, query.join("&"))
}

fn parsed(text: &str) -> Result<Profile, ProfileError> {
    Profile::parse("x.yaml", &format!("id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {{path: /}}\n{text}"))
}

fn error_of(text: &str) -> String {
    parsed(text).unwrap_err().to_string()
}

#[test]
fn collateral_page_parameters_are_validated_and_renamed() {
    let collaterals = operation("finastra", "collaterals");
    let request = collaterals.request(&given(&[("top", "100"), ("startingIndex", "200")]), &BTreeMap::new()).unwrap();
    let path = "/total-lending/collaterals/b2b/v2/collaterals";
    assert_eq!(line(&request), format!("GET {path}?pageSize=100&startingIndex=200"));
    let unset = collaterals.request(&given(&[]), &BTreeMap::new()).unwrap();
    assert_eq!(line(&unset), format!("GET {path}?pageSize=50&startingIndex=0"));
    for (name, value, problem) in [
        ("top", "0", "must be between 1 and 100"),
        ("top", "101", "must be between 1 and 100"),
        ("top", "1&x=1", "must be a whole number"),
        ("startingIndex", "-1", "must be between 0 and 1000000000"),
        ("pageSize", "1", "is unknown; supported: startingIndex, top"),
    ] {
        let error = collaterals.request(&given(&[(name, value)]), &BTreeMap::new()).unwrap_err();
        assert_eq!((error.field.as_str(), error.problem.as_str()), (name, problem), "{name}={value}");
    }
    let one = operation("finastra", "collateral").request(&given(&[("id", "a/../b")]), &BTreeMap::new()).unwrap();
    assert_eq!(one.path, format!("{path}/a%2F..%2Fb"));
}

#[test]
fn a_quote_is_the_same_record_from_both_providers() {
    let fmp = operation("fmp", "quote").canonical(
        br#"[{"symbol":"AAPL","name":"Apple Inc.","price":201.50,"changePercentage":0.95,"change":1.90,"volume":54321,
            "dayLow":199.2,"dayHigh":202,"marketCap":3012345678901,"open":200.1,"previousClose":199.6,"timestamp":1750787200}]"#,
    );
    let polygon = operation("polygon", "quote").canonical(
        br#"{"status":"OK","request_id":"x","ticker":{"ticker":"AAPL","todaysChange":1.90,"todaysChangePerc":0.95,
            "updated":1750787200000000000,"day":{"o":200.1,"h":202,"l":199.2,"c":201.4,"v":54321},
            "lastTrade":{"p":201.50},"prevDay":{"c":199.6}}}"#,
    );
    let (mut fmp, polygon) = (fmp.unwrap().unwrap(), polygon.unwrap().unwrap());
    assert_eq!(fmp["market_cap"], json!("3012345678901"));
    fmp["market_cap"] = Value::Null;
    fmp["name"] = Value::Null;
    assert_eq!(fmp, polygon);
    assert_eq!(polygon["time"], json!("2025-06-24T17:46:40Z"));
    assert_eq!(polygon["price"], json!("201.50"));
}

#[test]
fn earnings_are_the_same_records_from_both_providers() {
    let fmp = operation("fmp", "earnings").canonical(
        br#"[{"symbol":"AAPL","date":"2025-07-31","epsActual":null,"epsEstimated":1.42,"revenueActual":null,
            "revenueEstimated":89000000000,"lastUpdated":"2025-06-20"}]"#,
    );
    let polygon = operation("polygon", "earnings").canonical(
        br#"{"results":[{"ticker":"AAPL","date":"2025-07-31","estimated_eps":1.42,"estimated_revenue":8.9e10,
            "last_updated":"2025-06-20T11:00:00Z"}]}"#,
    );
    let (fmp, polygon) = (fmp.unwrap().unwrap(), polygon.unwrap().unwrap());
    assert_eq!(fmp, polygon);
    assert_eq!(fmp["complete"], json!(true));
    let shape = |operation: &Operation| operation.canonical.as_ref().map(|mapping| (mapping.record, mapping.shape));
    for name in ["quote", "earnings"] {
        assert_eq!(shape(&operation("fmp", name)), shape(&operation("polygon", name)));
    }
}

#[test]
fn mapping_errors_name_the_field_and_not_the_value() {
    let quote = operation("fmp", "quote");
    let error = |body: &str| quote.canonical(body.as_bytes()).unwrap().unwrap_err().to_string();
    assert_eq!(error("<html>"), "the response is not JSON");
    assert_eq!(error("[]"), "no such record");
    assert_eq!(error("3"), "the response has no records where the mapping expects them");
    assert_eq!(error(r#"[{"symbol":"A","price":null}]"#), "the field price is missing");
    assert_eq!(error(r#"[{"symbol":"A","price":"secret"}]"#), "the field price has an unexpected type");
}

#[test]
fn a_body_is_expanded_by_kind_and_omits_missing_values() {
    let profile = parsed(
        r#"
operations:
  sync:
    method: POST
    path: /sync
    class: Write
    headers: {x-trace: "{trace}"}
    body:
      kind: json
      content: {cursor: "{cursor}", count: "{count}", options: {tag: "a-{trace}"}, fixed: 1}
    parameters: {cursor: {}, count: {kind: integer, default: "100"}, trace: {}}
  pay:
    method: POST
    path: /pay
    class: Money
    body: {kind: form, fields: {amount: "{amount}", note: "{note}"}}
    parameters: {amount: {kind: integer, required: true}, note: {}}
"#,
    )
    .unwrap();
    let body = |request: &OperationRequest| String::from_utf8(request.body.clone().unwrap().to_vec()).unwrap();
    let sync = &profile.operations["sync"];
    let request = sync.request(&given(&[]), &BTreeMap::new()).unwrap();
    assert_eq!(body(&request), r#"{"count":100,"fixed":1,"options":{}}"#);
    assert!(!request.headers.contains_key("x-trace") && request.headers["content-type"] == "application/json");
    let request = sync.request(&given(&[("cursor", "a\"b"), ("trace", "t")]), &BTreeMap::new()).unwrap();
    assert_eq!(body(&request), r#"{"count":100,"cursor":"a\"b","fixed":1,"options":{"tag":"a-t"}}"#);
    assert_eq!(request.headers["x-trace"], "t");
    let pay = &profile.operations["pay"];
    assert_eq!(body(&pay.request(&given(&[("amount", "5")]), &BTreeMap::new()).unwrap()), "amount=5");
    let noted = pay.request(&given(&[("amount", "5"), ("note", "a&b=c d")]), &BTreeMap::new()).unwrap();
    assert_eq!(body(&noted), "amount=5&note=a%26b%3Dc+d");
    assert_eq!(noted.class, CallClass::Money);
}

#[test]
fn an_invalid_operation_is_reported_with_its_line() {
    for (text, problem) in [
        (
            "operations:\n  a:\n    path: /a/{id}\n",
            "line 7, operations.a.path: the placeholder {id} is not declared: add it under parameters",
        ),
        (
            "operations:\n  a:\n    path: /a\n    query:\n      q: '{what}'\n",
            "line 9, operations.a.query.q: the placeholder {what} is not declared: add it under parameters",
        ),
        (
            "operations:\n  a:\n    path: /a/{id}\n    parameters: {id: {}}\n",
            "line 7, operations.a.path: {id} may have no value: make the parameter required, or add a default",
        ),
        (
            "operations:\n  a:\n    path: /a\n    parameters:\n      id: {}\n",
            "line 9, operations.a.parameters.id: is not used: remove it",
        ),
        (
            "parameters: {tenant: {}}\noperations:\n  a:\n    path: /{tenant}\n    parameters: {tenant: {required: true}}\n",
            "line 9, operations.a.parameters.tenant: belongs to the connection: a caller must not set it; rename it",
        ),
        (
            "operations:\n  a:\n    path: /a\n    feature: f\n",
            "line 8, operations.a.feature: the feature f is not declared: add it under features",
        ),
        (
            "operations:\n  a:\n    path: /a\n    canonical:\n      record: quote\n      fields: {symbol: {at: [/s]}}\n",
            "line 9, operations.a.canonical: the field price must be mapped: it is required in every such record",
        ),
        (
            "operations:\n  a:\n    path: /a\n    class: Write\n    cache: true\n",
            "line 9, operations.a.cache: only class: Read can be cached: remove it, or set class: Read",
        ),
        (
            "operations:\n  a:\n    path: /a\n    method: POST\n",
            "line 8, operations.a.method: POST may change something or move money: add class: Read, class: Write or class: Money",
        ),
        (
            "operations:\n  a:\n    method: DELETE\n    path: /a\n",
            "line 7, operations.a.method: DELETE may change something or move money: add class: Read, class: Write or class: Money",
        ),
    ] {
        assert_eq!(error_of(text), format!("profile x.yaml, {problem}"), "{text}");
    }
}

#[test]
fn get_is_a_read_and_other_methods_need_a_class() {
    let class =
        |text: &str| parsed(&format!("operations:\n  a:\n    path: /a\n{text}")).unwrap().operations["a"].class();
    assert_eq!(class(""), CallClass::Read);
    assert_eq!(class("    class: Write\n"), CallClass::Write);
    for (name, class_of) in [("Read", CallClass::Read), ("Write", CallClass::Write), ("Money", CallClass::Money)] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            assert_eq!(class(&format!("    method: {method}\n    class: {name}\n")), class_of);
        }
    }
    for method in ["PUT", "PATCH"] {
        assert!(parsed(&format!("operations:\n  a:\n    path: /a\n    method: {method}\n")).is_err(), "{method}");
    }
}

#[test]
fn cacheable_responses_must_be_json() {
    let series = operation("fred", "series");
    assert!(series.canonical.is_none(), "the provider's own body");
    let request = series.request(&given(&[("series", "GNPCA")]), &BTreeMap::new()).unwrap();
    assert!(request.expects_json && request.cacheable);
    let profile = parsed("operations:\n  a:\n    path: /a\n").unwrap();
    let plain = profile.operations["a"].request(&given(&[]), &BTreeMap::new()).unwrap();
    assert!(!plain.expects_json, "the body is passed through");
}

#[test]
fn only_rate_limit_classes_have_a_scope() {
    let problem = error_of("errors:\n  - {status: [404], class: notFound, scope: Partition}\n");
    assert!(problem.ends_with("only rateLimited and quota have a scope: remove it"), "{problem}");
    assert!(parsed("errors:\n  - {status: [429], class: rateLimited, scope: Partition}\n").is_ok());
}
