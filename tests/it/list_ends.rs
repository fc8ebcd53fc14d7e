//! Where a list ends: totals that are none, next pages that say nothing or lead back, and what a job says about a list that
//! was not read to its end. Over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use busbar::api::v1alpha1::SyncJob;
use busbar::api::v1alpha1::reasons::{ConditionType, EventReason};
use busbar::api::v1alpha1::sync_job::SyncJobStatus;
use busbar::controllers::conditions::{message_of, reason_of};
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

use crate::kit::list_bank::{Answer, End, ListBank, Query, ok};

const PAGES: &str = "record: document, records: [/data], key: /id, pagination: {kind: page, parameter: page, first: 1, next: [/next], total: [/total], sizeParameter: limit, size: 2}";
const OFFSETS: &str = "record: document, records: [/data], key: /id, pagination: {kind: offset, parameter: from, total: [/total], sizeParameter: limit, size: 2}";
const AFTER: &str = "record: document, records: [/data], key: /id, pagination: {kind: lastRecordId, parameter: after, more: /more, sizeParameter: limit, size: 2}";

const COMPLETE: fn(u64) -> End = |stored| (RunResult::Succeeded, None, stored);
const SHORT: fn(u64) -> End = |stored| (RunResult::Incomplete, Some(RunReason::TotalNotReached), stored);
const CYCLE: fn(u64) -> End = |stored| (RunResult::Failed, Some(RunReason::PaginationCycle), stored);
const UNREADABLE: fn(u64) -> End = |stored| (RunResult::Failed, Some(RunReason::PaginationUnreadable), stored);

/// Records with these numbers.
fn records(numbers: impl IntoIterator<Item = u64>) -> Value {
    numbers.into_iter().map(|n| json!({"id": format!("r{n:02}"), "n": n})).collect()
}

fn number(query: &Query, name: &str) -> u64 {
    query.get(name).map_or(0, |text| text.parse().unwrap())
}

/// Page `page` of five records, two a page, with `next` and `total` on the last page.
fn five(query: &Query, next: &Value, total: &Value) -> Answer {
    let page = number(query, "page");
    let (next, total) = if page < 3 { (json!(page + 1), json!(5)) } else { (next.clone(), total.clone()) };
    ok(json!({"data": records((page * 2 - 1)..=(page * 2).min(5)), "next": next, "total": total}))
}

async fn end_of_five(fields: &str, next: Value, total: Value) -> End {
    ListBank::start(fields, move |query| five(query, &next, &total)).await.end().await
}

#[tokio::test]
async fn whatever_says_that_there_is_no_next_page_ends_a_list_whose_total_is_read() {
    for next in [
        json!(null),
        json!(false),
        json!(0),
        json!(-1),
        json!("null"),
        json!(3),
        // Siblings.
        json!(""),
        json!(" "),
        json!([]),
        json!({}),
        json!("-1"),
        json!("0"),
        json!("NONE"),
        json!("/rows?page=3"),
        json!("https://elsewhere.test/rows?limit=2&page=3"),
        json!(2),
        json!(1),
        json!("end"),
        json!("/rows?cursor=x"),
        json!({"page": 4}),
        json!([4]),
    ] {
        assert_eq!(end_of_five(PAGES, next.clone(), json!(5)).await, COMPLETE(5), "{next}");
    }
    // On a full first page, the total may be the number of its records.
    let counting = |_: &Query| ok(json!({"data": records(1..3), "next": {"page": 2}, "total": 2}));
    assert_eq!(ListBank::start(PAGES, counting).await.end().await, UNREADABLE(2));
}

