//! Where the records of a sync are stored: a table for each kind, over real sockets into a ledger file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use busbar::domain::records::{ColumnKind, TABLES, Table};
use busbar::domain::row_batch::Cell;
use busbar::ledger::RunResult;
use busbar::ledger::record::TransactionFilter;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::kit::walk_bank::{WalkBank, page};

/// Digits that a float does not have.
const EXACT: &str = "12345678901234567.89";
const LIST: &str = "records: [/data], key: /id, pagination: {kind: none}";
const MONEY: &str = "money: {amount: /amount, repr: decimalString, currency: {kind: field, pointer: /currency}, \
     sign: {kind: signed}}";

fn table(name: &str) -> &'static Table {
    TABLES.iter().find(|table| table.name == name).unwrap()
}

/// The number of a run's records that are new, changed and unchanged. The run must succeed.
async fn counts(bank: &WalkBank) -> (u64, u64, u64) {
    let run = bank.record().await;
    assert_eq!(run.result, Some(RunResult::Succeeded), "{:?} {:?}", run.reason, run.failure);
    (run.counts.inserted, run.counts.updated, run.counts.unchanged)
}

/// A column of the stored records, in the order of their keys.
async fn column(bank: &WalkBank, of: &'static Table, column: &str) -> Vec<String> {
    let stored = bank.sync.ledger.newest_records(of, &TransactionFilter::default(), 100).await.unwrap();
    let mut rows: Vec<(String, String)> = Vec::new();
    for row in &stored {
        let record = row.record.row(0).unwrap();
        let value = match record.get(column) {
            Cell::Null => "-".to_owned(),
            Cell::Text(text) => text.to_owned(),
            Cell::Integer(number) => number.to_string(),
        };
        rows.push((record.key().to_owned(), value));
    }
    rows.sort();
    rows.into_iter().map(|(_, value)| value).collect()
}

/// Key and status of the stored transactions, sorted.
async fn statuses(bank: &WalkBank) -> Vec<String> {
    let rows = bank.sync.ledger.list_transactions(&TransactionFilter::default(), 100).await.unwrap();
    let mut all: Vec<_> = rows.iter().map(|row| format!("{} {}", row.record.key, row.record.status.as_str())).collect();
    all.sort();
    all
}

/// A record that is one of any kind.
fn record(id: &str, amount: &str) -> Value {
    json!({"id": id, "account": "acc-1", "amount": amount, "currency": "EUR", "symbol": "X", "at": "2026-09-01",
           "name": format!("named {amount}"), "url": "https://news.example/1"})
}

#[tokio::test]
async fn records_of_each_kind_are_read_into_their_table_and_a_second_run_writes_nothing() {
    let account = "account: {pointer: /account}";
    let observed = "time: {pointer: /at, dayOnly: true}, fields: {series: /name, value: /amount}";
    let kinds = [
        ("accounts", format!("record: account, {LIST}, {account}, fields: {{name: /name}}"), "name"),
        ("balances", format!("record: balance, {LIST}, {account}, {MONEY}"), "amount"),
        (
            "collaterals",
            format!("record: collateral, {LIST}, fields: {{value: /amount, currency: /currency}}"),
            "amount",
        ),
        ("quotes", format!("record: quote, {LIST}, fields: {{symbol: /symbol, price: /amount}}"), "price"),
        ("observations", format!("record: observation, {LIST}, {observed}"), "amount"),
        ("articles", format!("record: article, {LIST}, fields: {{url: /url, title: /name}}"), "title"),
    ];
    for (name, fields, shown) in kinds {
        let round = Arc::new(AtomicU64::new(0));
        let bank = WalkBank::start(&fields, {
            let round = Arc::clone(&round);
            move |_| {
                let last = if round.load(Ordering::Relaxed) < 2 { "0.10" } else { "0.20" };
                page(json!({"data": [record("a", EXACT), record("b", "-7.00"), record("c", last)]}))
            }
        })
        .await;
        for expected in [(3, 0, 0), (0, 0, 3), (0, 1, 2)] {
            assert_eq!(counts(&bank).await, expected, "{name}");
            round.fetch_add(1, Ordering::Relaxed);
        }
        let values = column(&bank, table(name), shown).await;
        let is_last = |text: &String| text.ends_with("0.20") || text.parse::<Decimal>() == Ok(Decimal::new(20, 2));
        assert!(values.len() == 3 && is_last(&values[2]), "{name}: {values:?}");
        if table(name).columns.iter().any(|column| column.name == shown && column.kind == ColumnKind::Decimal) {
            assert_eq!(values[0], EXACT, "{name}");
        }
        for other in TABLES.iter().filter(|other| other.name != name) {
            let none = bank.sync.ledger.count_records(other, &TransactionFilter::default()).await.unwrap();
            assert_eq!(none, 0, "{name} in {}", other.name);
        }
        assert!(bank.keys().await.is_empty(), "{name}: neither a transaction nor a document");
    }
}

