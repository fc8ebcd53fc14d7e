//! Every kind of paging reads a list to its end, and no further.

use busbar::domain::run_reason::RunReason;
use serde_json::{Value, json};

use super::{complete, documents, failed};
use crate::kit::walk_bank::{Answer, BASE, Seen, WalkBank, page, records, status};

/// Page `n` of three pages of two records, with `more` beside the records.
fn third(n: u64, more: &Value) -> Answer {
    let mut body = json!({"data": records((n - 1) * 2..n * 2)});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    page(body)
}

/// The page whose token is `t2` or `t3`, or the first.
fn number(token: &str) -> u64 {
    token.trim_start_matches('t').parse().unwrap_or(1)
}

fn token_after(n: u64) -> Value {
    if n < 3 { json!(format!("t{}", n + 1)) } else { json!(null) }
}

#[tokio::test]
async fn a_token_from_a_header_is_sent_in_the_query() {
    let fields = documents("{kind: token, from: {kind: header, name: x-next}, to: {kind: query, parameter: after}}");
    let bank = WalkBank::start(&fields, |seen| {
        let n = number(seen.query("after"));
        let answer = third(n, &json!({}));
        // A blank header is none.
        answer.header("x-next", token_after(n).as_str().unwrap_or("").to_owned())
    })
    .await;
    assert_eq!(bank.end().await, complete(6));
    assert_eq!(bank.requested("after"), ["", "t2", "t3"]);
}

