//! Denials: what a caller without a permission learns, and what is audited.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use busbar::domain::rights::{LicenceProfile, LicenceSubject, Rights};
use busbar::ledger::audit::AuditKind;

use super::harness::{GatewayHarness, LATE};

const CALL: &str = "/api/providers/{namespace}/{connection}/{operation}";

fn desk() -> Arc<Rights> {
    let profile = LicenceProfile {
        name: "desk".into(),
        subjects: vec![LicenceSubject::User("ann".into())],
        actions: BTreeSet::from(["quote".to_owned()]),
        requests_per_day: Some(1),
    };
    Arc::new(Rights { profiles: vec![profile] })
}

#[tokio::test]
async fn an_unlicensed_caller_does_not_learn_which_operations_exist() {
    let mut harness = GatewayHarness::new().await;
    harness.connect("fmp", &harness.fmp, |draft| draft.rights = Some(desk()));
    for path in ["nothing", "quote", "quote?symbol=a%20b", "earnings?limit=x", "quote/ACME"] {
        let said = harness.ask("GET", &format!("/api/providers/treasury/fmp/{path}"), "token-bob", &[]).await;
        assert_eq!((said.status, said.error()), (403, "rights_denied"), "{path}: {said:?}");
        let details = &said.body["data"]["details"];
        assert!(details.get("operations").is_none() && details.get("parameter").is_none(), "{details}");
    }
    // A licensed caller gets the validation error, and it does not count against the daily quota.
    for _ in 0..3 {
        let said = harness.get("/api/providers/treasury/fmp/quote?symbol=a%20b").await;
        assert_eq!((said.status, said.error()), (400, "invalid_request"), "{said:?}");
    }
    assert_eq!(harness.get("/api/providers/treasury/fmp/quote?symbol=ACME").await.status, 200);
    // Equal refusals are one row, or a few on a slow machine.
    let mut said = BTreeMap::new();
    for entry in harness.audit().await {
        let times = entry.count();
        *said.entry((entry.subject, entry.action, entry.reason)).or_insert(0) += times;
    }
    let refused = |action: &str| ("bob".to_owned(), action.to_owned(), Some("no_profile".to_owned()));
    let wanted = [
        (("ann".to_owned(), "quote".to_owned(), None), 1),
        (refused("earnings"), 1),
        (refused("quote"), 3),
        // Not a word of the request.
        (refused("unknown_operation"), 1),
    ];
    assert_eq!(said, BTreeMap::from(wanted));
}

#[tokio::test]
async fn rbac_denials_are_audited_and_unauthenticated_requests_are_not() {
    let mut harness = GatewayHarness::new().await;
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    for (path, token, status) in [
        ("fmp/quote?symbol=ACME", "token-outsider", 403),
        ("fmp/any-word", "token-outsider", 403),
        (&*format!("{LATE}/quote"), "token-outsider", 403),
        // Not audited: there is nothing to protect, and any name could be requested.
        ("no-such-connection/quote", "token-outsider", 403),
        ("fmp/quote?symbol=ACME", "forged", 401),
        ("fmp/quote?symbol=ACME", "", 401),
    ] {
        let path = format!("/api/providers/treasury/{path}");
        assert_eq!(harness.ask("GET", &path, token, &[("x-request-id", id)]).await.status, status, "{path}");
    }
    let audit = harness.audit().await;
    let said: Vec<_> =
        audit.iter().map(|e| (e.connection.as_str(), e.action.as_str(), e.provider.as_deref())).collect();
    let wanted =
        [("fmp", "quote", Some("fmp")), ("fmp", "unknown_operation", Some("fmp")), (LATE, "unknown_operation", None)];
    assert_eq!(said, wanted);
    for entry in audit {
        assert_eq!((&*entry.subject, entry.allowed, entry.reason.as_deref()), ("outsider", false, Some("rbac")));
        assert_eq!(entry.request_id.unwrap().to_string(), id);
    }
}

#[tokio::test]
async fn every_error_of_a_known_caller_is_in_the_audit_once() {
    let mut harness = GatewayHarness::new().await;
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let known: [(&str, &str, &str, &str, &str); 7] = [
        ("POST", "/api/syncs/treasury/any/run", "/api/syncs/{namespace}/{name}/run", "outsider", "forbidden"),
        (
            "GET",
            "/api/treasury/payouts/any?namespace=any",
            "/api/treasury/payouts/{payout_id}",
            "outsider",
            "forbidden",
        ),
        ("GET", "/api/audit", "/api/audit", "outsider", "forbidden"),
        ("GET", "/api/audit?limit=0", "/api/audit", "ann", "invalid_request"),
        ("GET", "/api/providers/treasury/none/quote", CALL, "ann", "connection_not_found"),
        ("DELETE", "/api/audit", "/api/audit", "ann", "method_not_allowed"),
        ("GET", "/api/any", "other", "ann", "not_found"),
    ];
    for (method, path, _, user, code) in known {
        let said = harness.ask(method, path, &format!("token-{user}"), &[("x-request-id", id)]).await;
        assert_eq!(said.error(), code, "{method} {path}: {said:?}");
    }
    assert_eq!(harness.ask("GET", "/api/audit", "forged", &[]).await.status, 401);
    // What the audit has with its object is not there twice.
    harness.connect_as("licensed", "fmp", &harness.fmp, |draft| draft.rights = Some(desk()));
    for path in ["/api/providers/treasury/fmp/quote", "/api/providers/treasury/licensed/quote", "/api/consumers"] {
        assert_eq!(harness.ask("GET", path, "token-outsider", &[]).await.status, 403, "{path}");
    }
    assert_eq!(harness.ask("GET", "/api/providers/treasury/licensed/quote", "token-bob", &[]).await.status, 403);
    let (entries, others): (Vec<_>, Vec<_>) =
        harness.whole_audit().await.into_iter().partition(|entry| entry.kind == AuditKind::Request);
    let others: Vec<_> = others.iter().map(|one| (&*one.connection, &*one.action, one.reason.as_deref())).collect();
    let wanted = [
        ("fmp", "quote", Some("rbac")),
        ("licensed", "quote", Some("rbac")),
        ("", "list consumers", Some("rbac")),
        ("licensed", "quote", Some("no_profile")),
    ];
    assert_eq!(others, wanted);
    let told: BTreeSet<_> =
        entries.iter().map(|one| (one.action.clone(), &*one.subject, one.reason.as_deref())).collect();
    let wanted = known.map(|(method, _, route, user, code)| (format!("{method} {route}"), user, Some(code)));
    assert_eq!(told, BTreeSet::from(wanted));
    for entry in entries {
        assert_eq!(entry.allowed, entry.reason.as_deref() != Some("forbidden"), "{entry:?}");
        assert_eq!((entry.count(), entry.request_id.unwrap().to_string().as_str()), (1, id));
    }
}
