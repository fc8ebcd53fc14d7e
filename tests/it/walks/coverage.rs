//! What a window asks for, against what the provider can show: the lag before now, and the range of a consent.

use busbar::domain::run_reason::RunReason;
use busbar::sync::{ResyncPlan, SyncPlan};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{complete, incomplete};
use crate::kit::connections::builtin_profile;
use crate::kit::time::now;
use crate::kit::walk_bank::{WalkBank, page};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Documents with an instant, in windows of 90 days, on one page.
fn windowed(more: &str) -> String {
    format!(
        "record: document, records: [/data], key: /id, time: {{pointer: /at}}, window: {{from: since, to: until, initial: 2160h, {more}}}, pagination: {{kind: none}}"
    )
}

const INSTANTS: &str = "format: '%Y-%m-%dT%H:%M:%SZ', lookback: 24h";

/// The same, of a bank that states the range it can show.
fn stating() -> String {
    windowed(&format!("{INSTANTS}, available: {{from: /meta/first, to: /meta/last}}"))
}

/// A bank with one record of yesterday, which states these bounds.
async fn bank(first: &Value, last: &Value) -> WalkBank {
    let meta = json!({"first": first, "last": last});
    WalkBank::start(&stating(), move |_| {
        page(json!({"data": [{"id": "r", "at": (now() - DAY).to_string()}], "meta": meta}))
    })
    .await
}

fn ago(days: i32) -> Value {
    (now() - DAY * days).to_string().into()
}

fn day_ago(days: i32) -> Value {
    (now() - DAY * days).to_string()[..10].into()
}

#[tokio::test]
async fn a_first_window_whose_start_cannot_be_shown_is_incomplete_once() {
    for first in [ago(30), day_ago(30), ago(85)] {
        let bank = bank(&first, &json!(null)).await;
        let run = bank.record().await;
        assert_eq!(run.reason, Some(RunReason::RangeNotCovered), "{first}");
        let detail = run.failure.detail.unwrap();
        assert!(detail.contains(&first.as_str().unwrap()[..10]) && detail.contains("requested from"), "{detail}");
        assert!(run.failure.cut_short, "the data is not said to be complete");
        // The mark has moved: later windows ask for what the provider can show.
        assert_eq!(bank.end().await, complete(1), "{first}");
    }
}

#[tokio::test]
async fn a_start_that_can_be_shown_or_that_is_not_stated_is_no_matter() {
    for first in [ago(400), ago(90), day_ago(89), json!(null), json!(""), json!("soon"), json!(7), json!({})] {
        let bank = bank(&first, &json!(null)).await;
        let run = bank.record().await;
        assert_eq!((run.reason, run.failure.detail), (None, None), "{first}");
    }
}

#[tokio::test]
async fn an_end_that_cannot_be_shown_is_told_by_a_run_that_succeeds() {
    for (last, told) in [(ago(10), true), (day_ago(10), true), (ago(1), false), (ago(-1), false), (json!("-"), false)] {
        let bank = bank(&json!(null), &last).await;
        for _ in 0..2 {
            let run = bank.record().await;
            assert_eq!((run.reason, run.failure.detail.is_some()), (None, told), "{last}");
            let detail = run.failure.detail.unwrap_or_default();
            assert!(!told || detail.contains(&last.as_str().unwrap()[..10]), "{detail}");
        }
    }
}

#[tokio::test]
async fn a_resync_of_a_range_that_cannot_be_shown_says_so_and_is_done() {
    let bank = bank(&ago(30), &json!(null)).await;
    bank.record().await;
    let range = |id: &str, from: i32| ResyncPlan {
        id: id.into(),
        from: now() - DAY * from,
        to: now() - DAY * 2,
        partitions: Vec::new(),
    };
    let old = SyncPlan { resync: Some(range("old", 60)), ..bank.plan.clone() };
    assert_eq!(bank.end_of(&old).await, incomplete(RunReason::RangeNotCovered, 1));
    bank.forget();
    assert_eq!(bank.end_of(&old).await, complete(1));
    assert!(bank.requests().is_empty(), "once for each ID");
    let recent = SyncPlan { resync: Some(range("recent", 20)), ..bank.plan.clone() };
    assert_eq!(bank.end_of(&recent).await, complete(1));
}

#[test]
fn open_banking_states_the_range_of_its_consent() {
    let profile = builtin_profile("open-banking-uk");
    let range = profile.streams["transactions"].window.as_ref().unwrap().available.clone().unwrap();
    let pointers = [range.from.as_deref(), range.to.as_deref()];
    assert_eq!(pointers, [Some("/Meta/FirstAvailableDateTime"), Some("/Meta/LastAvailableDateTime")]);
}

#[tokio::test]
async fn a_window_ends_before_what_the_provider_may_show_late() {
    let instant = |text: &str| text.parse::<Timestamp>().unwrap();
    let seconds = |text: &str| Timestamp::from_second(text.parse().unwrap()).unwrap();
    let lag = SignedDuration::from_hours(3);
    let formats = [
        ("format: '%Y-%m-%dT%H:%M:%SZ'", instant as fn(&str) -> Timestamp),
        ("as: epochSeconds", seconds as fn(&str) -> Timestamp),
    ];
    for (format, read) in formats {
        let fields = windowed(&format!("{format}, lookback: 0s, safetyLag: 3h"));
        // The bank shows a record that is newer than the end of the window.
        let bank = WalkBank::start(&fields, |_| page(json!({"data": [{"id": "r", "at": now().to_string()}]}))).await;
        let before = now();
        assert_eq!(bank.end().await, complete(1), "{format}");
        let after = now();
        let end = read(&bank.requested("until")[0]);
        assert!(end >= before - lag - SignedDuration::from_secs(1) && end <= after - lag, "{format}: {end}");
        assert_eq!(bank.end().await, complete(1), "{format}");
        let next = read(&bank.requested("since")[1]);
        assert_eq!(next, end, "{format}: what comes within the lag is read by the next window");
    }
}