#[tokio::test]
async fn a_next_page_that_leads_back_is_no_end_where_no_total_or_stream_says_so() {
    // No total at all.
    let answer = |next: Value| {
        move |query: &Query| {
            let page = number(query, "page");
            let next = if page < 3 { json!(page + 1) } else { next.clone() };
            ok(json!({"data": records((page * 2 - 1)..=(page * 2).min(5)), "next": next}))
        }
    };
    let declared = format!("{PAGES}, endAs: [sameNext]");
    let short_page = format!("{PAGES}, endAs: [shortPage]");
    for (fields, next, end) in [
        (PAGES, json!(3), CYCLE(5)),
        (PAGES, json!(1), CYCLE(5)),
        (PAGES, json!("?page=3"), CYCLE(5)),
        (PAGES, json!("?cursor=3"), UNREADABLE(5)),
        (PAGES, json!({"page": 4}), UNREADABLE(5)),
        (PAGES, json!(false), COMPLETE(5)),
        (declared.as_str(), json!(3), COMPLETE(5)),
        (declared.as_str(), json!("?page=1"), COMPLETE(5)),
        (short_page.as_str(), json!(3), COMPLETE(5)),
    ] {
        assert_eq!(ListBank::start(fields, answer(next.clone())).await.end().await, end, "{fields} {next}");
    }
}

#[tokio::test]
async fn a_total_that_cannot_be_one_is_none() {
    for total in [json!(0), json!(-5), json!(4), json!(null), json!("many"), json!(5.5), json!([5]), json!(true)] {
        let paged = ListBank::start(PAGES, {
            let total = total.clone();
            move |query| {
                let page = number(query, "page");
                let next = (page < 3).then_some(page + 1);
                ok(json!({"data": records((page * 2 - 1)..=(page * 2).min(5)), "next": next, "total": total}))
            }
        })
        .await;
        assert_eq!(paged.end().await, COMPLETE(5), "{total}");
    }
    // It ends no walk by offset either: an empty page does.
    for total in [json!(0), json!(-1), json!(1), json!(2), json!("2"), json!(null)] {
        let given = total.clone();
        let offsets = ListBank::start(OFFSETS, move |query| {
            let from = number(query, "from");
            ok(json!({"data": records((from..5).take(2)), "total": given}))
        })
        .await;
        assert_eq!(offsets.end().await, COMPLETE(5), "{total}");
        assert_eq!(offsets.requested("from"), ["0", "2", "4", "5"], "{total}");
    }
    // Nor does the number of the records so far, as long as pages are full.
    for (length, requested) in [(5, vec!["0", "2", "4"]), (6, vec!["0", "2", "4", "6"])] {
        let so_far = ListBank::start(OFFSETS, move |query| {
            let from = number(query, "from");
            ok(json!({"data": records((from..length).take(2)), "total": (from + 2).min(length)}))
        })
        .await;
        assert_eq!(so_far.end().await, COMPLETE(length));
        assert_eq!(so_far.requested("from"), requested);
    }
    let so_far = ListBank::start(PAGES, |query| {
        let page = number(query, "page");
        let next = if page == 1 { json!(2) } else { json!({"page": page + 1}) };
        ok(json!({"data": records((page * 2 - 1)..=page * 2), "next": next, "total": page * 2}))
    })
    .await;
    assert_eq!(so_far.end().await, UNREADABLE(4));
}

#[tokio::test]
async fn a_list_that_ends_before_its_total_is_kept_and_said_not_to_be_complete() {
    for (next, total) in [
        (json!(null), json!(9)),
        (json!(false), json!("9")),
        (json!(0), json!(9.0)),
        (json!(3), json!(9)),
        (json!("null"), json!(6)),
    ] {
        let bank = ListBank::start(PAGES, move |query| five(query, &next, &total)).await;
        assert_eq!(bank.end().await, SHORT(5));
    }
    // A last page without a total, fewer records than the total of the page before, and null in the place of the list.
    for last in [json!({"data": []}), json!({"data": null, "total": 0}), json!({"data": [], "next": null, "total": -1})]
    {
        let bank = ListBank::start(PAGES, move |query| match number(query, "page") {
            1 => ok(json!({"data": records(1..3), "next": 2, "total": 3})),
            _ => ok(last.clone()),
        })
        .await;
        assert_eq!(bank.end().await, SHORT(2));
    }
}

