//! Requests to routing for the contract test: bodies that are valid, or would be but for one field.

use busbar::domain::breaker::EffectiveState;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::contract::{Case, case};
use super::harness::GatewayHarness;
use super::routing::payouts::PAYOUTS;
use super::routing::{ROUTING, payout};
use super::scripted_routes::golden_spec;

/// A valid body for the path, as far as there is one.
fn body(path: &str, id: usize) -> Value {
    let decision = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let now = crate::kit::time::now();
    let later = now + jiff::SignedDuration::from_mins(10);
    let act = path.split_once("{payout_id}").map_or(path, |(_, act)| act);
    match act.trim_start_matches(ROUTING) {
        // Few payouts with several amounts each: most of them conflict with an earlier request.
        "/decide" | "/test" => {
            let mut body = payout(&format!("p-{}", id % 3));
            body["amount"] = json!(1_000 + id);
            body
        }
        PAYOUTS => payout(&format!("p-{id}")),
        "/attempts/{attempt_no}/outcomes" => {
            let class = ["submitted", "pending", "timeout", "rejected"][id % 4];
            json!({"class": class})
        }
        "/confirmations" => {
            let status = ["ACSC", "ACSP", "RJCT", "returned"][id % 4];
            json!({"attempt_no": 1, "status": status})
        }
        "/approve-reroute" => json!({"accept_duplicate_risk": true}),
        "/resolve" => json!({"resolution": "rejected", "reference": "letter"}),
        "/inquire" | "/recall" => json!({"attempt_no": 1}),
        "/resume" | "/attempts/{attempt_no}/resend" => json!({"reason": "why not"}),
        "/outcomes" => json!({"namespace": "treasury", "outcomes": [{"decision_id": decision, "class": "success"}]}),
        "/adjustments" => {
            json!({"namespace": "treasury", "candidate": "bank-a", "scope": "Global", "weight": 1.1, "expires_at": later})
        }
        "/predictions" => json!({"namespace": "treasury", "predictions": [
            {"candidate": "bank-a", "success": 0.9, "issued_at": now, "valid_from": now, "valid_until": later},
        ]}),
        "/simulate" => json!({"namespace": "treasury", "route": "payouts", "spec": golden_spec()}),
        _ => json!({"candidate": "bank-a", "reason": "why not"}),
    }
}

/// Values that are wrong for most fields.
fn junk() -> impl Strategy<Value = Value> {
    let all = [
        json!(null),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(""),
        json!("a b"),
        json!("x".repeat(300)),
        json!([]),
        json!({}),
        json!(true),
        json!("\u{0}"),
        json!("1e400"),
        json!("2030-01-01T00:00:00Z"),
        json!("treasury"),
        json!(500),
    ];
    prop::sample::select(all.to_vec())
}

/// A call of routing, at a path of the document.
pub(super) fn routing(templates: &[&String]) -> impl Strategy<Value = Case> + use<> {
    let paths: Vec<(usize, String)> = templates
        .iter()
        .enumerate()
        .filter(|(_, path)| path.starts_with(ROUTING) || path.starts_with(PAYOUTS))
        // A large part of the requests decides.
        .flat_map(|(index, path)| vec![(index, (*path).clone()); if path.ends_with("/decide") { 12 } else { 1 }])
        .collect();
    let in_namespace = prop_oneof![4 => Just(Some("treasury")), 1 => Just(Some("other")), 1 => Just(None)];
    let wrong = prop::option::of((0..8_usize, junk()));
    (case(templates.len()), prop::sample::select(paths), 0..20_usize, in_namespace, wrong).prop_map(
        |(case, (path, template), id, namespace, wrong)| {
            let mut body = body(&template, id);
            if let (Some((field, value)), Some(fields)) = (wrong, body.as_object_mut()) {
                let field = fields.keys().nth(field % fields.len()).cloned().unwrap_or_default();
                fields.insert(field, value);
            }
            let query = namespace.map(|name| ("namespace".to_owned(), name.to_owned())).into_iter().collect();
            let parts = if template.starts_with(PAYOUTS) {
                vec![format!("p-{id}"), "1".to_owned()]
            } else {
                vec!["0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(); 4]
            };
            let method = if id % 3 == 0 { case.method } else { "POST" };
            Case { path, method, parts, query, body: Some((true, body.to_string())), ..case }
        },
    )
}

/// Sets the circuits of the banks by the number of the provider's behaviour: of three in seven all are open.
pub(super) fn set_banks(harness: &GatewayHarness, behaviour: usize) {
    let circuit = if behaviour < 4 { EffectiveState::Closed } else { EffectiveState::Open };
    for bank in ["bank-a", "bank-b", "bank-c"] {
        harness.routes.circuit(bank, circuit);
    }
}
