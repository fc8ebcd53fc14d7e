//! The bytes of canonical JSON, to the last one: they are hashed, stored and compared across versions.

use super::*;
use crate::domain::canonical::hex;
use crate::domain::route::{
    Adjustment, AdjustmentScope, Approval, CandidatePrediction, Hysteresis, Pin, PinSource, RouteMode,
};

const REQUEST: &str = concat!(
    r#"{"namespace":"payments","payout":{"amount":"1000.5","country":"SN","currency":"USD","merchant":""#,
    r#"m-1","rail":"SEPA"},"payout_id":"p-1","rates":[{"at":"2026-11-29T11:59:30.000Z","from":"EUR","ra"#,
    r#"te":"1.1","to":"USD"},{"from":"USD","rate":"655.957","to":"XOF"}],"route":"payouts"}"#
);
const REQUEST_HASH: &str = "73e5ce93257a7924efbaac9b9a07b9de8c8cf2027dd0b6909943bd1ad810e87b";
const SNAPSHOT: &str = concat!(
    r#"{"candidates":[{"bank_profile_id":"bp-1","candidate":{"circuit":"Closed","fees":[{"basis_points""#,
    r#":"50","currencies":["USD"],"currency":"EUR","fixed":"0.3","max":"9","min":"0.5","name":"all","ra"#,
    r#"ils":["SEPA"],"rounding":"HalfEven","up_to_amount":"5000"}],"funding_currency":"EUR","fx_basis_p"#,
    r#"oints":"20","health":"Usable","max_amount":"100000","name":"a","predictions":[{"currency":"USD","#,
    r#""demoted":true,"expected_fx":"-2.5","fraud_risk":1000,"risk":600000,"score":"0.7","settlement_da"#,
    r#"ys":1,"skill":250000,"success":900000,"valid_until":"2026-11-29T12:30:00.000Z"}],"score":"0.8",""#,
    r#"settlement_days":2,"success":980000,"tier":"Primary"},"connection":"a-connection","daily_limit":"#,
    r#"{"amount":"250000","count":10,"zone":"Europe/Oslo"}}],"generation":3,"incumbent":{"name":"a","si"#,
    r#"nce":"2026-11-29T11:00:00.000Z"},"namespace":"payments","route":"payouts","route_uid":"uid-1","r"#,
    r#"ules":{"adjustments":[{"candidate":"a","name":"w","scope":{"Country":"SN"},"until":"2026-11-29T1"#,
    r#"3:00:00.000Z","weight":"0.9"}],"approved":{"candidate":"a","proposal":"00000000-0000-0000-0000-0"#,
    r#"00000000007","until":"2026-11-29T12:10:00.000Z"},"cost":{"delay_basis_points":"0","health_penalt"#,
    r#"y":"10","retry_basis_points":"100"},"hysteresis":{"min_hold_ms":60000,"switch_percent":5},"mode""#,
    r#":"Hybrid","pins":[{"candidate":"a","scope":"Global","source":"Api","until":"2026-11-29T12:05:00."#,
    r#"000Z"}],"rates":{"expires":"2026-11-30T00:00:00.000Z","max_age_ms":3600000,"reference":"USD","va"#,
    r#"lues":{"EUR":"1.1","XOF":"0.0017"}}}}"#
);
const SNAPSHOT_HASH: &str = "dbf7979042242887abd5e4ec79b8c28231d0fa364fc594bc0f1cdac3a56dc5fc";
const RECORD: &str = concat!(
    r#"{"algorithm":1,"at":"2026-11-29T12:00:00.007Z","candidate":"a","expires_at":"2026-11-29T12:01:00"#,
    r#".007Z","id":"00000000-0000-0000-0000-000000000001","kind":"Override","reason":"the bank asked fo"#,
    r#"r it","request":{"attempt_no":2,"namespace":"payments","payout":{"amount":"1000","currency":"USD"#,
    r#""},"payout_id":"p-1"},"request_id":"00000000-0000-0000-0000-000000000002","reserved":{"amount":""#,
    r#"1000","candidate":"a","currency":"USD","day":"2026-11-29"},"snapshot":"000000000000000000000000000000000000000000"#,
    r#"00000000000000000000ff","subject":"ops","supersedes":"00000000-0000-0000-0000-000000000003","usa"#,
    r#"ge":{"a":{"amount":"12.5","count":1,"day":"2026-11-29"}}}"#
);

