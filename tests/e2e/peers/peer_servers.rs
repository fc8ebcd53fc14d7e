//! The peers themselves: if one of these tests fails, look here first.

use serde_json::{Value, json};

use crate::cluster::peer_server::PeerServer;
use crate::kit::http::client;

async fn get(url: String, authorization: Option<&str>) -> (u16, Value) {
    let request = client().get(url);
    let request = authorization.into_iter().fold(request, |r, value| r.header("authorization", value));
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

async fn token(peer: &PeerServer, form: &[(&str, &str)]) -> (u16, Value) {
    let answer = client().post(format!("{}/token", peer.base())).form(form).send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

const CLIENT: [(&str, &str); 3] =
    [("grant_type", "client_credentials"), ("client_id", "busbar"), ("client_secret", "not-a-real-secret")];

#[tokio::test]
async fn the_oauth2_server_issues_tokens_only_to_its_client() {
    let peer = PeerServer::oauth2().await;
    peer.set(json!({"expires_in": 7, "client_id": "busbar", "client_secret": "not-a-real-secret"})).await;
    let (status, body) = token(&peer, &CLIENT).await;
    assert_eq!((status, &body["expires_in"]), (200, &json!(7)));
    let (status, _) = token(&peer, &[CLIENT[0], CLIENT[1], ("client_secret", "another")]).await;
    assert_eq!(status, 401);

    let bearer = format!("Bearer {}", body["access_token"].as_str().unwrap());
    assert_eq!(get(format!("{}/resource", peer.base()), Some(&bearer)).await.0, 200);
    assert_eq!(get(format!("{}/resource", peer.base()), None).await.0, 401);
    let counts = peer.counts().await;
    assert_eq!([counts["requests"], counts["granted"], counts["rejected"], counts["resource"]], [2, 1, 1, 2]);
}

#[tokio::test]
async fn a_rotated_refresh_token_works_once() {
    let peer = PeerServer::oauth2().await;
    peer.set(json!({"refresh_token": "first", "rotate": true})).await;
    let refresh = async |with: &str| token(&peer, &[("grant_type", "refresh_token"), ("refresh_token", with)]).await;
    let (status, body) = refresh("first").await;
    assert_eq!(status, 200);
    assert_eq!(refresh("first").await.0, 400);
    assert_eq!(refresh(body["refresh_token"].as_str().unwrap()).await.0, 200);
}

#[tokio::test]
async fn localstripe_requires_a_secret_key() {
    let peer = PeerServer::localstripe().await;
    let customers = format!("{}/v1/customers", peer.base());
    assert_eq!(get(customers.clone(), None).await.0, 401, "{}", peer.log());
    assert_eq!(get(customers, Some("Bearer sk_test_canary")).await.0, 200, "{}", peer.log());
}

#[tokio::test]
async fn mountebank_creates_servers() {
    let peer = PeerServer::mountebank().await;
    let base =
        peer.imposter(json!({"protocol": "http", "stubs": [{"responses": [{"is": {"statusCode": 418}}]}]})).await;
    assert_eq!(get(base, None).await.0, 418, "{}", peer.log());
}
