//! Validation of requests: each fault has its field and its problem, and no message shows a value.

use super::*;

fn draft() -> RequestDraft {
    RequestDraft {
        amount: "1000.00".into(),
        currency: "USD".into(),
        namespace: "payments".into(),
        payout_id: "p-1".into(),
        ..RequestDraft::default()
    }
}

fn rate(pair: &str, rate: &str, at: Option<&str>) -> RateDraft {
    RateDraft { at: at.map(str::to_owned), pair: pair.into(), rate: rate.into() }
}

fn rejected(draft: RequestDraft) -> (String, &'static str) {
    let error = draft.validate(now()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("{} is invalid: ", error.field)) && text.contains("; "), "{text}");
    (error.field, error.problem.as_str())
}

#[test]
fn a_bad_amount_is_rejected_by_its_kind() {
    for (text, code, want) in [
        ("", "USD", "missing"),
        ("-1", "USD", "negative"),
        ("-0.01", "USD", "negative"),
        ("-99999999999999999999999999", "USD", "negative"),
        ("0", "USD", "zero"),
        ("-0.00", "USD", "zero"),
        ("0e9", "USD", "zero"),
        ("ten", "USD", "not_decimal"),
        ("1,5", "USD", "not_decimal"),
        ("NaN", "USD", "not_decimal"),
        ("Infinity", "USD", "not_decimal"),
        (" 1", "USD", "not_decimal"),
        ("0x10", "USD", "not_decimal"),
        ("1.", "USD", "not_decimal"),
        ("10000000000000000000", "USD", "too_large"),
        ("10000000000000000.01", "USD", "too_large"),
        ("1000000000000000001", "XOF", "too_large"),
        ("1e19", "USD", "too_large"),
        ("1e400", "USD", "too_large"),
        ("0.001", "USD", "too_precise"),
        ("0.5", "XOF", "too_precise"),
        ("1.0001", "KWD", "too_precise"),
        ("1e-19", "USD", "too_precise"),
    ] {
        let draft = RequestDraft { amount: text.into(), currency: code.into(), ..draft() };
        assert_eq!(rejected(draft), ("amount".to_owned(), want), "{text} {code}");
    }
    for (text, code) in [
        ("10000000000000000.00", "USD"),
        ("1000000000000000000", "XOF"),
        ("0.001", "KWD"),
        ("1e3", "USD"),
        ("1000.000", "XOF"),
    ] {
        let draft = RequestDraft { amount: text.into(), currency: code.into(), ..draft() };
        assert!(draft.validate(now()).is_ok(), "{text} {code}");
    }
}

#[test]
fn each_other_field_is_checked_too() {
    let text = |text: &str| Some(text.to_owned());
    let long = "x".repeat(129);
    let cases = [
        (RequestDraft { currency: String::new(), ..draft() }, "currency", "missing"),
        (RequestDraft { currency: "usd".into(), ..draft() }, "currency", "not_currency"),
        (RequestDraft { currency: "QQQ".into(), ..draft() }, "currency", "unknown_currency"),
        (RequestDraft { currency: "XAU".into(), ..draft() }, "currency", "unknown_currency"),
        (RequestDraft { payout_id: String::new(), ..draft() }, "payout_id", "not_identifier"),
        (RequestDraft { payout_id: "p 1".into(), ..draft() }, "payout_id", "not_identifier"),
        (RequestDraft { payout_id: "p\n1".into(), ..draft() }, "payout_id", "not_identifier"),
        (RequestDraft { payout_id: "\u{e9}".into(), ..draft() }, "payout_id", "not_identifier"),
        (RequestDraft { payout_id: long.clone(), ..draft() }, "payout_id", "not_identifier"),
        (RequestDraft { namespace: String::new(), ..draft() }, "namespace", "missing"),
        (RequestDraft { namespace: "Pay".into(), ..draft() }, "namespace", "not_name"),
        (RequestDraft { namespace: "a.b".into(), ..draft() }, "namespace", "not_name"),
        (RequestDraft { namespace: "../etc".into(), ..draft() }, "namespace", "not_name"),
        (RequestDraft { route: text("-a"), ..draft() }, "route", "not_name"),
        (RequestDraft { route: text(""), ..draft() }, "route", "not_name"),
        (RequestDraft { country: text("sn"), ..draft() }, "country", "not_country"),
        (RequestDraft { country: text("SEN"), ..draft() }, "country", "not_country"),
        (RequestDraft { rail: text("a b"), ..draft() }, "rail", "not_rail"),
        (RequestDraft { rail: text(""), ..draft() }, "rail", "not_rail"),
        (RequestDraft { merchant: text(""), ..draft() }, "merchant", "not_text"),
        (RequestDraft { merchant: text("m\u{202e}1"), ..draft() }, "merchant", "not_text"),
        (RequestDraft { merchant: Some(long), ..draft() }, "merchant", "not_text"),
        (RequestDraft { attempt_no: Some(0), ..draft() }, "attempt_no", "not_attempt"),
    ];
    for (draft, field, problem) in cases {
        assert_eq!(rejected(draft.clone()), (field.to_owned(), problem), "{draft:?}");
    }
}

