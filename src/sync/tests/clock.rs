//! Cursors and windows of a clock that was ahead.

use super::*;

const NEXT_YEAR: &str = "2027-09-10T12:00:00Z";

#[tokio::test]
async fn a_cursor_moved_past_today_by_a_wrong_clock_is_moved_back() {
    let bank = ScriptedBank::with(8);
    bank.push("announced", 5, "credit", "2027-03-01T00:00:00.000Z", "");
    let mut harness = SyncHarness::new(bank).await;
    let plan = SyncPlan { start: Some("2026-08-01T00:00:00Z".parse().unwrap()), ..plan(10) };
    harness.clock = Clock::starting_at(NEXT_YEAR.parse().unwrap());
    assert_eq!(harness.run(&plan).await.result, RunResult::Succeeded);
    assert_eq!(harness.cursor(&plan).await, (Some("2027-03-01".into()), false), "as far as that clock could tell");

    harness.clock = Clock::starting_at(NOW.parse().unwrap());
    harness.bank.add(3);
    assert_eq!(harness.run(&plan).await.counts.inserted, 3);
    assert_eq!(harness.cursor(&plan).await, (Some("2026-09-10".into()), false));
    assert_eq!(harness.table().await, harness.bank.table());
}

#[tokio::test]
async fn a_window_opened_by_a_wrong_clock_is_opened_anew() {
    let mut harness = SyncHarness::new(ScriptedBank::with(25)).await;
    let mut plan = SyncPlan { start: Some("2026-08-01T00:00:00Z".parse().unwrap()), ..plan(10) };
    plan.limits.max_pages = 1;
    harness.clock = Clock::starting_at(NEXT_YEAR.parse().unwrap());
    assert_eq!(harness.run(&plan).await.result, RunResult::Incomplete);
    let window = async |harness: &SyncHarness| {
        let state = harness.stored_cursor(&plan).await.unwrap();
        state.window.map(|window| (window.to, window.page_no))
    };
    assert_eq!(window(&harness).await, Some(("2027-09-10".into(), 1)));

    harness.clock = Clock::starting_at(NOW.parse().unwrap());
    assert_eq!(harness.run(&plan).await.result, RunResult::Incomplete);
    assert_eq!(window(&harness).await, Some(("2026-09-10".into(), 1)), "from its first page");
    plan.limits.max_pages = 10;
    assert_eq!(harness.run(&plan).await.result, RunResult::Succeeded);
    assert_eq!(harness.table().await, harness.bank.table());
    assert_eq!(harness.cursor(&plan).await, (Some("2026-09-10".into()), false));
}
