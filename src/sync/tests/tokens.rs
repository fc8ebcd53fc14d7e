//! Token pagination, responses with two lists, and the supported forms of amounts and times.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{ScriptedBank, SyncHarness, plan, response};
use crate::domain::run_reason::RunReason;
use crate::ledger::record::TransactionFilter;
use crate::ledger::{DocumentKind, Granularity, RunResult};
use crate::profile::{Profile, Stream};
use crate::provider::call::{CallError, Request, Response};
use crate::sync::account_scope::AccountScope;
use crate::sync::record::{AccountInfo, RecordParser};
use crate::sync::{Fetch, MaskRules, Partition, SyncPlan};

/// A stream with the given fields, in a minimal profile.
fn stream(fields: &str) -> Arc<Stream> {
    let head = "id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {}\nstreams:\n";
    let profile = Profile::parse("x.yaml", &format!("{head}  rows: {{{fields}}}\n")).unwrap();
    Arc::clone(&profile.streams["rows"])
}

fn of(stream: Arc<Stream>) -> SyncPlan {
    let partitions = vec![Partition { name: String::new(), parameters: std::collections::BTreeMap::new() }];
    SyncPlan { stream, stream_name: "rows".into(), partitions, ..plan(10) }
}

/// A bank that responds by the `after` query parameter and records its values.
struct TokenBank<F>(F, Mutex<Vec<String>>);

impl<F: Fn(Option<&str>) -> Value + Send + Sync + 'static> Fetch for TokenBank<F> {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, CallError>> {
        let after = request.query.iter().find(|(name, _)| name == "after").map(|(_, value)| value.clone());
        assert!(request.query.contains(&("limit".to_owned(), "2".to_owned())), "the page size is always sent");
        self.1.lock().unwrap().push(after.clone().unwrap_or_default());
        let body = (self.0)(after.as_deref()).to_string();
        async move { Ok(response(200, &body)) }.boxed()
    }
}

async fn walk(
    fields: &str,
    pages: impl Fn(Option<&str>) -> Value + Send + Sync + 'static,
) -> (String, Vec<String>, usize) {
    let (harness, bank) = (SyncHarness::new(ScriptedBank::default()).await, TokenBank(pages, Mutex::default()));
    let report = harness.run_with(&bank, &of(stream(fields))).await;
    let end = match (report.result, report.reason) {
        (RunResult::Succeeded, None) => "complete".to_owned(),
        (_, reason) => reason.map(RunReason::as_str).unwrap_or_default().to_owned(),
    };
    let stored = harness.ledger.list_documents(&TransactionFilter::default(), 100).await.unwrap().len();
    (end, bank.1.into_inner().unwrap(), stored)
}

const LAST: &str = "record: document, path: /rows, records: [/data], key: /id, pagination: {kind: lastRecordId, parameter: after, more: /has_more, sizeParameter: limit, size: 2}";
const TOKEN: &str = "record: document, path: /rows, records: [/data], key: /id, pagination: {kind: token, from: {kind: body, pointers: [/next]}, to: {kind: query, parameter: after}, sizeParameter: limit, size: 2}";

#[tokio::test]
async fn the_last_records_id_leads_to_the_next_page_until_the_end() {
    // Ids decrease, as in a newest-first list.
    let pages = |after: Option<&str>| match after {
        None => json!({"data": [{"id": 9}, {"id": 8}], "has_more": true}),
        Some("8") => json!({"data": [{"id": 7}, {"id": 6}], "has_more": true}),
        _ => json!({"data": [{"id": 5}], "has_more": false}),
    };
    assert_eq!(walk(LAST, pages).await, ("complete".to_owned(), ["", "8", "6"].map(str::to_owned).to_vec(), 5));
    for (broken, reason, kept) in [
        (json!({"data": [{"id": 9}]}), "PaginationCycle", 1),
        (json!({"data": [], "has_more": true}), "PaginationUnreadable", 0),
        (json!({"data": [{}], "has_more": true}), "PaginationUnreadable", 1),
    ] {
        let (end, _, stored) = walk(LAST, move |_| broken.clone()).await;
        assert_eq!((end.as_str(), stored), (reason, kept), "a truncated list must not look complete");
    }
    // Without the flag, an empty page is the end.
    let unsaid = |after: Option<&str>| match after {
        None => json!({"data": [{"id": 9}, {"id": 8}]}),
        Some("8") => json!({"data": [{"id": 7}]}),
        _ => json!({"data": []}),
    };
    assert_eq!(walk(LAST, unsaid).await, ("complete".to_owned(), ["", "8", "7"].map(str::to_owned).to_vec(), 3));
    let cycle =
        |after: Option<&str>| json!({"data": [{"id": if after == Some("a") { "b" } else { "a" }}], "has_more": true});
    assert_eq!(walk(LAST, cycle).await.0, "PaginationCycle");
}