#[tokio::test]
async fn a_total_that_falls_from_page_to_page_costs_no_record_and_is_no_complete_list() {
    // The records that are left: all pages are read and kept, in this run and in the next one.
    let bank = ListBank::start(PAGES, |query| {
        let page = number(query, "page");
        let next = (page < 10).then_some(page + 1);
        ok(json!({"data": records((page * 2 - 1)..=page * 2), "next": next, "total": 22 - page * 2}))
    })
    .await;
    for _ in 0..2 {
        let run = bank.record().await;
        let end = (run.result, run.reason, bank.stored().await);
        assert_eq!(end, (Some(RunResult::Incomplete), Some(RunReason::WindowUnstable), 20));
        assert_eq!(run.failure.detail.as_deref(), Some("the total fell from 20 to 18, each time the list was read"));
        assert!(run.failure.cut_short);
    }
    // One that falls once is read again.
    let calls = AtomicU8::new(0);
    let bank = ListBank::start(PAGES, move |query| {
        let total = if calls.fetch_add(1, Ordering::Relaxed) == 0 { 6 } else { 5 };
        let page = number(query, "page");
        let data = records((page * 2 - 1)..=(page * 2).min(5));
        ok(json!({"data": data, "next": (page < 3).then_some(page + 1), "total": total}))
    })
    .await;
    assert_eq!(bank.end().await, COMPLETE(5));
}

#[tokio::test]
async fn a_missing_flag_is_no_end_while_there_are_records() {
    for (more, page_after) in [
        (json!(null), ""),
        (json!("false"), "end"),
        (json!(0), "end"),
        (json!(false), "end"),
        (json!(1), ""),
        (json!("maybe"), ""),
    ] {
        let given = more.clone();
        let bank = ListBank::start(AFTER, move |query| match query.get("after").map(String::as_str) {
            None => ok(json!({"data": records(1..3), "more": given})),
            Some("r02") => ok(json!({"data": records(3..4)})),
            _ => ok(json!({"data": []})),
        })
        .await;
        let stored = if page_after == "end" { 2 } else { 3 };
        assert_eq!(bank.end().await, COMPLETE(stored), "{more}");
    }
    let ignoring = ListBank::start(AFTER, |_| ok(json!({"data": records(1..3)}))).await;
    assert_eq!(ignoring.end().await, CYCLE(2), "the server ignores the position");
}

#[tokio::test]
async fn a_clamped_last_page_is_kept_and_the_end_where_the_stream_says_so() {
    let clamped = |query: &Query| {
        let page = number(query, "page").min(3);
        ok(json!({"data": records((page * 2 - 1)..=(page * 2).min(5)), "next": number(query, "page") + 1}))
    };
    assert_eq!(ListBank::start(PAGES, clamped).await.end().await, CYCLE(5));
    let declared = format!("{PAGES}, endAs: [repeatedPage]");
    assert_eq!(ListBank::start(&declared, clamped).await.end().await, COMPLETE(5));
    // A server that ignores the position has no last page: its total says so.
    let first = |_: &Query| ok(json!({"data": records(1..3), "next": 2, "total": 5}));
    assert_eq!(ListBank::start(&declared, first).await.end().await, CYCLE(2));
    let from_end = |query: &Query| ok(json!({"data": records(number(query, "from").min(3)..5)}));
    let by_offset = format!("{OFFSETS}, endAs: [repeatedPage]");
    assert_eq!(ListBank::start(OFFSETS, from_end).await.end().await, CYCLE(5));
    assert_eq!(ListBank::start(&by_offset, from_end).await.end().await, COMPLETE(5));
}

