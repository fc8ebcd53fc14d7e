//! Followed payouts on a real operator: a payout whose fate cannot be proven is held, shows in the status of its route, and
//! goes on at another bank once two people accept the risk.

use busbar::api::v1alpha1::ProviderConnection;
use serde_json::{Value, json};

use crate::cluster::bank_env::{BankEnv, has_condition};
use crate::cluster::gateway_calls::{caller_token, get};
use crate::cluster::operator::Operator;
use crate::kit::http::gateway_client;
use crate::kit::objects::{candidates, route};
use crate::kit::wait::eventually;
use crate::routing_decisions::{staff_token, stored_events, until_route};

/// Posts to the payouts of the gateway; status and body.
pub(crate) async fn post(operator: &Operator, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}/api/treasury/payouts{path}", operator.gateway());
    let request = gateway_client().post(url).bearer_auth(token).header("content-type", "application/json");
    let response = request.body(body.to_string()).send().await.expect("a response of the gateway");
    (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).expect("JSON"))
}

#[tokio::test]
async fn a_payout_without_proof_is_held_and_goes_on_when_two_people_accept_the_risk() {
    let env = BankEnv::new("payouts").await;
    let (_a, _b) = (env.bank("a").await, env.bank("b").await);
    let stuck = json!({"stuck": {"policy": "ManualOnly", "maxRerouteCostBasisPoints": "10000"}});
    env.put(&route("payouts", &candidates(&["a", "b"]), stuck)).await;
    let processing = caller_token(&env.ns, "processing", Some("busbar-payouts")).await;
    let reader = caller_token(&env.ns, "reader", Some("busbar-events")).await;
    let first = staff_token(&env, "ann", "busbar-pay-admin").await;
    let second = staff_token(&env, "ben", "busbar-pay-admin").await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_route(&env, "payouts", "both are available", |s| s.candidate_summary.as_deref() == Some("2/2")).await;
    env.until::<ProviderConnection, _>("a", "Ready says that a person follows stuck payouts", |connection| {
        let conditions = &connection.status.as_ref()?.conditions;
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
        ready.message.contains("ManualOnly").then_some(())
    })
    .await;

    let namespace = env.ns.name();
    let body = json!({
        "namespace": namespace, "route": "payouts", "payout_id": "p-1", "amount": "1000", "currency": "EUR",
        "country": "NO",
    });
    let registered = eventually("the role arrives, and the payout is registered", async || {
        let (status, body) = post(&operator, "", &processing, &body).await;
        if status == 200 { Ok(body["data"].clone()) } else { Err(format!("{status} {body}")) }
    })
    .await;
    assert_eq!(registered["payout"]["attempts"][0]["bank"], json!("a"), "{registered}");
    let of = |act: &str| format!("/p-1/{act}?namespace={namespace}");
    let (status, said) = post(&operator, &of("attempts/1/outcomes"), &processing, &json!({"class": "timeout"})).await;
    assert_eq!(status, 200, "{said}");

    let held = until_route(&env, "payouts", "a payout is held", |s| s.held_payouts == Some(1)).await;
    assert!(has_condition(&held.conditions, "PayoutsHeld", "True", "PayoutsHeld"), "{:?}", held.conditions);
    env.until_event("BankRoute", "payouts", "PayoutHeld", "not sent again before a person resolves them").await;
    let told = stored_events(&operator, &env, &reader, "payout.held").await;
    assert_eq!(told[0]["payload"]["hold"], json!("manual_only"), "{told:?}");

    let accept = json!({"accept_duplicate_risk": true, "reason": "e2e"});
    let (status, said) = post(&operator, &of("approve-reroute"), &processing, &accept).await;
    assert_eq!(status, 403, "payout processing accepts no risk: {said}");
    for (token, again) in [(&first, false), (&first, true), (&second, false)] {
        let (status, said) = post(&operator, &of("approve-reroute"), token, &accept).await;
        assert_eq!((status, &said["data"]["repeated"]), (200, &json!(again)), "{said}");
    }
    let payout = eventually("the payout goes on at the other bank", async || {
        let (_, _, body) = get(&operator, &format!("/api/treasury/payouts/p-1?namespace={namespace}"), &first).await;
        let payout = body["data"]["payout"].clone();
        if payout["attempts"][1]["bank"] == json!("b") { Ok(payout) } else { Err(payout.to_string()) }
    })
    .await;
    let told = stored_events(&operator, &env, &reader, "payout.rerouted").await;
    assert_eq!(told[0]["payload"]["attempt"]["attempt_id"], payout["attempts"][1]["attempt_id"], "{told:?}");
    let freed = until_route(&env, "payouts", "no payout is held", |s| s.held_payouts == Some(0)).await;
    assert!(freed.conditions.iter().all(|condition| condition.type_ != "PayoutsHeld"), "{:?}", freed.conditions);
    let confirmation = json!({"attempt_no": 2, "status": "ACSC"});
    let (status, said) = post(&operator, &of("confirmations"), &processing, &confirmation).await;
    assert_eq!((status, &said["data"]["payout"]["state"]), (200, &json!("confirmed")), "{said}");
    assert_eq!(stored_events(&operator, &env, &reader, "payout.confirmed").await.len(), 1);
    operator.finish(&env.ns).await;
}
