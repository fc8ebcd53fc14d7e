//! Lists without records, and pages with bad ones: what is empty, what is a dead letter, and what is drift. Over real
//! sockets.

use std::sync::Arc;

use busbar::api::v1alpha1::SyncJob;
use busbar::api::v1alpha1::reasons::ConditionType;
use busbar::controllers::conditions::reason_of;
use busbar::controllers::syncjob::decide::{JobInputs, decide};
use busbar::controllers::syncjob::ledger_state::LedgerState;
use busbar::controllers::syncjob::requests::RequestedWork;
use busbar::domain::run_reason::RunReason;
use busbar::domain::time::{Mono, Now};
use busbar::ledger::RunResult;
use busbar::resolve::{JobSupport, OperatorOptions, job_schedule};
use busbar::settings::addresses::AddressRules;
use busbar::settings::sync_plan::SlaLimits;
use busbar::work::pool::JobView;
use serde_json::{Value, json};

use crate::kit::list_bank::{Answer, End, ListBank, ok};

const LIST: &str = "record: document, records: [/data, /data/rows], key: /id, pagination: {kind: none}";
const ENTRIES: &str = "record: transaction, records: [/data], key: /id, pagination: {kind: none}, time: {pointer: /date}, money: {amount: /amount, repr: decimalString, currency: {kind: const, code: EUR}, sign: {kind: signed}}";

const EMPTY: End = (RunResult::Succeeded, None, 0);

fn failed(reason: RunReason) -> End {
    (RunResult::Failed, Some(reason), 0)
}

async fn end_of(fields: &str, answer: Answer) -> End {
    ListBank::start(fields, move |_| answer.clone()).await.end().await
}

/// The reason of the condition `SchemaDrifted`, if the job has it.
fn drift(runs: &JobView) -> Option<String> {
    let spec =
        json!({"connectionRef": {"name": "bank"}, "stream": "rows", "interval": "60s", "retention": {"mode": "Off"}});
    let job = SyncJob::new("books", serde_json::from_value(spec).unwrap());
    let now = Now { mono: Mono::ZERO, wall: runs.last[0].ended.unwrap() };
    let operator = OperatorOptions { has_key: false, addresses: &AddressRules::default(), jobs: JobSupport::default() };
    let inputs = JobInputs {
        schedule: Ok(job_schedule(&job.spec, operator, now.wall).unwrap()),
        connection: None,
        runs: runs.clone(),
        partitions: 1,
        unused_fields: Vec::new(),
        ledger: LedgerState::Working,
        requested: RequestedWork::default(),
        sla: SlaLimits::default(),
        lost: Vec::new(),
    };
    let status = decide(&job, None, &inputs, now).status.unwrap();
    reason_of(&status.conditions, ConditionType::SchemaDrifted).map(str::to_owned)
}

