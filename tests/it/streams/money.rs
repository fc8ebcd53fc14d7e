//! Amounts with more digits than a float has, from a response to the row.

use busbar::ledger::record::TransactionFilter;

use super::text;
use crate::kit::walk_bank::WalkBank;

fn fields(repr: &str) -> String {
    format!(
        "record: transaction, records: [/data], key: /id, pagination: {{kind: none}}, time: {{pointer: /on}}, money: \
         {{amount: /a, repr: {repr}, currency: {{kind: field, pointer: /c}}, sign: {{kind: signed}}}}"
    )
}

/// Amounts and smallest units of the rows of these `amount currency` pairs, and the reasons of those that are none.
async fn rows(repr: &str, amounts: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let each = amounts.iter().enumerate();
    let data: Vec<_> = each
        .map(|(n, (amount, currency))| {
            format!(r#"{{"id": "{n}", "on": "2026-09-01", "a": {amount}, "c": "{currency}"}}"#)
        })
        .collect();
    let body = format!(r#"{{"data": [{}]}}"#, data.join(","));
    let mut bank = WalkBank::start(&fields(repr), move |_| text(&body)).await;
    bank.plan.dead_letter_budget_percent = 100;
    bank.record().await;
    let all = TransactionFilter::default();
    let stored = bank.sync.ledger.list_transactions(&all, 100).await.unwrap();
    let mut rows: Vec<_> = stored
        .iter()
        .map(|row| {
            (row.record.key.parse::<usize>().unwrap(), format!("{} {}", row.record.amount, row.record.amount_minor))
        })
        .collect();
    rows.sort();
    let letters = bank.sync.ledger.newest_dead_letters(&all, 100).await.unwrap();
    let mut reasons: Vec<_> = letters.into_iter().map(|letter| letter.reason).collect();
    reasons.sort();
    (rows.into_iter().map(|(_, row)| row).collect(), reasons)
}

#[tokio::test]
async fn json_numbers_beyond_a_float_keep_every_digit() {
    let (rows, reasons) = rows(
        "jsonNumber",
        &[
            ("90071992547409.93", "USD"),
            ("9007199254740993", "USD"),
            ("12345678901234567.89", "USD"),
            ("-12345678901234567.890", "USD"),
            ("9007199254740993", "JPY"),
            ("12345678901234567.891", "KWD"),
            ("1E+2", "USD"),
            ("-0.00", "USD"),
        ],
    )
    .await;
    assert_eq!(
        rows,
        [
            "90071992547409.93 9007199254740993",
            "9007199254740993.00 900719925474099300",
            "12345678901234567.89 1234567890123456789",
            "-12345678901234567.89 -1234567890123456789",
            "9007199254740993 9007199254740993",
            "12345678901234567.891 12345678901234567891",
            "100.00 10000",
            "0.00 0",
        ]
    );
    assert!(reasons.is_empty(), "{reasons:?}");
}

#[tokio::test]
async fn texts_and_minor_units_beyond_a_float_keep_every_digit() {
    let (found, reasons) = rows(
        "decimalString",
        &[
            (r#""12345678901234567.89""#, "EUR"),
            (r#""99999999999999999999.99""#, "EUR"),
            (r#"" 7 ""#, "EUR"),
            (r#""5.120""#, "KWD"),
        ],
    )
    .await;
    assert_eq!(
        found,
        [
            "12345678901234567.89 1234567890123456789",
            "99999999999999999999.99 9999999999999999999999",
            "7.00 700",
            "5.120 5120",
        ]
    );
    assert!(reasons.is_empty(), "{reasons:?}");
    let minor = [("9007199254740993", "USD"), ("12345678901234567891", "KWD"), ("9007199254740993", "JPY")];
    let (found, _) = rows("minorInteger", &minor).await;
    assert_eq!(
        found,
        [
            "90071992547409.93 9007199254740993",
            "12345678901234567.891 12345678901234567891",
            "9007199254740993 9007199254740993",
        ]
    );
}

#[tokio::test]
async fn an_amount_that_would_have_to_be_guessed_or_rounded_is_rejected() {
    let (rows, reasons) = rows(
        "decimalString",
        &[
            (r#""-0.005""#, "EUR"),
            (r#""1,234.00""#, "EUR"),
            (r#""NaN""#, "EUR"),
            ("12.5", "EUR"),
            ("null", "EUR"),
            (r#""1.5""#, "JPY"),
            (r#""1.0001""#, "KWD"),
            (r#""1""#, "QQQ"),
            (r#""123456789012345678901""#, "EUR"),
        ],
    )
    .await;
    assert!(rows.is_empty(), "{rows:?}");
    assert_eq!(
        reasons,
        [
            "AmountInvalid",
            "AmountInvalid",
            "AmountInvalid",
            "AmountMissing",
            "AmountNotText",
            "AmountTooFine",
            "AmountTooFine",
            "AmountTooFine",
            "CurrencyUnknown",
        ]
    );
}
