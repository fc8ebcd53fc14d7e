//! Tests of the JSON of predictions.

use proptest::prelude::*;

use super::*;

/// A prediction with these fields besides the required ones; a later field replaces an earlier one.
fn body(fields: &str) -> String {
    let mut prediction: Map<String, Value> = serde_json::from_str(
        r#"{"connection": "bank-a", "success": "0.97", "issued_at": "2026-03-01T10:00:00Z",
            "valid_from": "2026-03-01T10:00:00Z", "valid_until": "2026-03-01T10:30:00Z"}"#,
    )
    .unwrap();
    for (name, value) in serde_json::from_str::<Map<String, Value>>(&format!("{{{fields}}}")).unwrap() {
        prediction.insert(name, value);
    }
    format!(r#"{{"predictions": [{}]}}"#, Value::Object(prediction))
}

fn read(fields: &str) -> Result<WirePrediction, FieldError> {
    PredictionBatch::from_json(body(fields).as_bytes()).map(|mut batch| batch.predictions.remove(0))
}

/// The field that is refused.
fn refused(fields: &str) -> String {
    read(fields).unwrap_err().path().trim_start_matches("predictions[0].").to_owned()
}

#[test]
fn every_field_is_read_as_a_string_or_a_number() {
    let strings = read(
        r#""risk": "0.1", "score": "0.80", "expected_fx": "-12.5", "settlement_days": "2", "fraud_risk": "0.02",
           "currency": "XOF", "rail": "sepa", "route": "payouts""#,
    );
    let numbers = read(
        r#""success": 0.97, "risk": 1e-1, "score": 0.8, "expected_fx": -12.50, "settlement_days": 2, "fraud_risk": 0.02,
           "currency": "XOF", "rail": "sepa", "route": "payouts""#,
    );
    assert_eq!(strings, numbers);
    let WirePrediction { bank, route, prediction } = strings.unwrap();
    assert_eq!((bank, route.as_deref()), (WireBank::Connection("bank-a".to_owned()), Some("payouts")));
    assert_eq!((prediction.success.get(), prediction.risk.map(Ppm::get)), (970_000, Some(100_000)));
    assert_eq!((prediction.settlement_days, prediction.fraud_risk.map(Ppm::get)), (Some(2), Some(20_000)));
    assert_eq!(prediction.expected_fx.map(|spread| spread.to_string()).as_deref(), Some("-12.5"));
    assert_eq!(
        (prediction.scope.currency.map(|c| c.as_str().to_owned()).as_deref(), prediction.scope.rail.as_deref()),
        (Some("XOF"), Some("sepa"))
    );
}

#[test]
fn what_is_not_sent_is_not_predicted_and_null_is_not_sent() {
    let short = read("").unwrap().prediction;
    assert_eq!((short.risk, short.score, short.expected_fx, short.settlement_days), (None, None, None, None));
    assert_eq!((short.scope, short.fraud_risk), (PredictionScope::default(), None));
    assert_eq!(read(r#""risk": null, "rail": null"#).unwrap(), read("").unwrap());
}

#[test]
fn a_bank_is_named_in_exactly_one_way() {
    let by_profile = read(r#""connection": null, "bank_profile_id": "BK-1""#).unwrap();
    assert_eq!(by_profile.bank, WireBank::BankProfileId("BK-1".to_owned()));
    let by_candidate = read(r#""connection": null, "candidate": "a""#).unwrap();
    assert_eq!(by_candidate.bank, WireBank::Candidate("a".to_owned()));
    assert_eq!(refused(r#""connection": null"#), "bank_profile_id");
    assert_eq!(refused(r#""candidate": "a""#), "bank_profile_id");
}

#[test]
fn a_field_out_of_bounds_is_named() {
    for (fields, field) in [
        (r#""success": 1.01"#, "success"),
        (r#""success": "-0.1""#, "success"),
        (r#""success": true"#, "success"),
        (r#""success": null"#, "success"),
        (r#""risk": "high""#, "risk"),
        (r#""risk": 1e400"#, "risk"),
        (r#""score": 2"#, "score"),
        (r#""expected_fx": 10001"#, "expected_fx"),
        (r#""settlement_days": 1.5"#, "settlement_days"),
        (r#""settlement_days": -1"#, "settlement_days"),
        (r#""settlement_days": 366"#, "settlement_days"),
        (r#""fraud_risk": []"#, "fraud_risk"),
        (r#""currency": "usd""#, "currency"),
        (r#""currency": "QQQ""#, "currency"),
        (r#""rail": """#, "rail"),
        (r#""issued_at": "yesterday""#, "issued_at"),
        (r#""issued_at": 5"#, "issued_at"),
        (r#""valid_until": null"#, "valid_until"),
        (r#""connection": "a b""#, "connection"),
    ] {
        assert_eq!(refused(fields), field, "{fields}");
    }
    let unknown = read(r#""riks": 1"#).unwrap_err();
    assert!(unknown.problem.contains("unknown field riks") && unknown.path() == "predictions[0]", "{unknown}");
}

#[test]
fn the_body_is_an_object_with_a_list() {
    let path = |body: &str| PredictionBatch::from_json(body.as_bytes()).map_err(|wrong| wrong.path());
    for (body, field) in [
        ("", "body"),
        ("[]", "body"),
        ("{}", "predictions"),
        (r#"{"predictions": {}}"#, "predictions"),
        (r#"{"predictions": [], "extra": 1}"#, "body"),
        (r#"{"predictions": [], "namespace": 5}"#, "namespace"),
        (r#"{"predictions": [5]}"#, "predictions[0]"),
    ] {
        assert_eq!(path(body), Err(field.to_owned()), "{body}");
    }
    let many = format!(r#"{{"predictions": [{}]}}"#, vec!["1"; MAX_PREDICTIONS + 1].join(","));
    assert_eq!(path(&many), Err("predictions".to_owned()));
    let empty = path(r#"{"namespace": "payments", "predictions": []}"#).unwrap();
    assert_eq!((empty.namespace.as_deref(), empty.predictions.len()), (Some("payments"), 0));
}

#[test]
fn an_outcome_is_written_without_what_is_not_known() {
    let outcome = WireOutcome {
        at: "2026-03-01T10:00:00Z".parse().unwrap(),
        candidate: "a".to_owned(),
        class: "success".to_owned(),
        connection: "bank-a".to_owned(),
        decision_id: "0190".to_owned(),
        latency_ms: None,
        route: "payouts".to_owned(),
    };
    let text =
        serde_json::to_string(&OutcomeBatch { namespace: "payments".to_owned(), outcomes: vec![outcome] }).unwrap();
    assert_eq!(
        text,
        r#"{"namespace":"payments","outcomes":[{"at":"2026-03-01T10:00:00Z","candidate":"a","class":"success","connection":"bank-a","decision_id":"0190","route":"payouts"}]}"#
    );
}

proptest! {
    #[test]
    fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = PredictionBatch::from_json(&body);
    }

    #[test]
    fn every_ratio_is_kept_to_the_millionth(millionths in 0u32..=1_000_000) {
        let text = format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000);
        prop_assert_eq!(read(&format!(r#""success": "{text}""#)).unwrap().prediction.success.get(), millionths);
        prop_assert_eq!(read(&format!(r#""success": {text}"#)).unwrap().prediction.success.get(), millionths);
    }
}