#[tokio::test]
async fn a_page_of_records_without_ids_that_is_returned_again_is_stored_once() {
    let rows = |numbers: std::ops::Range<u64>| numbers.map(|n| json!({"n": n})).collect::<Value>();
    // A server that ignores the position, and one that returns its last page, of one record, for every later one.
    let ignoring = move |_: &Query| ok(json!({"data": rows(1..3), "next": 2}));
    let clamped = move |query: &Query| {
        let page = number(query, "page").min(3);
        ok(json!({"data": rows(page * 2 - 1..(page * 2 + 1).min(6)), "next": number(query, "page") + 1}))
    };
    let from_end = move |query: &Query| {
        let from = number(query, "from");
        ok(json!({"data": rows(from.min(4)..(from + 2).min(5))}))
    };
    let declared = format!("{PAGES}, endAs: [repeatedPage]");
    for (bank, end) in [
        (ListBank::start(OFFSETS, ignoring).await, CYCLE(2)),
        (ListBank::start(PAGES, clamped).await, CYCLE(5)),
        (ListBank::start(&declared, clamped).await, COMPLETE(5)),
        (ListBank::start(OFFSETS, from_end).await, CYCLE(5)),
    ] {
        assert_eq!(bank.end().await, end);
    }
    // Equal records are not one record: full pages of one, and pages before the total is read.
    let uniform = |total: Value| {
        move |query: &Query| {
            let count = 6_u64.saturating_sub(number(query, "from")).min(2);
            let data: Value = (0..count).map(|_| json!({"fee": 1})).collect();
            ok(json!({"data": data, "total": total}))
        }
    };
    for total in [json!(null), json!(6)] {
        assert_eq!(ListBank::start(OFFSETS, uniform(total)).await.end().await, COMPLETE(6));
    }
    let pairs = move |query: &Query| {
        let next = (number(query, "page") < 2).then_some(2);
        ok(json!({"data": rows(1..3), "next": next, "total": 4}))
    };
    assert_eq!(ListBank::start(PAGES, pairs).await.end().await, COMPLETE(4));
}

/// What the operator says about the job: its status, and the reasons of its events.
fn said(runs: &JobView, previous: Option<&SyncJobStatus>) -> (SyncJobStatus, Vec<EventReason>) {
    let spec =
        json!({"connectionRef": {"name": "bank"}, "stream": "rows", "interval": "60s", "retention": {"mode": "Off"}});
    let mut job = SyncJob::new("books", serde_json::from_value(spec).unwrap());
    job.metadata.generation = Some(1);
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
    let decision = decide(&job, previous, &inputs, now);
    (decision.status.unwrap(), decision.events.into_iter().map(|event| event.reason).collect())
}

#[tokio::test]
async fn a_job_whose_list_was_cut_short_is_not_fresh_until_a_run_is_complete() {
    const WALKS: &str = "busbar_sync_incomplete_walks_total{namespace=\"treasury\",syncjob=\"books\"} 1";
    let state = Arc::new(AtomicU8::new(0));
    let now = Arc::clone(&state);
    let bank = ListBank::start(PAGES, move |query| match now.load(Ordering::Relaxed) {
        0 => five(query, &json!(null), &json!(5)),
        1 => five(query, &json!(null), &json!(9)),
        _ => (503, Vec::new()),
    })
    .await;
    let fresh = |status: &SyncJobStatus| reason_of(&status.conditions, ConditionType::Fresh).unwrap().to_owned();

    let (complete, _) = said(&bank.run().await, None);
    assert_eq!(fresh(&complete), "WithinStaleness");
    state.store(1, Ordering::Relaxed);
    let (short, events) = said(&bank.run().await, Some(&complete));
    assert_eq!((fresh(&short).as_str(), events.as_slice()), ("ListIncomplete", &[EventReason::SyncIncomplete][..]));
    assert_eq!(short.fresh.unwrap().as_str(), "False");
    assert_eq!(short.last_result.unwrap().as_str(), "Incomplete");
    assert_eq!(short.history[0].reason.as_deref(), Some("TotalNotReached"));
    let message = message_of(&short.conditions, ConditionType::Fresh).unwrap();
    assert!(message.contains("TotalNotReached: the list ended after 5 of 9 records"), "{message}");
    assert!(bank.sync.metrics.render().unwrap().contains(WALKS));
    // A run that fails for another reason has not read more.
    state.store(2, Ordering::Relaxed);
    let (failed, events) = said(&bank.run().await, Some(&short));
    assert_eq!((fresh(&failed).as_str(), events.as_slice()), ("ListIncomplete", &[EventReason::SyncFailed][..]));
    state.store(0, Ordering::Relaxed);
    let (again, events) = said(&bank.run().await, Some(&failed));
    assert_eq!((fresh(&again).as_str(), events.as_slice()), ("WithinStaleness", &[EventReason::SyncSucceeded][..]));
}
