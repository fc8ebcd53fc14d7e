//! Streams: which are valid, which are rejected, and at which line.

use crate::profile::*;

const HEAD: &str = "id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {}\nstreams:\n  rows:\n";

/// The error without the file.
fn error_of(stream: &str) -> String {
    let error = Profile::parse("x.yaml", &format!("{HEAD}{stream}")).unwrap_err().to_string();
    error.trim_start_matches("profile x.yaml, ").to_owned()
}

/// A valid stream of documents with `part` replaced.
fn rows(part: &str, by: &str) -> String {
    let valid =
        "    record: document\n    path: /rows\n    records: [/data]\n    pagination: {kind: none}\n    key: /id\n";
    assert!(valid.contains(part), "{part}");
    valid.replace(part, by)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of invalid streams")]
fn an_invalid_stream_is_reported_at_the_line_of_the_field() {
    for (stream, problem) in [
        (
            rows("path: /rows", "path: '/{id}'"),
            "line 8, streams.rows.path: the placeholder {id} is not declared: add it under parameters",
        ),
        (
            rows("[/data]", "[data]"),
            "line 9, streams.rows.records[0]: \"data\" is not a JSON pointer: it must be empty or start with /",
        ),
        (rows("[/data]", "[]"), "line 9, streams.rows.records: records must name at least one JSON pointer"),
        (
            rows("    key: /id", "    key: /id\n    parameters:\n      x: {}"),
            "line 13, streams.rows.parameters.x: is not used: remove it",
        ),
        (
            rows("    key: /id", "    key: /id\n    query: {q: '{x}'}\n    parameters:\n      x: {min: 1}"),
            "line 14, streams.rows.parameters.x: min and max need kind: integer",
        ),
        (
            rows("path: /rows", "path: '/{+p}'\n    parameters: {p: {}}"),
            "line 9, streams.rows.parameters.p: may have no value: make it required, or add a default",
        ),
        (
            rows("[/data]", "['{r}']\n    parameters: {r: {}}"),
            "line 10, streams.rows.parameters.r: may have no value: make it required, or add a default",
        ),
        (
            rows("key: /id", "key: /id\n    account: {parameter: x}"),
            "line 12, streams.rows.account: account is only valid with record: transaction, balance or account; remove it",
        ),
        (
            rows("key: /id", "key: /id\n    endAs: [sameNext]"),
            "line 12, streams.rows.endAs: needs pages: remove it, or declare how the next page is requested",
        ),
        (
            rows(
                "{kind: none}",
                "{kind: token, from: {kind: body, pointers: [/n]}, to: {kind: query, parameter: t}}\n    endAs: [shortPage]",
            ),
            "line 11, streams.rows.endAs: shortPage needs a page size: add sizeParameter and size to pagination",
        ),
        // A missing field is reported at the stream that lacks it.
        (
            rows("document", "transaction"),
            "line 7, streams.rows.time: a transaction needs time: add the JSON pointer to its day",
        ),
        (
            rows("document", "transaction\n    time: {pointer: /t}"),
            "line 7, streams.rows.money: a transaction needs money: add the JSON pointer to its amount",
        ),
        (
            rows("{kind: none}", "{kind: offset, parameter: o, sizeParameter: l, size: 0}"),
            "line 10, streams.rows.pagination.size: must be above 0",
        ),
        (rows("path: /rows", "path: rows"), "line 8, streams.rows.path: the path \"rows\" must start with /"),
        (
            rows("    key: /id\n", ""),
            "line 7, streams.rows.key: a stream needs key or keyOf: add the JSON pointer to a record's ID",
        ),
        (
            rows("    key: /id\n", "    keyOf: {template: '{/a}:{/b}'}\n    removed: {at: [/gone], key: /id}\n"),
            "line 12, streams.rows.removed: needs a plain key: keyOf makes other keys than the list of withdrawn records has",
        ),
        (
            rows("key: /id", "key: /id\n    lists:\n      - {at: [/a]}"),
            "line 13, streams.rows.lists: excludes records: remove one of the two",
        ),
        (
            rows(
                "{kind: none}",
                "{kind: token, from: {kind: body, pointers: [/next]}, to: {kind: body, pointer: /cursor}}",
            ),
            "line 10, streams.rows.pagination.to: a token in the body needs a body of kind: json",
        ),
        (
            rows("{kind: none}", "{kind: token, from: {kind: header, name: 'a b'}, to: {kind: query, parameter: c}}"),
            "line 10, streams.rows.pagination.from: \"a b\" is not a valid header name",
        ),
        (
            rows("{kind: none}", "\n      kind: nextUrl\n      next: [next]\n      link: {kind: follow}"),
            "line 12, streams.rows.pagination.next[0]: \"next\" is not a JSON pointer: it must be empty or start with /",
        ),
        (
            rows("{kind: none}", "{kind: linkHeader, link: {kind: takeParams, parameters: []}}"),
            "line 10, streams.rows.pagination.link: parameters must name at least one query parameter of the link",
        ),
        (
            rows("key: /id", "key: /id\n    window: {from: a, to: b, initial: 1h, lookback: 1h}"),
            "line 12, streams.rows.window: needs format: add the strftime format of both ends",
        ),
        (
            rows(
                "key: /id",
                "key: /id\n    window: {from: a, as: epochSeconds, format: '%s', initial: 1h, lookback: 1h}",
            ),
            "line 12, streams.rows.window.format: is only valid without as: remove one of the two",
        ),
        (
            rows(
                "document",
                "transaction\n    time: {pointer: /t, zone: Mars/One}\n    money: {amount: /a, repr: jsonNumber, sign: {kind: signed}, currency: {kind: const, code: EUR}}",
            ),
            "line 8, streams.rows.time.zone: \"Mars/One\" is not a time zone: write an IANA name such as Europe/Paris",
        ),
        (
            rows(
                "document",
                "transaction\n    time: {pointer: /t}\n    money: {amount: /a, repr: jsonNumber, sign: {kind: signed}, currency: {kind: const, code: EURO}}",
            ),
            "line 9, streams.rows.money.currency.code: \"EURO\" is not a known currency: write an ISO 4217 code such as EUR",
        ),
    ] {
        assert_eq!(error_of(&stream), problem, "{stream}");
    }
    let unknown =
        Profile::parse("x.yaml", &format!("{HEAD}{}", rows("kind: none", "kind: guess"))).unwrap_err().to_string();
    assert!(unknown.contains("line 10") && unknown.contains("guess") && unknown.contains("lastRecordId"), "{unknown}");
    let mixed = Profile::parse("x.yaml", &format!("{HEAD}{}", rows("key: /id", "keyOf: {template: '{/a}{/b}'}")));
    assert!(mixed.unwrap_err().to_string().contains("must have a text between any two pointers"));
}

/// The known forms of providers' streams.
#[test]
fn every_known_stream_form_parses() {
    let money =
        "money: {amount: /amount, repr: jsonNumber, currency: {kind: field, pointer: /cur}, sign: {kind: signed}}";
    let both =
        "lists: [{at: [/t/booked], add: {status: booked}}, {at: [/t/pending], add: {status: pending}, optional: true}]";
    for (stream, is_patch) in [
        (
            "record: document, path: /v1/x, records: [/data], key: /id, order: newestFirst, window: {from: 'created[gte]', as: epochSeconds, initial: 24h, lookback: 1h}, pagination: {kind: lastRecordId, parameter: starting_after, more: /has_more, sizeParameter: limit, size: 100}".to_owned(),
            false,
        ),
        (
            "record: transaction, path: /sync, body: {kind: json, content: {count: 500}}, records: [/added], key: /transaction_id, time: {pointer: /date}, money: {amount: /amount, repr: jsonNumber, currency: {kind: field, pointer: /iso}, sign: {kind: outflowPositive}}, commitScope: Window, pagination: {kind: token, from: {kind: body, pointers: [/next_cursor]}, to: {kind: body, pointer: /cursor}, more: /has_more}".to_owned(),
            true,
        ),
        (
            format!("record: transaction, path: /t, {both}, keyOf: {{template: '{{/transactionId}}|{{/bookingDate}}', fallback: [/entryReference]}}, time: {{pointer: /bookingDate}}, {money}, pagination: {{kind: none}}"),
            false,
        ),
        (format!("record: document, path: /t, {both}, key: /id, pagination: {{kind: none}}"), false),
        (
            "record: document, path: /aggs, records: [/results], keyOf: {template: 'bar:{/T}:{/t}'}, time: {pointer: /t, as: epochMilliseconds, zone: America/New_York}, pagination: {kind: nextUrl, next: [/next_url], link: {kind: follow}}".to_owned(),
            false,
        ),
        (
            "record: document, path: /l, records: [''], key: /id, pagination: {kind: linkHeader, link: {kind: takeParams, parameters: [page]}}".to_owned(),
            false,
        ),
        (
            "record: document, path: /l, records: [''], key: /id, pagination: {kind: token, from: {kind: header, name: x-next}, to: {kind: query, parameter: from_id}, sizeParameter: per_page, size: 100}".to_owned(),
            false,
        ),
        (
            "record: document, path: /l, records: [/data], key: /id, pagination: {kind: token, from: {kind: body, pointers: [/meta/next_id]}, to: {kind: query, parameter: from_id}}".to_owned(),
            false,
        ),
        (
            "record: transaction, path: /l, records: [/data], key: /id, time: {pointer: /on, format: '%d/%m/%Y', dayOnly: true}, money: {amount: /a, repr: decimalString, currency: {kind: const, code: GBP}, sign: {kind: unsigned}}, window: {from: f, to: t, format: '%Y-%m-%d', endExclusive: true, initial: 24h, lookback: 24h}, pagination: {kind: none}".to_owned(),
            false,
        ),
    ] {
        let text = format!("{}  rows: {{{stream}}}\n", HEAD.trim_end_matches("  rows:\n"));
        let profile = Profile::parse("x.yaml", &text).unwrap_or_else(|error| panic!("{error}\n{stream}"));
        assert_eq!(profile.streams["rows"].is_patch(), is_patch, "{stream}");
    }
}
