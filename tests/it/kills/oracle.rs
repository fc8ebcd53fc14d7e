//! What the ledger must hold in the end: computed from the bank's own list, which no process of ours has touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{Connection, Row};
use serde_json::Value;

use super::env::KillEnv;

/// Signed minor units by ID, as the bank lists them.
async fn listed(env: &KillEnv) -> BTreeMap<String, i64> {
    let url = format!("{}/v2/accounts/acc-1/transactions?paginate=false", env.bank.base_url());
    let client = crate::kit::http::client();
    let text = client.get(url).header("mono-sec-key", "obviously-fake-mono-key").send().await.unwrap().text().await;
    let body: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let records = body["data"].as_array().expect("a list").iter();
    let record = |record: &Value| {
        let amount = record["amount"].as_i64().unwrap();
        let sign = if record["type"] == "credit" { 1 } else { -1 };
        (record["id"].as_str().unwrap().to_owned(), sign * amount)
    };
    records.map(record).collect()
}

fn all<T>(connection: &Connection, sql: &str, decode: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let mut statement = connection.prepare(sql).expect(sql);
    statement.query_map([], decode).expect(sql).collect::<Result<_, _>>().expect(sql)
}

/// Asserts that rows, amounts and events are those of the bank, each once; the ledger is read from a backup of it.
pub(super) async fn assert_exact(env: &KillEnv) {
    let expected = listed(env).await;
    let file = env.backup("oracle.db");
    assert_ledger(&file, &expected);
    std::fs::remove_file(file).unwrap();
}

/// Asserts that every event has one delivery for the only consumer, and that there are no others.
pub(super) fn assert_delivered(env: &KillEnv) {
    let file = env.backup("deliveries.db");
    let connection = Connection::open(&file).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let events = count("SELECT count(*) FROM outbox_event");
    assert!(events > 0);
    assert_eq!(count("SELECT count(*) FROM outbox_delivery WHERE publish_status = 'pending'"), events);
    let joined = "SELECT count(*) FROM outbox_event AS e JOIN outbox_delivery AS d ON d.event_seq = e.seq
        WHERE d.aggregate = e.aggregate";
    assert_eq!(count(joined), events, "each event has its delivery");
    drop(connection);
    std::fs::remove_file(file).unwrap();
}

fn assert_ledger(file: &Path, expected: &BTreeMap<String, i64>) {
    let connection = Connection::open(file).unwrap();
    let rows = all(&connection, "SELECT record_key, amount_minor, revision FROM transactions", |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
    });
    assert_eq!(rows.len(), expected.len(), "rows, and none twice");
    let stored: BTreeMap<String, i64> =
        rows.iter().map(|(key, amount, _)| (key.clone(), amount.parse().unwrap())).collect();
    assert!(stored == *expected, "IDs and amounts");
    let written_again: Vec<_> = rows.iter().filter(|(_, _, revision)| *revision != 1).collect();
    assert!(written_again.is_empty(), "written more than once: {written_again:?}");

    let ingested = "SELECT payload FROM outbox_event WHERE type LIKE '%transactions.ingested'";
    let payloads = all(&connection, ingested, |row| row.get::<_, String>(0));
    assert_eq!(payloads.len(), expected.len(), "events: one for each row");
    let keys: BTreeSet<String> = payloads.iter().map(|payload| key_of(payload)).collect();
    assert!(keys.iter().eq(expected.keys()), "each row has an event");

    let sum = "SELECT coalesce(sum(inserted), 0) FROM sync_runs";
    let inserted: i64 = connection.query_row(sum, [], |row| row.get(0)).unwrap();
    // Old runs are pruned: with many kills only the newest are there.
    let runs: i64 = connection.query_row("SELECT count(*) FROM sync_runs", [], |row| row.get(0)).unwrap();
    let total = i64::try_from(expected.len()).unwrap();
    assert!(inserted <= total && (runs >= 100 || inserted == total), "{runs} runs count {inserted} inserted rows");
}

/// The key of the record that an event is about.
fn key_of(payload: &str) -> String {
    let value: Value = serde_json::from_str(payload).unwrap();
    value["record"]["key"]
        .as_str()
        .unwrap_or_else(|| panic!("an event without the key of its record: {payload}"))
        .into()
}