fn full_request() -> DecisionRequest {
    let rate = |from: &str, to: &str, rate: &str, at| RequestRate {
        at,
        from: currency(from),
        rate: dec(rate),
        to: currency(to),
    };
    let plain = request("1000.50", "USD");
    let payout =
        Payout { country: Some("SN".into()), merchant: Some("m-1".into()), rail: Some("SEPA".into()), ..plain.payout };
    let rates =
        vec![rate("EUR", "USD", "1.10", Some(now() - Duration::from_secs(30))), rate("USD", "XOF", "655.957", None)];
    DecisionRequest { payout, rates, route: Some("payouts".into()), ..plain }
}

/// A snapshot with a value in every field.
fn full_snapshot() -> Snapshot {
    let mut one = bank("a", "50", "0.30");
    one.bank_profile_id = Some("bp-1".into());
    one.daily_limit = Some(DailyLimit { amount: Some(dec("250000")), count: Some(10), zone: "Europe/Oslo".into() });
    let fee = &mut one.candidate.fees[0];
    (fee.currencies, fee.currency, fee.rails) = (vec![currency("USD")], Some(currency("EUR")), vec!["SEPA".into()]);
    (fee.min, fee.max, fee.up_to_amount) = (Some(dec("0.50")), Some(dec("9")), Some(dec("5000")));
    let prediction = CandidatePrediction {
        currency: Some(currency("USD")),
        demoted: true,
        expected_fx: Some(dec("-2.50")),
        fraud_risk: Some(1_000),
        risk: 600_000,
        score: Some(dec("0.70")),
        settlement_days: Some(1),
        skill: 250_000,
        success: 900_000,
        valid_until: after(1_800),
        ..CandidatePrediction::default()
    };
    one.candidate = Candidate {
        funding_currency: Some(currency("EUR")),
        fx_basis_points: dec("20"),
        max_amount: Some(dec("100000.00")),
        predictions: vec![prediction],
        score: dec("0.80"),
        settlement_days: 2,
        success: Some(980_000),
        ..one.candidate
    };
    let mut all = snapshot(vec![one]);
    all.incumbent = Some(SnapshotIncumbent { name: "a".into(), since: now() - Duration::from_hours(1) });
    let rates = [(currency("XOF"), dec("0.0017")), (currency("EUR"), dec("1.10"))];
    let rates = Rates::new(currency("USD"), rates, Some("2026-11-30T00:00:00Z".parse().unwrap()));
    all.rules = RouteRules {
        adjustments: vec![Adjustment {
            candidate: "a".into(),
            name: "w".into(),
            scope: AdjustmentScope::Country("SN".into()),
            until: after(3_600),
            weight: dec("0.90"),
        }],
        approved: Some(Approval { candidate: "a".into(), proposal: uuid::Uuid::from_u128(7), until: after(600) }),
        hysteresis: Hysteresis { min_hold: Duration::from_mins(1), switch_percent: 5 },
        mode: RouteMode::Hybrid,
        pins: vec![Pin {
            candidate: "a".into(),
            scope: AdjustmentScope::Global,
            source: PinSource::Api,
            until: after(300),
        }],
        rates: rates.with_max_age(Some(Duration::from_hours(1))),
        ..all.rules
    };
    all
}

