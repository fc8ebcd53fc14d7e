//! Walks with a misbehaving provider.

use serde_json::{Value, json};

use super::*;
use crate::domain::record::KeyQuality;
use crate::domain::run_reason::RunReason;
use crate::provider::call::{CallError, Response};

pub(super) async fn harness_with(
    count: usize,
    override_response: impl Fn(u64, Value) -> Result<Response, CallError> + Send + Sync + 'static,
) -> SyncHarness {
    let bank = ScriptedBank::with(count);
    bank.configure(|config| config.override_response = Some(Box::new(override_response)));
    SyncHarness::new(bank).await
}

#[expect(clippy::unnecessary_wraps, reason = "an override can also return an error")]
pub(super) fn ok(body: &Value) -> Result<Response, CallError> {
    Ok(response(200, &body.to_string()))
}

pub(super) async fn outcome(harness: &SyncHarness, plan: &SyncPlan) -> (RunResult, Option<RunReason>, u64) {
    let report = harness.run(plan).await;
    (report.result, report.reason, report.counts.inserted)
}

#[tokio::test]
async fn a_failure_keeps_committed_pages_and_the_next_run_continues() {
    let harness = harness_with(50, |page, body| if page == 4 { Ok(response(503, "<html>")) } else { ok(&body) }).await;
    let plan = plan(10);
    assert_eq!(outcome(&harness, &plan).await, (RunResult::Failed, Some(RunReason::ProviderError), 30));
    assert_eq!(harness.cursor(&plan).await, (None, true), "the cursor advances only at the window's end");
    harness.bank.configure(|config| config.override_response = None);
    let report = harness.run(&plan).await;
    assert_eq!((report.result, report.counts.inserted), (RunResult::Succeeded, 20));
    assert_eq!(harness.table().await, harness.bank.table());
    assert_eq!(
        harness.bank.pages_served(),
        4 + 2 + 1,
        "no overlap, because the total is known; then the window up to now"
    );
}

#[tokio::test]
async fn a_too_large_page_ends_the_run_and_earlier_pages_are_kept() {
    let limit = crate::provider::call::MAX_BODY;
    let harness =
        harness_with(50, move |page, body| if page == 3 { Err(CallError::TooLarge { limit }) } else { ok(&body) })
            .await;
    let plan = plan(10);
    assert_eq!(outcome(&harness, &plan).await, (RunResult::Failed, Some(RunReason::AnswerTooLarge), 20));
    assert_eq!(harness.cursor(&plan).await, (None, true), "the next run continues from there");
    assert_eq!(harness.bank.pages_served(), 3, "not retried: it would be as large again");
}

#[tokio::test]
async fn a_next_page_that_points_back_is_a_cycle_and_its_page_is_kept() {
    for target in [1, 2] {
        let override_response = move |page, mut body: Value| {
            if page == 3 {
                body["meta"]["next"] = json!(format!("?page={target}"));
            }
            ok(&body)
        };
        let harness = harness_with(50, override_response).await;
        let plan = plan(10);
        assert_eq!(outcome(&harness, &plan).await, (RunResult::Failed, Some(RunReason::PaginationCycle), 30));
        assert_eq!(harness.cursor(&plan).await, (None, false), "the next run starts the window over");
        assert!(harness.bank.pages_served() < 5);
    }
}

#[tokio::test]
async fn consecutive_empty_pages_are_tolerated_up_to_the_limit() {
    let empty_until = |until: u64| {
        move |page: u64, mut body: Value| {
            if page < until {
                body["data"] = json!([]);
                body["meta"] = json!({"next": page + 1});
            } else {
                body["meta"] = json!({});
            }
            ok(&body)
        }
    };
    let harness = harness_with(5, empty_until(10)).await;
    assert_eq!(outcome(&harness, &plan(10)).await.0, RunResult::Succeeded);
    let harness = harness_with(5, empty_until(20)).await;
    assert_eq!(outcome(&harness, &plan(10)).await, (RunResult::Failed, Some(RunReason::TooManyEmptyPages), 0));
}