#[tokio::test]
async fn a_token_leads_to_the_next_page_and_a_missing_one_is_the_end() {
    let pages = |after: Option<&str>| match after {
        None => json!({"data": [{"id": "a"}], "next": "z"}),
        Some("z") => json!({"data": [], "next": "b&c=d"}),
        Some("b&c=d") => json!({"data": [{"id": "b"}], "next": ""}),
        _ => json!({}),
    };
    assert_eq!(walk(TOKEN, pages).await, ("complete".to_owned(), ["", "z", "b&c=d"].map(str::to_owned).to_vec(), 2));
    // Two tokens that alternate forever.
    let cycle = |after: Option<&str>| {
        let (id, next) = if after == Some("x") { ("a", "y") } else { ("b", "x") };
        json!({"data": [{"id": id, "at": after}], "next": next})
    };
    assert_eq!(walk(TOKEN, cycle).await.0, "PaginationCycle");
    // Of equal records without an ID, which are not compared: the first page again is not stored again.
    let uniform = |after: Option<&str>| {
        let (n, next) = if after == Some("x") { (2, "y") } else { (1, "x") };
        json!({"data": [{"n": n}, {"n": n}], "next": next})
    };
    let (end, _, stored) = walk(TOKEN, uniform).await;
    assert_eq!((end.as_str(), stored), ("PaginationCycle", 4));
    let more = TOKEN.replace("to: {kind: query", "more: /more, to: {kind: query");
    let with_more =
        |after: Option<&str>| json!({"data": [{"id": after.unwrap_or("a")}], "next": "z", "more": after.is_none()});
    assert_eq!(walk(&more, with_more).await.0, "complete", "`more` decides, although the last page has a token");
    // A blank token with `more` set is an error, not the end.
    assert_eq!(walk(&more, |_| json!({"data": [], "next": "", "more": true})).await.0, "PaginationUnreadable");
    // The token of the page itself.
    let same = |after: Option<&str>| json!({"data": [{"id": after.unwrap_or("a")}], "next": "z"});
    assert_eq!(walk(TOKEN, same).await, ("PaginationCycle".to_owned(), ["", "z"].map(str::to_owned).to_vec(), 2));
    assert_eq!(walk(&format!("{TOKEN}, endAs: [sameNext]"), same).await.0, "complete");
}

