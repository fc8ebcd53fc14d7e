//! Webhooks on a real API server: the secret comes from a Secret that is rotated, and the run is one of the operator.

use busbar::api::v1alpha1::ProviderConnection;
use busbar::testbed::sim::AccountConfig;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha512;

use crate::cluster::bank_env::BankEnv;
use crate::cluster::gateway_calls::{caller_token, get, until_response};
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{FEED, feed_job, until_succeeded};
use crate::kit::http::gateway_client;
use crate::kit::wait::eventually;

const BODY: &str = r#"{"event":"mono.events.account_updated","data":{"account":{"_id":"acc-1"}}}"#;

/// Status of a webhook that is signed with `secret`.
async fn send(operator: &Operator, env: &BankEnv, connection: &str, secret: &str) -> u16 {
    let mut hmac = Hmac::<Sha512>::new_from_slice(secret.as_bytes()).expect("a key");
    hmac.update(BODY.as_bytes());
    let signature = hex::encode(hmac.finalize().into_bytes());
    let url = format!("{}/webhooks/{}/{connection}", operator.gateway(), env.ns.name());
    let request = gateway_client().post(url).header("mono-webhook-secret", signature);
    request.body(BODY).send().await.expect("a response of the gateway").status().as_u16()
}

#[tokio::test]
async fn webhooks_run_the_jobs_of_their_connection_and_a_rotation_needs_no_restart() {
    let env = BankEnv::new("webhooks").await;
    env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 20)])).await;
    let (first, second) = (env.ns.canary("hook"), env.ns.canary("hook-2"));
    env.ns.secret("hook", &[("webhook-secret", first.as_bytes())]).await;
    let webhook = json!({"webhook": {"hmacSHA512": {"secretRef": {"name": "hook"}}}});
    env.patch_spec::<ProviderConnection>("mono", webhook).await;
    env.put(&feed_job("24h", json!({"jitterPercent": 0}))).await;
    let ops = caller_token(&env.ns, "ops", Some("busbar-syncs")).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_succeeded(&env, "the first run succeeded").await;
    let runs = format!("/api/syncs/{}/{FEED}/runs", env.ns.name());
    until_response(&operator, &runs, &ops, (200, "")).await;

    assert_eq!(send(&operator, &env, "mono", &second).await, 401, "not the secret");
    assert_eq!(send(&operator, &env, "none", &first).await, 401, "no such connection");
    assert_eq!(send(&operator, &env, "mono", &first).await, 202);
    let ended = eventually("the run that the webhook asked for has ended", async || {
        let (_, _, body) = get(&operator, &runs, &ops).await;
        let items = body["data"]["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().find(|run| run["trigger"] == "Webhook" && run["result"] != Value::Null)
    })
    .await;
    assert_eq!(ended["result"], "Succeeded");

    let both: [(&str, &[u8]); 2] =
        [("webhook-secret", second.as_bytes()), ("webhook-secret-previous", first.as_bytes())];
    env.ns.secret("hook", &both).await;
    assert_eq!(send(&operator, &env, "mono", &second).await, 202, "read again before it is refused");
    assert_eq!(send(&operator, &env, "mono", &first).await, 202, "beside the new one");
    env.ns.secret("hook", &[("webhook-secret", second.as_bytes())]).await;
    eventually("the old secret is refused once the copy is read again", async || {
        // A webhook with an unknown secret makes the operator read the Secret again.
        send(&operator, &env, "mono", "unknown").await;
        send(&operator, &env, "mono", &first).await == 401
    })
    .await;
    assert_eq!(send(&operator, &env, "mono", &second).await, 202);
    operator.finish(&env.ns).await;
}