fn full_record() -> DecisionRecord {
    let mut hash = [0; 32];
    hash[31] = 0xFF;
    let day = jiff::civil::date(2026, 11, 29);
    let at = now() + Duration::from_micros(7_999);
    DecisionRecord {
        algorithm: 1,
        at,
        candidate: "a".into(),
        expires_at: at + DECISION_TTL,
        id: uuid::Uuid::from_u128(1),
        kind: RecordKind::Override,
        reason: Some("the bank asked for it".into()),
        request: DecisionRequest { attempt_no: 2, ..request("1000.00", "USD") },
        request_id: Some(uuid::Uuid::from_u128(2)),
        reserved: Some(Reservation { amount: dec("1000.00"), candidate: "a".into(), currency: currency("USD"), day }),
        snapshot: hash,
        subject: "ops".into(),
        supersedes: Some(uuid::Uuid::from_u128(3)),
        usage: Usage([("a".to_owned(), DayUsage { amount: dec("12.50"), count: 1, day })].into()),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_bytes_of_a_request_are_these_and_the_attempt_is_no_part_of_them() {
    let request = full_request();
    assert_eq!(text(request.canonical()), REQUEST);
    assert_eq!(hex(&request.hash()), REQUEST_HASH);
    assert_eq!(DecisionRequest { attempt_no: 2, ..request.clone() }.hash(), request.hash());
    assert_ne!(DecisionRequest { payout_id: "p-2".into(), ..request.clone() }.hash(), request.hash());
    assert_ne!(DecisionRequest { rates: Vec::new(), ..request.clone() }.hash(), request.hash());
}

#[test]
fn the_bytes_of_a_snapshot_are_these_and_its_id_is_their_hash() {
    let sealed = full_snapshot().seal().unwrap();
    assert_eq!(text(sealed.bytes.clone()), SNAPSHOT);
    assert_eq!(hex(&sealed.id), SNAPSHOT_HASH);
    assert_eq!(sealed.snapshot, full_snapshot());
    let plain = snapshot(vec![bank("a", "0", "1")]);
    assert_eq!(plain.seal().unwrap().snapshot, plain, "every optional field is absent");
    let mut fine = full_snapshot();
    fine.incumbent.as_mut().unwrap().since += Duration::from_nanos(999_999);
    assert_eq!(fine.seal().unwrap(), sealed, "what is below a millisecond is no part of it");
}

#[test]
fn the_bytes_of_a_record_are_these_and_are_read_back() {
    assert_eq!(text(full_record().encode()), RECORD);
    let read = DecisionRecord::decode(RECORD.as_bytes()).unwrap();
    assert_eq!(text(read.encode()), RECORD);
    assert_eq!(
        (read.at, read.is_expired(read.at), read.is_expired(read.expires_at)),
        (after(0) + Duration::from_millis(7), false, true)
    );
}

#[test]
fn keys_are_in_order_at_every_level() {
    fn is_ordered(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::Object(map) => map.keys().is_sorted() && map.values().all(is_ordered),
            serde_json::Value::Array(list) => list.iter().all(is_ordered),
            _ => true,
        }
    }
    let check = |text: &str| {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        // Whether a map of serde_json keeps the order of the text or orders its keys, one of the two notices.
        assert!(is_ordered(&value) && serde_json::to_string(&value).unwrap() == text, "{text}");
    };
    for text in [REQUEST, SNAPSHOT, RECORD] {
        check(text);
    }
    let sealed = full_snapshot().seal().unwrap();
    let evaluation = decide(&full_request(), &sealed.snapshot, &Usage::default(), now());
    let bytes = text(crate::domain::canonical::to_bytes(&evaluation));
    check(&bytes);
}

#[test]
fn changed_bytes_are_an_error_that_does_not_show_them() {
    for (from, to) in
        [("\"USD\"", "\"US\""), ("\"candidate\"", "\"candidata\""), ("12.5", "12.5x"), ("\"at\":", "\"at\" ")]
    {
        let error = DecisionRecord::decode(RECORD.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("decision record cannot be decoded: ") && !error.contains("12.5x"), "{error}");
    }
    let cut = &SNAPSHOT.as_bytes()[..SNAPSHOT.len() - 1];
    let error = Snapshot::decode(cut).unwrap_err().to_string();
    assert!(error.contains("it ends too early"), "{error}");
    assert!(Checkpoint::decode(b"{}").is_err());
}
