//! Patch streams: what changed since a token. Their pages take effect together, and their token is their cursor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use busbar::domain::run_reason::RunReason;
use busbar::ledger::RunResult;
use serde_json::{Value, json};

use super::{complete, failed, incomplete};
use crate::kit::walk_bank::{Answer, Seen, WalkBank, page, record, status};

/// As Plaid's `transactions/sync`: a POST with the cursor in its body, changes instead of a list.
const PATCH: &str = "record: document, body: {kind: json, content: {count: 2}}, lists: [{at: [/added]}, {at: [/modified], optional: true}], removed: {at: [/removed], key: /id}, key: /id, commitScope: Window, pagination: {kind: token, from: {kind: body, pointers: [/next_cursor]}, to: {kind: body, pointer: /cursor}, more: /has_more}";
const ERRORS: &str = "errors:\n  - {json: [{pointer: /code, is: [MUTATION]}], class: restartWindow}\n  - {json: [{pointer: /code, is: [UNKNOWN_CURSOR]}], class: resetCursor}\n";

fn cursor(seen: &Seen) -> String {
    seen.sent("/cursor").as_str().unwrap_or_default().to_owned()
}

fn cursors(bank: &WalkBank) -> Vec<String> {
    bank.requests().iter().map(cursor).collect()
}

fn changes(added: &[u64], removed: &[u64], next: &str, more: bool) -> Answer {
    let added: Value = added.iter().map(|n| record(*n)).collect();
    let removed: Value = removed.iter().map(|n| json!({"id": record(*n)["id"]})).collect();
    page(json!({"added": added, "removed": removed, "next_cursor": next, "has_more": more}))
}

#[tokio::test]
async fn the_token_of_the_last_page_is_where_the_next_run_starts() {
    let bank = WalkBank::start(PATCH, |seen| match cursor(seen).as_str() {
        "" => changes(&[0, 1], &[], "a", true),
        "a" => changes(&[2], &[], "b", false),
        "b" => changes(&[3], &[0], "c", false),
        other => changes(&[], &[], other, false),
    })
    .await;
    assert_eq!(bank.end().await, complete(3));
    assert_eq!(bank.end().await.0, RunResult::Succeeded);
    assert_eq!(bank.end().await.0, RunResult::Succeeded);
    assert_eq!(cursors(&bank), ["", "a", "b", "c"]);
    assert_eq!(bank.keys().await, ["r0001", "r0002", "r0003"], "what was withdrawn is gone");
    let view = bank.sync.pool.view(&bank.plan.job, 1).await.unwrap();
    let shown = view.cursor_preview.unwrap();
    assert!(shown.starts_with("token ") && shown.len() == 22, "the provider's token is not shown: {shown}");
}

#[tokio::test]
async fn nothing_takes_effect_before_the_last_page_and_a_failed_walk_starts_over() {
    let step = Arc::new(AtomicU64::new(0));
    let bank = WalkBank::start(PATCH, {
        let step = Arc::clone(&step);
        move |seen| match (step.load(Ordering::Relaxed), cursor(seen).as_str()) {
            (0, "") => changes(&[0, 1], &[], "a", true),
            (0, "a") => changes(&[2, 3], &[], "b", true),
            (0, _) => status(503, json!({})),
            // Record 1 was withdrawn before the second walk: it is neither added nor removed there.
            (_, "") => changes(&[0, 2], &[], "x", true),
            (_, "x") => changes(&[3], &[], "y", false),
            _ => changes(&[], &[], "z", false),
        }
    })
    .await;
    assert_eq!(bank.end().await, failed(RunReason::ProviderError, 0));
    step.store(1, Ordering::Relaxed);
    assert_eq!(bank.end().await, complete(3));
    assert_eq!(bank.keys().await, ["r0000", "r0002", "r0003"]);
    assert_eq!(cursors(&bank), ["", "a", "b", "", "x"]);
}

#[tokio::test]
async fn a_mutation_during_the_walk_restarts_it_at_the_loops_first_token() {
    let mutations = Arc::new(AtomicU64::new(0));
    let bank = WalkBank::with_profile(ERRORS, PATCH, {
        let mutations = Arc::clone(&mutations);
        move |seen| match cursor(seen).as_str() {
            "" => changes(&[0], &[], "a", false),
            "a" => changes(&[1, 2], &[], "b", true),
            "b" if mutations.fetch_add(1, Ordering::Relaxed) == 0 => status(400, json!({"code": "MUTATION"})),
            "b" => changes(&[3], &[1], "c", false),
            other => changes(&[], &[], other, false),
        }
    })
    .await;
    assert_eq!(bank.end().await, complete(1));
    assert_eq!(bank.end().await, complete(3));
    assert_eq!(bank.keys().await, ["r0000", "r0002", "r0003"]);
    assert_eq!(cursors(&bank), ["", "a", "b", "a", "b"]);
}

