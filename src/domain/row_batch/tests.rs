//! Packed rows.

use rust_decimal::Decimal;

use super::{Cell, RowBatch, TRANSACTIONS, tables};
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::record::{BookingTime, Granularity, KeyQuality, RowStatus, TransactionRecord};
use crate::domain::records::{BalanceRecord, CanonicalRecord, ObservationRecord, RecordIdentity};

fn transaction() -> TransactionRecord {
    TransactionRecord {
        account_token: "t1".into(),
        key: "k".into(),
        key_quality: KeyQuality::Provider,
        account: "****1234".into(),
        booked: BookingTime {
            on: jiff::civil::date(2026, 9, 1),
            at: None,
            text: "2026-09-01".into(),
            granularity: Granularity::Day,
        },
        valued: None,
        amount: Decimal::new(9_007_199_254_740_993, 2),
        amount_minor: 9_007_199_254_740_993,
        currency: "EUR".into(),
        status: RowStatus::Booked,
        counterparty: None,
        narration: Some("a".into()),
        category: None,
        supersedes: None,
    }
}

fn batch(record: &TransactionRecord) -> RowBatch {
    RowBatch::of_transactions(std::slice::from_ref(record))
}

fn is_equal(one: &TransactionRecord, other: &TransactionRecord) -> bool {
    let (one, other) = (batch(one), batch(other));
    one.row(0).unwrap().has_content_of(other.row(0).unwrap())
}

#[test]
fn a_row_has_its_key_its_hash_and_every_digit() {
    let (record, packed) = (transaction(), batch(&transaction()));
    let row = packed.row(0).unwrap();
    assert_eq!((row.account_token(), row.key(), row.key_quality()), ("t1", "k", "provider"));
    assert_eq!(*row.hash(), record.content_hash());
    assert_eq!(row.get("amount"), Cell::Text("90071992547409.93"));
    assert_eq!(row.get("amount_minor"), Cell::Text("9007199254740993"));
    assert_eq!((row.get("booked_ms"), row.get("counterparty")), (Cell::Null, Cell::Null));
    assert_eq!((row.get("booked_on"), row.get("narration")), (Cell::Text("2026-09-01"), Cell::Text("a")));
    assert_eq!(row.get("no_such_column"), Cell::Null);
    assert_eq!((packed.len(), packed.row(1).is_none()), (1, true));
}

#[test]
fn rows_of_a_batch_do_not_share_texts() {
    let other = TransactionRecord { key: String::new(), narration: None, ..transaction() };
    let packed = RowBatch::of_transactions(&[transaction(), other, transaction()]);
    let keys: Vec<_> = packed.rows().map(|row| (row.key(), row.get("narration"))).collect();
    assert_eq!(keys, [("k", Cell::Text("a")), ("", Cell::Null), ("k", Cell::Text("a"))]);
}

#[test]
fn content_is_equal_whatever_its_spelling() {
    let first = transaction();
    let amount = |text: &str| TransactionRecord { amount: text.parse().unwrap(), ..transaction() };
    assert!(is_equal(&amount("7.0"), &amount("7.00")) && is_equal(&amount("0"), &amount("-0.0")));
    assert!(!is_equal(&amount("7.0"), &amount("7.01")));
    let at = |seconds: i64, text: &str| TransactionRecord {
        booked: BookingTime {
            at: Some(jiff::Timestamp::from_second(seconds).unwrap()),
            text: text.into(),
            ..first.booked.clone()
        },
        ..transaction()
    };
    assert!(is_equal(&at(7, "a"), &at(7, "b")), "an instant is that, whatever its text");
    assert!(!is_equal(&at(7, "a"), &at(8, "a")));
    let text = |text: &str| TransactionRecord {
        booked: BookingTime { text: text.into(), ..first.booked.clone() },
        ..transaction()
    };
    assert!(!is_equal(&text("a"), &text("b")), "without an instant the text says all there is");
    let derived = TransactionRecord { key_quality: KeyQuality::Derived, ..transaction() };
    assert!(!is_equal(&first, &derived));
    let named = TransactionRecord { key: "other".into(), account_token: "t2".into(), ..transaction() };
    assert!(is_equal(&first, &named), "what identifies it is not its content");
    let document = |body: &str| {
        let (kind, key_quality) = (DocumentKind::Document, KeyQuality::Provider);
        RowBatch::of_documents(&[DocumentRecord { kind, key: "d".into(), key_quality, body: body.into() }])
    };
    let same = |one: &str, other: &str| {
        let (one, other) = (document(one), document(other));
        one.row(0).unwrap().has_content_of(other.row(0).unwrap())
    };
    assert!(same(r#"{"a":7.0}"#, r#"{"a":7}"#) && !same(r#"{"a":"7.0"}"#, r#"{"a":"7"}"#));
}

#[test]
fn a_nul_is_replaced_wherever_a_provider_writes_one() {
    let record = TransactionRecord { narration: Some("a\0b\0".into()), account: "\0".into(), ..transaction() };
    let packed = batch(&record);
    let row = packed.row(0).unwrap();
    assert_eq!((row.get("narration"), row.get("account")), (Cell::Text("a\u{fffd}b\u{fffd}"), Cell::Text("\u{fffd}")));
    assert_eq!(row.get("currency"), Cell::Text("EUR"), "what follows keeps its place");
}

#[test]
fn records_of_several_kinds_are_a_batch_each_with_all_columns() {
    let identity = || RecordIdentity { account_token: "t1".into(), key: "k".into(), key_quality: KeyQuality::Provider };
    let balance = CanonicalRecord::Balance(BalanceRecord {
        identity: identity(),
        account: "****1234".into(),
        kind: None,
        amount: "12345678901234567.89".parse().unwrap(),
        amount_minor: 1_234_567_890_123_456_789,
        currency: "EUR".into(),
        time: None,
    });
    let observation = CanonicalRecord::Observation(ObservationRecord {
        identity: identity(),
        series: "GDP".into(),
        on: jiff::civil::date(2026, 9, 1),
        value: None,
        known_from: None,
        known_to: None,
    });
    let batches = RowBatch::of_records(&[balance.clone(), observation, balance]);
    let shown: Vec<_> = batches.iter().map(|batch| (batch.table().name, batch.len())).collect();
    assert_eq!(shown, [("balances", 2), ("observations", 1)]);
    assert_eq!(batches[0].row(1).unwrap().get("amount"), Cell::Text("12345678901234567.89"));
    assert_eq!(batches[1].row(0).unwrap().get("observed_on"), Cell::Text("2026-09-01"));
}

#[test]
fn a_stored_row_is_the_row_that_was_packed() {
    let packed = batch(&transaction());
    let row = packed.row(0).unwrap();
    let mut copy = RowBatch::new(&TRANSACTIONS);
    let key = [row.account_token(), row.key(), row.key_quality()].map(Cell::Text);
    copy.push_stored(key.into_iter().chain(row.cells().map(|(_, cell)| cell)), *row.hash());
    assert_eq!(copy, packed);
    copy.clear();
    assert!(copy.is_empty());
}

#[test]
fn every_table_has_a_name_and_its_own_columns() {
    let mut names: Vec<&str> = tables().map(|table| table.name).collect();
    assert_eq!(names.len(), 8);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 8);
    for table in tables() {
        let mut columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        columns.sort_unstable();
        columns.dedup();
        assert_eq!(columns.len(), table.columns.len(), "{}", table.name);
    }
}
