//! What is read: the list and its filters, the banks' health, the audit, and simulations.

use busbar::domain::breaker::EffectiveState;
use busbar::domain::route::ConnectionState;
use serde_json::{Value, json};

use super::super::scripted_routes::golden_spec;
use super::{decided, each, get, golden, payout, payout_with, post, recorded, report};

#[tokio::test]
async fn the_list_is_paged_newest_first_and_filtered() {
    let harness = golden().await;
    harness.routes.add("others", &golden_spec());
    for n in 0..7 {
        let route = if n % 2 == 0 { "payouts" } else { "others" };
        harness.routes.circuit("bank-c", if n < 5 { EffectiveState::Closed } else { EffectiveState::Open });
        decided(&harness, &payout_with(&format!("p-{n}"), "route", json!(route))).await;
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    while pages < 20 {
        let page = get(&harness, &format!("/decisions?namespace=treasury&limit=2{cursor}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let items = page.body["data"]["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|item| item["payout_id"].as_str().unwrap().to_owned()));
        pages += 1;
        match page.body["data"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["p-6", "p-5", "p-4", "p-3", "p-2", "p-1", "p-0"]);
    let ids = async |query: &str| {
        let page = get(&harness, &format!("/decisions?{query}")).await;
        each(&page.body["data"]["items"], "payout_id").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ids("namespace=treasury&route=others").await, ["p-5", "p-3", "p-1"]);
    assert_eq!(ids("namespace=treasury&candidate=bank-a").await, ["p-6", "p-5"]);
    assert_eq!(ids("namespace=treasury&bank=bank-a&route=payouts").await, ["p-6"]);
    assert_eq!(ids("namespace=other").await, [""; 0]);
    assert_eq!(ids("limit=500").await.len(), 7, "of all namespaces");
    assert_eq!(ids("namespace=treasury&from_time=2199-01-01T00:00:00Z").await, [""; 0]);
    assert_eq!(ids("namespace=treasury&to_time=2199-01-01T00:00:00Z").await.len(), 7);
    let listed = get(&harness, "/decisions?namespace=treasury&limit=1").await;
    let item = &listed.body["data"]["items"][0];
    assert_eq!((&item["amount"], &item["currency"], &item["country"]), (&json!("1000"), &json!("USD"), &json!("SN")));
    assert_eq!((&item["kind"], &item["subject"], &item["seq"]), (&json!("decision"), &json!("ann"), &json!(7)));
}

#[tokio::test]
async fn the_health_of_every_bank_is_shown_with_where_it_is_used() {
    let harness = golden().await;
    harness.routes.add("others", &golden_spec());
    harness.routes.set("bank-b", ConnectionState::Missing);
    harness.routes.set("bank-a", ConnectionState::NotReady);
    let health = get(&harness, "/health?namespace=treasury").await;
    assert_eq!(health.status, 200, "{health:?}");
    let items = &health.body["data"]["items"];
    assert_eq!(each(items, "connection"), ["bank-a", "bank-b", "bank-c"]);
    assert_eq!(each(items, "state"), ["NotReady", "Missing", "Live"]);
    assert_eq!(each(&items[0]["used_by"], "route"), ["others", "payouts"]);
    assert_eq!(items[0]["bank_profile_ids"], json!(["profile-bank-a"]));
    assert_eq!((&items[1]["circuit"], &items[1]["risk"]), (&Value::Null, &Value::Null), "it does not run");
    assert_eq!((&items[2]["circuit"], &items[2]["risk_tier"]), (&json!("Closed"), &json!("Low")));
    assert_eq!((&items[2]["health"], &items[2]["risk"]), (&json!("Healthy"), &json!("0.01")));
    assert_eq!((&items[2]["success"], &items[2]["p95_ms"]), (&json!("0.995"), &json!(120)));
}

#[tokio::test]
async fn the_audit_verifies_and_a_changed_record_is_named() {
    let harness = golden().await;
    let empty = get(&harness, "/audit/verify").await;
    assert_eq!((empty.status, &empty.body["data"]["verified"]), (200, &json!(true)), "{empty:?}");
    for n in 0..3 {
        decided(&harness, &payout(&format!("p-{n}"))).await;
    }
    let first = decided(&harness, &payout("p-0")).await;
    report(&harness, &first, "success").await;
    let intact = get(&harness, "/audit/verify").await;
    let data = &intact.body["data"];
    assert_eq!((&data["verified"], &data["entries"], &data["decisions"]), (&json!(true), &json!(4), &json!(3)));
    assert_eq!((&data["head"], &data["broken"]), (&json!(4), &Value::Null));
    let file = rusqlite::Connection::open(harness.file()).unwrap();
    let changed = "UPDATE decision_log SET body = CAST(replace(CAST(body AS TEXT), '\"1000\"', '\"9000\"') AS BLOB) WHERE seq = 2";
    assert_eq!(file.execute(changed, []).unwrap(), 1);
    let broken = get(&harness, "/audit/verify").await;
    let data = &broken.body["data"];
    assert_eq!(
        (broken.status, &data["verified"], &data["broken"]["seq"]),
        (200, &json!(false), &json!(2)),
        "{broken:?}"
    );
    assert!(data["broken"]["problem"].is_string() && data["broken"]["description"].is_string());
}

#[tokio::test]
async fn a_simulation_says_who_would_have_won_and_at_what_cost() {
    let harness = golden().await;
    for n in 0..4 {
        decided(&harness, &payout(&format!("p-{n}"))).await;
    }
    let mut spec = golden_spec();
    spec["candidates"][1]["fees"][0]["fixed"] = json!("0.01");
    spec["candidates"][1]["fees"][0]["basisPoints"] = json!("1");
    spec["candidates"][1]["fx"]["spreadBasisPoints"] = json!("0");
    let body = json!({"namespace": "treasury", "route": "payouts", "spec": spec, "limit": 3});
    let simulated = post(&harness, "/simulate", &body).await;
    assert_eq!(simulated.status, 200, "{simulated:?}");
    let data = &simulated.body["data"];
    assert_eq!((&data["decisions"], &data["changed"], &data["truncated"]), (&json!(3), &json!(3), &json!(true)));
    assert_eq!(each(&data["differences"], "to"), ["bank-b"; 3]);
    assert_eq!(each(&data["differences"], "payout_id"), ["p-3", "p-2", "p-1"]);
    assert_eq!(data["differences"][0]["cost_before"], json!("7.4"));
    assert_eq!(data["costs"][0]["before"], json!("22.2"), "{data}");
    let same = json!({"namespace": "treasury", "route": "payouts", "spec": golden_spec()});
    let unchanged = post(&harness, "/simulate", &same).await;
    let data = &unchanged.body["data"];
    assert_eq!((&data["decisions"], &data["changed"], &data["unexplained"]), (&json!(4), &json!(0), &json!(0)));
    assert_eq!(recorded(&harness).await, 4, "a simulation records nothing");
}

#[tokio::test]
async fn a_simulation_that_cannot_be_is_refused_by_name() {
    let harness = golden().await;
    let spec = golden_spec();
    for (field, value, parameter) in [
        ("spec", json!({}), "spec"),
        ("spec", json!([]), "spec"),
        ("spec", json!({"referenceCurrency": "dollars", "candidates": []}), "spec"),
        ("spec", json!({"referenceCurrency": "USD", "candidates": [{"name": "bank-a"}]}), "spec"),
        ("spec", json!(null), "spec"),
        ("route", json!(null), "route"),
        ("limit", json!(0), "limit"),
        ("limit", json!(10_001), "limit"),
        ("from_time", json!("may"), "from_time"),
        ("other", json!(1), "other"),
    ] {
        let mut body = json!({"namespace": "treasury", "route": "payouts", "spec": spec});
        body[field] = value.clone();
        let refused = post(&harness, "/simulate", &body).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{field} {value}: {refused:?}");
        let named = refused.body["data"]["details"]["parameter"].as_str().unwrap_or_default();
        assert!(named.starts_with(parameter), "{field} {value}: {named}");
    }
}
