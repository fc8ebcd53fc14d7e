//! Predictions that an external scorer pushes.

use busbar::domain::health::Ppm;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{golden, post, post_text, recorded};

/// A prediction for `bank-a` of this minute.
fn prediction() -> Value {
    let now = crate::kit::time::now();
    let (issued, until) = (now - SignedDuration::from_secs(5), now + SignedDuration::from_mins(30));
    json!({
        "bank_profile_id": "profile-bank-a", "success": 0.61, "risk": "0.8", "score": 0.5, "expected_fx": "-1.5",
        "settlement_days": 2, "fraud_risk": 0.01, "issued_at": issued, "valid_from": issued, "valid_until": until,
    })
}

fn prediction_with(field: &str, value: Value) -> Value {
    let mut body = prediction();
    if value.is_null() {
        body.as_object_mut().unwrap().remove(field);
    } else {
        body[field] = value;
    }
    body
}

fn batch(predictions: &[Value]) -> Value {
    json!({"namespace": "treasury", "predictions": predictions})
}

#[tokio::test]
async fn each_prediction_has_its_own_result() {
    let harness = golden().await;
    let old = prediction_with("issued_at", json!("2020-01-01T00:00:00Z"));
    let unknown = prediction_with("bank_profile_id", json!("profile-z"));
    let said = post(&harness, "/predictions", &batch(&[unknown, prediction(), old])).await;
    assert_eq!(said.status, 200, "{said:?}");
    let results = said.body["data"]["results"].as_array().unwrap();
    for (result, error) in results.iter().zip([json!("unknown_bank"), Value::Null, json!("too_old")]) {
        assert_eq!((&result["accepted"], &result["error"]), (&json!(error.is_null()), &error), "{said:?}");
        assert_eq!(result["remedy"].is_null(), error.is_null());
    }
    let accepted = harness.routes.pushed();
    assert_eq!(accepted.len(), 1);
    assert_eq!((accepted[0].success.get(), accepted[0].risk.map(Ppm::get)), (610_000, Some(800_000)));
    let spread = accepted[0].expected_fx.map(|spread| spread.to_string());
    assert_eq!((spread.as_deref(), accepted[0].settlement_days), (Some("-1.5"), Some(2)));
    let none = post(&harness, "/predictions", &batch(&[])).await;
    assert_eq!((none.status, &none.body["data"]["results"]), (200, &json!([])), "{none:?}");
}

#[tokio::test]
async fn a_prediction_that_is_none_is_refused_by_name() {
    let harness = golden().await;
    for (field, value) in [
        ("success", json!(null)),
        ("success", json!(1.01)),
        ("success", json!(-0.1)),
        ("success", json!("NaN")),
        ("success", json!(true)),
        ("risk", json!("high")),
        ("risk", json!(2)),
        ("score", json!(1.5)),
        ("expected_fx", json!("1e9")),
        ("settlement_days", json!(1.5)),
        ("settlement_days", json!(-1)),
        ("fraud_risk", json!([])),
        ("issued_at", json!("now")),
        ("valid_from", json!(null)),
        ("valid_until", json!(7)),
        ("currency", json!("QQQ")),
        ("rail", json!("")),
        ("bank_profile_id", json!(null)),
        ("bank_profile_id", json!(7)),
    ] {
        let refused = post(&harness, "/predictions", &batch(&[prediction_with(field, value.clone())])).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{field} {value}: {refused:?}");
        let named = format!("predictions[0].{field}");
        assert_eq!(refused.body["data"]["details"]["parameter"], json!(named), "{value}");
    }
    let twice = prediction_with("candidate", json!("bank-a"));
    assert_eq!(post(&harness, "/predictions", &batch(&[twice])).await.status, 400, "two names of one bank");
    let many = vec![prediction(); 1_001];
    assert_eq!(post(&harness, "/predictions", &batch(&many)).await.status, 400);
    let wide = format!(r#"{{"namespace":"treasury","predictions":[{}{{}}]}}"#, "{},".repeat(100_000));
    assert_eq!(post_text(&harness, "/predictions", "token-ann", wide).await.status, 400);
    for body in [
        json!({"namespace": "treasury"}),
        json!({"predictions": []}),
        json!({"namespace": "treasury", "predictions": {}}),
    ] {
        assert_eq!(post(&harness, "/predictions", &body).await.status, 400, "{body}");
    }
    assert_eq!(recorded(&harness).await, 0);
}
