//! Windows: where they start and end, lists that are too deep, and what moves the high-water mark.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use busbar::domain::run_reason::RunReason;
use busbar::ledger::RunResult;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{complete, failed, incomplete};
use crate::kit::walk_bank::{Answer, Seen, WalkBank, page, record, records, status};

/// Documents with an instant, in windows of instants, two a page.
fn windowed(order: &str) -> String {
    format!(
        "record: document, records: [/data], key: /id, time: {{pointer: /at}}, order: {order}, window: {{from: since, to: until, format: '%Y-%m-%dT%H:%M:%SZ', initial: 87600h, lookback: 0s}}, pagination: {{kind: page, parameter: page, first: 1, next: [/next], sizeParameter: limit, size: 2}}"
    )
}

fn instant(text: &Value) -> Timestamp {
    text.as_str().unwrap().parse().unwrap()
}

/// A page of the `count` records in the window of the request, in this order, and no page after the `depth`-th.
fn deep(seen: &Seen, count: u64, newest_first: bool, depth: usize) -> Answer {
    let (since, until): (Timestamp, Timestamp) =
        (seen.query("since").parse().unwrap(), seen.query("until").parse().unwrap());
    let mut all: Vec<Value> = (0..count).map(record).collect();
    all.retain(|record| (since..=until).contains(&instant(&record["at"])));
    if newest_first {
        all.reverse();
    }
    let n: usize = seen.query("page").parse().unwrap();
    if n > depth {
        return status(426, json!({"code": "maximumResultsReached"}));
    }
    let data: Vec<_> = all.iter().skip((n - 1) * 2).take(2).cloned().collect();
    page(json!({"data": data, "next": (n * 2 < all.len()).then_some(n + 1)}))
}

const TOO_DEEP: &str = "errors: [{json: [{pointer: /code, is: [maximumResultsReached]}], class: endOfData}]\n";

#[tokio::test]
async fn a_list_that_is_too_deep_is_split_at_the_last_cursor_reached() {
    for (order, newest_first) in [("newestFirst", true), ("oldestFirst", false)] {
        let bank =
            WalkBank::with_profile(TOO_DEEP, &windowed(order), move |seen| deep(seen, 21, newest_first, 3)).await;
        assert_eq!(bank.end().await, complete(21), "{order}");
        // Each part goes on at the last value of the one before.
        let bounds: Vec<_> = bank
            .requests()
            .iter()
            .filter(|seen| seen.query("page") == "1")
            .map(|seen| (seen.query("since").to_owned(), seen.query("until").to_owned()))
            .collect();
        assert!(bounds.len() > 2 && bounds.len() < 10, "{order}: {bounds:?}");
        let moves =
            bounds.windows(2).all(|pair| if newest_first { pair[1].1 < pair[0].1 } else { pair[1].0 > pair[0].0 });
        assert!(moves, "{order}: {bounds:?}");
        bank.forget();
        // The mark is the newest record, in either order.
        assert_eq!(bank.end().await.0, RunResult::Succeeded);
        assert_eq!(bank.requests()[0].query("since"), record(20)["at"].as_str().unwrap(), "{order}");
    }
}

#[tokio::test]
async fn a_restart_in_the_rest_of_a_split_window_keeps_its_first_part() {
    let unstable = "  - {json: [{pointer: /code, is: [MUTATION]}], class: restartWindow}\n";
    let too_deep = "  - {json: [{pointer: /code, is: [maximumResultsReached]}], class: endOfData}\n";
    let fields = format!("{}, commitScope: Window", windowed("oldestFirst"));
    let second_pages = AtomicU64::new(0);
    let bank = WalkBank::with_profile(&format!("errors:\n{unstable}{too_deep}"), &fields, move |seen| {
        // That of the rest, once.
        if seen.query("page") == "2" && second_pages.fetch_add(1, Ordering::Relaxed) == 1 {
            return status(400, json!({"code": "MUTATION"}));
        }
        deep(seen, 9, false, 3)
    })
    .await;
    assert_eq!(bank.end().await.0, RunResult::Succeeded);
    assert_eq!(bank.keys().await.len(), 9);
}

#[tokio::test]
async fn a_list_without_an_order_and_an_instant_that_is_too_deep_cannot_be_split() {
    let unordered = WalkBank::with_profile(TOO_DEEP, &windowed("unknown"), |seen| deep(seen, 21, true, 3)).await;
    assert_eq!(unordered.end().await, incomplete(RunReason::EndOfData, 6));
    // More records at one instant than can be read: no part makes progress.
    let same = WalkBank::with_profile(TOO_DEEP, &windowed("newestFirst"), |seen| {
        let n: u64 = seen.query("page").parse().unwrap();
        if n > 3 {
            return status(426, json!({"code": "maximumResultsReached"}));
        }
        let mut data = [record(n * 2), record(n * 2 + 1)];
        for record in &mut data {
            record["at"] = json!("2026-09-01T00:00:00Z");
        }
        page(json!({"data": data, "next": n + 1}))
    })
    .await;
    assert_eq!(same.end().await, incomplete(RunReason::EndOfData, 6));
    assert!(same.requests().len() <= 8, "{}", same.requests().len());
}