#[tokio::test]
async fn a_post_stream_sends_its_token_in_the_body() {
    let paging =
        "{kind: token, from: {kind: body, pointers: [/next]}, to: {kind: body, pointer: /options/cursor}, more: /more}";
    let fields = format!("body: {{kind: json, content: {{count: 2}}}}, {}", documents(paging));
    let bank = WalkBank::start(&fields, |seen| {
        let n = number(seen.sent("/options/cursor").as_str().unwrap_or(""));
        third(n, &json!({"next": token_after(n), "more": n < 3}))
    })
    .await;
    assert_eq!(bank.end().await, complete(6));
    let sent: Vec<_> = bank.requests().iter().map(|seen| (seen.method.clone(), seen.sent("").to_string())).collect();
    let post = |body: &str| ("POST".to_owned(), body.to_owned());
    assert_eq!(
        sent,
        [
            post(r#"{"count":2}"#),
            post(r#"{"count":2,"options":{"cursor":"t2"}}"#),
            post(r#"{"count":2,"options":{"cursor":"t3"}}"#)
        ]
    );
}

#[tokio::test]
async fn a_form_stream_is_posted_with_its_token_in_the_query() {
    let paging = "{kind: token, from: {kind: header, name: x-next}, to: {kind: query, parameter: after}}";
    let fields = format!("body: {{kind: form, fields: {{what: 'a b'}}}}, {}", documents(paging));
    let bank = WalkBank::start(&fields, |seen| {
        let n = number(seen.query("after"));
        let answer = third(n, &json!({}));
        if n < 3 { answer.header("x-next", format!("t{}", n + 1)) } else { answer }
    })
    .await;
    assert_eq!(bank.end().await, complete(6));
    assert!(bank.requests().iter().all(|seen| seen.method == "POST" && seen.body == b"what=a+b"));
}

/// The page of a link: its parameter `page`, or the first.
fn linked(seen: &Seen) -> u64 {
    seen.query("page").parse().unwrap_or(1)
}

#[tokio::test]
async fn links_in_body_and_header_are_followed_to_the_end() {
    let in_body = documents("{kind: nextUrl, next: [/links/next], link: {kind: follow}}");
    let body = WalkBank::start(&in_body, |seen| {
        let n = linked(seen);
        let next = (n < 3).then(|| format!("{BASE}/rows?page={}&opaque=a%2Fb", n + 1));
        third(n, &json!({"links": {"next": next}}))
    })
    .await;
    assert_eq!(body.end().await, complete(6));
    assert_eq!(body.requests().last().unwrap().target, format!("{BASE}/rows?page=3&opaque=a%2Fb"));

    let in_header = documents("{kind: linkHeader, link: {kind: follow}}");
    let header = WalkBank::start(&in_header, |seen| {
        let n = linked(seen);
        let last = format!("<{BASE}/rows?page=3>; rel=\"last\"");
        let answer = third(n, &json!({})).header("link", last);
        if n < 3 { answer.header("link", format!("<?page={}>; rel=\"next\"", n + 1)) } else { answer }
    })
    .await;
    assert_eq!(header.end().await, complete(6));
    assert_eq!(header.requested("page"), ["", "2", "3"]);
}

#[tokio::test]
async fn parameters_of_a_link_replace_those_of_the_stream() {
    let fields = format!(
        "query: {{page: '1', limit: '2'}}, {}",
        documents("{kind: nextUrl, next: [/next], link: {kind: takeParams, parameters: [page]}}")
    );
    let bank = WalkBank::start(&fields, |seen| {
        let n = linked(seen);
        // To another host, without a path segment, with more than is taken: only the page is used.
        let next = (n < 3).then(|| format!("https://elsewhere.test/x?limit=999&page={}", n + 1));
        third(n, &json!({"next": next}))
    })
    .await;
    assert_eq!(bank.end().await, complete(6));
    let targets: Vec<_> = bank.requests().iter().map(|seen| seen.target.clone()).collect();
    let target = |n: u64| format!("{BASE}/rows?limit=2&page={n}");
    assert_eq!(targets, [target(1), target(2), target(3)]);
}

/// Paging that alternates between two pages forever, by the kind of the place.
fn alternating(seen: &Seen) -> Answer {
    let place = seen.query("after");
    let next = if place == "B" { "A" } else { "B" };
    let first = match place {
        "" => 0,
        "A" => 2,
        _ => 4,
    };
    let link = format!("{BASE}/rows?after={next}");
    page(json!({"data": records(first..first + 2), "next": next, "link": link}))
        .header("link", format!("<{link}>; rel=next"))
}

#[tokio::test]
async fn two_pages_that_lead_to_each_other_are_a_cycle_after_one_request_at_most() {
    for paging in [
        "{kind: token, from: {kind: body, pointers: [/next]}, to: {kind: query, parameter: after}}",
        "{kind: nextUrl, next: [/link], link: {kind: follow}}",
        "{kind: linkHeader, link: {kind: takeParams, parameters: [after]}}",
        "{kind: linkHeader, link: {kind: follow}}",
    ] {
        let bank = WalkBank::start(&documents(paging), alternating).await;
        assert_eq!(bank.end().await, failed(RunReason::PaginationCycle, 6), "{paging}");
        // The first page, B, A: A leads to B, which was read.
        assert_eq!(bank.requested("after"), ["", "B", "A"], "{paging}");
    }
}

#[tokio::test]
async fn a_link_to_itself_and_a_server_that_ignores_the_place_are_cycles() {
    let fields = documents("{kind: nextUrl, next: [/next], link: {kind: follow}}");
    let own = WalkBank::start(&fields, |seen| third(1, &json!({"next": seen.target}))).await;
    assert_eq!(own.end().await, failed(RunReason::PaginationCycle, 2));
    assert_eq!(own.requests().len(), 2);
    let ignored = WalkBank::start(&fields, |seen| {
        let n = linked(seen);
        third(1, &json!({"next": format!("{BASE}/rows?page={}", n + 1)}))
    })
    .await;
    assert_eq!(ignored.end().await, failed(RunReason::PaginationCycle, 2));
    assert_eq!(ignored.requests().len(), 2);
}

#[tokio::test]
async fn empty_pages_with_a_link_are_allowed_up_to_a_limit() {
    let fields = documents("{kind: nextUrl, next: [/next], link: {kind: follow}}");
    let few = WalkBank::start(&fields, |seen| {
        let n = linked(seen);
        let next = (n < 9).then(|| format!("{BASE}/rows?page={}", n + 1));
        let data = if n == 9 { records(0..2) } else { json!([]) };
        page(json!({"data": data, "next": next}))
    })
    .await;
    assert_eq!(few.end().await, complete(2));
    let endless = WalkBank::start(&fields, |seen| {
        page(json!({"data": [], "next": format!("{BASE}/rows?page={}", linked(seen) + 1)}))
    })
    .await;
    assert_eq!(endless.end().await, failed(RunReason::TooManyEmptyPages, 0));
    assert_eq!(endless.requests().len(), 11);
}

#[tokio::test]
async fn each_request_has_an_id_of_its_own_page() {
    let fields = documents("{kind: nextUrl, next: [/next], link: {kind: follow}}");
    let bank = WalkBank::start(&fields, |seen| {
        let n = linked(seen);
        third(n, &json!({"next": (n < 3).then(|| format!("?page={}", n + 1))}))
    })
    .await;
    assert_eq!(bank.end().await, complete(6));
    let requests = bank.requests();
    let ids: std::collections::BTreeSet<_> =
        requests.iter().map(|seen| seen.headers.get("x-request-id").unwrap().to_str().unwrap()).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn large_pages_are_fetched_while_the_page_before_is_committed_and_stored_in_order() {
    let fields = documents("{kind: nextUrl, next: [/next], link: {kind: follow}}");
    let large = |n: u64| (n * 600..n * 600 + 600).map(|id| json!({"id": format!("r{id:05}")})).collect::<Value>();
    let bank = WalkBank::start(&fields, move |seen| {
        let n = linked(seen);
        let next = (n < 4).then(|| format!("?page={}", n + 1));
        page(json!({"data": large(n), "next": next}))
    })
    .await;
    let run = bank.record().await;
    assert_eq!((run.reason, run.counts.inserted, run.counts.pages), (None, 2400, 4));
    assert_eq!(bank.requested("page"), ["", "2", "3", "4"], "each page once");
    // A page that fails keeps what was committed before it, and the next run goes on there.
    let broken = WalkBank::start(&fields, move |seen| {
        let n = linked(seen);
        if n == 3 {
            return status(503, json!({}));
        }
        page(json!({"data": large(n), "next": format!("?page={}", n + 1)}))
    })
    .await;
    assert_eq!(broken.end().await, failed(RunReason::ProviderError, 1200));
    assert_eq!(broken.end().await, failed(RunReason::ProviderError, 1200));
    assert_eq!(broken.requested("page"), ["", "2", "3", "3"]);
}
