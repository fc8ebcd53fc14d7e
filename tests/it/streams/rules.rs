//! Validation rules and inline streams, from a spec to the rows.

use std::sync::Arc;

use busbar::api::v1alpha1::sync_job::SyncJobSpec;
use busbar::domain::run_reason::RunReason;
use busbar::ledger::RunResult;
use busbar::ledger::record::TransactionFilter;
use busbar::resolve::{SpecError, sync_job};
use busbar::settings::Settings;
use busbar::sync::SyncPlan;
use serde_json::json;

use super::{Provider, text};
use crate::kit::connections::{key, profile_draft};
use crate::kit::walk_bank::{Answer, Seen, page};

/// The plan of a job with these fields on a connection of the generic profile.
fn resolve(base: &str, fields: &str) -> Result<SyncPlan, SpecError> {
    let settings = Settings::resolve(profile_draft("generic", base)).unwrap();
    let spec: SyncJobSpec =
        serde_yaml::from_str(&format!("{{connectionRef: {{name: bank}}, interval: 1h, {fields}}}")).unwrap();
    sync_job(&key("books"), &spec, &settings)
}

/// A bank, read by a job with these fields.
async fn bank(fields: &str, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Provider {
    let mut bank = Provider::start(("generic", "documents", ""), &[("path", "rows")], answer).await;
    bank.plan =
        resolve(bank.plan.endpoint.base_url.as_str(), fields).unwrap_or_else(|error| panic!("{}", error.message));
    bank
}

const INVOICES: &str = "http: {name: invoices, record: transaction, path: '/v1/{book}/invoices', query: {state: open}, records: [/data], \
    keyOf: {template: '{/book}:{/no}', fallback: [/memo]}, time: {pointer: /on}, account: {parameter: book}, \
    money: {amount: /total, repr: jsonNumber, currency: {kind: field, pointer: /cur}, sign: {kind: outflowPositive}}, \
    status: {pointer: /state, pending: [draft], booked: [sent]}, fields: {narration: {at: [/memo, /note]}}, \
    pagination: {kind: offset, parameter: skip, sizeParameter: top, size: 2, total: [/count]}}, parameters: {book: b-1}";

#[tokio::test]
async fn an_inline_stream_reads_what_its_fields_say() {
    let bank = bank(INVOICES, |seen| {
        assert_eq!((seen.path.as_str(), seen.query("state")), ("/v1/b-1/invoices", "open"));
        let all = [
            r#"{"book": "b-1", "no": 1, "on": "2026-09-01", "total": 12345678901234567.89, "cur": "EUR", "state": "sent"}"#,
            r#"{"book": "b-1", "no": 2, "on": "2026-09-02", "total": -5, "cur": "JPY", "state": "draft", "note": "x"}"#,
            r#"{"book": "b-1", "no": null, "on": "2026-09-02", "total": 1, "cur": "EUR", "state": "sent"}"#,
        ];
        let skip: usize = seen.query("skip").parse().unwrap();
        let shown: Vec<_> = all.into_iter().skip(skip).take(2).collect();
        text(&format!(r#"{{"count": 3, "data": [{}]}}"#, shown.join(",")))
    })
    .await;
    assert_eq!(bank.run().await.counts.inserted, 3);
    assert_eq!(
        bank.moves().await,
        ["2026-09-01 -12345678901234567.89 EUR booked", "2026-09-02 -1.00 EUR booked", "2026-09-02 5 JPY pending"]
    );
    assert_eq!(bank.run().await.counts.unchanged, 3);
}

#[tokio::test]
async fn an_inline_stream_by_token_with_a_body_is_a_patch_stream() {
    let fields = "http: {name: changes, path: /sync, body: {kind: json, fields: {kind: '{kind}'}}, records: [/added], key: /id, \
        removed: {at: [/removed], key: /id}, commitScope: Window, pagination: {kind: token, from: {kind: body, pointers: [/next]}, \
        to: {kind: body, pointer: /cursor}, more: /more}}, parameters: {kind: all}";
    let bank = bank(fields, |seen| {
        assert_eq!((seen.method.as_str(), seen.sent("/kind")), ("POST", json!("all")));
        match seen.sent("/cursor").as_str() {
            None => page(json!({"added": [{"id": "a"}, {"id": "b"}], "next": "1", "more": false})),
            Some(_) => page(json!({"added": [], "removed": [{"id": "a"}], "next": "2", "more": false})),
        }
    })
    .await;
    bank.run().await;
    bank.run().await;
    let documents = bank.sync.ledger.list_documents(&TransactionFilter::default(), 10).await.unwrap();
    assert_eq!(documents.iter().map(|row| row.record.key.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn an_inline_stream_that_cannot_work_is_reported_with_its_field() {
    let rows = "name: rows, path: /rows, records: [/data], key: /id, pagination: {kind: none}";
    for (fields, problem) in [
        ("interval2: 1".to_owned(), "spec.stream or spec.http must be set"),
        (format!("stream: documents, http: {{{rows}}}"), "spec.http excludes spec.stream"),
        (
            format!("http: {{{}}}", rows.replace("name: rows", "name: documents")),
            "spec.http.name \"documents\" is a stream of the profile",
        ),
        (
            format!("http: {{{}}}", rows.replace("path: /rows", "path: rows")),
            "spec.http is invalid: path: the path \"rows\" must start with /",
        ),
        (format!("http: {{{}}}", rows.replace("[/data]", "[data]")), "spec.http is invalid: records[0]:"),
        (format!("http: {{{rows}, record: transaction}}"), "spec.http is invalid: time: a transaction needs time"),
        (format!("http: {{{}}}", rows.replace("kind: none", "kind: offset")), "spec.http is invalid:"),
        (
            format!("http: {{{}}}", rows.replace("/rows", "'/{book}'")),
            "spec.parameters is invalid: the parameter book is required",
        ),
        (format!("http: {{{rows}, fields: {{narration: {{at: [/x]}}}}}}"), "spec.http is invalid: fields.narration"),
    ] {
        let error = resolve("https://bank.test", &fields).unwrap_err();
        assert!(error.message.starts_with(problem), "{fields}: {}", error.message);
    }
}

#[tokio::test]
async fn a_record_that_fails_a_rule_is_a_dead_letter_that_names_it() {
    let rules = "validations: [\
        {name: positive, rule: \"record.amount > decimal('0')\", message: must be positive}, \
        {name: exact, rule: \"record.amount != decimal('9007199254740993')\", message: must not be this}, \
        {name: memo, rule: \"!has(record.narration) || !record.narration.startsWith('TEST')\", message: must be real}], \
        deadLetterBudgetPercent: 100";
    let fields = format!("{}, {rules}", INVOICES.replace("outflowPositive", "signed"));
    let bank = bank(&fields, |_| {
        let row = |no: u64, total: &str, memo: &str| {
            format!(r#"{{"book": "b-1", "no": {no}, "on": "2026-09-01", "total": {total}, "cur": "EUR", "state": "sent", "memo": "{memo}"}}"#)
        };
        let all = [row(1, "5", "x"), row(2, "-5", "x"), row(3, "9007199254740993.00", "x"), row(4, "9007199254740992", "TEST 1")];
        text(&format!(r#"{{"count": 4, "data": [{}]}}"#, all.join(",")))
    })
    .await;
    let run = bank.run().await;
    assert_eq!((run.counts.inserted, run.counts.rejected), (1, 3));
    assert_eq!(bank.letters().await, ["ValidationFailed exact", "ValidationFailed memo", "ValidationFailed positive"]);
    let letters = bank.sync.ledger.newest_dead_letters(&TransactionFilter::default(), 10).await.unwrap();
    let positive = letters.iter().find(|letter| letter.path == "positive").unwrap();
    assert!(
        positive.sample.starts_with("must be positive: {") && !positive.sample.contains("-5"),
        "{}",
        positive.sample
    );
}

#[tokio::test]
async fn rules_that_reject_too_much_stop_the_page_and_are_no_drift() {
    let fields = "http: {name: rows, path: /rows, records: [''], key: /id, pagination: {kind: none}}, \
        validations: [{name: never, rule: 'false', message: m}]";
    let bank = bank(fields, |_| page((0..10).map(|n| json!({"id": n})).collect::<serde_json::Value>())).await;
    let run = bank.any_run().await;
    assert_eq!((run.result, run.reason), (Some(RunResult::Failed), Some(RunReason::DeadLetterBudgetExceeded)));
}

#[tokio::test]
async fn a_rule_that_would_run_for_ever_rejects_its_records_and_the_run_ends() {
    let list = format!("[{}]", vec!["1"; 30].join(","));
    let rule = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .fold("true".to_owned(), |rule, name| format!("{list}.all({name}, {rule})"));
    let fields = format!(
        "http: {{name: rows, path: /rows, records: [''], key: /id, pagination: {{kind: none}}}}, \
         validations: [{{name: endless, rule: '{rule}', message: m}}], deadLetterBudgetPercent: 100"
    );
    let bank = bank(&fields, |_| page((0..10).map(|n| json!({"id": n})).collect::<serde_json::Value>())).await;
    assert_eq!(bank.run().await.counts.rejected, 10);
}

#[test]
fn a_rule_that_does_not_compile_stalls_the_job_with_its_position() {
    let job = |rule: &str| {
        let fields = format!(
            "{INVOICES}, validations: [{{name: a, rule: 'true', message: m}}, {{name: b, rule: \"{rule}\", message: m}}]"
        );
        resolve("https://bank.test", &fields).map(|plan| Arc::clone(&plan.validations)).map_err(|error| error.message)
    };
    assert!(job("record.amount > decimal('0')").is_ok());
    for (rule, problem) in [
        (
            "record.amout > 0",
            "spec.validations[1].rule (b) cannot be compiled: line 1, column 8: the record has no field amout",
        ),
        ("record.amount > 0.5", "a number with a fraction is a double"),
        ("record.amount >", "line 1, column "),
        ("other.amount > 0", "line 1, column 1: the name other is unknown"),
    ] {
        let found = job(rule).unwrap_err();
        assert!(found.contains(problem), "{rule}: {found}");
    }
}

#[test]
fn the_inline_streams_of_the_samples_can_be_read() {
    let text = include_str!("../../../config/samples/full/syncjob-http.yaml");
    let settings = Settings::resolve(profile_draft("generic", "https://bank.test")).unwrap();
    let mut names = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = <serde_yaml::Value as serde::Deserialize>::deserialize(document).unwrap();
        let spec: SyncJobSpec = serde_yaml::from_value(value["spec"].clone()).unwrap();
        let plan = sync_job(&key("books"), &spec, &settings).unwrap_or_else(|error| panic!("{}", error.message));
        names.push(plan.stream_name);
    }
    assert_eq!(names, ["invoices", "changes", "totals", "rates", "payouts"]);
}