#[tokio::test]
async fn a_run_at_its_page_limit_is_incomplete_and_the_next_continues() {
    let harness = SyncHarness::new(ScriptedBank::with(50)).await;
    let mut plan = plan(10);
    plan.limits.max_pages = 2;
    let mut results = Vec::new();
    for _ in 0..10 {
        let report = harness.run(&plan).await;
        results.push(report.result);
        if report.result == RunResult::Succeeded {
            break;
        }
        assert_eq!(report.reason, Some(RunReason::PageCapReached));
    }
    assert_eq!(results.last(), Some(&RunResult::Succeeded));
    assert!(results.len() > 2);
    assert_eq!(harness.table().await, harness.bank.table());
}

#[tokio::test]
async fn few_invalid_records_become_dead_letters_and_many_reject_the_page() {
    for (bad, result) in [(5, RunResult::Succeeded), (6, RunResult::Failed)] {
        let override_response = move |page: u64, mut body: Value| {
            for n in (0..bad).filter(|_| page == 2) {
                body["data"][n]["amount"] = if n % 2 == 0 { json!(10.5) } else { json!("10") };
            }
            ok(&body)
        };
        let harness = harness_with(30, override_response).await;
        let report = harness.run(&plan(10)).await;
        assert_eq!((report.result, report.counts.rejected), (result, bad as u64));
        let letters = harness.ledger.count_dead_letters(&TransactionFilter::default()).await.unwrap();
        if result == RunResult::Succeeded {
            assert_eq!((report.counts.inserted, letters), (25, 5));
        } else {
            let reason = Some(RunReason::DeadLetterBudgetExceeded);
            assert_eq!((report.reason, report.counts.inserted, letters), (reason, 10, 0));
        }
    }
}

#[tokio::test]
async fn every_kind_of_invalid_record_has_its_reason() {
    let cases = [
        ("amount", json!(10.5), "AmountNotInteger"),
        ("amount", json!(null), "AmountMissing"),
        ("amount", json!("1000"), "AmountNotInteger"),
        ("amount", json!(-5), "AmountSigned"),
        ("type", json!(null), "DirectionMissing"),
        ("type", json!("transfer"), "DirectionUnknown"),
        ("date", json!(null), "TimeMissing"),
        ("date", json!("soon"), "TimeInvalid"),
        ("date", json!(1_700_000_000), "TimeInvalid"),
        ("date", json!("9999-01-01"), "TimeOutOfRange"),
        ("id", json!({}), "KeyInvalid"),
    ];
    let stream = stream(10);
    let account = crate::sync::record::AccountInfo {
        token: "t".into(),
        display: "****".into(),
        currency: crate::domain::money::Currency::parse("NGN").ok(),
    };
    let mask = MaskRules::default();
    let parser = crate::sync::record::RecordParser {
        stream: &stream,
        account: &account,
        mask: &mask,
        granularity: Granularity::Day,
        scope: &crate::sync::account_scope::AccountScope::for_tests(),
        first_day: None,
    };
    let good = json!({"id": " a ", "amount": 100, "type": "debit", "date": "2026-09-01", "narration": "x"});
    assert_eq!(parser.row(&good).unwrap().unwrap().record.key, "a");
    for (field, value, reason) in cases {
        let mut bad = good.clone();
        bad[field] = value;
        assert_eq!(parser.row(&bad).unwrap_err().reason.as_str(), reason, "{bad}");
    }
    assert_eq!(parser.row(&json!([1])).unwrap_err().reason.as_str(), "NotAnObject");
    let letter = crate::sync::record::dead_letter(&good, parser.row(&json!(1)).unwrap_err(), 0, 0);
    assert_eq!(letter.sample, "{amount: number, date: string, id: string, narration: string, type: string}");
}

