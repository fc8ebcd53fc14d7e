//! Callers without rights and clients without a token: what they cost in rows, series and reviews.

use std::collections::BTreeSet;
use std::time::Duration;

use busbar::gateway::rate_limit::Rate;
use busbar::ledger::audit::{AuditEntry, AuditKind};
use busbar::provider::audit::refusals::OTHER_REFUSALS;
use futures::future::join_all;

use super::harness::{GatewayHarness, Plan};

const QUOTE: &str = "/api/providers/treasury/fmp/quote?symbol=ACME";

#[tokio::test]
async fn a_thousand_equal_refusals_are_a_few_audit_rows_that_count_them() {
    let mut harness = GatewayHarness::new().await;
    for _ in 0..20 {
        let all = join_all((0..50).map(|_| harness.ask("GET", QUOTE, "token-outsider", &[]))).await;
        assert!(all.iter().all(|said| said.status == 403));
    }
    let audit = harness.audit().await;
    assert_eq!(audit.iter().map(AuditEntry::count).sum::<u64>(), 1_000);
    assert!(audit.len() < 20, "{} rows", audit.len());
    let whole = audit.iter().find_map(|row| row.repeats.map(|repeats| (row, repeats))).expect("a collapsed row");
    assert!(whole.0.at <= whole.1.last, "{whole:?}");
    assert!(audit.iter().all(|row| (&*row.subject, row.reason.as_deref()) == ("outsider", Some("rbac"))));
}

#[tokio::test]
async fn a_caller_that_varies_its_requests_has_a_limited_number_of_audit_rows() {
    let mut harness = GatewayHarness::new().await;
    harness.connect("fmp", &harness.fmp, |draft| draft.rights = Some(super::desk(None)));
    for hundred in 0..10 {
        let paths: Vec<_> = (0..100).map(|n| format!("{QUOTE}&purpose=purpose-{hundred}-{n}")).collect();
        let all = join_all(paths.iter().map(|path| harness.ask("GET", path, "token-ann", &[]))).await;
        assert!(all.iter().all(|said| said.status == 403));
    }
    assert_eq!(harness.ask("GET", QUOTE, "token-bob", &[]).await.status, 403);
    let metrics = harness.metrics.render().unwrap();
    let omitted =
        |limit| crate::kit::metrics::value(&metrics, "busbar_audit_refusals_omitted_total", &[("limit", limit)]);
    assert!(omitted("caller") > Some(0.0) && omitted("total") == Some(0.0), "{metrics}");
    let audit = harness.audit().await;
    assert!(audit.len() < 120, "{} rows", audit.len());
    let counted: u64 = audit.iter().filter(|row| row.subject == "ann").map(AuditEntry::count).sum();
    assert_eq!(counted, 1_000, "none is lost");
    assert!(audit.iter().any(|row| row.action == OTHER_REFUSALS && row.subject == "ann"));
    assert!(audit.iter().any(|row| row.subject == "bob"), "the rows of another caller are its own");
}

#[tokio::test]
async fn tokens_of_one_user_share_its_rate_limit_whatever_else_they_say() {
    let rate = |requests| Rate { requests, per: Duration::from_hours(1) };
    let harness = GatewayHarness::with(Plan { caller: rate(3), ..Plan::default() }).await;
    let mut statuses = Vec::new();
    for n in 0..6 {
        statuses.push(harness.ask("GET", QUOTE, &format!("token-ann~{n}"), &[]).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429, 429]);
    assert_eq!(harness.ask("GET", QUOTE, "token-ann", &[]).await.status, 429);
    assert_eq!(harness.ask("GET", QUOTE, "token-bob~0", &[]).await.status, 200, "another user");
}

/// The names and labels of all series.
fn series(harness: &GatewayHarness) -> BTreeSet<String> {
    let text = harness.metrics.render().unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}

#[tokio::test]
async fn what_strangers_send_adds_neither_series_nor_audit_rows() {
    let mut harness = GatewayHarness::new().await;
    let flood = async |round: usize| {
        for n in 0..10 {
            let word = format!("{round}-{n}");
            for (method, path, token) in [
                ("GET", format!("/unknown/{word}"), String::new()),
                (&*format!("METHOD{n}"), format!("/api/{word}"), format!("forged-{word}")),
                ("POST", format!("/api/providers/{word}/{word}/{word}"), format!("forged-{word}")),
                ("GET", format!("/api/providers/{word}/{word}/{word}?purpose={word}"), "token-outsider".to_owned()),
                ("GET", format!("/api/dead-requests/{word}"), "token-outsider".to_owned()),
                ("GET", format!("/api/providers/treasury/fmp/{word}"), "token-ann".to_owned()),
            ] {
                let said = harness.ask(method, &path, &token, &[("x-request-id", &word)]).await;
                assert!((400..500).contains(&said.status), "{method} {path}: {said:?}");
            }
            let broken = harness.http.post(harness.url(QUOTE)).bearer_auth("token-outsider");
            let broken =
                broken.header("content-type", "application/json").body(format!("{{\"{word}\": [")).send().await;
            assert_eq!(broken.unwrap().status(), 400);
        }
    };
    flood(0).await;
    let before = series(&harness);
    for round in 1..10 {
        flood(round).await;
    }
    let added: Vec<_> = series(&harness).difference(&before).cloned().collect();
    assert_eq!(added, [""; 0]);
    let audit = harness.whole_audit().await;
    assert!(audit.iter().all(|entry| entry.kind == AuditKind::Request), "no connection of these names exists");
    let said: BTreeSet<_> =
        audit.iter().map(|entry| (&*entry.subject, &*entry.action, entry.reason.as_deref())).collect();
    // Of each caller, route and code there is one, however the requests varied.
    let call = "GET /api/providers/{namespace}/{connection}/{operation}";
    let wanted = [
        ("ann", call, Some("operation_not_found")),
        ("outsider", "GET /api/dead-requests/{id}", Some("method_not_allowed")),
        ("outsider", call, Some("forbidden")),
        ("outsider", "POST /api/providers/{namespace}/{connection}/{operation}", Some("invalid_request")),
    ];
    assert_eq!(said, BTreeSet::from(wanted));
    assert_eq!(audit.iter().map(AuditEntry::count).sum::<u64>(), 400);
}

#[tokio::test]
async fn a_method_that_a_route_lacks_is_405_before_credentials_that_contradict() {
    let harness = GatewayHarness::new().await;
    let key = [("x-api-key", "bbk_id_secret")];
    for path in [QUOTE, "/openapi.json", "/api/audit", "/api/treasury/payouts/p-1", "/api/treasury/routing/decide"] {
        for method in ["OPTIONS", "TRACE", "BREW", "PATCH"] {
            for (token, headers, status) in
                [("token-ann", &[][..], 405), ("token-ann", &key, 405), ("forged", &key, 405), ("", &[], 401)]
            {
                let said = harness.ask(method, path, token, headers).await;
                assert_eq!(said.status, status, "{method} {path} {token}: {said:?}");
            }
        }
    }
    // What is served is for one known caller.
    for (path, token, headers, status) in [
        ("/openapi.json", "", &[][..], 401),
        ("/openapi.json", "token-ann", &key, 400),
        ("/api/audit", "token-ann", &key, 400),
        ("/api/nothing", "token-ann", &key, 400),
    ] {
        assert_eq!(harness.ask("GET", path, token, headers).await.status, status, "{path} {token}");
    }
}
