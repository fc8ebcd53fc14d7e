//! Streams of each kind: what they must map, and what the built-in profiles read.

use crate::profile::*;

fn problem(fields: &str) -> String {
    let text = format!(
        "id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {{}}\nstreams:\n  rows: {{path: /r, records: [/d], key: /id, pagination: \
         {{kind: none}}, {fields}}}\n"
    );
    let error = Profile::parse("x.yaml", &text).unwrap_err().to_string();
    error.split_once("streams.rows").map_or(error.clone(), |(_, rest)| rest.to_owned())
}

#[test]
fn a_stream_maps_what_its_kind_needs_and_nothing_else() {
    let money = "money: {amount: /a, repr: jsonNumber, currency: {kind: const, code: EUR}, sign: {kind: signed}}";
    let moves = format!("record: transaction, time: {{pointer: /t}}, {money}");
    for (fields, found) in [
        ("record: quote, fields: {symbol: /s}".to_owned(), ".fields: price must be mapped: every quote has one"),
        ("record: observation, fields: {series: /s, value: /v}".into(), ".time: an observation needs time"),
        ("record: balance, account: {pointer: /a}".into(), ".money: a balance needs money"),
        (
            "record: article, fields: {url: /u, body: /b}".into(),
            ".fields.body: is no field of record: article, which has url",
        ),
        ("record: document, fields: {name: /n}".into(), ".fields.name: record: document has no fields; remove it"),
        (
            format!("record: quote, fields: {{symbol: /s, price: /p}}, {money}"),
            ".money: money is only valid with record:",
        ),
        (
            "record: account, status: {pointer: /s, pending: [p]}".into(),
            ".status: status is only valid with record: transaction",
        ),
        (format!("{moves}, account: {{number: [/n]}}"), ".account: needs parameter or pointer"),
        (format!("{moves}, status: {{pointer: /s, pending: []}}"), ".status.pending: must name at least one value"),
        (format!("{moves}, supersedes: {{kind: unlisted}}"), ".supersedes: needs status"),
        (
            format!(
                "{moves}, account: {{pointer: /a}}, status: {{pointer: /s, pending: [p]}}, supersedes: {{kind: unlisted}}"
            ),
            ".supersedes: kind: unlisted needs pagination of kind: none",
        ),
        ("record: document, removed: {at: [], key: /id}".into(), ".removed.at: must name at least one JSON pointer"),
        (
            "record: document, omit: {pointer: kind, values: [x]}".into(),
            ".omit.pointer: \"kind\" is not a JSON pointer",
        ),
        (
            format!("{moves}, valueTime: {{pointer: /v, zone: Mars/One}}"),
            ".valueTime.zone: \"Mars/One\" is not a time zone",
        ),
        (
            "record: document, window: {in: path, from: since, format: '%Y', initial: 1h, lookback: 1h}".into(),
            ".window: in: path needs the placeholder {since} in path",
        ),
        ("record: document, add: {x: '{y}'}".into(), ".add.x: the placeholder {y} is not declared"),
    ] {
        let problem = problem(&fields);
        assert!(problem.starts_with(found), "{fields}: {problem}");
    }
    let wrong = problem("record: quote, fields: {symbol: /s, price: {from: /p}}");
    assert!(wrong.contains("a JSON pointer, or a map with at and missing"), "{wrong}");
}

#[test]
fn every_built_in_profile_has_its_streams() {
    let profiles = Profiles::builtin().unwrap();
    let mut all: Vec<String> = Vec::new();
    for id in profiles.ids() {
        for (name, stream) in &profiles.get(id).unwrap().streams {
            all.push(format!("{id}/{name}: {}", stream.record.as_str()));
        }
    }
    all.sort();
    assert_eq!(
        all,
        [
            "finastra/collaterals: collateral",
            "fmp/earnings: document",
            "fmp/fundamentals: document",
            "fmp/quotes: quote",
            "fred/observations: observation",
            "fred/vintages: observation",
            "generic/documents-by-offset: document",
            "generic/documents: document",
            "gocardless/accounts: account",
            "gocardless/balances: balance",
            "gocardless/transactions: transaction",
            "mono/accounts: account",
            "mono/balances: balance",
            "mono/transactions: transaction",
            "newsapi/articles: article",
            "open-banking-uk/accounts: account",
            "open-banking-uk/balances: balance",
            "open-banking-uk/transactions: transaction",
            "plaid/accounts: account",
            "plaid/balances: balance",
            "plaid/transactions: transaction",
            "polygon/aggregates: quote",
            "polygon/earnings: document",
            "polygon/options: document",
            "polygon/quotes: quote",
            "stripe/balance-transactions: transaction",
            "stripe/charges: document",
        ]
    );
}

#[test]
fn only_streams_of_instants_whose_ids_may_be_missing_read_whole_days() {
    let profiles = Profiles::builtin().unwrap();
    let whole = |id: &str, stream: &str| profiles.get(id).unwrap().streams[stream].reads_whole_days();
    assert!(whole("open-banking-uk", "transactions"));
    for (id, stream) in [
        ("gocardless", "transactions"),
        ("mono", "transactions"),
        ("stripe", "balance-transactions"),
        ("plaid", "transactions"),
        ("newsapi", "articles"),
    ] {
        assert!(!whole(id, stream), "{id} {stream}");
    }
}

#[test]
fn a_secret_of_a_body_is_named_by_the_profile_and_may_be_missing() {
    let plaid = Profiles::builtin().unwrap().get("plaid").unwrap();
    let mapping = plaid.auth.as_ref().unwrap();
    assert_eq!(mapping.body[0].secret_key, "access-token");
    assert_eq!(mapping.secret_keys(), ["client-id", "client-secret"], "not required");
}