#[tokio::test]
async fn an_unknown_currency_ends_the_run_before_the_first_page() {
    let bank = ScriptedBank::with(5);
    bank.configure(|config| config.currency = Some("QQQ"));
    let harness = SyncHarness::new(bank).await;
    assert_eq!(outcome(&harness, &plan(10)).await, (RunResult::Failed, Some(RunReason::CurrencyUnknown), 0));
    assert_eq!(harness.bank.pages_served(), 0);
}

#[tokio::test]
async fn duplicate_ids_in_a_page_keep_the_last_and_are_counted() {
    let override_response = |_, mut body: Value| {
        body["data"][0]["id"] = body["data"][1]["id"].clone();
        ok(&body)
    };
    let harness = harness_with(5, override_response).await;
    let report = harness.run(&plan(10)).await;
    assert_eq!((report.duplicates, report.counts.inserted, report.counts.fetched), (1, 4, 5));
    assert_eq!(report.counts.conflicting, 1);
}

#[tokio::test]
async fn identical_records_without_an_id_stay_distinct_over_pages_and_runs() {
    let bank = ScriptedBank::with(0);
    for n in 0..6 {
        bank.push(["", " "][n % 2], 500, "debit", "2026-09-09", "coffee");
    }
    let harness = SyncHarness::new(bank).await;
    let plan = plan(2);
    assert_eq!(harness.run(&plan).await.counts.inserted, 6);
    assert_eq!(harness.run(&plan).await.counts.inserted, 0);
    assert!(harness.rows().await.iter().all(|row| row.record.key_quality == KeyQuality::Derived));
}

#[tokio::test]
async fn a_record_deleted_during_the_walk_hides_no_other_record() {
    let bank = ScriptedBank::with(50);
    bank.configure(|config| {
        config.change_before_page = Some((
            3,
            Box::new(|rows| {
                rows.remove(0);
            }),
        ));
    });
    let harness = SyncHarness::new(bank).await;
    let report = harness.run(&plan(10)).await;
    assert_eq!(report.result, RunResult::Succeeded);
    let (ours, theirs) = (harness.table().await, harness.bank.table());
    assert!(theirs.iter().all(|row| ours.contains(row)), "the list shifted, and no row was skipped");
}

#[tokio::test]
async fn a_list_that_keeps_shrinking_ends_the_run_incomplete() {
    let shrinking = std::sync::atomic::AtomicU64::new(1000);
    let override_response = move |_, mut body: Value| {
        body["meta"]["total"] = json!(shrinking.fetch_sub(1, std::sync::atomic::Ordering::Relaxed));
        ok(&body)
    };
    let harness = harness_with(50, override_response).await;
    let report = harness.run(&plan(10)).await;
    assert_eq!((report.result, report.reason), (RunResult::Incomplete, Some(RunReason::WindowUnstable)));
    assert_eq!(harness.rows().await.len(), 50, "what is read is kept");
}

#[tokio::test]
async fn a_timed_out_or_cancelled_run_ends_between_pages() {
    let harness = SyncHarness::new(ScriptedBank::with(50)).await;
    let mut timed = plan(10);
    timed.run_timeout = Duration::ZERO;
    assert_eq!(outcome(&harness, &timed).await, (RunResult::Failed, Some(RunReason::RunTimeout), 0));
    harness.cancel.cancel();
    assert_eq!(outcome(&harness, &plan(10)).await, (RunResult::Cancelled, Some(RunReason::StopRequested), 0));
    assert!(harness.rows().await.is_empty());
}

#[tokio::test]
async fn an_empty_response_is_a_successful_run_marked_empty() {
    let harness = SyncHarness::new(ScriptedBank::with(0)).await;
    let report = harness.run(&plan(10)).await;
    assert!(report.result == RunResult::Succeeded && report.empty);
    let state = harness.stored_cursor(&plan(10)).await.unwrap();
    assert_eq!((report.counts.pages, state.window), (1, None));
    assert!(state.committed_hwm.is_some());
    assert_eq!(state.committed_hwm, state.earliest, "the next window starts where this one did");
}