#[tokio::test]
async fn null_and_no_content_are_empty_lists_and_others_are_where_the_stream_says_so() {
    for (answer, form) in [
        (ok(json!({"data": null})), "nullValue"),
        (ok(json!({"data": {"rows": null}, "total": 0})), "nullValue"),
        (ok(json!({"data": " "})), "blankText"),
        (ok(json!({"data": ""})), "blankText"),
        (ok(json!({"data": {}})), "emptyObject"),
        (ok(json!({})), "missing"),
        (ok(json!({"meta": {"total": 0}})), "missing"),
        ((204, Vec::new()), "noContent"),
        ((205, Vec::new()), "noContent"),
        ((200, Vec::new()), "emptyBody"),
        ((200, b"\r\n ".to_vec()), "emptyBody"),
        ((404, br#"{"message": "no rows"}"#.to_vec()), "notFound"),
    ] {
        let by_default = match form {
            "nullValue" | "noContent" => EMPTY,
            "emptyBody" => failed(RunReason::BodyUnreadable),
            "notFound" => failed(RunReason::NotFound),
            _ => failed(RunReason::SchemaDrifted),
        };
        assert_eq!(end_of(LIST, answer.clone()).await, by_default, "{form}");
        assert_eq!(end_of(&format!("{LIST}, emptyAs: [{form}]"), answer.clone()).await, EMPTY, "{form}");
        let none = end_of(&format!("{LIST}, emptyAs: []"), answer).await;
        let drifted =
            if form == "notFound" || form == "emptyBody" { by_default } else { failed(RunReason::SchemaDrifted) };
        assert_eq!(none, drifted, "{form}");
    }
}

#[tokio::test]
async fn what_would_be_empty_beside_an_error_is_an_error() {
    for body in [
        json!({"status": "failed", "message": "not linked", "data": null}),
        json!({"error": {"code": 17}, "data": null}),
        json!({"success": false, "data": null}),
        json!({"status": "failed", "data": []}),
        json!({"errors": [{"detail": "consent expired"}], "data": []}),
        json!({"error": "upstream", "data": {"rows": []}}),
    ] {
        assert_eq!(end_of(LIST, ok(body)).await, failed(RunReason::ErrorInBody));
    }
    for body in [
        json!({"status": "success", "error": null, "errors": [], "data": []}),
        json!({"success": true, "error": {"code": 0, "message": "OK"}, "data": null}),
        json!({"errorCode": "00", "error_message": "none", "data": []}),
    ] {
        assert_eq!(end_of(LIST, ok(body)).await, EMPTY, "no error");
    }
    // Nor does a character that is not valid hide it.
    for body in
        [&b"{\"error\": \"d\xe9connect\xe9\", \"data\": null}"[..], b"{\"status\": \"failed\", \"m\": \"\xe9\"}"]
    {
        assert_eq!(end_of(LIST, (200, body.to_vec())).await, failed(RunReason::ErrorInBody));
    }
    // Beside records, nothing is hidden: they are read.
    let beside = json!({"errors": ["one account is not linked"], "data": [{"id": 1}]});
    assert_eq!(end_of(LIST, ok(beside)).await, (RunResult::Succeeded, None, 1));
}

#[tokio::test]
async fn a_missing_list_is_drift_and_not_an_exceeded_budget() {
    for body in [json!({}), json!({"items": [1, 2, 3]}), json!({"data": "x"}), json!({"data": {"rows": {"id": 1}}})] {
        let bank = ListBank::start(LIST, move |_| ok(body.clone())).await;
        assert_eq!(drift(&bank.run().await).as_deref(), Some("NoValidRecords"));
    }
    let bank = ListBank::start(LIST, |_| ok(json!({"data": null}))).await;
    assert_eq!(drift(&bank.run().await), None);
}

/// Entries, of which the first `bad` have no date.
fn entries(count: usize, bad: usize) -> Value {
    let entry = |n: usize| {
        let date = if n < bad { json!(null) } else { json!("2026-09-01") };
        json!({"id": format!("e{n}"), "amount": "12.50", "date": date})
    };
    json!({"data": (0..count).map(entry).collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_bad_record_of_a_short_page_is_a_dead_letter_and_a_page_of_bad_ones_is_drift() {
    for (count, bad, reason, condition) in [
        (6, 1, None, None),
        (1, 1, None, None),
        (2, 2, None, None),
        (6, 5, None, None),
        (100, 10, None, None),
        (3, 3, Some(RunReason::SchemaDrifted), Some("NoValidRecords")),
        (5, 5, Some(RunReason::SchemaDrifted), Some("NoValidRecords")),
        (50, 50, Some(RunReason::SchemaDrifted), Some("NoValidRecords")),
        (7, 6, Some(RunReason::DeadLetterBudgetExceeded), Some("DeadLetterBudgetExceeded")),
        (100, 11, Some(RunReason::DeadLetterBudgetExceeded), Some("DeadLetterBudgetExceeded")),
    ] {
        let bank = ListBank::start(ENTRIES, move |_| ok(entries(count, bad))).await;
        let view = bank.run().await;
        let run = &view.last[0];
        assert_eq!((run.reason, run.counts.rejected), (reason, bad as u64), "{bad} of {count}");
        assert_eq!(drift(&view).as_deref(), condition, "{bad} of {count}");
        let stored = if reason.is_none() { (count - bad, bad) } else { (0, 0) };
        assert_eq!((bank.stored().await, bank.dead_letters().await), (stored.0 as u64, stored.1 as u64));
    }
}

#[tokio::test]
async fn a_budget_of_nothing_allows_none_and_one_of_everything_all() {
    for (percent, count, bad, reason) in [
        (0, 6, 1, Some(RunReason::DeadLetterBudgetExceeded)),
        (100, 6, 6, None),
        (50, 12, 6, None),
        (50, 12, 7, Some(RunReason::DeadLetterBudgetExceeded)),
    ] {
        let mut bank = ListBank::start(ENTRIES, move |_| ok(entries(count, bad))).await;
        bank.plan.dead_letter_budget_percent = percent;
        assert_eq!(bank.record().await.reason, reason, "{percent}%: {bad} of {count}");
    }
}

#[tokio::test]
async fn an_empty_answer_in_the_middle_of_a_list_with_a_total_is_not_its_end() {
    let fields = "record: document, records: [/data], key: /id, pagination: {kind: offset, parameter: from, total: [/total], sizeParameter: limit, size: 2}, emptyAs: [nullValue, noContent, notFound]";
    let answers =
        [(204, Vec::new()), (404, Vec::new()), ok(json!({"data": null})), ok(json!({"data": [], "total": 0}))];
    for answer in answers {
        let answer = Arc::new(answer);
        let short = Arc::clone(&answer);
        let bank = ListBank::start(fields, move |query| match query["from"].as_str() {
            "0" => ok(json!({"data": [{"id": 1}, {"id": 2}], "total": 4})),
            _ => (*short).clone(),
        })
        .await;
        assert_eq!(bank.end().await, (RunResult::Incomplete, Some(RunReason::TotalNotReached), 2));
        let bank = ListBank::start(fields, move |query| match query["from"].as_str() {
            "0" => ok(json!({"data": [{"id": 1}, {"id": 2}]})),
            _ => (*answer).clone(),
        })
        .await;
        assert_eq!(bank.end().await, (RunResult::Succeeded, None, 2), "without a total, it is");
    }
}