#[tokio::test]
async fn two_lists_of_one_response_are_read_with_their_added_fields() {
    let lists = "record: document, path: /rows, key: /id, pagination: {kind: token, from: {kind: body, pointers: [/next]}, to: {kind: query, parameter: after}, sizeParameter: limit, size: 2}, lists: [{at: [/booked], add: {status: booked}}, {at: [/pending], add: {status: pending}, optional: true}]";
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let both = |_: Option<&str>| json!({"booked": [{"id": "a"}], "pending": [{"id": "b", "status": "theirs"}]});
    harness.run_with(&TokenBank(both, Mutex::default()), &of(stream(lists))).await;
    let stored = harness.ledger.list_documents(&TransactionFilter::default(), 100).await.unwrap();
    let mut bodies: Vec<_> = stored.iter().map(|document| document.record.body.as_str()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, [r#"{"id":"a","status":"booked"}"#, r#"{"id":"b","status":"pending"}"#]);
    assert_eq!(walk(lists, |_| json!({"booked": []})).await.0, "complete", "the other list is optional");
    assert_eq!(walk(lists, |_| json!({"pending": []})).await.0, "SchemaDrifted");
}

/// Amount, currency, day and instant of a record, or the rejection's reason.
fn row(more: &str, record: &Value) -> Result<String, &'static str> {
    let stream = stream(&format!(
        "record: transaction, path: /rows, records: [/data], key: /id, pagination: {{kind: none}}, {more}"
    ));
    let account = AccountInfo { token: "t".into(), display: "****".into(), currency: None };
    let parser = RecordParser {
        stream: &stream,
        account: &account,
        mask: &MaskRules::default(),
        granularity: Granularity::Instant,
        scope: &AccountScope::for_tests(),
        first_day: None,
    };
    let row = parser.row(record).map_err(|rejection| rejection.reason.as_str())?.unwrap().record;
    let at = row.booked.at.map_or_else(|| "no instant".to_owned(), |at| at.to_string());
    Ok(format!("{} {} {} {at}", row.amount, row.currency, row.booked.on))
}

#[test]
fn amounts_are_parsed_in_every_form_and_never_guessed() {
    let money = |repr: &str, sign: &str| {
        format!(
            "time: {{pointer: /on}}, money: {{amount: /a, repr: {repr}, currency: {{kind: const, code: EUR}}, sign: {{kind: {sign}}}}}"
        )
    };
    let record =
        |amount: &str| -> Value { serde_json::from_str(&format!(r#"{{"on": "2026-09-01", "a": {amount}}}"#)).unwrap() };
    for (repr, sign, amount, want) in [
        ("jsonNumber", "signed", "-12.30", Ok("-12.30 EUR 2026-09-01 no instant")),
        ("jsonNumber", "outflowPositive", "12.3", Ok("-12.30 EUR 2026-09-01 no instant")),
        ("jsonNumber", "outflowPositive", "-7", Ok("7.00 EUR 2026-09-01 no instant")),
        ("jsonNumber", "outflowPositive", "0", Ok("0.00 EUR 2026-09-01 no instant")),
        ("decimalString", "unsigned", "\"5.00\"", Ok("5.00 EUR 2026-09-01 no instant")),
        ("decimalString", "unsigned", "\"-5.00\"", Err("AmountSigned")),
        ("jsonNumber", "signed", "\"5.00\"", Err("AmountNotNumber")),
        ("jsonNumber", "signed", "1E+2", Ok("100.00 EUR 2026-09-01 no instant")),
        ("jsonNumber", "signed", "12.450000000000", Ok("12.45 EUR 2026-09-01 no instant")),
        ("decimalString", "signed", "\"+7.000000000000\"", Ok("7.00 EUR 2026-09-01 no instant")),
        ("decimalString", "signed", "\"1,234.00\"", Err("AmountInvalid")),
        ("jsonNumber", "signed", "1e99", Err("AmountInvalid")),
        ("minorInteger", "signed", "1e2", Ok("1.00 EUR 2026-09-01 no instant")),
        ("minorInteger", "signed", "100.0", Err("AmountNotInteger")),
        ("jsonNumber", "signed", "12.345", Err("AmountTooFine")),
        ("jsonNumber", "signed", "12.300000000000000001", Err("AmountTooFine")),
        ("jsonNumber", "signed", "12.3000000000000000001", Err("AmountInvalid")),
    ] {
        assert_eq!(row(&money(repr, sign), &record(amount)), want.map(str::to_owned), "{repr} {sign} {amount}");
    }
}

#[test]
fn times_are_parsed_in_every_form_and_a_day_is_not_an_instant() {
    let time = |time: &str| {
        format!(
            "time: {{pointer: /t, {time}}}, money: {{amount: /a, repr: minorInteger, currency: {{kind: const, code: EUR}}, sign: {{kind: signed}}}}"
        )
    };
    for (form, text, want) in [
        ("as: epochSeconds", json!(1_788_220_800), Ok("2026-09-01 2026-09-01T00:00:00Z")),
        ("as: epochMilliseconds", json!("1788220800500"), Ok("2026-09-01 2026-09-01T00:00:00.5Z")),
        ("as: epochSeconds, zone: America/New_York", json!(1_788_220_800), Ok("2026-08-31 2026-09-01T00:00:00Z")),
        ("as: epochSeconds, dayOnly: true", json!(1_788_220_800), Ok("2026-09-01 no instant")),
        // Milliseconds declared as seconds, and the reverse.
        ("as: epochSeconds", json!(1_788_220_800_000_i64), Err("TimeInvalid")),
        ("as: epochMilliseconds", json!(1_788_220_800), Err("TimeOutOfRange")),
        ("as: epochSeconds", json!("2026-09-01"), Err("TimeInvalid")),
        ("dayOnly: false", json!(1_788_220_800), Err("TimeInvalid")),
        ("format: '%d/%m/%Y'", json!("01/09/2026"), Ok("2026-09-01 no instant")),
        ("format: '%d/%m/%Y', zone: Europe/Paris", json!("01/09/2026"), Ok("2026-09-01 no instant")),
        (
            "format: '%d/%m/%Y %H:%M', zone: Europe/Paris",
            json!("01/09/2026 10:00"),
            Ok("2026-09-01 2026-09-01T08:00:00Z"),
        ),
        ("format: '%d/%m/%Y %H:%M', zone: Europe/Paris", json!("2026-09-01"), Err("TimeInvalid")),
        ("zone: Europe/Paris", json!("2026-09-01T10:00:00"), Ok("2026-09-01 2026-09-01T08:00:00Z")),
        ("zone: Europe/Paris", json!("2026-09-01"), Ok("2026-09-01 no instant")),
        ("zone: Europe/Paris", json!("2026-09-01T23:30:00Z"), Ok("2026-09-01 2026-09-01T23:30:00Z")),
    ] {
        let read = row(&time(form), &json!({"t": text, "a": 5})).map(|row| row.replace("0.05 EUR ", ""));
        assert_eq!(read, want.map(str::to_owned), "{form} {text}");
    }
}

#[test]
fn a_composite_id_requires_all_of_its_fields() {
    let stream = stream(
        "record: document, path: /rows, records: [/data], keyOf: {template: '{/s}:{/on}'}, pagination: {kind: none}",
    );
    let account = AccountInfo { token: "t".into(), display: String::new(), currency: None };
    let (mask, scope) = (MaskRules::default(), AccountScope::for_tests());
    let granularity = Granularity::Day;
    let parser =
        RecordParser { stream: &stream, account: &account, mask: &mask, granularity, scope: &scope, first_day: None };
    let key = |record: Value| {
        parser.document(&record, DocumentKind::Document).map(|document| document.key).map_err(|r| r.reason.as_str())
    };
    assert_eq!(key(json!({"s": "GNPCA", "on": 7})), Ok("GNPCA:7".to_owned()));
    assert_eq!(key(json!({"s": "a:b", "on": "c"})), Ok("a%3Ab:c".to_owned()));
    assert_eq!(key(json!({"s": "GNPCA", "on": " "})), Ok(String::new()), "to be derived");
    assert_eq!(key(json!({"s": [], "on": 7})), Err("KeyInvalid"));
}
