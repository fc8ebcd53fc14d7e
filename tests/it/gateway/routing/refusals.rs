//! Bad requests: 4xx with the field, what is wrong and what to do, and nothing stored.

use serde_json::{Value, json};

use super::{ROUTING, each, golden, payout, payout_with, post, post_text, recorded};

/// The JSON of a payout with the amount replaced by this text.
fn amount(text: &str) -> String {
    payout("p-1").to_string().replace("\"1000\"", text)
}

#[tokio::test]
async fn an_amount_that_is_none_is_refused_by_name_and_nothing_is_stored() {
    let harness = golden().await;
    for text in [
        "-1",
        "\"-0.01\"",
        "0",
        "\"0.00\"",
        "-0",
        "1e19",
        "10000000000000000000",
        "\"10000000000000000000\"",
        "1e400",
        "\"NaN\"",
        "\"Infinity\"",
        "\"\"",
        "\" 1\"",
        "\"1 000\"",
        "\"1,5\"",
        "\"0x10\"",
        "1.001",
        "\"1.001\"",
        "true",
        "[]",
        "{}",
        "null",
        "[1]",
        "\"1\\u0000\"",
        "\"\\u0661\"",
        "1e-9",
        "100000000000000000.01",
    ] {
        let refused = post_text(&harness, "/decide", "token-ann", amount(text)).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{text}: {refused:?}");
        let details = &refused.body["data"]["details"];
        assert_eq!(details["parameter"], json!("amount"), "{text}");
        assert_eq!(details["problem"].is_string(), details["remedy"].is_string(), "{text}");
        let said = refused.body["detail"]["status_description"].as_str().unwrap();
        assert!(said.contains("amount") && said.contains([';', ':']), "{text}: {said}");
        let tested = post_text(&harness, "/test", "token-ann", amount(text)).await;
        assert_eq!((tested.status, tested.error()), (400, "invalid_request"), "{text}");
    }
    for text in ["NaN", "+1", "1.", ".5", "01", "1e", "'1'", "Infinity"] {
        let refused = post_text(&harness, "/decide", "token-ann", amount(text)).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{text} is not JSON");
    }
    assert_eq!(recorded(&harness).await, 0);
}

#[tokio::test]
async fn every_other_field_is_checked_and_named() {
    let harness = golden().await;
    let long = "x".repeat(129);
    let cases: &[(&str, &[Value])] = &[
        (
            "currency",
            &[
                json!("usd"),
                json!("QQQ"),
                json!("US"),
                json!("XAU"),
                json!(840),
                json!(""),
                json!(null),
                json!("US\u{0}"),
            ],
        ),
        (
            "payout_id",
            &[json!(""), json!("a b"), json!("a\u{1f}"), json!("é"), json!(7), json!(null), json!(long), json!("a\n")],
        ),
        ("country", &[json!("sn"), json!("SEN"), json!(""), json!(221), json!(null), json!(["SN"])]),
        ("merchant", &[json!(""), json!("a\u{0}"), json!(long), json!(7), json!("\u{202e}")]),
        ("rail", &[json!(""), json!("SEPA INSTANT"), json!(long), json!(true)]),
        ("route", &[json!(""), json!("No_Route"), json!(7), json!("a/b")]),
        ("namespace", &[json!(""), json!("Treasury"), json!("a".repeat(64)), json!({}), json!("..")]),
        ("attempt_no", &[json!(0), json!(-1), json!(1.5), json!("x"), json!(1_000_001), json!([])]),
        (
            "rates",
            &[json!(7), json!([]), json!("USD/XOF"), json!({"USDXOF": {"rate": 1}}), json!({"USD/USD": {"rate": 1}})],
        ),
    ];
    for (field, values) in cases {
        for value in *values {
            let refused = post(&harness, "/decide", &payout_with("p-1", field, value.clone())).await;
            assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{field} {value}: {refused:?}");
            let parameter = refused.body["data"]["details"]["parameter"].as_str().unwrap_or_default();
            assert!(parameter.starts_with(field), "{field} {value}: {parameter}");
        }
    }
    for (rate, parameter) in [
        (json!({"rate": 0}), "rates.USD/XOF.rate"),
        (json!({"rate": -1}), "rates.USD/XOF.rate"),
        (json!({"rate": "x"}), "rates.USD/XOF.rate"),
        (json!({}), "rates.USD/XOF.rate"),
        (json!({"rate": 1, "at": "soon"}), "rates.USD/XOF.at"),
        (json!({"rate": 1, "at": "2199-01-01T00:00:00Z"}), "rates.USD/XOF.at"),
        (json!({"rate": 1, "spread": 1}), "rates.USD/XOF.spread"),
        (json!(655), "rates.USD/XOF"),
    ] {
        let refused = post(&harness, "/decide", &payout_with("p-1", "rates", json!({"USD/XOF": rate}))).await;
        assert_eq!(refused.body["data"]["details"]["parameter"], json!(parameter), "{rate}: {refused:?}");
    }
    assert_eq!(recorded(&harness).await, 0);
}

