//! Contract test of the API: random requests, while the provider fails at random, get only responses of a status and a
//! schema that the OpenAPI document lists.

use std::sync::Arc;

use busbar::gateway::openapi;
use busbar::profile::Profile;
use busbar::testbed::sim::{Behaviour, Garbage};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use uuid::Uuid;

use super::contract_routing::{routing, set_banks};
use super::harness::{GatewayHarness, Said, fallback, said};

/// One random request, and how the provider behaves.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) path: usize,
    pub(super) method: &'static str,
    pub(super) parts: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) token: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<(bool, String)>,
    pub(super) provider: usize,
}

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
const TOKENS: [&str; 4] = ["token-ann", "token-outsider", "forged", ""];

fn provider(index: usize) -> Option<Behaviour> {
    match index {
        0 => None,
        1 => Some(Behaviour::status(503)),
        2 => Some(Behaviour::status(404)),
        3 => Some(Behaviour::rate_limited("1")),
        4 => Some(Behaviour::Garbage(Garbage::Html)),
        5 => Some(Behaviour::status(401)),
        _ => Some(Behaviour::status(418)),
    }
}

/// Values that exist, and arbitrary values.
fn word() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "treasury",
        "fmp",
        "polygon",
        "finastra",
        "quote",
        "earnings",
        "collaterals",
        "collateral",
        "accounts",
        "ACME",
        "COL-00000001",
        "1",
        "0",
        "-1",
        "100000000000000000000",
        "true",
        "provider",
        "canonical",
        "parked",
        "pending",
        "",
        ".",
        "..",
        "%00",
        "a b",
        "é",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "AAAAAAAAAAE",
    ];
    prop_oneof![8 => prop::sample::select(KNOWN).prop_map(str::to_owned), 1 => ".{0,12}", 1 => "[a-z0-9/%?#]{0,300}"]
}

fn name() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "symbol",
        "limit",
        "shape",
        "purpose",
        "deadline_ms",
        "top",
        "startingIndex",
        "id",
        "namespace",
        "connection",
        "state",
        "cursor",
        "other",
    ];
    prop_oneof![12 => prop::sample::select(KNOWN).prop_map(str::to_owned), 1 => ".{0,8}"]
}

pub(super) fn case(paths: usize) -> impl Strategy<Value = Case> {
    let headers = prop::collection::vec(
        (prop::sample::select(&["x-request-id", "x-rights-profile", "accept"][..]), "[ -~]{0,70}"),
        0..3,
    );
    let json = prop_oneof![
        prop::collection::btree_map(name(), word(), 0..3).prop_map(|map| serde_json::to_string(&map).unwrap()),
        Just("[1,2".to_owned()),
        Just("{\"symbol\":{\"deep\":[]}}".to_owned()),
        Just("null".to_owned()),
        ".{0,40}",
    ];
    (
        (0..=paths, prop_oneof![6 => 0..2_usize, 1 => 0..METHODS.len()], prop::collection::vec(word(), 4)),
        prop::collection::vec((name(), word()), 0..4),
        (prop_oneof![8 => Just(0), 1 => 0..TOKENS.len()], headers, prop::option::of((any::<bool>(), json)), 0..7_usize),
    )
        .prop_map(|((path, method, parts), query, (token, headers, body, provider))| Case {
            path,
            method: METHODS[method],
            parts,
            query,
            token: TOKENS[token],
            headers,
            body,
            provider,
        })
}

/// A profile with one operation, which moves money.
fn pays() -> Arc<Profile> {
    let text = "id: own\ntitle: Own\nbreaker: Api\nhealthCheck: {path: /}\n\
                operations:\n  pay:\n    path: /quote\n    method: POST\n    class: Money\n";
    Arc::new(Profile::parse("own.yaml", text).unwrap())
}

/// A call that reaches a provider or is refused for what it would do, at the path number `calls`.
fn likely(calls: usize, all: usize) -> impl Strategy<Value = Case> {
    // `pay` of `own` is money, which is not callable.
    let targets =
        [("fmp", "quote"), ("fmp", "earnings"), ("polygon", "quote"), ("polygon", "earnings"), ("own", "pay")];
    let target = prop::sample::select(targets.to_vec());
    let shape = prop::sample::select(&["provider", "canonical"][..]);
    (case(all), target, shape).prop_map(move |(case, (connection, operation), shape)| Case {
        path: calls,
        method: if case.method == "POST" { "POST" } else { "GET" },
        parts: ["treasury", connection, operation].map(str::to_owned).to_vec(),
        query: vec![("symbol".to_owned(), "ACME".to_owned()), ("shape".to_owned(), shape.to_owned())],
        body: None,
        ..case
    })
}