#[tokio::test]
async fn a_pending_transaction_is_superseded_by_the_booked_one_that_names_it() {
    let fields = format!(
        "record: transaction, {LIST}, account: {{pointer: /account}}, time: {{pointer: /at}}, {MONEY}, \
         status: {{pointer: /pending, pending: ['true']}}, supersedes: {{kind: pointer, pointer: /replaces}}"
    );
    let round = Arc::new(AtomicU64::new(0));
    let bank = WalkBank::start(&fields, {
        let round = Arc::clone(&round);
        move |_| {
            let of = |id: &str, pending: bool, replaces: Option<&str>| {
                let mut record = record(id, "5.00");
                record["pending"] = pending.into();
                record["replaces"] = replaces.into();
                record
            };
            let data: Vec<Value> = match round.load(Ordering::Relaxed) {
                0 => vec![of("p1", true, None), of("p2", true, None), of("p3", true, None)],
                // With the pending one still listed; under an ID of its own; under the same ID.
                1 => vec![of("b1", false, Some("p1")), of("p1", true, None), of("p2", false, None)],
                _ => vec![of("p1", true, None), of("b3", false, Some("p3")), of("b4", false, Some("never"))],
            };
            page(json!({"data": data}))
        }
    })
    .await;
    for expected in [
        &["p1 pending", "p2 pending", "p3 pending"][..],
        &["b1 booked", "p1 superseded", "p2 booked", "p3 pending"],
        &["b1 booked", "b3 booked", "b4 booked", "p1 superseded", "p2 booked", "p3 superseded"],
    ] {
        counts(&bank).await;
        assert_eq!(statuses(&bank).await, expected);
        round.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_withdrawn_transaction_stays_and_one_that_comes_back_is_booked_again() {
    let fields = format!(
        "record: transaction, lists: [{{at: [/added]}}], removed: {{at: [/removed], key: /id}}, key: /id, \
         account: {{pointer: /account}}, time: {{pointer: /at}}, {MONEY}, commitScope: Window, pagination: {{kind: token, \
         from: {{kind: body, pointers: [/next]}}, to: {{kind: query, parameter: cursor}}, more: /more}}"
    );
    let bank = WalkBank::start(&fields, |seen| {
        let changes = |added: &[&str], removed: &[&str], next: &str, more: bool| {
            let added: Vec<Value> = added.iter().map(|id| record(id, "1.00")).collect();
            let removed: Vec<Value> = removed.iter().map(|id| json!({"id": id})).collect();
            page(json!({"added": added, "removed": removed, "next": next, "more": more}))
        };
        match seen.query("cursor") {
            "" => changes(&["a", "b"], &[], "1", true),
            // Added on the first page and withdrawn on the second: it never takes effect.
            "1" => changes(&["c"], &["b"], "2", false),
            "2" => changes(&[], &["a", "unknown"], "3", false),
            "3" => changes(&["a"], &[], "4", false),
            other => changes(&[], &[], other, false),
        }
    })
    .await;
    for expected in [["a booked", "c booked"], ["a superseded", "c booked"], ["a booked", "c booked"]] {
        counts(&bank).await;
        assert_eq!(statuses(&bank).await, expected);
    }
}