#[tokio::test]
async fn unknown_repeated_and_missing_fields_are_named() {
    let harness = golden().await;
    let unknown = post(&harness, "/decide", &payout_with("p-1", "ammount", json!(1))).await;
    assert_eq!((unknown.status, &unknown.body["data"]["details"]["parameter"]), (400, &json!("ammount")));
    let text = payout("p-1").to_string().replacen('{', "{\"amount\": 1, ", 1);
    let repeated = post_text(&harness, "/decide", "token-ann", text).await;
    assert_eq!((repeated.status, &repeated.body["data"]["details"]["parameter"]), (400, &json!("amount")));
    for field in ["amount", "currency", "country", "payout_id", "namespace"] {
        let missing = post(&harness, "/decide", &payout_with("p-1", field, json!(null))).await;
        assert_eq!(
            (missing.status, &missing.body["data"]["details"]["parameter"]),
            (400, &json!(field)),
            "{missing:?}"
        );
    }
    assert_eq!(recorded(&harness).await, 0);
}

#[tokio::test]
async fn bodies_that_are_no_payout_are_refused() {
    let harness = golden().await;
    for text in ["", "null", "[]", "7", "\"x\"", "{", "{}x", "\u{feff}", "[[[[", "{\"a\":"] {
        for path in ["/decide", "/test", "/outcomes", "/adjustments", "/predictions", "/simulate"] {
            let refused = post_text(&harness, path, "token-ann", text).await;
            assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{path} {text:?}: {refused:?}");
        }
    }
    let invalid_utf8 = post_text(&harness, "/decide", "token-ann", b"{\"payout_id\": \"\xff\"}".to_vec()).await;
    assert_eq!(invalid_utf8.status, 400);
    let deep = format!("{{\"rates\": {}1{}}}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
    assert_eq!(post_text(&harness, "/decide", "token-ann", deep).await.status, 400);
    let whole = payout_with("p-1", "merchant", json!("x".repeat(1024 * 1024 - 200)));
    let large = post(&harness, "/decide", &whole).await;
    assert_eq!((large.status, large.error()), (400, "invalid_request"), "a megabyte that is read");
    let larger = post_text(&harness, "/decide", "token-ann", " ".repeat(1024 * 1024 + 1)).await;
    assert_eq!((larger.status, larger.error()), (413, "body_too_large"));
    let plain = harness.http.post(harness.url("/api/treasury/routing/decide")).bearer_auth("token-ann");
    let plain = super::said(plain.body(payout("p-1").to_string())).await;
    assert_eq!((plain.status, plain.error()), (400, "invalid_request"), "no Content-Type");
    assert_eq!(recorded(&harness).await, 0);
}

#[tokio::test]
async fn requests_to_read_are_checked_too() {
    let harness = golden().await;
    for query in [
        "limit=0",
        "limit=501",
        "limit=x",
        "cursor=7",
        "cursor=//////////8",
        "from_time=soon",
        "to_time=2026",
        "route=A",
        "x=1",
        "namespace=A_B",
        "candidate=",
        "limit=1&limit=2",
    ] {
        let refused = super::get(&harness, &format!("/decisions?namespace=treasury&{query}")).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{query}: {refused:?}");
    }
    for path in ["/health", "/adjustments", "/proposals"] {
        for query in ["", "?namespace=", "?namespace=A", "?namespace=a&namespace=b", "?other=1"] {
            let refused = super::get(&harness, &format!("{path}{query}")).await;
            assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{path}{query}: {refused:?}");
        }
    }
    for id in ["x", "0f8fad5b-d9cb-469f-a165-70867728950e", "%00", "%ff"] {
        let unknown = super::get(&harness, &format!("/decisions/{id}")).await;
        assert_eq!((unknown.status, unknown.error()), (404, "decision_not_found"), "{id}: {unknown:?}");
        let unknown = post(&harness, &format!("/override/{id}"), &json!({"candidate": "bank-a", "reason": "x"})).await;
        assert_eq!((unknown.status, unknown.error()), (404, "decision_not_found"), "{id}");
        let path = format!("{ROUTING}/adjustments/{id}?namespace=treasury");
        let gone = harness.ask("DELETE", &path, "token-ann", &[]).await;
        assert_eq!((gone.status, gone.error()), (404, "not_found"), "{id}");
        let answer = post(&harness, &format!("/proposals/{id}/approve?namespace=treasury"), &json!({})).await;
        assert_eq!(answer.error(), "not_found", "{id}: {answer:?}");
    }
    let listed = super::get(&harness, "/decisions?namespace=treasury&limit=500").await;
    assert!(each(&listed.body["data"]["items"], "decision_id").is_empty());
}
