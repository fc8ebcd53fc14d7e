//! Walks that were interrupted go on where they were, and a place that the provider refuses is given up once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use busbar::domain::run_reason::RunReason;
use serde_json::json;

use super::{complete, documents, failed};
use crate::kit::walk_bank::{Answer, BASE, Seen, WalkBank, page, records, status};

/// Three ways to page through 60 pages of two records.
const PAGINGS: [&str; 3] = [
    "{kind: token, from: {kind: body, pointers: [/next]}, to: {kind: query, parameter: page}}",
    "{kind: nextUrl, next: [/link], link: {kind: follow}}",
    "{kind: linkHeader, link: {kind: takeParams, parameters: [page]}}",
];

fn number(seen: &Seen) -> u64 {
    seen.query("page").parse().unwrap_or(1)
}

/// Page `n` of `pages`.
fn nth(n: u64, pages: u64) -> Answer {
    let data = records((n - 1) * 2..n * 2);
    if n == pages {
        return page(json!({"data": data}));
    }
    let link = format!("{BASE}/rows?page={}", n + 1);
    page(json!({"data": data, "next": (n + 1).to_string(), "link": link})).header("link", format!("<{link}>; rel=next"))
}

#[tokio::test]
async fn page_31_of_60_fails_and_the_next_run_makes_31_requests_at_most_and_no_duplicates() {
    for paging in PAGINGS {
        let broken = Arc::new(AtomicU64::new(31));
        let bank = WalkBank::start(&documents(paging), {
            let broken = Arc::clone(&broken);
            move |seen| {
                let n = number(seen);
                if n == broken.load(Ordering::Relaxed) { status(503, json!({})) } else { nth(n, 60) }
            }
        })
        .await;
        assert_eq!(bank.end().await, failed(RunReason::ProviderError, 60), "{paging}");
        assert_eq!(bank.requests().len(), 31, "{paging}");
        bank.forget();
        broken.store(0, Ordering::Relaxed);
        let run = bank.record().await;
        assert!(bank.requests().len() <= 31, "{paging}: {}", bank.requests().len());
        assert_eq!((run.counts.inserted, run.counts.updated, run.counts.unchanged), (60, 0, 0), "{paging}");
        assert_eq!(bank.keys().await.len(), 120, "{paging}");
    }
}

#[tokio::test]
async fn a_stored_place_that_the_provider_refuses_restarts_the_window_once() {
    for (refusal, matcher) in [
        (400, "errors: [{status: [400], class: restartWindow}]\n"),
        (410, "errors: [{status: [410], class: resetCursor}]\n"),
        // Without a matcher.
        (400, ""),
        (404, ""),
        (410, ""),
    ] {
        let (epoch, broken) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(3)));
        let bank = WalkBank::with_profile(
            matcher,
            &documents("{kind: token, from: {kind: body, pointers: [/next]}, to: {kind: query, parameter: after}}"),
            {
                let (epoch, broken) = (Arc::clone(&epoch), Arc::clone(&broken));
                move |seen| {
                    // Tokens are valid in the epoch that they are from.
                    let epoch = epoch.load(Ordering::Relaxed);
                    let (of, n) = match seen.query("after").split_once('-') {
                        Some((of, n)) => (of.parse().unwrap(), n.parse().unwrap()),
                        None => (epoch, 1),
                    };
                    if of != epoch {
                        return status(refusal, json!({"error": "token expired"}));
                    }
                    if n == broken.load(Ordering::Relaxed) {
                        return status(503, json!({}));
                    }
                    let next = (n < 4).then(|| format!("{epoch}-{}", n + 1));
                    page(json!({"data": records((n - 1) * 2..n * 2), "next": next}))
                }
            },
        )
        .await;
        assert_eq!(bank.end().await, failed(RunReason::ProviderError, 4), "{refusal}{matcher}");
        bank.forget();
        epoch.store(2, Ordering::Relaxed);
        broken.store(9, Ordering::Relaxed);
        assert_eq!(bank.end().await, complete(8), "{refusal}{matcher}");
        assert_eq!(bank.requested("after"), ["1-3", "", "2-2", "2-3", "2-4"], "{refusal}{matcher}");
    }
}

#[tokio::test]
async fn a_place_that_is_refused_is_forgotten_even_if_the_restart_fails() {
    let paging = "{kind: token, from: {kind: body, pointers: [/next]}, to: {kind: query, parameter: after}}";
    let step = Arc::new(AtomicU64::new(0));
    let bank = WalkBank::start(&documents(paging), {
        let step = Arc::clone(&step);
        move |seen| match (step.load(Ordering::Relaxed), seen.query("after")) {
            (0, "") => page(json!({"data": records(0..2), "next": "old"})),
            (1, "old") => status(410, json!({})),
            (0 | 1, _) => status(503, json!({})),
            (_, "") => page(json!({"data": records(0..4)})),
            _ => status(410, json!({})),
        }
    })
    .await;
    assert_eq!(bank.end().await, failed(RunReason::ProviderError, 2));
    step.store(1, Ordering::Relaxed);
    assert_eq!(bank.end().await, failed(RunReason::ProviderError, 2));
    step.store(2, Ordering::Relaxed);
    assert_eq!(bank.end().await, complete(4));
    assert_eq!(bank.requested("after"), ["", "old", "old", "", ""], "the refused place is asked for once");
}

#[tokio::test]
async fn a_partition_that_is_gone_from_its_first_page_is_not_restarted() {
    let bank = WalkBank::start(&documents(PAGINGS[0]), |_| status(410, json!({}))).await;
    assert_eq!(bank.end().await, failed(RunReason::ItemGone, 0));
    assert_eq!(bank.requests().len(), 1);
}

#[tokio::test]
async fn a_key_that_is_rejected_on_page_3_alone_keeps_the_pages_before_it() {
    let bank = WalkBank::start(&documents(PAGINGS[0]), |seen| {
        let n = number(seen);
        if n == 3 { status(401, json!({})) } else { nth(n, 4) }
    })
    .await;
    assert_eq!(bank.end().await, failed(RunReason::AuthenticationFailed, 4));
    assert_eq!(bank.end().await, failed(RunReason::AuthenticationFailed, 4));
    assert_eq!(bank.requested("page"), ["", "2", "3", "3"], "the next run goes on at the page");
}