#[tokio::test]
async fn the_mark_of_a_newest_first_list_moves_only_when_the_walk_is_complete() {
    let broken = Arc::new(AtomicU64::new(2));
    let bank = WalkBank::start(&windowed("newestFirst"), {
        let broken = Arc::clone(&broken);
        move |seen| {
            if seen.query("page") == broken.load(Ordering::Relaxed).to_string() {
                return status(503, json!({}));
            }
            deep(seen, 8, true, 99)
        }
    })
    .await;
    assert_eq!(bank.end().await, failed(RunReason::ProviderError, 2));
    let first = bank.requests()[0].clone();
    broken.store(99, Ordering::Relaxed);
    bank.forget();
    assert_eq!(bank.end().await, complete(8));
    let requests = bank.requests();
    let bounds = |seen: &Seen| (seen.query("since").to_owned(), seen.query("until").to_owned());
    assert_eq!(bounds(&requests[0]), bounds(&first), "the window keeps its bounds, with the end pinned");
    assert_eq!(bounds(requests.last().unwrap()).0, record(7)["at"], "then a new window from the newest record");
}

#[tokio::test]
async fn a_record_of_the_future_and_a_page_in_another_order_do_not_move_the_mark_too_far() {
    let bank = WalkBank::start(&windowed("unknown"), |seen| {
        let mut data: Vec<Value> = [3, 0, 2, 1].map(record).into();
        data[1]["at"] = json!("2099-01-01T00:00:00Z");
        // Without a time: stored, and no cursor value.
        data[2]["at"] = Value::Null;
        if seen.query("page") == "1" { page(json!({"data": data})) } else { page(json!({"data": []})) }
    })
    .await;
    let before = crate::kit::time::now();
    bank.end().await;
    bank.forget();
    bank.end().await;
    let since: Timestamp = bank.requests()[0].query("since").parse().unwrap();
    assert!(
        since >= before.checked_sub(jiff::SignedDuration::from_secs(2)).unwrap() && since <= crate::kit::time::now()
    );
}

#[tokio::test]
async fn the_start_time_is_read_before_the_first_run_only() {
    let fields = windowed("oldestFirst").replace("lookback: 0s", "lookback: 24h");
    let bank = WalkBank::start(&fields, |seen| deep(seen, 8, false, 99)).await;
    let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let mut plan = bank.plan.clone();
    plan.start = at("2026-09-01T12:00:00Z");
    assert_eq!(bank.end_of(&plan).await, complete(6));
    // Moved later, it would leave a gap; moved earlier, it reads nothing new; removed, the first start still holds.
    for start in [at("2026-10-01T00:00:00Z"), at("2026-09-02T17:00:00Z"), at("2020-01-01T00:00:00Z"), None] {
        bank.forget();
        plan.start = start;
        assert_eq!(bank.end_of(&plan).await.0, RunResult::Succeeded);
        // The last record is of 18:00: minus the lookback.
        assert_eq!(bank.requests()[0].query("since"), "2026-09-01T18:00:00Z", "{start:?}");
    }
    bank.forget();
    plan.lookback = Some(std::time::Duration::from_hours(1000));
    assert_eq!(bank.end_of(&plan).await.0, RunResult::Succeeded);
    assert_eq!(bank.requests()[0].query("since"), "2026-09-01T12:00:00Z", "no lookback reaches before the first start");
}

#[tokio::test]
async fn a_stream_that_changes_in_a_window_reads_it_from_its_start() {
    let broken = Arc::new(AtomicU64::new(3));
    let bank = WalkBank::start(&windowed("oldestFirst"), {
        let broken = Arc::clone(&broken);
        move |seen| {
            if seen.query("page") == broken.load(Ordering::Relaxed).to_string() {
                return status(503, json!({}));
            }
            deep(seen, 8, false, 99)
        }
    })
    .await;
    assert_eq!(bank.end().await, failed(RunReason::ProviderError, 4));
    broken.store(99, Ordering::Relaxed);
    for change in ["mask", "key", "same"] {
        bank.forget();
        broken.store(3, Ordering::Relaxed);
        let mut plan = bank.plan.clone();
        match change {
            "mask" => {
                plan.mask.fields.insert("n".into(), busbar::domain::mask::Mask::Drop);
            }
            "key" => {
                let mut stream = (*plan.stream).clone();
                stream.key = "/at".into();
                plan.stream = Arc::new(stream);
            }
            _ => {}
        }
        bank.end_of(&plan).await;
        let first = bank.requests()[0].query("page").to_owned();
        // "same": the plan of the run before was another one too.
        assert_eq!(first, "1", "{change}");
    }
    bank.forget();
    bank.end().await;
    assert_eq!(bank.requests()[0].query("page"), "2", "unchanged, it goes on one page before its place");
}

#[tokio::test]
async fn a_page_limit_is_never_a_success() {
    let mut bank = WalkBank::start(&windowed("oldestFirst"), |seen| deep(seen, 9, false, 99)).await;
    bank.plan.limits.max_pages = 2;
    assert_eq!(bank.end().await, incomplete(RunReason::PageCapReached, 4));
    assert_eq!(bank.requests().len(), 2, "no page is fetched that may not be read");
    let data = records(0..9);
    assert_eq!(data.as_array().unwrap().len(), 9);
    for _ in 0..8 {
        bank.end().await;
    }
    assert_eq!(bank.keys().await.len(), 9, "later runs go on from there");
}
