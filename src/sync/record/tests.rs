//! Records by declared stream.

use serde_json::{Value, json};

use super::*;
use crate::domain::records::CanonicalRecord;
use crate::profile::Profile;

fn stream(fields: &str) -> std::sync::Arc<Stream> {
    let text = format!(
        "id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {{}}\nstreams:\n  rows: {{path: /r, records: [/d], key: /id, pagination: \
         {{kind: none}}, {fields}}}\n"
    );
    Profile::parse("x.yaml", &text).unwrap_or_else(|error| panic!("{error}")).streams["rows"].clone()
}

fn parsed<T>(fields: &str, read: impl Fn(RecordParser<'_>) -> T) -> T {
    let (stream, scope, mask) = (stream(fields), AccountScope::for_tests(), MaskRules::default());
    let account = AccountInfo { token: "t".into(), display: "****".into(), currency: None };
    let granularity = Granularity::Instant;
    read(RecordParser { stream: &stream, account: &account, mask: &mask, granularity, scope: &scope, first_day: None })
}

fn canonical(fields: &str, record: &Value) -> Result<CanonicalRecord, (RejectionReason, String)> {
    parsed(fields, |parser| parser.canonical(record)).map_err(|rejection| (rejection.reason, rejection.path))
}

const MOVES: &str = "record: transaction, time: {pointer: /on, or: [/value]}, money: {amount: /a, repr: jsonNumber, currency: {kind: \
    const, code: EUR}, sign: {kind: signed}}, account: {pointer: /acc, number: [/iban]}, status: {pointer: /s, pending: \
    ['true', P], booked: ['false', B]}, omit: {pointer: /s, values: [I]}, supersedes: {kind: pointer, pointer: /old}";

#[test]
fn status_account_and_the_replaced_record_are_those_of_the_record() {
    let read = |record: Value| {
        parsed(MOVES, |parser| {
            if parser.is_omitted(&record) {
                return "omitted".to_owned();
            }
            match parser.row(&record) {
                Ok(Some(row)) => {
                    let row = row.record;
                    format!("{} {} {} {:?}", row.account, row.status.as_str(), row.booked.on, row.supersedes)
                }
                Ok(None) => "skipped".to_owned(),
                Err(rejection) => format!("{} {}", rejection.reason, rejection.path),
            }
        })
    };
    let record = |fields: Value| {
        let mut record =
            json!({"id": "1", "on": "2026-09-01", "a": 1, "acc": "acc-1", "iban": "GB29NWBK60161331926819", "s": "B"});
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        record
    };
    for (fields, shown) in [
        (json!({"old": "p1"}), "****6819 booked 2026-09-01 Some(\"p1\")"),
        (json!({"s": true, "old": "p1"}), "****6819 pending 2026-09-01 None"),
        (json!({"s": false, "old": " "}), "****6819 booked 2026-09-01 None"),
        (json!({"s": "I"}), "omitted"),
        (json!({"s": "other"}), "StatusUnknown /s"),
        (json!({"s": null}), "StatusUnknown /s"),
        (json!({"acc": null}), "AccountMissing /acc"),
        (json!({"acc": []}), "KeyInvalid /acc"),
        (json!({"on": null, "value": "2026-09-03"}), "****6819 booked 2026-09-03 None"),
        (json!({"on": " ", "value": null}), "TimeMissing /on"),
        (json!({"iban": null}), "**** booked 2026-09-01 None"),
    ] {
        assert_eq!(read(record(fields.clone())), shown, "{fields}");
    }
}

#[test]
fn a_record_without_an_id_before_the_first_whole_day_is_left_to_the_window_before() {
    let scope = AccountScope::for_tests();
    let (stream, mask) = (stream(MOVES), MaskRules::default());
    let account = AccountInfo { token: "t".into(), display: "****".into(), currency: None };
    let first_day = Some(jiff::civil::date(2026, 9, 2));
    let granularity = Granularity::Instant;
    let parser =
        RecordParser { stream: &stream, account: &account, mask: &mask, granularity, scope: &scope, first_day };
    let is_read = |id: Value, on: &str| {
        let record = json!({"id": id, "on": on, "a": 1, "acc": "a", "s": "B"});
        parser.row(&record).unwrap().is_some()
    };
    assert!(!is_read(Value::Null, "2026-09-01") && is_read(Value::Null, "2026-09-02"));
    assert!(is_read(json!("1"), "2026-09-01"), "an ID needs no number");
}

#[test]
fn the_fallback_distinguishes_account_day_and_each_field() {
    let scope = AccountScope::for_tests();
    let day = jiff::civil::date(2026, 9, 1);
    let base = |account: &str, on, fields: &[Option<Value>]| {
        scope.fallback_base(account, on, fields.iter().map(Option::as_ref))
    };
    let one = base("a", day, &[Some(json!("x")), Some(json!(7))]);
    assert_eq!(one.len(), 16);
    assert_eq!(one, base("a", day, &[Some(json!(" x ")), Some(serde_json::from_str("7.00").unwrap())]), "spelling");
    assert_eq!(base("a", day, &[None]), base("a", day, &[Some(Value::Null)]));
    for other in [
        base("b", day, &[Some(json!("x")), Some(json!(7))]),
        base("a", day.tomorrow().unwrap(), &[Some(json!("x")), Some(json!(7))]),
        base("a", day, &[Some(json!("x7")), None]),
        base("a", day, &[None, Some(json!("x")), Some(json!(7))]),
        base("a", day, &[Some(json!("x")), Some(json!(8))]),
        base("a", day, &[Some(json!("")), Some(json!("x"))]),
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn fields_of_the_wrong_type_are_named() {
    let quote = "record: quote, fields: {symbol: /s, price: {at: [/p, /q], missing: ['-']}, currency: /c, volume: /v}";
    let of = |record: Value| canonical(quote, &record);
    assert!(of(json!({"id": "1", "s": "A", "p": null, "q": "1.50", "c": "usd", "v": null})).is_ok());
    for (record, reason, path) in [
        (json!({"s": "A", "p": "-"}), RejectionReason::FieldMissing, "/p"),
        (json!({"s": "A", "p": [1]}), RejectionReason::FieldInvalid, "/p"),
        (json!({"s": "A", "p": "1,5"}), RejectionReason::FieldInvalid, "/p"),
        (json!({"s": "A", "p": 1, "c": "dollars"}), RejectionReason::CurrencyUnknown, "/c"),
        (json!({"s": {}, "p": 1}), RejectionReason::FieldInvalid, "/s"),
        (json!({"p": 1}), RejectionReason::FieldMissing, "/s"),
        (json!([1]), RejectionReason::NotAnObject, ""),
    ] {
        assert_eq!(of(record.clone()).unwrap_err(), (reason, path.to_owned()), "{record}");
    }
    let series = "record: observation, time: {pointer: /on}, fields: {series: /s, value: {at: [/v], missing: ['.']}}";
    let value = |value: Value| {
        let record = canonical(series, &json!({"id": "1", "s": "X", "on": "1776-07-04", "v": value}));
        let Ok(CanonicalRecord::Observation(record)) = record else { panic!("{record:?}") };
        record.value.map(|value| value.to_string())
    };
    assert_eq!((value(json!(".")), value(Value::Null), value(json!("1.50"))), (None, None, Some("1.5".to_owned())));
    let without = canonical(series, &json!({"id": "1", "s": "X", "on": "2026-09-01"}));
    assert_eq!(without.unwrap_err(), (RejectionReason::FieldMissing, "/v".to_owned()));
}

#[test]
fn texts_of_several_lines_are_one_and_public_ones_are_not_masked() {
    let article = "record: article, fields: {url: /u, title: /t}";
    let record = canonical(article, &json!({"id": "1", "u": "https://x.example/0131883461", "t": ["a", "b"]})).unwrap();
    let CanonicalRecord::Article(record) = record else { panic!("{record:?}") };
    assert_eq!((record.url.as_str(), record.title.as_deref()), ("https://x.example/0131883461", Some("a b")));
}
