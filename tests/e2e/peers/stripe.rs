//! The `stripe` profile against localstripe: credentials, what its errors mean, pages of a list.

use busbar::domain::breaker::BreakerState;
use busbar::profile::ResponseClass;
use serde_json::Value;

use super::{call, circuit, draft, live};
use crate::support::Peer;

const KEY: &str = "sk_test_canary_not_real";

fn connection(peer: &Peer, key: &str) -> std::sync::Arc<busbar::provider::connection::Connection> {
    live(draft("stripe", format!("{}/v1", peer.base()), &[], &[("api-key", key)]))
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

async fn charge(peer: &Peer, amount: &str) -> String {
    let card = [
        ("type", "card"),
        ("card[number]", "4242424242424242"),
        ("card[exp_month]", "12"),
        ("card[exp_year]", "2050"),
        ("card[cvc]", "123"),
    ];
    let method = peer.post("/v1/payment_methods", KEY, &card).await;
    let method = method["id"].as_str().unwrap();
    let made = peer.post("/v1/charges", KEY, &[("amount", amount), ("currency", "usd"), ("source", method)]).await;
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_profiles_key_is_taken_and_another_kind_of_key_is_the_credentials_fault() {
    let peer = Peer::localstripe().await;
    let bank = connection(&peer, KEY);
    let health = bank.probe().await.unwrap().result.unwrap();
    assert_eq!(health.status, 200, "{}", peer.log());
    assert_eq!(bank.snapshot().authenticated, Some(true));
    let balance = call(&bank, "balance", &[]).await.unwrap();
    assert_eq!((balance.classification.class, json(&balance.body)["available"].is_object()), (ResponseClass::Ok, true));

    // A publishable key: well-formed, and not for this.
    let bank = connection(&peer, "pk_test_canary_not_real");
    for _ in 0..3 {
        let refused = call(&bank, "balance", &[]).await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.classification.class), (401, ResponseClass::Auth));
    }
    assert_eq!(bank.snapshot().authenticated, Some(false));
    assert_eq!(circuit(&bank), BreakerState::Closed, "the provider is well");
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_what_does_not_exist_is_not_found() {
    let peer = Peer::localstripe().await;
    let mut made = Vec::new();
    for amount in ["100", "200", "300"] {
        made.push(charge(&peer, amount).await);
    }
    let bank = connection(&peer, KEY);
    let first = call(&bank, "charges", &[("limit", "2")]).await.unwrap();
    assert_eq!(first.classification.class, ResponseClass::Ok, "{}", peer.log());
    let first = json(&first.body);
    assert_eq!((first["object"].as_str(), first["has_more"].as_bool()), (Some("list"), Some(true)));
    let last = first["data"][1]["id"].as_str().unwrap();

    let second = json(&call(&bank, "charges", &[("limit", "2"), ("after", last)]).await.unwrap().body);
    assert_eq!(second["has_more"], false);
    let ids = [&first, &second].into_iter().flat_map(|page| page["data"].as_array().unwrap());
    let mut ids: Vec<&str> = ids.map(|charge| charge["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    made.sort_unstable();
    assert_eq!(ids, made, "each charge once");

    let one = call(&bank, "charge", &[("id", &made[0])]).await.unwrap();
    assert_eq!(json(&one.body)["id"], made[0].as_str());
    let none = call(&bank, "charge", &[("id", "ch_no_such_charge")]).await.unwrap();
    assert_eq!((none.status.as_u16(), none.classification.class, none.meta.tries), (404, ResponseClass::NotFound, 1));
}
