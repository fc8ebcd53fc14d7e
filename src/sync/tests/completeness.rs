//! Walks whose end is not where the provider says, or is not said at all.

use serde_json::{Value, json};

use super::faults::{harness_with, ok, outcome};
use super::*;
use crate::domain::run_reason::RunReason;
use crate::profile::EndSign;

#[tokio::test]
async fn a_page_that_names_itself_as_the_next_is_the_end_if_the_total_is_reached() {
    for (last, rows, end) in [
        (3, 30, (RunResult::Succeeded, None, 30)),
        (2, 20, (RunResult::Incomplete, Some(RunReason::TotalNotReached), 20)),
    ] {
        let override_response = move |page, mut body: Value| {
            if page == last {
                body["meta"]["next"] = json!(page);
            }
            ok(&body)
        };
        let harness = harness_with(30, override_response).await;
        let plan = plan(10);
        assert_eq!(outcome(&harness, &plan).await, end);
        assert_eq!(harness.rows().await.len(), rows);
        let moved = end.0 == RunResult::Succeeded;
        assert_eq!(harness.cursor(&plan).await, (moved.then(|| "2026-09-10".into()), false));
    }
}

#[tokio::test]
async fn a_last_page_for_every_later_position_is_the_end_if_stream_or_total_say_so() {
    let clamped = |total: Value| {
        let last = std::sync::Mutex::new(Value::Null);
        move |page: u64, mut body: Value| {
            let mut last = last.lock().unwrap();
            if page >= 3 {
                body["data"] = last.clone();
            }
            *last = body["data"].clone();
            body["meta"] = json!({"next": page + 1, "total": total});
            ok(&body)
        }
    };
    let cycle = (RunResult::Failed, Some(RunReason::PaginationCycle), 20);
    let complete = (RunResult::Succeeded, None, 20);
    let mut declared = plan(10);
    declared.stream = Arc::new(Stream { end_as: vec![EndSign::RepeatedPage], ..stream(10) });
    for (plan, total, end) in [
        (plan(10), json!(null), cycle),
        (plan(10), json!(20), complete),
        (plan(10), json!(21), cycle),
        (declared.clone(), json!(0), complete),
        (declared, json!(21), cycle),
    ] {
        let harness = harness_with(20, clamped(total.clone())).await;
        assert_eq!(outcome(&harness, &plan).await, end, "{total}");
    }
}

#[tokio::test]
async fn a_repeated_page_that_ends_a_window_keeps_what_the_window_staged() {
    for total in [json!(null), json!(10)] {
        let (first, its_total) = (std::sync::Mutex::new(Value::Null), total.clone());
        let override_response = move |page: u64, mut body: Value| {
            let mut first = first.lock().unwrap();
            if page == 1 {
                *first = body["data"].clone();
            }
            body["data"] = first.clone();
            body["meta"] = json!({"next": page + 1, "total": its_total});
            ok(&body)
        };
        let harness = harness_with(10, override_response).await;
        let stream = Arc::new(Stream { end_as: vec![EndSign::RepeatedPage], ..stream(10) });
        let plan = SyncPlan { commit_scope: CommitScope::Window, stream, ..plan(10) };
        assert_eq!(outcome(&harness, &plan).await.0, RunResult::Succeeded, "{total}");
        assert_eq!(harness.rows().await.len(), 10, "{total}");
    }
}

#[tokio::test]
async fn a_page_of_three_or_more_records_none_of_which_is_valid_is_drift() {
    use RunReason::{DeadLetterBudgetExceeded, SchemaDrifted};
    for (records, budget, reason) in [
        (2, 10, None),
        (3, 10, Some(SchemaDrifted)),
        (5, 50, Some(SchemaDrifted)),
        (3, 100, None),
        (1, 0, Some(DeadLetterBudgetExceeded)),
    ] {
        let without_dates = |_, mut body: Value| {
            body["data"].as_array_mut().unwrap().iter_mut().for_each(|record| record["date"] = json!(null));
            ok(&body)
        };
        let harness = harness_with(records, without_dates).await;
        let plan = SyncPlan { dead_letter_budget_percent: budget, ..plan(10) };
        let report = harness.run(&plan).await;
        assert_eq!((report.reason, report.counts.rejected), (reason, records as u64), "{records} {budget}");
        let letters = harness.ledger.count_dead_letters(&TransactionFilter::default()).await.unwrap();
        assert_eq!(letters, if reason.is_none() { records as u64 } else { 0 });
    }
}

#[tokio::test]
async fn fewer_records_than_the_total_are_read_twice_and_reported() {
    let override_response = |_, mut body: Value| {
        body["meta"]["total"] = json!(99);
        ok(&body)
    };
    let harness = harness_with(15, override_response).await;
    let plan = plan(10);
    let report = harness.run(&plan).await;
    assert_eq!((report.result, report.reason), (RunResult::Incomplete, Some(RunReason::TotalNotReached)));
    assert_eq!(report.failure.detail.as_deref(), Some("the list ended after 15 of 99 records"));
    assert!(report.failure.cut_short);
    assert_eq!((harness.bank.pages_served(), harness.rows().await.len()), (4, 15));
    assert_eq!(harness.cursor(&plan).await, (None, false), "the next run reads the window again");
}

#[tokio::test]
async fn a_total_of_an_earlier_page_counts_where_the_last_one_has_none() {
    for (first, last, reason) in [
        (json!(99), json!(null), Some(RunReason::TotalNotReached)),
        (json!("99"), json!(-1), Some(RunReason::TotalNotReached)),
        (json!(15.0), json!("many"), None),
        // They count their page.
        (json!(10), json!(5), None),
        (json!(0), json!(3), None),
    ] {
        let totals = (first.clone(), last.clone());
        let override_response = move |page, mut body: Value| {
            body["meta"]["total"] = if page == 1 { totals.0.clone() } else { totals.1.clone() };
            ok(&body)
        };
        let harness = harness_with(15, override_response).await;
        let report = harness.run(&plan(10)).await;
        assert_eq!((report.reason, report.counts.inserted), (reason, 15), "{first} {last}");
    }
}

#[tokio::test]
async fn a_page_whose_next_is_unreadable_is_kept() {
    let override_response = |page, mut body: Value| {
        if page == 2 {
            body["meta"]["next"] = json!("https://bank.test/?cursor=abc");
        }
        ok(&body)
    };
    let harness = harness_with(30, override_response).await;
    let plan = plan(10);
    let unreadable = (RunResult::Failed, Some(RunReason::PaginationUnreadable), 20);
    assert_eq!(outcome(&harness, &plan).await, unreadable);
    assert_eq!((harness.rows().await.len(), harness.cursor(&plan).await), (20, (None, false)));
}

#[tokio::test]
async fn a_resumed_walk_still_knows_how_much_it_has_read() {
    let harness = harness_with(30, |page, mut body: Value| {
        body["meta"]["total"] = json!(31);
        if page == 3 { Ok(response(503, "")) } else { ok(&body) }
    })
    .await;
    let plan = plan(10);
    assert_eq!(outcome(&harness, &plan).await.1, Some(RunReason::ProviderError));
    harness.bank.configure(|config| {
        config.override_response = Some(Box::new(|_, mut body: Value| {
            body["meta"]["total"] = json!(31);
            ok(&body)
        }));
    });
    assert_eq!(outcome(&harness, &plan).await.1, Some(RunReason::TotalNotReached));
}
