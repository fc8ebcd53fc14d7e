//! Answers that are good and yet not what was asked for.

use busbar::ledger::dead_requests::DeadRequestCounts;
use busbar::testbed::sim::{BankConfig, Behaviour};
use serde_json::json;

use super::world::World;

fn says(code: u16, body: &str) -> Behaviour {
    Behaviour::Status { code, headers: [].into(), body: Some(body.to_owned()) }
}

#[tokio::test]
async fn a_ticker_that_the_provider_does_not_know_is_no_such_item_and_not_a_failure() {
    let world = World::new().await;
    world.fmp.fail_with(says(200, "[]")).await.unwrap();
    let said = world.get("/api/providers/treasury/fmp/quote?symbol=NOBODY").await;
    assert_eq!((said.status, said.error()), (404, "item_not_found"), "{said:?}");
    assert_eq!(said.body["data"]["details"], json!({"status_code": 200}));
    // A list of nothing is a list.
    let none = world.get("/api/providers/treasury/fmp/earnings?symbol=NOBODY").await;
    assert_eq!(none.body["data"]["result"], json!({"records": [], "complete": true}), "{none:?}");
    assert_eq!(
        world.ledger.count_dead_requests().await.unwrap(),
        DeadRequestCounts { pending: 0, parked: 0 },
        "nothing is tried again"
    );
}

#[tokio::test]
async fn where_a_plan_shows_no_more_of_a_list_the_answer_is_an_incomplete_one() {
    let world = World::new().await;
    let newsapi = world.sim.add_bank(BankConfig::new("newsapi")).await.unwrap();
    world.connect("newsapi", &newsapi, |_| ());
    let path = "/api/providers/treasury/newsapi/articles?q=acme&page=9";
    for (code, body) in [
        (426, r#"{"status":"error","code":"maximumResultsReached","message":"You have requested too many results."}"#),
        (426, "Upgrade Required"),
    ] {
        newsapi.fail_with(says(code, body)).await.unwrap();
        let said = world.get(path).await;
        assert_eq!(said.status, 200, "{said:?}");
        assert_eq!(said.body["data"]["result"], json!({"records": [], "complete": false}));
        assert_eq!(*said.meta("status_code"), code);
    }
    newsapi.fail_with(says(200, r#"{"status":"ok","articles":{}}"#)).await.unwrap();
    let said = world.get(path).await;
    assert_eq!((said.status, &said.body["data"]["details"]["reason"]), (502, &json!("unexpected_shape")), "{said:?}");
}

#[tokio::test]
async fn a_providers_own_body_is_handed_out_if_it_is_json_of_a_sane_depth() {
    let world = World::new().await;
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (depth, status) in [(60, 200), (65, 502)] {
        world.fmp.fail_with(says(200, &nested(depth))).await.unwrap();
        let said = world.get("/api/providers/treasury/fmp/quote?symbol=ACME&shape=provider").await;
        assert_eq!(said.status, status, "{depth}: {said:?}");
    }
}

#[tokio::test]
async fn a_used_up_quota_that_comes_with_200_is_told_as_one_with_its_end() {
    let world = World::new().await;
    world.fmp.fail_with(says(200, r#"{"Error Message":"Limit Reach . Please upgrade your plan"}"#)).await.unwrap();
    for _ in 0..2 {
        let said = world.get("/api/providers/treasury/fmp/quote?symbol=ACME").await;
        assert_eq!((said.status, said.error()), (503, "quota_exhausted"), "{said:?}");
        let wait: u64 = said.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=86_400).contains(&wait), "until the provider's day ends: {wait}");
        assert!(!said.body.to_string().contains("upgrade"), "{said:?}");
    }
    assert_eq!(world.fmp.counters().requests, 1, "nobody asks before that");
}