#[tokio::test]
async fn a_walk_that_mutates_each_time_ends_and_does_not_lose_its_token() {
    let bank = WalkBank::with_profile(ERRORS, PATCH, |seen| match cursor(seen).as_str() {
        "" => changes(&[0], &[], "a", false),
        "a" => changes(&[1], &[], "b", true),
        _ => status(400, json!({"code": "MUTATION"})),
    })
    .await;
    assert_eq!(bank.end().await, complete(1));
    assert_eq!(bank.end().await, failed_or_unstable());
    assert_eq!(cursors(&bank).iter().filter(|cursor| *cursor == "b").count(), 4, "three restarts at most");
    bank.forget();
    assert_eq!(bank.end().await, failed_or_unstable());
    assert_eq!(cursors(&bank)[0], "a", "the committed token is kept");
}

#[tokio::test]
async fn a_token_whose_own_page_is_refused_each_time_is_cleared() {
    let bank = WalkBank::with_profile(ERRORS, PATCH, |seen| match cursor(seen).as_str() {
        "" => changes(&[0, 1], &[], "a", false),
        _ => status(400, json!({"code": "MUTATION"})),
    })
    .await;
    assert_eq!(bank.end().await, complete(2));
    assert_eq!(bank.end().await, complete(2), "everything is read again");
    assert_eq!(cursors(&bank), ["", "a", "a", "a", "a", ""]);
}

fn failed_or_unstable() -> (RunResult, Option<RunReason>, u64) {
    incomplete(RunReason::WindowUnstable, 1)
}

#[tokio::test]
async fn a_cursor_that_the_provider_forgot_is_cleared_and_everything_is_read_again() {
    let forgotten = Arc::new(AtomicU64::new(0));
    let bank = WalkBank::with_profile(ERRORS, PATCH, {
        let forgotten = Arc::clone(&forgotten);
        move |seen| match (forgotten.load(Ordering::Relaxed), cursor(seen).as_str()) {
            (0, "") => changes(&[0, 1], &[], "a", false),
            (1, "a") => status(400, json!({"code": "UNKNOWN_CURSOR"})),
            (1, "") => changes(&[0, 1, 2], &[], "new", false),
            (_, other) => changes(&[], &[], other, false),
        }
    })
    .await;
    assert_eq!(bank.end().await, complete(2));
    forgotten.store(1, Ordering::Relaxed);
    assert_eq!(bank.end().await, complete(3));
    assert_eq!(bank.end().await.0, RunResult::Succeeded);
    assert_eq!(cursors(&bank), ["", "a", "", "new"]);
}

#[tokio::test]
async fn a_blank_token_is_data_that_is_not_ready_and_not_the_end() {
    let ready = Arc::new(AtomicU64::new(0));
    let bank = WalkBank::start(PATCH, {
        let ready = Arc::clone(&ready);
        move |seen| match (ready.load(Ordering::Relaxed), cursor(seen).as_str()) {
            (0, _) => changes(&[], &[], "", false),
            (1, "") => changes(&[0], &[], " ", false),
            (2, "") => changes(&[0, 1], &[], "a", false),
            (_, other) => changes(&[], &[], other, false),
        }
    })
    .await;
    assert_eq!(bank.end().await, incomplete(RunReason::DataNotReady, 0));
    ready.store(1, Ordering::Relaxed);
    assert_eq!(bank.end().await, incomplete(RunReason::DataNotReady, 0), "nothing without a place to go on from");
    ready.store(2, Ordering::Relaxed);
    assert_eq!(bank.end().await, complete(2));
    assert_eq!(cursors(&bank), ["", "", ""]);
}

#[tokio::test]
async fn a_cycle_of_a_patch_stream_leaves_nothing_behind() {
    let bank = WalkBank::start(PATCH, |seen| match cursor(seen).as_str() {
        "" => changes(&[0], &[], "a", true),
        "a" => changes(&[1], &[], "b", true),
        _ => changes(&[2], &[], "a", true),
    })
    .await;
    assert_eq!(bank.end().await, failed(RunReason::PaginationCycle, 0));
    assert_eq!(cursors(&bank), ["", "a", "b"]);
}

#[tokio::test]
async fn a_list_may_be_committed_as_a_whole_and_resumes_in_its_middle() {
    let fields = "record: document, records: [/data], key: /id, commitScope: Window, pagination: {kind: nextUrl, next: [/next], link: {kind: follow}}";
    let broken = Arc::new(AtomicU64::new(3));
    let bank = WalkBank::start(fields, {
        let broken = Arc::clone(&broken);
        move |seen| {
            let n: u64 = seen.query("page").parse().unwrap_or(1);
            if n == broken.load(Ordering::Relaxed) {
                return status(503, json!({}));
            }
            let next = (n < 4).then(|| format!("?page={}", n + 1));
            page(json!({"data": [record(n)], "next": next}))
        }
    })
    .await;
    assert_eq!(bank.end().await, failed(RunReason::ProviderError, 0));
    broken.store(0, Ordering::Relaxed);
    assert_eq!(bank.end().await, complete(4));
    assert_eq!(bank.requested("page"), ["", "2", "3", "3", "4"]);
}