/// The path template with its parameters filled in.
fn filled(template: &str, parts: &[String]) -> String {
    let mut parts = parts.iter();
    let encode = |s: &String| percent_encoding::utf8_percent_encode(s, percent_encoding::NON_ALPHANUMERIC).to_string();
    let segments = template.split('/').map(|segment| {
        if segment.starts_with('{') { parts.next().map(encode).unwrap_or_default() } else { segment.to_owned() }
    });
    segments.collect::<Vec<_>>().join("/")
}

async fn send(harness: &GatewayHarness, path: &str, case: &Case) -> Said {
    match provider(case.provider) {
        Some(trouble) => harness.fmp.fail_with(trouble).await.unwrap(),
        None => harness.fmp.recover().await,
    }
    set_banks(harness, case.provider);
    let url = reqwest::Url::parse_with_params(&harness.url(path), &case.query).unwrap();
    let mut request = harness.http.request(case.method.parse().unwrap(), url);
    if !case.token.is_empty() {
        request = request.bearer_auth(case.token);
    }
    for (name, value) in &case.headers {
        request = request.header(*name, value);
    }
    if let Some((json, body)) = &case.body {
        let kind = if *json { "application/json" } else { "text/plain" };
        request = request.header("content-type", kind).body(body.clone());
    }
    said(request).await
}

/// How `value` violates `schema`; `None` if it is valid.
fn misfit(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.trim_start_matches('#')).expect("the reference resolves");
        return misfit(document, schema, value, at);
    }
    for (key, all) in [("oneOf", false), ("allOf", true), ("anyOf", false)] {
        if let Some(schemas) = schema[key].as_array() {
            let wrong: Vec<_> = schemas.iter().filter_map(|one| misfit(document, one, value, at)).collect();
            if wrong.len() == if all { 0 } else { schemas.len() } && !all || all && !wrong.is_empty() {
                return Some(wrong.join("; "));
            }
        }
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = |wanted: &Value| wanted == kind || (wanted == "number" && kind == "integer");
    let typed = match &schema["type"] {
        Value::String(_) => fits(&schema["type"]),
        Value::Array(kinds) => kinds.iter().any(fits),
        _ => true,
    };
    if !typed {
        return Some(format!("{at}: is {kind}, not {}", schema["type"]));
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        return Some(format!("{at}: {value} is none of {values:?}"));
    }
    if let (Some(number), bounds) = (value.as_i64(), ["minimum", "maximum"].map(|bound| schema[bound].as_i64()))
        && (bounds[0].is_some_and(|least| number < least) || bounds[1].is_some_and(|most| number > most))
    {
        return Some(format!("{at}: {number} is out of bounds"));
    }
    if let Some(text) = value.as_str() {
        let fits = match schema["format"].as_str() {
            None => true,
            Some("uuid") => Uuid::parse_str(text).is_ok(),
            Some("date-time") => text.parse::<jiff::Timestamp>().is_ok(),
            Some(other) => panic!("{at}: no check for the format {other}"),
        };
        let fits = fits
            && match schema["pattern"].as_str() {
                None => true,
                Some("^[0-9a-f]{64}$") => {
                    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                }
                Some("^[2-5][0-9]{2}$") => text.parse().is_ok_and(|n: u16| (200..600).contains(&n)) && text.len() == 3,
                Some(other) => panic!("{at}: no check for the pattern {other}"),
            };
        if !fits {
            return Some(format!(
                "{at}: {text:?} is not of format {} or pattern {}",
                schema["format"], schema["pattern"]
            ));
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            return Some(format!("{at}.{name}: missing"));
        }
    }
    if let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, field) in fields {
            match known.get(name) {
                Some(schema) => {
                    if let Some(wrong) = misfit(document, schema, field, &format!("{at}.{name}")) {
                        return Some(wrong);
                    }
                }
                None => return Some(format!("{at}.{name}: is not documented")),
            }
        }
    }
    let mut items = value.as_array().into_iter().flatten();
    items.find_map(|item| misfit(document, &schema["items"], item, &format!("{at}[]")))
}

