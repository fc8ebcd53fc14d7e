//! Where a link of the provider leads: a credential goes to the connection's own origin, and nowhere else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use busbar::domain::run_reason::RunReason;
use busbar::ledger::RunResult;
use serde_json::json;

use super::{complete, documents, failed};
use crate::kit::walk_bank::{BASE, TOKEN, WalkBank, page, records, serve, status};

const FOLLOW: &str = "{kind: nextUrl, next: [/next], link: {kind: follow}}";

/// A bank whose first page links to what `link` makes of the bank's own address, and whose other pages are the end.
async fn linking(link: impl Fn(&str) -> String + Send + Sync + 'static) -> WalkBank {
    WalkBank::start(&documents(FOLLOW), move |seen| {
        let host = seen.headers.get("host").unwrap().to_str().unwrap();
        if seen.target == format!("{BASE}/rows") {
            return page(json!({"data": records(0..2), "next": link(host)}));
        }
        page(json!({"data": records(2..4)}))
    })
    .await
}

/// The link of a page, given the bank's own address.
type LinkTo = Box<dyn Fn(&str) -> String + Send + Sync>;

#[tokio::test]
async fn a_link_to_another_host_never_gets_a_credential() {
    let (evil, visits) = serve(|_| page(json!({"data": records(2..4)}))).await;
    let evil_host = evil.trim_start_matches("http://").to_owned();
    let port = evil_host.rsplit(':').next().unwrap().to_owned();
    let links: Vec<LinkTo> = vec![
        Box::new({
            let evil = evil.clone();
            move |_| format!("{evil}{BASE}/rows?page=2")
        }),
        Box::new({
            let evil_host = evil_host.clone();
            move |_| format!("//{evil_host}{BASE}/rows?page=2")
        }),
        Box::new({
            let evil_host = evil_host.clone();
            move |host| format!("http://{host}@{evil_host}{BASE}/rows?page=2")
        }),
        Box::new(move |_| format!("http://localhost:{port}{BASE}/rows?page=2")),
        Box::new(|host| format!("https://{host}{BASE}/rows?page=2")),
        Box::new(|host| format!("http://user:password@{host}{BASE}/rows?page=2")),
    ];
    for link in links {
        let bank = linking(link).await;
        let run = bank.record().await;
        assert_eq!((run.result, run.reason), (Some(RunResult::Failed), Some(RunReason::PaginationUnreadable)));
        let detail = run.failure.detail.unwrap();
        assert!(detail.contains("not the origin of the connection"), "{detail}");
        assert!(!detail.contains("password") && !detail.contains("page=2"), "{detail}");
        assert_eq!((bank.requests().len(), bank.keys().await.len()), (1, 2), "the page read is kept");
    }
    assert!(visits.lock().unwrap().is_empty(), "the other host was never called");
}

#[tokio::test]
async fn a_link_that_is_relative_or_has_the_own_origin_is_followed_with_our_credential() {
    let links: [fn(&str) -> String; 4] = [
        |host| format!("http://{host}{BASE}/rows?page=2"),
        |_| format!("{BASE}/rows?page=2"),
        |_| "?page=2".to_owned(),
        |host| format!("//{host}{BASE}/other/rows?page=2#top"),
    ];
    for link in links {
        let bank = linking(link).await;
        assert_eq!(bank.end().await, complete(4));
        let last = bank.requests().pop().unwrap();
        assert_eq!(last.query("page"), "2");
        assert_eq!(last.headers.get("authorization").unwrap(), &format!("Bearer {TOKEN}"));
    }
}

#[tokio::test]
async fn a_link_outside_of_the_base_url_is_not_followed() {
    // Without the first path segment, as of a gateway in front of the bank; another version; above it.
    for link in ["/rows?page=2", "/v1/rows?page=2", "/v2x/rows?page=2", "/v2/../admin"] {
        let bank = linking(move |_| link.to_owned()).await;
        let run = bank.record().await;
        assert_eq!(run.reason, Some(RunReason::PaginationUnreadable), "{link}");
        assert!(run.failure.detail.unwrap().contains("outside of the base URL"), "{link}");
        assert_eq!(bank.requests().len(), 1, "{link}");
    }
}

#[tokio::test]
async fn a_link_that_leads_to_nothing_is_said_to_and_is_not_followed_again() {
    // Below the base URL, but without a path segment that the resource needs.
    let bank = WalkBank::start(&documents(FOLLOW), |seen| match seen.query("page") {
        "" => page(json!({"data": records(0..2), "next": format!("{BASE}/row?page=2")})),
        _ => status(404, json!({"error": "no such resource"})),
    })
    .await;
    for _ in 0..2 {
        let run = bank.record().await;
        assert_eq!((run.reason, run.failure.http_status), (Some(RunReason::PaginationUnreadable), Some(404)));
        assert!(run.failure.detail.unwrap().contains("takeParams"));
    }
    // Each run starts the window over: the page, and the link.
    assert_eq!(bank.requested("page"), ["", "2", "", "2"]);
}

#[tokio::test]
async fn credentials_in_a_link_are_dropped_before_it_is_stored_or_requested() {
    let (stop, pages) = (Arc::new(AtomicUsize::new(2)), Arc::new(Mutex::new(Vec::new())));
    let bank = WalkBank::start(&documents(FOLLOW), {
        let (stop, pages) = (Arc::clone(&stop), Arc::clone(&pages));
        move |seen| {
            pages.lock().unwrap().push(seen.target.clone());
            let n: usize = seen.query("page").parse().unwrap_or(1);
            if n == stop.load(Ordering::Relaxed) {
                return status(503, json!({}));
            }
            let next =
                (n < 3).then(|| format!("{BASE}/rows?APIKEY=canary-key&page={}&access_token=canary-link", n + 1));
            page(json!({"data": records(n as u64 * 2..n as u64 * 2 + 2), "next": next}))
        }
    })
    .await;
    assert_eq!(bank.end().await, failed(RunReason::ProviderError, 2));
    let history = bank.sync.ledger.job_history(&bank.plan.job, 1, crate::kit::time::now()).await.unwrap();
    let stored = format!("{:?}", history.cursors);
    assert!(stored.contains("page=2") && !stored.contains("canary"), "{stored}");
    stop.store(9, Ordering::Relaxed);
    assert_eq!(bank.end().await, complete(6));
    assert!(pages.lock().unwrap().iter().all(|target| !target.contains("canary")));
}
