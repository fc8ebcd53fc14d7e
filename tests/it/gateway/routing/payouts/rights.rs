//! Every call needs its own right, and tells nothing without it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::super::super::harness::{GatewayHarness, Said};
use super::super::{golden, payout};
use super::{PAYOUTS, post_as, registered};

/// Each call: its path below the namespace's payouts, its body, and the verb and subresource that it needs.
fn calls() -> Vec<(&'static str, String, Value, &'static str, &'static str)> {
    let of = |act: &str| format!("/p-1/{act}?namespace=treasury");
    let accept = json!({"accept_duplicate_risk": true});
    let resolution = json!({"resolution": "rejected", "reference": "x"});
    vec![
        ("POST", String::new(), payout("p-2"), "create", ""),
        ("GET", "?namespace=treasury".to_owned(), Value::Null, "list", ""),
        ("GET", "/p-1?namespace=treasury".to_owned(), Value::Null, "get", ""),
        ("POST", of("attempts/1/outcomes"), json!({"class": "pending"}), "create", "outcomes"),
        ("POST", of("confirmations"), json!({"status": "pending"}), "create", "confirmations"),
        ("POST", of("inquire"), json!({}), "create", "inquiries"),
        ("POST", of("recall"), json!({}), "create", "recalls"),
        ("POST", of("approve-reroute"), accept, "approve", ""),
        ("POST", of("resolve"), resolution, "update", "resolution"),
        ("POST", of("resume"), json!({}), "update", "hold"),
        ("POST", "/resume".to_owned(), json!({}), "update", "hold"),
    ]
}

async fn call(harness: &GatewayHarness, method: &str, path: &str, body: &Value, token: &str) -> Said {
    match method {
        "POST" => post_as(harness, token, path, body).await,
        _ => harness.ask(method, &format!("{PAYOUTS}{path}"), token, &[]).await,
    }
}

#[tokio::test]
async fn each_call_needs_its_right_and_that_right_is_enough() {
    let harness = golden().await;
    registered(&harness, &payout("p-1")).await;
    for (method, path, body, verb, subresource) in calls() {
        let denied = call(&harness, method, &path, &body, "token-outsider").await;
        assert_eq!((denied.status, denied.error()), (403, "forbidden"), "{path}: {denied:?}");
        let details = &denied.body["data"]["details"];
        let resource = if subresource.is_empty() { "payouts".to_owned() } else { format!("payouts/{subresource}") };
        assert_eq!((&details["verb"], &details["resource"]), (&json!(verb), &json!(resource)), "{path}");
        let allowed = call(&harness, method, &path, &body, &format!("token-may-{verb}-{subresource}")).await;
        assert!(!matches!(allowed.status, 401 | 403 | 405), "{path}: {allowed:?}");
        for (_, _, _, other_verb, other) in calls() {
            if (other_verb, other) != (verb, subresource) {
                let token = format!("token-may-{other_verb}-{other}");
                let denied = call(&harness, method, &path, &body, &token).await;
                assert_eq!(denied.status, 403, "{path} as {token}: {denied:?}");
            }
        }
        let unknown = call(&harness, method, &path, &body, "").await;
        assert_eq!((unknown.status, unknown.error()), (401, "unauthenticated"), "{path}");
    }
}

#[tokio::test]
async fn a_caller_without_the_right_is_not_told_whether_a_payout_exists() {
    let harness = golden().await;
    registered(&harness, &payout("p-1")).await;
    for id in ["p-1", "none", "a%20b"] {
        for (method, path) in [("GET", format!("/{id}")), ("POST", format!("/{id}/recall"))] {
            let path = format!("{path}?namespace=treasury");
            let denied = call(&harness, method, &path, &json!({}), "token-outsider").await;
            assert_eq!((denied.status, denied.error()), (403, "forbidden"), "{path}: {denied:?}");
        }
    }
}

/// What takes two people: that a payout was not executed, and the risk of a duplicate.
const OF_TWO: [(&str, &str); 2] = [("payouts", "approve"), ("payouts/resolution", "update")];
/// What says the same for one caller: the word of the payout system.
const OF_ONE: [(&str, &str); 3] =
    [("payouts/confirmations", "create"), ("payouts/outcomes", "create"), ("bankroutes/outcomes", "create")];

#[test]
fn no_role_of_a_person_says_alone_what_takes_two_people() {
    let mut roles: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for path in ["config/rbac/users.yaml", "config/rbac/callers.yaml"] {
        let text = crate::source::read(path);
        for document in serde_yaml::Deserializer::from_str(&text) {
            let role = Value::deserialize(document).unwrap();
            let rights = roles.entry(role["metadata"]["name"].as_str().unwrap().to_owned()).or_default();
            for rule in role["rules"].as_array().unwrap() {
                let verbs = || rule["verbs"].as_array().unwrap().iter().map(|verb| verb.as_str().unwrap().to_owned());
                for resource in rule["resources"].as_array().unwrap() {
                    let resource = resource.as_str().unwrap();
                    rights.extend(verbs().map(|verb| (resource.to_owned(), verb)));
                }
            }
        }
    }
    let has = |rights: &BTreeSet<(String, String)>, some: &[(&str, &str)]| {
        some.iter().any(|(resource, verb)| rights.contains(&((*resource).to_owned(), (*verb).to_owned())))
    };
    assert!(has(&roles["busbar-pay-admin"], &OF_TWO) && has(&roles["busbar-payouts"], &OF_ONE));
    for (role, rights) in roles {
        assert!(!(has(&rights, &OF_TWO) && has(&rights, &OF_ONE)), "{role}");
    }
}
