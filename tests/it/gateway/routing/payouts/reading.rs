//! Lists of payouts by state, in pages, and single ones with their timeline.

use busbar::domain::payout::{Evidence, EvidenceSource, PayoutInput};
use busbar::ledger::payouts::PayoutAct;
use busbar::routing::{Actor, PayoutRequest};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::{each, payout, payout_with};
use super::{PAYOUTS, followed_by_banks, outcome, read, registered};

#[tokio::test]
async fn payouts_are_listed_by_state_and_route_in_pages() {
    let harness = followed_by_banks().await;
    harness.routes.add("other", &super::super::super::scripted_routes::golden_spec());
    for id in ["a", "b", "c", "d"] {
        registered(&harness, &payout(id)).await;
    }
    registered(&harness, &payout_with("e", "route", json!("other"))).await;
    outcome(&harness, "b", 1, "timeout").await;
    outcome(&harness, "c", 1, "success").await;
    outcome(&harness, "d", 1, "rejected").await;
    let list = async |query: &str| {
        let said = harness.get(&format!("{PAYOUTS}?namespace=treasury{query}")).await;
        assert_eq!(said.status, 200, "{query}: {said:?}");
        said.body["data"].clone()
    };
    for (query, ids) in [
        ("", &["e", "d", "c", "b", "a"][..]),
        ("&state=open", &["e", "a"]),
        ("&state=stuck", &["b"]),
        ("&state=confirmed", &["c"]),
        ("&state=not_executed", &["d"]),
        ("&state=held", &[]),
        ("&route=other", &["e"]),
        ("&route=payouts&state=open", &["a"]),
    ] {
        assert_eq!(each(&list(query).await["items"], "payout_id"), ids, "{query}");
    }
    let (mut seen, mut cursor) = (Vec::<String>::new(), String::new());
    for _ in 0..5 {
        let page = list(&format!("&limit=2{cursor}")).await;
        seen.extend(each(&page["items"], "payout_id").into_iter().map(str::to_owned));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ["e", "d", "c", "b", "a"]);
}

#[tokio::test]
async fn bad_lists_are_refused_by_name() {
    let harness = followed_by_banks().await;
    for (query, field) in [("state=paid", "state"), ("limit=0", "limit"), ("cursor=x", "cursor"), ("route=A", "route")]
    {
        let refused = harness.get(&format!("{PAYOUTS}?namespace=treasury&{query}")).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{query}: {refused:?}");
        assert_eq!(refused.body["data"]["details"]["parameter"], json!(field), "{query}");
    }
    let unknown = harness.get(&format!("{PAYOUTS}?namespace=treasury&bank=a")).await;
    assert_eq!((unknown.status, unknown.error()), (400, "invalid_request"));
    for path in ["none", "a%20b", "%ff"] {
        let missing = harness.get(&format!("{PAYOUTS}/{path}?namespace=treasury")).await;
        assert_eq!((missing.status, missing.error()), (404, "payout_not_found"), "{path}: {missing:?}");
    }
    registered(&harness, &payout("p-1")).await;
    let elsewhere = harness.get(&format!("{PAYOUTS}/p-1?namespace=other")).await;
    assert_eq!((elsewhere.status, elsewhere.error()), (404, "payout_not_found"), "it is another namespace's");
}

#[tokio::test]
async fn the_timeline_tells_every_state_with_its_evidence_in_order() {
    let harness = followed_by_banks().await;
    registered(&harness, &payout("p-1")).await;
    for class in ["submitted", "timeout", "success"] {
        outcome(&harness, "p-1", 1, class).await;
    }
    let data = read(&harness, "p-1").await;
    let rows = data["timeline"].as_array().unwrap();
    let states: Vec<&Value> = rows.iter().map(|row| &row["to"]).collect();
    assert_eq!(states, ["intent_written", "submitted", "unknown", "confirmed"]);
    assert!(rows.iter().all(|row| row["evidence"]["source"] == json!("submitter")), "{rows:?}");
    assert!(rows[1..].iter().all(|row| row["evidence"]["subject"] == json!("ann")), "{rows:?}");
    let places: Vec<u64> = rows.iter().map(|row| row["seq"].as_u64().unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[tokio::test]
async fn a_long_timeline_ends_with_what_happened_last() {
    let harness = followed_by_banks().await;
    registered(&harness, &payout("p-1")).await;
    let ann = Actor { request_id: None, subject: "ann".to_owned() };
    let evidence = Evidence::new(EvidenceSource::Operator, Timestamp::UNIX_EPOCH).by("ann");
    let request = PayoutRequest {
        act: PayoutAct::Inquire,
        input: PayoutInput::RequestInquiry { attempt_no: 1, evidence },
        namespace: "treasury".to_owned(),
        payout_id: "p-1".to_owned(),
        reason: None,
    };
    // Each is two rows: the person's word, and the call.
    for _ in 0..260 {
        harness.routing.act(&request, &ann).await.unwrap();
    }
    outcome(&harness, "p-1", 1, "success").await;
    let data = read(&harness, "p-1").await;
    let rows = data["timeline"].as_array().unwrap();
    assert_eq!(rows.len(), 522, "none is left out");
    assert_eq!((&rows[0]["to"], &rows[521]["to"]), (&json!("intent_written"), &json!("confirmed")));
}
