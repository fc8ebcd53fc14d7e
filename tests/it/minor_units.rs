//! Amounts in the smallest units of a provider that counts otherwise than ISO 4217, from its response to the row.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use busbar::ledger::RunResult;
use busbar::ledger::record::TransactionFilter;
use busbar::profile::{Environment, Profiles};
use busbar::settings::{Auth, Draft};
use busbar::sync::{Partition, SyncPlan};
use serde_json::{Value, json};

use crate::kit::connections::{connect, secret};
use crate::kit::sync_env::{SyncEnv, stream_plan};

/// Stripe's own profile, with a stream of its balance transactions.
const STREAM: &str = "streams:\n  moves:\n    record: transaction\n    path: /balance_transactions\n    records: [/data]\n    \
    key: /id\n    time: {pointer: /created, as: epochSeconds}\n    pagination: {kind: none}\n    money: {amount: /amount, \
    repr: minorInteger, currency: {kind: field, pointer: /currency}, sign: {kind: signed}}\n";

/// A profile without its own streams.
fn without_streams(profile: &str) -> &str {
    profile.split("streams:\n").next().unwrap()
}

/// The rows of a sync of these moves, as text: currency, amount, amount in smallest units; and the dead letters.
async fn rows_of(profile: &str, moves: &[Value]) -> (Vec<(String, String, i128)>, u64) {
    let body = json!({"object": "list", "data": moves, "has_more": false}).to_string();
    let respond = move || {
        let body = body.clone();
        async move { ([("content-type", "application/json")], body) }
    };
    let app = Router::new().route("/v1/balance_transactions", get(respond));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let mut profiles = Profiles::default();
    profiles.add("stripe.yaml", profile).unwrap();
    let profile = profiles.get("stripe").unwrap();
    let mut draft = Draft::new(Arc::clone(&profile), Environment::Sandbox);
    draft.base_url = base;
    draft.auth = Auth::Bearer { token: secret("canary-key") };
    let partition = Partition { name: String::new(), parameters: [].into() };
    let plan = SyncPlan { dead_letter_budget_percent: 100, ..stream_plan(&profile, "moves", vec![partition]) };
    let dir = tempfile::tempdir().unwrap();
    let env = SyncEnv::open(&dir.path().join("ledger.db")).await;
    let view = env.run(&Arc::new(plan), &connect(draft)).await;
    assert_eq!(view.last[0].result, Some(RunResult::Succeeded), "{:?}", view.last_outcome);
    let rows = env.ledger.list_transactions(&TransactionFilter::default(), 100).await.unwrap();
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|row| (row.record.currency, row.record.amount.to_string(), row.record.amount_minor))
        .collect();
    rows.sort();
    (rows, view.last[0].counts.rejected)
}

fn moves(all: &[(&str, i64)]) -> Vec<Value> {
    let each = all.iter().enumerate();
    each.map(|(n, (currency, amount))| {
        json!({"id": format!("txn_{n}"), "created": 1_767_225_600, "currency": currency, "amount": amount})
    })
    .collect()
}

fn row(currency: &str, amount: &str, minor: i128) -> (String, String, i128) {
    (currency.to_owned(), amount.to_owned(), minor)
}

#[tokio::test]
async fn stripes_amounts_are_read_with_stripes_own_units() {
    let profile = format!("{}{STREAM}", without_streams(include_str!("../../src/profile/builtin/stripe.yaml")));
    let sent = [
        ("usd", 1234),
        ("jpy", 500),
        ("kwd", 5120),
        ("isk", 500),
        ("ugx", 70_000),
        ("mga", 4100),
        ("huf", 1000),
        ("twd", -80_000),
        ("xpf", 7),
    ];
    let (rows, rejected) = rows_of(&profile, &moves(&sent)).await;
    assert_eq!(rejected, 0);
    assert_eq!(
        rows,
        [
            row("HUF", "10.00", 1000),
            row("ISK", "5.00", 500),
            row("JPY", "500", 500),
            row("KWD", "5.120", 5120),
            row("MGA", "4100", 4100),
            row("TWD", "-800.00", -80_000),
            row("UGX", "700.00", 70_000),
            row("USD", "12.34", 1234),
            row("XPF", "7", 7),
        ]
    );
}

#[tokio::test]
async fn fractions_that_only_the_provider_knows_are_kept_exactly() {
    // ISK was charged in hundredths until 2023; ISO 4217 has none.
    let profile = format!("{}{STREAM}", without_streams(include_str!("../../src/profile/builtin/stripe.yaml")));
    let (rows, rejected) = rows_of(&profile, &moves(&[("isk", 4010), ("ugx", -1)])).await;
    assert_eq!((rows, rejected), (vec![row("ISK", "40.10", 4010), row("UGX", "-0.01", -1)], 0));
}

#[tokio::test]
async fn a_profile_without_own_units_follows_iso_4217_and_guesses_nothing() {
    let own = "id: stripe\ntitle: Own\nbreaker: Api\nhealthCheck: {path: /}\n";
    let sent = [("isk", 500), ("mga", 4100), ("bhd", 1), ("qqq", 5)];
    let (rows, rejected) = rows_of(&format!("{own}{STREAM}"), &moves(&sent)).await;
    assert_eq!(rows, [row("BHD", "0.001", 1), row("ISK", "500", 500), row("MGA", "41.00", 4100)]);
    assert_eq!(rejected, 1, "a currency without known units is no row");
    let (rows, rejected) = rows_of(&format!("{own}minorUnits: {{QQQ: 4}}\n{STREAM}"), &moves(&[("qqq", 5)])).await;
    assert_eq!((rows, rejected), (vec![row("QQQ", "0.0005", 5)], 0));
}