/// How a response violates the document; `None` if it is documented.
fn breach(document: &Value, template: Option<&str>, case: &Case, said: &Said) -> Option<String> {
    if said.header("x-request-id").is_none_or(|id| Uuid::parse_str(id).is_err()) {
        return Some("no X-Request-ID".to_owned());
    }
    if matches!(said.status, 429 | 503) && said.header("retry-after").is_none_or(|s| s.parse::<u64>().is_err()) {
        return Some("no Retry-After".to_owned());
    }
    if said.status >= 500 && !matches!(said.status, 502 | 503) {
        return Some("an undocumented 5xx".to_owned());
    }
    let operation = template.map(|path| &document["paths"][path][case.method.to_lowercase()]);
    let schema = match operation.filter(|operation| operation.is_object()) {
        Some(operation) => {
            let response = &operation["responses"][said.status.to_string()];
            if !response.is_object() {
                return Some(format!("{} is not documented", said.status));
            }
            if !response["headers"]["X-Request-ID"].is_object() {
                return Some("X-Request-ID is not documented".to_owned());
            }
            &response["content"]["application/json"]["schema"]
        }
        // Not an operation: rejected, in the common format.
        None if matches!(said.status, 401 | 404 | 405) => &document["components"]["schemas"]["ErrorEnvelope"],
        None => return Some(format!("{} on an undocumented path", said.status)),
    };
    misfit(document, schema, &said.body, "body")
}

#[test]
fn every_response_matches_the_openapi_document() {
    let document: Value = serde_json::from_str(&openapi::text()).unwrap();
    let templates: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert!(templates.len() >= 30, "{templates:?}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let harness = runtime.block_on(GatewayHarness::new());
    // An open circuit would reject every call.
    harness.connect("fmp", &harness.fmp, |draft| {
        draft.fallback = vec![fallback("polygon")];
        draft.breaker.consecutive_failures = 0;
    });
    harness.replace("own", "uid-own", pays(), &harness.fmp, |_| ());
    harness.routes.add_golden();
    let seen = std::cell::RefCell::new(std::collections::BTreeMap::<u16, u32>::new());
    let mut runner = TestRunner::new(Config { cases: 1_200, failure_persistence: None, ..Config::default() });
    let calls = templates.iter().position(|path| path.starts_with("/api/providers/")).unwrap();
    let cases = prop_oneof![
        1 => case(templates.len()),
        1 => likely(calls, templates.len()),
        1 => routing(&templates),
    ];
    let result = runner.run(&cases, |case| {
        let template = templates.get(case.path).map(|path| path.as_str());
        let path = template.map_or_else(|| filled("/{a}/{b}/{c}", &case.parts), |t| filled(t, &case.parts));
        // A parameter that is empty or a dot segment may lead to another path.
        let same = template.is_none_or(|t| {
            let parts = &case.parts[..t.matches('{').count()];
            parts.iter().all(|part| !matches!(part.as_str(), "" | "." | ".."))
        });
        let said = runtime.block_on(send(&harness, &path, &case));
        *seen.borrow_mut().entry(said.status).or_default() += 1;
        // A payout may have that name.
        let template = template.map(|path| match (path, case.method) {
            ("/api/treasury/payouts/resume", "GET") => "/api/treasury/payouts/{payout_id}",
            _ => path,
        });
        match breach(&document, template.filter(|_| same), &case, &said) {
            None => Ok(()),
            Some(_) if !same && matches!(said.status, 200 | 400..=422 | 502 | 503) => Ok(()),
            Some(wrong) => Err(TestCaseError::fail(format!("{path}: {wrong}: {said:?}"))),
        }
    });
    runtime.block_on(async { harness.stop.cancel() });
    if let Err(error) = result {
        panic!("{error}");
    }
    let seen = seen.into_inner();
    for status in [200, 400, 401, 403, 404, 405, 409, 422, 502, 503] {
        assert!(seen.contains_key(&status), "no case got a {status}: {seen:?}");
    }
}

#[test]
fn the_checker_rejects_values_that_break_a_pattern_or_a_format() {
    let document: Value = serde_json::from_str(&openapi::text()).unwrap();
    let code = &document["components"]["schemas"]["Detail"]["properties"]["status_code"];
    let time = serde_json::json!({"type": "string", "format": "date-time"});
    for (schema, good, bad) in
        [(code, "503", &["99", "600", "+50", "20x"][..]), (&time, "2026-11-28T09:00:00Z", &["yesterday", "2026-11-28"])]
    {
        assert_eq!(misfit(&document, schema, &Value::from(good), "x"), None);
        for bad in bad {
            assert!(misfit(&document, schema, &Value::from(*bad), "x").is_some(), "{bad}");
        }
    }
}
