//! The `stripe` profile against localstripe: credentials, the meaning of its errors, pages of a list.

use std::sync::Arc;

use busbar::domain::breaker::BreakerState;
use busbar::profile::ResponseClass;
use busbar::provider::connection::Connection;
use serde_json::Value;

use super::{call_operation, circuit, peer_draft};
use crate::cluster::peer_server::PeerServer;
use crate::kit::connections::connect;

const KEY: &str = "sk_test_canary_not_real";

fn connect_stripe(peer: &PeerServer, key: &str) -> Arc<Connection> {
    connect(peer_draft("stripe", format!("{}/v1", peer.base()), &[], &[("api-key", key)]))
}

fn parse(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

async fn charge(peer: &PeerServer, amount: &str) -> String {
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
async fn a_publishable_key_is_an_authentication_failure() {
    let peer = PeerServer::localstripe().await;
    let bank = connect_stripe(&peer, KEY);
    let health = bank.probe().await.unwrap().result.unwrap();
    assert_eq!(health.status, 200, "{}", peer.log());
    assert_eq!(bank.snapshot().authenticated, Some(true));
    let balance = call_operation(&bank, "balance", &[]).await.unwrap();
    assert_eq!(
        (balance.classification.class, parse(&balance.body)["available"].is_object()),
        (ResponseClass::Ok, true)
    );

    // A publishable key is valid, but not for these calls.
    let bank = connect_stripe(&peer, "pk_test_canary_not_real");
    for _ in 0..3 {
        let refused = call_operation(&bank, "balance", &[]).await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.classification.class), (401, ResponseClass::Auth));
    }
    assert_eq!(bank.snapshot().authenticated, Some(false));
    assert_eq!(circuit(&bank), BreakerState::Closed, "the provider works");
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let peer = PeerServer::localstripe().await;
    let mut made = Vec::new();
    for amount in ["100", "200", "300"] {
        made.push(charge(&peer, amount).await);
    }
    let bank = connect_stripe(&peer, KEY);
    let first = call_operation(&bank, "charges", &[("limit", "2")]).await.unwrap();
    assert_eq!(first.classification.class, ResponseClass::Ok, "{}", peer.log());
    let first = parse(&first.body);
    assert_eq!((first["object"].as_str(), first["has_more"].as_bool()), (Some("list"), Some(true)));
    let last = first["data"][1]["id"].as_str().unwrap();

    let second = parse(&call_operation(&bank, "charges", &[("limit", "2"), ("after", last)]).await.unwrap().body);
    assert_eq!(second["has_more"], false);
    let ids = [&first, &second].into_iter().flat_map(|page| page["data"].as_array().unwrap());
    let mut ids: Vec<&str> = ids.map(|charge| charge["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    made.sort_unstable();
    assert_eq!(ids, made, "each charge once");

    let one = call_operation(&bank, "charge", &[("id", &made[0])]).await.unwrap();
    assert_eq!(parse(&one.body)["id"], made[0].as_str());
    let none = call_operation(&bank, "charge", &[("id", "ch_no_such_charge")]).await.unwrap();
    assert_eq!((none.status.as_u16(), none.classification.class, none.meta.tries), (404, ResponseClass::NotFound, 1));
}