#[test]
fn each_rate_is_checked_and_named_by_its_pair() {
    for (rates, field, problem) in [
        (vec![rate("USD", "1", None)], "rates", "not_pair"),
        (vec![rate("USD/USD", "1", None)], "rates", "not_pair"),
        (vec![rate("USD/xof", "1", None)], "rates", "not_pair"),
        (vec![rate("USD/XOF", "0", None)], "rates.USD/XOF.rate", "zero"),
        (vec![rate("USD/XOF", "-655", None)], "rates.USD/XOF.rate", "negative"),
        (vec![rate("USD/XOF", "many", None)], "rates.USD/XOF.rate", "not_decimal"),
        (vec![rate("USD/XOF", "1", Some("noon"))], "rates.USD/XOF.at", "not_instant"),
        (vec![rate("USD/XOF", "1", Some("2026-11-29T12:01:01Z"))], "rates.USD/XOF.at", "future"),
        (vec![rate("USD/XOF", "1", None), rate("USD/XOF", "2", None)], "rates", "repeated"),
        (vec![rate("USD/XOF", "1", None), rate("EUR/USD", "2", None), rate("XOF/USD", "1", None)], "rates", "repeated"),
        (vec![rate("USD/XOF", "1", None); 33], "rates", "too_many"),
    ] {
        assert_eq!(rejected(RequestDraft { rates, ..draft() }), (field.to_owned(), problem));
    }
}

#[test]
fn a_message_names_field_kind_and_remedy_and_never_the_value() {
    let secret = "4111111111111111x";
    let text = RequestDraft { amount: secret.into(), ..draft() }.validate(now()).unwrap_err().to_string();
    assert_eq!(text, "amount is invalid: the value is not a decimal; send a decimal, for example \"12.50\" or 12.50");
    let rates = vec![rate(secret, "1", None)];
    let text = RequestDraft { rates, ..draft() }.validate(now()).unwrap_err().to_string();
    assert!(!text.contains(secret), "{text}");
}

#[test]
fn every_spelling_of_one_request_has_one_hash() {
    let with = |amount: &str, rates: Vec<RateDraft>| {
        RequestDraft { amount: amount.into(), rates, ..draft() }.validate(now()).unwrap()
    };
    let rates = |first: &str, second: &str| {
        vec![rate("USD/XOF", first, Some("2026-11-29T11:59:00Z")), rate("EUR/USD", second, None)]
    };
    let mut swapped = rates("655.957", "1.1");
    swapped.swap(0, 1);
    swapped[1].at = Some("2026-11-29T12:59:00.000+01:00".into());
    let want = with("1000", rates("655.957", "1.1")).hash();
    for other in [
        with("1000.00", rates("655.9570", "1.10")),
        with("1e3", rates("655957e-3", "01.1")),
        with("+1000.0", swapped),
        RequestDraft { attempt_no: Some(1), rates: rates("655.957", "1.1"), ..draft() }.validate(now()).unwrap(),
    ] {
        assert_eq!(other.hash(), want);
    }
    assert_ne!(with("1000", rates("655.957", "1.2")).hash(), want);
    assert_ne!(with("1000", Vec::new()).hash(), want);
}
